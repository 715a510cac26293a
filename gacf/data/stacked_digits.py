"""Stacked digits: a thousand modes from scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.types import Key
from gacf.data.digits import digits


class StackedDigits(NamedTuple):
    """Images of three digits, one in each colour; each of the thousand triples is a mode.

    Attributes:
        images: images of single digits [m, 8, 8, 1], float32 in [-1, 1].
        labels: the labels of these digits [m], int32.
    """

    images: jax.Array
    labels: jax.Array

    def sample(self, key: Key, n: int) -> jax.Array:
        """Fresh samples [n, 8, 8, 3]."""
        return self.labelled(key, n)[0]

    def labelled(self, key: Key, n: int) -> tuple[jax.Array, jax.Array]:
        """The same samples [n, 8, 8, 3], and their modes [n], 100 a + 10 b + c."""
        chosen = jax.random.randint(key, (3, n), 0, self.images.shape[0])
        images = jnp.concatenate([self.images[rows] for rows in chosen], axis=-1)
        hundreds, tens, ones = self.labels[chosen]
        return images, 100 * hundreds + 10 * tens + ones


def stacked_digits(split: str = "train") -> StackedDigits:
    """Three independently drawn digits, stacked as the colours of an image: 1,000 modes.

    Args:
        split: the split of `digits`: "train", "test" or "all".

    Raises:
        ValueError: another split.

    Reference:
        After the stacked MNIST of Metz et al. 2017, with scikit-learn's digits.

    Example:
        >>> import jax
        >>> stacked_digits().sample(jax.random.key(0), 5).shape
        (5, 8, 8, 3)
    """
    return StackedDigits(*digits(split))
