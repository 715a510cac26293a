"""Mixtures of Gaussians in the plane, sampled afresh for every batch."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import require
from gacf.core.types import Key


class Mixture(NamedTuple):
    """Equally likely round Gaussians.

    Attributes:
        means: [K, D], float32.
        scale: their common standard deviation.
    """

    means: jax.Array
    scale: float | jax.Array

    def sample(self, key: Key, n: int) -> jax.Array:
        """Fresh samples [n, D]."""
        mode_key, noise_key = jax.random.split(key)
        mode = jax.random.randint(mode_key, (n,), 0, self.means.shape[0])
        noise = jax.random.normal(noise_key, (n, self.means.shape[1]), self.means.dtype)
        return self.means[mode] + self.scale * noise

    def standardised(self) -> Mixture:
        """The mixture in units of the standard deviation of all coordinates of its means."""
        means = np.asarray(self.means)
        deviation = float(np.std(means))
        return Mixture(jnp.asarray(means / deviation), self.scale / deviation)


def ring(modes: int = 8, radius: float = 1.0, scale: float | jax.Array = 0.01) -> Mixture:
    """Gaussians evenly spaced on a circle.

    Args:
        modes: the number of Gaussians, K.
        radius: the radius of the circle.
        scale: standard deviation; may be traced.

    Reference:
        Metz et al. 2017; the protocol of Srivastava et al. 2017 (VEEGAN).

    Example:
        >>> import jax
        >>> ring().sample(jax.random.key(0), 5).shape
        (5, 2)
    """
    require("modes", modes, lambda n: n >= 1 and n == int(n), "a whole number >= 1")
    require("scale", scale, lambda s: s > 0, "a number > 0")
    # A linspace that includes both ends would have one mode twice.
    angle = 2 * np.pi * np.arange(modes) / modes
    means = radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    with jax.ensure_compile_time_eval():
        return Mixture(jnp.asarray(means, jnp.float32), scale)


def grid(side: int = 5, spacing: float = 2.0, scale: float | jax.Array = 0.05) -> Mixture:
    """Gaussians on a square grid around the origin; by default 25 on {-4, -2, 0, 2, 4}².

    Args:
        side: the number of Gaussians per side; K = side².
        spacing: the distance between neighbours.
        scale: standard deviation; may be traced.

    Reference:
        Srivastava et al. 2017 (VEEGAN).

    Example:
        >>> grid().means.shape
        (25, 2)
    """
    require("side", side, lambda n: n >= 1 and n == int(n), "a whole number >= 1")
    require("scale", scale, lambda s: s > 0, "a number > 0")
    line = spacing * (np.arange(side) - (side - 1) / 2)
    means = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    with jax.ensure_compile_time_eval():
        return Mixture(jnp.asarray(means, jnp.float32), scale)
