"""GAN losses as pairs of a critic's divergence and an actor's utility."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import lookup
from gacf.methods.actor_critic import DIVERGENCES, identity


class GanLoss(NamedTuple):
    """The losses of the critic and the actor as functions of the verdict.

    Attributes:
        divergence: `(verdict [B], label [B]) -> [B]`, minimised by the critic.
        utility: `verdict [B] -> [B]`, maximised by the actor on its own samples.
        real_utility: the same on real examples, which matters only to actors that foresee the
            critic's response; the divergence from 1 if the critic's loss is the actor's gain.
        relativistic: whether the mean verdict on the other group is subtracted from each group's
            verdicts. The actor then minimises the divergence from the exchanged labels, and has no
            utility.
    """

    divergence: Callable[[jax.Array, jax.Array], jax.Array]
    utility: Callable[[jax.Array], jax.Array] = identity
    real_utility: Callable[[jax.Array], jax.Array] = jnp.negative
    relativistic: bool = False


class FDivergence(NamedTuple):
    """D_f(P ‖ Q) = E_Q f(p/q) = max_T E_P T − E_Q f*(T), with T = g(v) for a verdict v.

    Attributes:
        generator: f, convex, f(1) = 0.
        activation: g: all numbers -> the domain of f*, increasing.
        conjugate: f*(t) = sup_u u t − f(u).
        composed: f*(g(v)), simplified so that it neither overflows early nor cancels.
        optimum: p/q -> the best T, f′(p/q).
    """

    generator: Callable[[jax.Array], jax.Array]
    activation: Callable[[jax.Array], jax.Array]
    conjugate: Callable[[jax.Array], jax.Array]
    composed: Callable[[jax.Array], jax.Array]
    optimum: Callable[[jax.Array], jax.Array]


# Nowozin, Cseke & Tomioka 2016, tables 1 and 2
F_DIVERGENCES = {
    # KL(P ‖ Q)
    "kl": FDivergence(
        generator=lambda u: u * jnp.log(u),
        activation=identity,
        conjugate=lambda t: jnp.exp(t - 1),
        composed=lambda v: jnp.exp(v - 1),
        optimum=lambda u: 1 + jnp.log(u),
    ),
    # KL(Q ‖ P)
    "reverse_kl": FDivergence(
        generator=lambda u: -jnp.log(u),
        activation=lambda v: -jnp.exp(-v),
        conjugate=lambda t: -1 - jnp.log(-t),
        composed=lambda v: v - 1,
        optimum=lambda u: -1 / u,
    ),
    # ∫ (p − q)² / q
    "pearson": FDivergence(
        generator=lambda u: jnp.square(u - 1),
        activation=identity,
        conjugate=lambda t: jnp.square(t) / 4 + t,
        composed=lambda v: jnp.square(v) / 4 + v,
        optimum=lambda u: 2 * (u - 1),
    ),
    # ∫ (√p − √q)²
    "squared_hellinger": FDivergence(
        generator=lambda u: jnp.square(jnp.sqrt(u) - 1),
        activation=lambda v: 1 - jnp.exp(-v),
        conjugate=lambda t: t / (1 - t),
        composed=jnp.expm1,
        optimum=lambda u: 1 - 1 / jnp.sqrt(u),
    ),
    # KL(P ‖ M) + KL(Q ‖ M), M the mean of P and Q: twice the Jensen-Shannon divergence
    "jensen_shannon": FDivergence(
        generator=lambda u: u * jnp.log(u) - (u + 1) * jnp.log((u + 1) / 2),
        activation=lambda v: math.log(2) - jax.nn.softplus(-v),
        conjugate=lambda t: -jnp.log(2 - jnp.exp(t)),
        composed=lambda v: jax.nn.softplus(v) - math.log(2),
        optimum=lambda u: jnp.log(2 * u / (1 + u)),
    ),
}


def f_gan(divergence: str | FDivergence, saturating: bool = True) -> GanLoss:
    """The variational estimate of an f-divergence between the data P and the actor's samples Q.

        critic   min −E_P g(v) + E_Q f*(g(v))        actor   max E_Q f*(g(v)), or max E_Q g(v)

    Args:
        divergence: a name in `F_DIVERGENCES`, or an `FDivergence`.
        saturating: whether the actor minimises the estimate itself; otherwise it maximises the
            critic's verdict on its samples, like a non-saturating generator.

    Raises:
        ValueError: the name is unknown.

    Reference:
        Nowozin, Cseke & Tomioka 2016, sections 2.3 and 3.2.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = f_gan("pearson")
        >>> loss.divergence(jnp.array([2.0, 2.0]), jnp.array([1.0, 0.0])).tolist()
        [-2.0, 3.0]
    """
    known = isinstance(divergence, str)
    f = lookup("divergence", divergence, F_DIVERGENCES) if known else divergence

    def divergence_of(verdict: jax.Array, label: jax.Array) -> jax.Array:
        return (1 - label) * f.composed(verdict) - label * f.activation(verdict)

    def real_utility(verdict: jax.Array) -> jax.Array:
        return -(f.activation if saturating else f.composed)(verdict)

    return GanLoss(divergence_of, f.composed if saturating else f.activation, real_utility)


def energy_based(margin: float | jax.Array = 1.0) -> GanLoss:
    """The verdict is an energy, low for examples that look real; usually of an `Autoencoder`.

        critic   min E_P v + E_Q max(0, margin − v)        actor   min E_Q v

    Args:
        margin: the energy beyond which the critic pushes fakes no further. May be traced.

    Reference:
        Zhao, Mathieu & LeCun 2017, eqs. 1 and 2.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = energy_based(1.0)
        >>> loss.divergence(jnp.array([0.25, 0.25, 3.0]), jnp.array([1.0, 0.0, 0.0])).tolist()
        [0.25, 0.75, 0.0]
    """

    def divergence(verdict: jax.Array, label: jax.Array) -> jax.Array:
        return label * verdict + (1 - label) * jax.nn.relu(margin - verdict)

    return GanLoss(divergence, jnp.negative, identity)


def relativistic(divergence: Callable[[jax.Array, jax.Array], jax.Array]) -> GanLoss:
    """A critic that says how much more real an example looks than the mean of the other group.

        r = C(real) − mean C(fake),   f = C(fake) − mean C(real)
        critic   min mean D(1 ‖ r) + mean D(0 ‖ f)        actor   min mean D(0 ‖ r) + mean D(1 ‖ f)

    Args:
        divergence: D, `(verdict [B], label [B]) -> [B]`.

    Reference:
        Jolicoeur-Martineau 2019, the relativistic average GAN.

    Example:
        >>> relativistic(DIVERGENCES["cross_entropy"]).relativistic
        True
    """
    return GanLoss(divergence, relativistic=True)


LOSSES = {
    "minimax": GanLoss(
        DIVERGENCES["cross_entropy"], jax.nn.softplus, lambda verdict: jax.nn.softplus(-verdict)
    ),
    "non_saturating": GanLoss(
        DIVERGENCES["cross_entropy"],
        jax.nn.log_sigmoid,
        lambda verdict: jax.nn.log_sigmoid(-verdict),
    ),
    "least_squares": GanLoss(
        DIVERGENCES["squared_error"],
        lambda verdict: -jnp.square(verdict - 1) / 2,
        lambda verdict: -jnp.square(verdict) / 2,
    ),
    "wasserstein": GanLoss(DIVERGENCES["wasserstein"], identity),
    "hinge": GanLoss(DIVERGENCES["hinge"], identity),
    **{name: f_gan(name) for name in F_DIVERGENCES},
    "energy_based": energy_based(),
    "relativistic": relativistic(DIVERGENCES["cross_entropy"]),
    # labels 1 and −1
    "relativistic_least_squares": relativistic(
        lambda verdict, label: jnp.square(verdict - (2 * label - 1))
    ),
    "relativistic_hinge": relativistic(DIVERGENCES["hinge"]),
}

# One line about each loss, as `gacf list losses` prints it.
DESCRIPTIONS = {
    "minimax": "The actor maximises the critic's own loss, −log(1 − σ(v)): Goodfellow et al. 2014, "
    "eq. 1.",
    "non_saturating": "The actor maximises log σ(v), whose slope does not vanish where the critic "
    "is right: Goodfellow et al. 2014, section 3.",
    "least_squares": "Squared errors from the labels; the actor maximises −(v − 1)² / 2: Mao et "
    "al. 2017, eq. 9.",
    "wasserstein": "Differences of mean verdicts; the critic has to be kept Lipschitz: Arjovsky et "
    "al. 2017, eq. 2.",
    "hinge": "Verdicts beyond ±1 count no further for the critic; the actor maximises v: Lim & Ye "
    "2017, eqs. 10 and 11.",
    **{
        name: f"The f-GAN of {divergence}: Nowozin, Cseke & Tomioka 2016."
        for name, divergence in {
            "kl": "KL(P ‖ Q)",
            "reverse_kl": "KL(Q ‖ P)",
            "pearson": "∫ (p − q)² / q",
            "squared_hellinger": "∫ (√p − √q)²",
            "jensen_shannon": "twice the Jensen-Shannon divergence",
        }.items()
    },
    "energy_based": "The verdict is an energy, low for real examples; margin 1: Zhao, Mathieu & "
    "LeCun 2017.",
    "relativistic": "How much more real an example looks than the mean of the other group, by "
    "cross-entropy: Jolicoeur-Martineau 2019.",
    "relativistic_least_squares": "The same with squared errors from labels of 1 and −1.",
    "relativistic_hinge": "The same with the hinge loss.",
}
