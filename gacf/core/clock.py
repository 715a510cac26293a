"""The clock: steps and updates made so far, as two entries of the world while a step runs.

Annealing, exploration, freezing and delays read it, so that none of them has to count by itself.
Where a game is observed, judged or evaluated outside a step (in a warm-up, by a drawing, in a
test), this module makes the clock for it.
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
        world: the world; if it has a clock already, that is replaced.
        step: the number of steps made so far. Negative numbers are those of a warm-up, in which
            exploration acts at random.
        update: the number of updates made so far; by default the same as `step`.

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
    """The entries of the clock alone; empty if there is no clock."""
    return {name: world[name] for name in NAMES if name in world}


def steps_made(world: World) -> jax.Array:
    """Steps made so far; 0 without a clock, which is the case while a game is initialised."""
    return world[STEP] if STEP in world else jnp.zeros((), jnp.int32)


def updates_made(world: World) -> jax.Array:
    """Updates made so far; 0 without a clock, which is the case while a game is initialised."""
    return world[UPDATE] if UPDATE in world else jnp.zeros((), jnp.int32)


def check_names(world: World) -> None:
    """Raises a ValueError if a game's own world has an entry with one of the clock's names."""
    if taken := sorted(set(world) & set(NAMES)):
        raise ValueError(
            f"world: an entry {taken[0]!r} was given; allowed: other names, since the clock uses it"
        )
