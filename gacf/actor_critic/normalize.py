"""Running mean and variance of observations and returns, kept in the world (L3)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.networks import Model
from gacf.types import Key, PyTree, World


class Running(NamedTuple):
    """Mean and sum of squared deviations of what was seen.

    Attributes:
        count: float scalar.
        mean: like one example.
        squares: likewise.
    """

    count: jax.Array
    mean: jax.Array
    squares: jax.Array


def start(example: jax.Array) -> Running:
    """Nothing seen: mean 0, variance 1 (as if one example of variance 1 had been)."""
    zeros = jnp.zeros_like(example, jnp.result_type(example, jnp.float32))
    return Running(jnp.ones((), zeros.dtype), zeros, jnp.ones_like(zeros))


def variance(running: Running) -> jax.Array:
    """Of all that was seen, like one example."""
    return running.squares / running.count


def take_in(running: Running, batch: jax.Array) -> Running:
    """The statistics with a batch [n, …] added.

    Reference:
        Chan, Golub & LeVeque 1979 (pairwise update).

    Example:
        >>> import jax.numpy as jnp
        >>> seen = take_in(start(jnp.zeros(())), jnp.full(9999, 3.0))
        >>> round(float(seen.mean), 2)
        3.0
    """
    n = batch.shape[0]
    mean = jnp.mean(batch, axis=0)
    squares = jnp.sum(jnp.square(batch - mean[None]), axis=0)
    count = running.count + n
    apart = mean - running.mean
    return Running(
        count,
        running.mean + apart * n / count,
        running.squares + squares + jnp.square(apart) * running.count * n / count,
    )


def standardised(model: Model, entry: str = "observations", clip: float = 10.0) -> Model:
    """The model whose first input is standardised by the running statistics in the world.

    Args:
        model: of any player; the first of its inputs is an observation [B, O].
        entry: of the world. Without such an entry the input is left alone.
        clip: bound of a standardised number.
    """
    if model.bind is not None:
        return model  # it sees observations through the models that it was made of

    def apply(
        params: PyTree, world: World, *inputs: Any, key: Key | None = None, train: bool = True
    ) -> tuple[jax.Array, World]:
        first, *rest = inputs
        if entry in world:
            running: Running = world[entry]["now"]
            scale = jnp.sqrt(variance(running) + 1e-8)
            first = jnp.clip((first - running.mean[None]) / scale[None], -clip, clip)
        return model.apply(params, world, first, *rest, key=key, train=train)

    return model._replace(apply=apply)
