"""Linear actors and critics, exact on the probes and on the regulator, as (init, apply) pairs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Pair = tuple[Any, Any]


def features(o: jax.Array) -> jax.Array:
    """[B, F] such that all values of the probes are linear in it.

    Of one number (1, o); of the delayed probe's (t, m), whose times are −1, 0 and 1, (1, m) for
    each time.
    """
    one = jnp.ones((len(o), 1), o.dtype)
    if o.shape[1] == 1:
        return jnp.concatenate([one, o], axis=1)
    time = jax.nn.one_hot(jnp.round(o[:, 0]).astype(int) + 1, 3, dtype=o.dtype)
    return jnp.concatenate([time, time * o[:, 1:]], axis=1)


def _outer(x: jax.Array, y: jax.Array) -> jax.Array:
    return (x[:, :, None] * y[:, None, :]).reshape(len(x), -1)


def joint(o: jax.Array, a: jax.Array) -> jax.Array:
    """Those of states, times (1, a, a²)."""
    return _outer(features(o), jnp.concatenate([jnp.ones_like(a), a, a**2], axis=1))


def actor(*start: float) -> Pair:
    """Outputs that are linear in the features; `start` is what they are at first."""

    def init(key: Any, o: jax.Array) -> jax.Array:
        constant = features(jnp.zeros((1, o.shape[1])))[0]
        return constant[:, None] * jnp.array([start]) * jnp.ones((len(constant), 1))

    return init, lambda w, o: features(o) @ w


def of_states() -> Pair:
    return lambda key, o: jnp.zeros(features(o).shape[1]), lambda w, o: features(o) @ w


def of_actions() -> Pair:
    return lambda key, o, a: jnp.zeros(joint(o, a).shape[1]), lambda w, o, a: joint(o, a) @ w


def model(size: int) -> Pair:
    """Change of an observation of that size, and reward."""
    return (
        lambda key, o, a: jnp.zeros((joint(o, a).shape[1], size + 1)),
        lambda w, o, a: joint(o, a) @ w,
    )
