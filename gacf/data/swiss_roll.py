"""The Swiss roll in the plane, sampled afresh for every batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import require
from gacf.core.types import Key

LARGEST = 4.5 * math.pi


class SwissRoll(NamedTuple):
    """A spiral of one and a half turns, with normal noise.

    Attributes:
        noise: standard deviation of the noise, before scaling.
        scale: the number by which all coordinates are divided.
    """

    noise: float | jax.Array
    scale: float | jax.Array

    def sample(self, key: Key, n: int) -> jax.Array:
        """Fresh samples [n, 2]."""
        place_key, noise_key = jax.random.split(key)
        angle = LARGEST * (1 + 2 * jax.random.uniform(place_key, (n, 1))) / 3
        spiral = angle * jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)
        return (spiral + self.noise * jax.random.normal(noise_key, (n, 2))) / self.scale


def swiss_roll(noise: float | jax.Array = 0.25, scale: float | jax.Array = 7.5) -> SwissRoll:
    """Points t (cos t, sin t) / scale with t uniform in [1.5 π, 4.5 π], and normal noise.

    Args:
        noise: standard deviation of the noise, before scaling; may be traced.
        scale: the number by which all coordinates are divided; may be traced.

    Raises:
        ValueError: a number out of bounds.

    Reference:
        The roll of scikit-learn without its height, at the scale of Gulrajani et al. 2017.

    Example:
        >>> import jax
        >>> swiss_roll().sample(jax.random.key(0), 5).shape
        (5, 2)
    """
    require("noise", noise, lambda s: s >= 0, "a number >= 0")
    require("scale", scale, lambda s: s > 0, "a number > 0")
    return SwissRoll(noise, scale)
