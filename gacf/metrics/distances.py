"""Distances between the rows of two samples, exact to float32 rounding wherever they lie."""

from __future__ import annotations

import jax
import jax.numpy as jnp

ROWS = 32  # the number of rows from which distances are computed at a time


def floating(sample: jax.Array) -> jax.Array:
    """The sample in float32, or in its own dtype if that is wider."""
    sample = jnp.asarray(sample)
    return sample.astype(jnp.promote_types(sample.dtype, jnp.float32))


def centred(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Both samples minus the point halfway between their means, and that point [1, D]."""
    real, fake = floating(real), floating(fake)
    center = (real.mean(0, keepdims=True) + fake.mean(0, keepdims=True)) / 2
    return real - center, fake - center, center


@jax.checkpoint  # otherwise the gradient of a map over rows would hold all differences
def square_distances_from(point: jax.Array, y: jax.Array) -> jax.Array:
    """Squared Euclidean distances [m] of a point [D] to the rows of y [m, D].

    Differences are taken first and then squared. |x|² + |y|² − 2 x·y would be one matrix product,
    but a distance below the rounding of |x|² and |y|² would be lost: that is every distance within
    a tight cluster far from the origin, and centring does not help if there are two such clusters.
    On a CPU this takes up to three times as long as the product.
    """
    return jnp.sum(jnp.square(point[None] - y), axis=-1)


def square_distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared Euclidean distances [n, m] of rows x [n, D] and y [m, D].

    Example:
        >>> x = jnp.array([[1024.0, 0.0], [1024.0 + 2**-13, 0.0]])
        >>> [float(square) * 2**26 for square in square_distances(x, x)[0]]
        [0.0, 1.0]
    """
    x, y = floating(x), floating(y)
    return jax.lax.map(
        lambda point: square_distances_from(point, y), x, batch_size=min(ROWS, len(x))
    )
