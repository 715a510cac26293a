"""Noise that is added to a deterministic actor's actions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import require
from gacf.core.types import Key, PyTree


class Exploration(NamedTuple):
    """A noise process, one path for each copy of the environment.

    Attributes:
        init: `shape [N, A] -> memory`, leaves [N, …].
        noise: `(memory, shape [N, A], key) -> (noise [N, A], memory)`.
    """

    init: Callable[[tuple[int, ...]], PyTree]
    noise: Callable[[PyTree, tuple[int, ...], Key], tuple[jax.Array, PyTree]]


def gaussian_noise(deviation: float | jax.Array) -> Exploration:
    """Independent normal noise.

    Args:
        deviation: standard deviation, in units of the actions; may be traced.
    """
    require("exploration", deviation, lambda x: 0 <= x < math.inf, "a number >= 0")

    def noise(memory: PyTree, shape: tuple[int, ...], key: Key) -> tuple[jax.Array, PyTree]:
        return deviation * jax.random.normal(key, shape), memory

    return Exploration(lambda shape: (), noise)


def ornstein_uhlenbeck(
    deviation: float | jax.Array = 0.2, pull: float | jax.Array = 0.15, interval: float = 1.0
) -> Exploration:
    """Noise with inertia, which starts at 0 in each episode.

        x ← x − pull · x · interval + deviation · √interval · N(0, 1)

    Args:
        deviation: σ >= 0; may be traced.
        pull: θ >= 0; may be traced.
        interval: the time between two steps.

    Reference:
        Uhlenbeck & Ornstein 1930; Lillicrap et al. 2016, section 7 of the supplement.
    """
    require("deviation", deviation, lambda x: 0 <= x < math.inf, "a number >= 0")
    require("pull", pull, lambda x: 0 <= x < math.inf, "a number >= 0")
    require("interval", interval, lambda x: 0 < x < math.inf, "a number > 0")

    def noise(memory: PyTree, shape: tuple[int, ...], key: Key) -> tuple[jax.Array, PyTree]:
        kick = deviation * math.sqrt(interval) * jax.random.normal(key, shape)
        moved = memory - pull * interval * memory + kick
        return moved, moved

    return Exploration(jnp.zeros, noise)
