"""The Dirac-GAN: the smallest GAN, on which unregularised training does not converge."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gacf.core.checks import lookup, require, whole
from gacf.core.game import Game, from_losses
from gacf.core.types import Params, PyTree

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(32)


def _log_sigmoid(t: jax.Array) -> jax.Array:
    return -jax.nn.softplus(-t)


LOSSES = {
    "saturating": (_log_sigmoid, lambda t: _log_sigmoid(t)),
    "non_saturating": (_log_sigmoid, lambda t: -_log_sigmoid(-t)),
    "wasserstein": (lambda t: t, lambda t: t),
}


def dirac_gan(
    loss: str = "saturating",
    gradient_penalty: float | jax.Array = 0.0,
    target: float = 0.0,
    noise: float | jax.Array = 0.0,
    samples: int | None = None,
    start: tuple[float, float] = (1.0, 1.0),
) -> Game:
    """Data at 0, a generator that is the point θ, a discriminator D(x) = ψx.

        actor    min_θ f(ψθ),   critic  max_ψ f(ψθ) + f(0) − (penalty / 2) (|ψ| − target)²

    with f(t) = −log(1 + e⁻ᵗ), or f(t) = t. The equilibrium is θ = ψ = 0. There the Jacobian of the
    field is ((0, c), (−c, penalty)) with c = f'(0), which is a rotation without regularisation.

    Args:
        loss: `saturating` (Goodfellow's minimax), `non_saturating` (the actor maximises f(−ψθ)),
            or `wasserstein`.
        gradient_penalty: the weight of the penalty, which is R1 with `target` 0 (∇_x D = ψ) and
            that of WGAN-GP with `target` 1.
        target: the gradient norm that the penalty asks for.
        noise: σ of instance noise on real and fake points.
        samples: the number of noise samples per step, each for real and fake points. By default
            there are expectations instead, by quadrature. With samples the players do not reach 0,
            but stay at a distance that depends on their number.
        start: θ and ψ at the start.

    Raises:
        ValueError: the loss is unknown, or a number is out of bounds.

    Reference:
        Mescheder, Geiger & Nowozin 2018 (Which training methods for GANs do actually converge?).

    Example:
        >>> import jax
        >>> dirac_gan("non_saturating").init(jax.random.key(0))[0]["critic"].item()
        1.0
    """
    f, of_actor = lookup("dirac_gan: loss", loss, LOSSES)
    require("dirac_gan: gradient_penalty", gradient_penalty, lambda n: n >= 0, "a number >= 0")
    require("dirac_gan: noise", noise, lambda n: n >= 0, "a number >= 0")

    if samples is not None:
        require("dirac_gan: samples", samples, whole, "a whole number >= 1")

    def mean(function: Any, slope: jax.Array, point: Any, drawn: Any) -> jax.Array:
        if samples is not None:
            return jnp.mean(function(slope * (point + noise * drawn)))
        nodes = jnp.asarray(NODES, slope.dtype)
        weights = jnp.asarray(WEIGHTS / WEIGHTS.sum(), slope.dtype)
        return weights @ function(slope * (point + noise * nodes))

    def actor(params: dict[str, jax.Array], batch: Any, key: Any) -> jax.Array:
        return mean(of_actor, params["critic"], params["actor"], batch["fake"])

    def critic(params: dict[str, jax.Array], batch: Any, key: Any) -> jax.Array:
        slope = params["critic"]
        penalty = 0.5 * gradient_penalty * (jnp.abs(slope) - target) ** 2
        fake = mean(f, slope, params["actor"], batch["fake"])
        real = mean(lambda t: f(-t), slope, jnp.zeros((), slope.dtype), batch["real"])
        return penalty - fake - real

    def sample(key: jax.Array) -> dict[str, Any]:
        if samples is None:
            return {"real": (), "fake": ()}
        drawn = jax.random.normal(key, (2, samples))
        return {"real": drawn[0], "fake": drawn[1]}

    begin: Params = dict(zip(("actor", "critic"), start, strict=True))
    return from_losses(begin, {"actor": actor, "critic": critic}, sample)


def project(bound: float | jax.Array) -> optax.GradientTransformation:
    """Keeps every parameter in [−bound, bound] after the step (WGAN's weight clipping).

    Reference:
        Arjovsky, Chintala & Bottou 2017.
    """

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        return jax.tree.map(lambda p, u: jnp.clip(p + u, -bound, bound) - p, params, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
