"""Heads: how a critic's output is read, and how wrong it was.

A critic that predicts one number needs none of this. One that predicts a distribution (logits over
bins, or quantiles) or several values (an ensemble) does. Shapes: B batch, K bins or quantiles, n
members.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from gacf.core.checks import lookup, require, whole
from gacf.methods.actor_critic.divergence import DIVERGENCES
from gacf.networks import column

Read = Callable[[jax.Array], jax.Array]
Reduce = Callable[..., jax.Array]


class Head(NamedTuple):
    """How the output of a critic is read.

    Attributes:
        shape: the shape of the output for one example; `()` for one number.
        value: `output [B, *shape] -> [B]`: the verdict, which the actor improves.
        backup: `output [B, *shape] -> [B]` or `[B, K]`: the value from which TD targets bootstrap.
        divergence: `(output, target) -> [B]`; the target is [B], or has the shape of a backup.
        bounds: (low, high) to which targets are clipped; None if they are not. The critic reports
            the share of targets outside as the metric `clipped/<group>`.
    """

    shape: tuple[int, ...]
    value: Read
    backup: Read
    divergence: Callable[[jax.Array, jax.Array], jax.Array]
    bounds: tuple[float | jax.Array, float | jax.Array] | None = None


def read(output: jax.Array, head: Head, where: str) -> jax.Array:
    """The critic's output in the shape that its head takes, [B, *head.shape].

    Axes of length 1 may be missing, as in the output of a network that yields [B], or of an
    ensemble.

    Raises:
        ValueError: the output has another shape.
    """
    if head.shape == ():
        return column(output)
    given, allowed = ([n for n in shape if n != 1] for shape in (output.shape[1:], head.shape))
    if given != allowed:
        axes = ", ".join(["B", *map(str, head.shape)])
        raise ValueError(
            f"critic: its output is {list(output.shape)} in {where}; allowed: [{axes}]"
        )
    return output.reshape(output.shape[0], *head.shape)


def _same(output: jax.Array) -> jax.Array:
    return output


def scalar(divergence: Callable[[jax.Array, jax.Array], jax.Array]) -> Head:
    """The head of a critic that yields one number per example.

    Example:
        >>> import jax.numpy as jnp
        >>> head = scalar(lambda prediction, target: (prediction - target) ** 2)
        >>> head.divergence(jnp.array([1.0, 2.0]), jnp.zeros(2)).tolist()
        [1.0, 4.0]
    """
    return Head((), _same, _same, divergence)


def _categorical(
    centres: jax.Array, encode: Read, low: float | jax.Array, high: float | jax.Array
) -> Head:
    """Cross-entropy between logits [B, K] and the target's encoding; the value is the mean."""

    def value(logits: jax.Array) -> jax.Array:
        return jax.nn.softmax(logits) @ centres.astype(logits.dtype)

    def divergence(logits: jax.Array, target: jax.Array) -> jax.Array:
        return -jnp.sum(encode(target) * jax.nn.log_softmax(logits), axis=-1)

    return Head(centres.shape, value, value, divergence, (low, high))


def _check_bins(low: float, high: float, bins: int) -> None:
    require("bins", bins, lambda n: whole(n) and n >= 2, "a whole number >= 2")
    bound = -math.inf if isinstance(low, jax.core.Tracer) else low
    require("high", high, lambda x: x > bound, f"a number > low, {low}")


def two_hot(low: float, high: float, bins: int = 51) -> Head:
    """Cross-entropy with a target that is split between the two nearest of `bins` support points.

        p_k = (z_{k+1} − y)/Δ,  p_{k+1} = (y − z_k)/Δ     for z_k <= y < z_{k+1}

    The encoding's mean is the target, which is clipped to [low, high]; the critic's metric
    `clipped/<group>` is the share of targets that lay outside.

    Args:
        low: the first support point, z_1.
        high: the last support point, z_K.
        bins: K >= 2.

    Reference:
        Bellemare, Dabney & Munos 2017 (the projection); Schrittwieser et al. 2020.

    Example:
        >>> import jax.numpy as jnp
        >>> head = two_hot(0.0, 1.0, 5)
        >>> logits = jnp.array([[0.0, 0.0, 100.0, 100.0, 0.0]])
        >>> round(float(head.value(logits)[0]), 3)
        0.625
    """
    _check_bins(low, high, bins)
    centres = jnp.linspace(low, high, bins)
    step = (high - low) / (bins - 1)

    def encode(target: jax.Array) -> jax.Array:
        clipped = jnp.clip(target, low, high)[:, None]
        return jnp.maximum(1 - jnp.abs(clipped - centres[None].astype(target.dtype)) / step, 0)

    return _categorical(centres, encode, low, high)


def hl_gauss(low: float, high: float, bins: int = 51, width: float = 0.75) -> Head:
    """Cross-entropy with a target that is spread over the bins by a normal distribution around it.

        p_k ∝ Φ((e_{k+1} − y)/σ) − Φ((e_k − y)/σ)      e: edges of the bins, σ = width · bin

    Args:
        low: the lowest edge; targets are clipped, as for `two_hot`.
        high: the highest edge.
        bins: K >= 2.
        width: σ in bins.

    Reference:
        Imani & White 2018; Farebrother et al. 2024.

    Example:
        >>> import jax.numpy as jnp
        >>> hl_gauss(-10.0, 10.0, 21).shape
        (21,)
    """
    _check_bins(low, high, bins)
    require("width", width, lambda x: x > 0, "a number > 0")
    edges = jnp.linspace(low, high, bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    sigma = width * (high - low) / bins

    def encode(target: jax.Array) -> jax.Array:
        clipped = jnp.clip(target, low, high)[:, None]
        below = jax.scipy.stats.norm.cdf(edges[None].astype(target.dtype), clipped, sigma)
        mass = below[:, 1:] - below[:, :-1]
        return mass / jnp.sum(mass, axis=-1, keepdims=True)

    return _categorical(centres, encode, low, high)


def quantile(quantiles: int = 25, threshold: float = 1.0) -> Head:
    """Quantiles of the return, fitted by the quantile Huber loss; the value is their mean.

        D = Σ_i mean_j |τ_i − 1(u_ij < 0)| huber_κ(u_ij)/κ,   u_ij = y_j − q_i,  τ_i = (i − ½)/K

    The target is a number y, or the K quantiles of a TD target.

    Args:
        quantiles: K.
        threshold: κ > 0 of the Huber loss.

    Reference:
        Dabney, Rowland, Bellemare & Munos 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> head = quantile(2)
        >>> float(head.value(jnp.array([[1.0, 3.0]]))[0])
        2.0
    """
    require("quantiles", quantiles, whole, "a whole number >= 1")
    require("threshold", threshold, lambda x: x > 0, "a number > 0")
    levels = (jnp.arange(quantiles) + 0.5) / quantiles

    def value(output: jax.Array) -> jax.Array:
        return jnp.mean(output, axis=-1)

    def divergence(output: jax.Array, target: jax.Array) -> jax.Array:
        targets = target[:, None] if target.ndim == 1 else target
        error = targets[:, None, :] - output[:, :, None]  # [B, K, targets]
        size = jnp.abs(error)
        huber = jnp.where(size <= threshold, error**2 / 2, threshold * (size - threshold / 2))
        tilt = jnp.abs(levels[None, :, None].astype(output.dtype) - (error < 0))
        return jnp.sum(jnp.mean(tilt * huber / threshold, axis=-1), axis=-1)

    return Head((quantiles,), value, lambda output: output, divergence)


REDUCTIONS: dict[str, Reduce] = {
    "min": jnp.min,
    "mean": jnp.mean,
    "max": jnp.max,
    "first": lambda output, axis: jnp.take(output, 0, axis=axis),
}


def several(head: Head, members: int, value: str = "min", backup: str = "min") -> Head:
    """The head of an ensemble: each member learns by itself, and their values are reduced to one.

    Args:
        head: the head of each member; the axis of the members comes second, [B, n, *head.shape].
        members: n >= 1; with 1 the head itself is returned.
        value: how the verdict is computed from the members' values: `min` (SAC), `first` (TD3),
            `mean` or `max`.
        backup: the same for the value from which a target bootstraps.

    Reference:
        Fujimoto, van Hoof & Meger 2018 (clipped double Q-learning).

    Example:
        >>> import jax.numpy as jnp
        >>> head = several(scalar(lambda p, t: (p - t) ** 2), 2, value="first")
        >>> output = jnp.array([[3.0, 2.0]])
        >>> head.value(output).tolist(), head.backup(output).tolist()
        ([3.0], [2.0])
    """
    require("members", members, whole, "a whole number >= 1")
    if members == 1:
        return head
    reduce_value, reduce_backup = (
        lookup(name, given, REDUCTIONS) for name, given in (("value", value), ("backup", backup))
    )
    over_members = functools.partial(jax.vmap, in_axes=1, out_axes=1)

    def whole_output(output: jax.Array) -> jax.Array:
        return output.reshape(
            *output.shape[:2], *head.shape
        )  # a head of shape (1,) has lost its axis

    def divergence(output: jax.Array, target: jax.Array) -> jax.Array:
        each_divergence = jax.vmap(head.divergence, in_axes=(1, None), out_axes=1)
        return jnp.sum(each_divergence(whole_output(output), target), axis=1)

    return Head(
        (members, *head.shape),
        lambda output: reduce_value(over_members(head.value)(whole_output(output)), axis=1),
        lambda output: reduce_backup(over_members(head.backup)(whole_output(output)), axis=1),
        divergence,
        head.bounds,
    )


Divergence = str | Head | Callable[[jax.Array, jax.Array], jax.Array]


def make_head(divergence: Divergence, members: int = 1, value: str = "min") -> Head:
    """The head of a critic of several members, from a divergence, its name, or a head.

    Raises:
        ValueError: the name is unknown.
    """
    if isinstance(divergence, str):
        divergence = lookup("divergence", divergence, DIVERGENCES)
    head = divergence if isinstance(divergence, Head) else scalar(divergence)  # type: ignore
    return several(head, members, value)
