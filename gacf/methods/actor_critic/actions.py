"""How a method's actions become an environment's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gacf.envs import Box, Environment


class Actions(NamedTuple):
    """How a method's actions become an environment's.

    Attributes:
        bounded: whether they lie in [−1, 1]^A.
        to_env: converts one action to what the environment expects.
    """

    bounded: bool
    to_env: Callable[[jax.Array], jax.Array]


def actions_of(env: Environment) -> Actions:
    """The conversion of actions to an environment's, which depends on their space.

    For a box with finite bounds, methods act in [−1, 1]^A, and actions are clipped and scaled to
    the bounds. All other actions reach the environment as they are. Real actions reach it in at
    least JAX's default precision, whatever the precision of the network.

    Raises:
        ValueError: only some of the bounds are finite, or bounds are NaN, in the wrong order, or so
            far apart that their distance is not finite.
    """
    if not isinstance(env.action, Box):
        return Actions(False, lambda action: action)

    def real(action: jax.Array) -> jax.Array:
        return action.astype(jnp.promote_types(action.dtype, jnp.result_type(float)))

    if not _bounded(env.action, f"env: {env.name}"):
        return Actions(False, real)
    low, high = jnp.asarray(env.action.low), jnp.asarray(env.action.high)
    return Actions(True, lambda a: low + (jnp.clip(real(a), -1, 1) + 1) / 2 * (high - low))


def _bounded(space: Box, where: str) -> bool:
    """Whether the bounds of a box of actions are finite; raises unless all are or none is."""
    low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
    finite = np.isfinite(low) & np.isfinite(high)
    dtype = jnp.result_type(space.low, space.high, jnp.float32)
    largest = float(jnp.finfo(dtype).max)  # the largest number that can scale an action
    with np.errstate(over="ignore", invalid="ignore"):
        reach = np.maximum(high - low, np.maximum(np.abs(low), np.abs(high)))
        faults = (
            (~(low <= high), "with low <= high"),
            (~finite & ((low > -np.inf) | (high < np.inf)), "all finite, or none"),
            (finite & (reach > largest), f"at most {largest:.3g} apart, or −inf and inf"),
            (finite != finite.all(), "all finite, or none"),
        )
    for fault, allowed in faults:
        if fault.any():
            at = np.unravel_index(np.argmax(fault), fault.shape)
            index = f"[{', '.join(map(str, at))}]" if at else ""
            raise ValueError(
                f"{where}: action{index} has the bounds {low[at]:.9g} and {high[at]:.9g}; "
                f"allowed: bounds of actions {allowed}"
            )
    return bool(finite.all())


def action_box(env: Environment) -> tuple[tuple[int, ...], Actions]:
    """The shape of an action, and the conversion of actions to the environment's.

    Raises:
        ValueError: the actions are discrete.
    """
    if not isinstance(env.action, Box):
        raise ValueError(f"env: {env.name} has discrete actions; allowed: a box of actions")
    return env.action.shape, actions_of(env)
