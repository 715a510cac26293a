"""Arrays whose leading axis counts rows: the examples of a batch, or copies of an environment."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def per_row(numbers: jax.Array, like: jax.Array) -> jax.Array:
    """One number for each row, [B] as [B, 1, …], so that it broadcasts against an array [B, …].

    Example:
        >>> per_row(jnp.arange(3), jnp.zeros((3, 4, 5))).shape
        (3, 1, 1)
    """
    return numbers.reshape(-1, *(1 for _ in like.shape[1:]))


def where_rows(condition: jax.Array, chosen: jax.Array, other: jax.Array) -> jax.Array:
    """The rows of `chosen` where the condition [B] holds, and those of `other` elsewhere.

    Example:
        >>> where_rows(jnp.array([True, False]), jnp.ones((2, 2)), jnp.zeros((2, 2))).tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    return jnp.where(per_row(condition, other), chosen, other)
