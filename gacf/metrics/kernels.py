"""Kernel distances between two samples: MMD and KID (L2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

MEDIAN_OF = 1000  # rows; the median of all distances among them is that of half a million


def square_distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared Euclidean distances [n, m] of rows x [n, D] and y [m, D], by one matrix product."""
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    lengths = jnp.sum(x * x, axis=-1)[:, None] + jnp.sum(y * y, axis=-1)[None, :]
    return jnp.maximum(lengths - 2 * product, 0)


def _unbiased(xx: jax.Array, yy: jax.Array, xy: jax.Array) -> jax.Array:
    """Squared MMD without bias out of three kernel matrices; the diagonals do not count."""

    def off_diagonal(kernel: jax.Array) -> jax.Array:
        n = kernel.shape[0]
        return (kernel.sum() - jnp.trace(kernel)) / (n * (n - 1))

    return off_diagonal(xx) + off_diagonal(yy) - 2 * xy.mean()


def mmd(real: jax.Array, fake: jax.Array, bandwidth: float | jax.Array | None = None) -> jax.Array:
    """Squared maximum mean discrepancy under a Gaussian kernel, unbiased.

        E k(x, x') + E k(y, y') − 2 E k(x, y),   k(x, y) = exp(−‖x − y‖² / (2 bandwidth²))

    It may be slightly negative where the samples agree.

    Args:
        real: [n, D].
        fake: [m, D].
        bandwidth: of the kernel; by default the median distance among the first 1,000 real
            samples, so that it is the same for every model.

    Returns:
        A scalar.

    Reference:
        Gretton et al. 2012, eq. 3 and section 8.

    Example:
        >>> import jax
        >>> x = jax.random.normal(jax.random.key(0), (50, 2))
        >>> bool(mmd(x, x + 3) > 0.5)
        True
    """
    center = real.mean(0, keepdims=True)
    real, fake = real - center, fake - center
    xx = square_distances(real, real)
    if bandwidth is None:
        n = min(real.shape[0], MEDIAN_OF)
        row, column = jnp.triu_indices(n, 1)
        twice_variance = 2 * jnp.median(xx[row, column])
    else:
        twice_variance = 2 * jnp.square(jnp.asarray(bandwidth, xx.dtype))
    yy, xy = square_distances(fake, fake), square_distances(real, fake)
    return _unbiased(*(jnp.exp(-square / twice_variance) for square in (xx, yy, xy)))


def kid(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Kernel distance of two samples of features: squared MMD, unbiased, under a cubic kernel.

        k(x, y) = (x·y / D + 1)³

    Args:
        real: features [n, D].
        fake: features [m, D].

    Returns:
        A scalar; over all samples, not averaged over subsets.

    Reference:
        Bińkowski et al. 2018, section 4.

    Example:
        >>> import jax
        >>> x = jax.random.normal(jax.random.key(0), (50, 2))
        >>> bool(kid(x, x + 3) > 1)
        True
    """

    def kernel(x: jax.Array, y: jax.Array) -> jax.Array:
        product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
        return (product / x.shape[1] + 1) ** 3

    return _unbiased(kernel(real, real), kernel(fake, fake), kernel(real, fake))
