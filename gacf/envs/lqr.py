"""The linear-quadratic regulator as an environment."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import require, whole
from gacf.core.types import Key
from gacf.envs.types import Box, Environment, Timestep, restart


class LQRState(NamedTuple):
    """The state of the system.

    Attributes:
        position: s, [n].
        time: steps since the start, int32 scalar.
    """

    position: jax.Array
    time: jax.Array


def _matrix(argument: str, value: Any, rows: int | None, columns: int | None) -> jax.Array:
    matrix = jnp.atleast_2d(jnp.asarray(value, jnp.float32))
    shape = (rows or matrix.shape[0], columns or rows or matrix.shape[0])
    if matrix.shape != shape:
        raise ValueError(f"{argument}: shape {matrix.shape} was given; allowed: {shape}")
    return matrix


def lqr(
    a: Any = 1.0,
    b: Any = 1.0,
    q: Any = 1.0,
    r: Any = 1.0,
    noise: Any = 0.1,
    spread: Any = 1.0,
    horizon: int = 20,
    bound: float = jnp.inf,
) -> Environment:
    """The linear-quadratic regulator: linear dynamics, quadratic cost, fully observed.

        s' = As + Bu + noise · ξ,   reward = −(sᵀQs + uᵀRu),   s_0 = spread · ξ_0

    with ξ standard normal. An episode is truncated after `horizon` steps and never terminated, so
    its values are those of the infinite problem: with gain K (u = −Ks) and P as in
    `gacf.games.lqr.value`, V(s) = −sᵀPs − γ/(1−γ) noise² tr P; the best gain does not depend on the
    noise. A step can be differentiated with respect to the state, the action and all numbers above.

    Args:
        a: A, [n, n]; here and below, a number stands for a matrix of size 1 × 1.
        b: B, [n, m].
        q: Q, [n, n], symmetric.
        r: R, [m, m], symmetric.
        noise: standard deviation of the dynamics' noise.
        spread: standard deviation of the start state.
        horizon: the number of steps of an episode.
        bound: the declared bounds of actions, [−bound, bound], for actors that need some; they are
            not enforced.

    Raises:
        ValueError: the matrices do not fit each other, or the horizon is not a whole number >= 1.

    Reference:
        Bradtke (1993); Fazel, Ge, Kakade & Mesbahi (2018).

    Example:
        >>> import jax
        >>> env = lqr(a=0.5, noise=0.0)
        >>> state, s = env.reset(jax.random.key(0))
        >>> _, timestep = env.step(jax.random.key(1), state, jax.numpy.array([2.0]))
        >>> bool(timestep.next_observation[0] == 0.5 * s[0] + 2)
        True
        >>> bool(timestep.reward == -(s[0] ** 2) - 4)
        True
    """
    require("horizon", horizon, whole, "a whole number >= 1")
    a = _matrix("a", a, None, None)
    size = len(a)
    b = jnp.atleast_2d(jnp.asarray(b, jnp.float32))
    b = _matrix("b", b, size, b.shape[1])
    q = _matrix("q", q, size, size)
    r = _matrix("r", r, b.shape[1], b.shape[1])

    def reset(key: Key) -> tuple[LQRState, jax.Array]:
        position = jnp.asarray(spread * jax.random.normal(key, (size,)), jnp.float32)
        return LQRState(position, jnp.zeros((), jnp.int32)), position

    def step(key: Key, state: LQRState, action: jax.Array) -> tuple[LQRState, Timestep]:
        noise_key, reset_key = jax.random.split(key)
        s, u = state.position, jnp.asarray(action, jnp.float32)
        drift = noise * jax.random.normal(noise_key, (size,))
        position = jnp.asarray(a @ s + b @ u + drift, jnp.float32)
        time = state.time + 1
        truncated = time >= horizon
        state = restart(truncated, reset(reset_key)[0], LQRState(position, time))
        return state, Timestep(
            observation=state.position,
            next_observation=position,
            reward=-(s @ q @ s + u @ r @ u),
            terminated=jnp.zeros((), bool),
            truncated=truncated,
        )

    with jax.ensure_compile_time_eval():
        everywhere = jnp.full(size, jnp.inf, jnp.float32)
        limit = jnp.full(b.shape[1], bound, jnp.float32)
        observations = Box((size,), -everywhere, everywhere)
        actions = Box((b.shape[1],), -limit, limit)
    return Environment("LQR", reset, step, observations, actions, horizon)
