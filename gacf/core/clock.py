"""The clock: steps and updates made so far, as two entries of the world while a step runs.

Annealing, exploration, freezing and delays read it, and belong to nobody's own state. Wherever a
game is observed, judged or evaluated outside a step (in a warm-up, by a drawing, in a test), this
module makes the clock that is read there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.types import World

STEP, UPDATE = "step", "update"
NAMES = (STEP, UPDATE)


def with_clock(world: World, step: Any = 0, update: Any = None) -> World:
    """The world with a clock in it.

    Args:
        world: the world; a clock that it has is replaced.
        step: steps made so far. Negative ones are those of a warm-up, in which an explorer acts at
            random.
        update: updates made so far; by default as many as steps.

    Example:
        >>> world = with_clock({"env": 1.0}, step=7)
        >>> int(steps_made(world)), int(updates_made(world)), without_clock(world)
        (7, 7, {'env': 1.0})
    """
    step = jnp.asarray(step, jnp.int32)
    return {**world, STEP: step, UPDATE: step if update is None else jnp.asarray(update, jnp.int32)}


def without_clock(world: World) -> World:
    """The world without its clock, as it is kept between two steps."""
    return {name: entry for name, entry in world.items() if name not in NAMES}


def clock_of(world: Mapping[str, Any]) -> World:
    """The clock's entries alone; none where there is no clock."""
    return {name: world[name] for name in NAMES if name in world}


def steps_made(world: World) -> jax.Array:
    """Steps made so far; 0 where there is no clock yet, while a game is initialised."""
    return world[STEP] if STEP in world else jnp.zeros((), jnp.int32)


def updates_made(world: World) -> jax.Array:
    """Updates made so far; 0 where there is no clock yet, while a game is initialised."""
    return world[UPDATE] if UPDATE in world else jnp.zeros((), jnp.int32)


def check_names(world: World) -> None:
    """Raises a ValueError if a game's own world has an entry by a name of the clock."""
    if taken := sorted(set(world) & set(NAMES)):
        raise ValueError(f"world: {taken[0]!r} is the step counter's name; take another")
