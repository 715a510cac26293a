"""Kernel distances between two samples: MMD and KID."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gacf.metrics.distances import centred, square_distances

MEDIAN_OF = 1000  # rows; half a million distances between them are enough for a median


def _unbiased(xx: jax.Array, yy: jax.Array, xy: jax.Array) -> jax.Array:
    """The unbiased squared MMD from three kernel matrices, without the diagonals."""

    def off_diagonal(kernel: jax.Array) -> jax.Array:
        n = kernel.shape[0]
        return jnp.where(jnp.eye(n, dtype=bool), 0, kernel).sum() / (n * (n - 1))

    return off_diagonal(xx) + off_diagonal(yy) - 2 * xy.mean()


def mmd(real: jax.Array, fake: jax.Array, bandwidth: float | jax.Array | None = None) -> jax.Array:
    """Squared maximum mean discrepancy under a Gaussian kernel, unbiased.

        E k(x, x') + E k(y, y') − 2 E k(x, y),   k(x, y) = exp(−‖x − y‖² / (2 bandwidth²))

    It may be slightly negative if the samples agree.

    Args:
        real: [n, D].
        fake: [m, D].
        bandwidth: the bandwidth of the kernel; by default the median distance among the first 1,000
            real samples, so that it is the same for every model.

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
        A scalar, computed over all samples and not averaged over subsets.

    Reference:
        Bińkowski et al. 2018, section 4.

    Example:
        >>> import jax
        >>> x = jax.random.normal(jax.random.key(0), (50, 2))
        >>> bool(kid(x, x + 3) > 1)
        True
    """
    # With x = c + u, y = c + v, p = c·u/D, q = c·v/D, g = u·v/D and a = c·c/D + 1 the kernel is
    # (a + p + q + g)³. Terms that depend on x alone or on y alone cancel in the distance, and
    # are left out: far from the origin they make up nearly all of the kernel and its rounding.
    real, fake, center = centred(real, fake)
    size = real.shape[1]

    def product(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST) / size

    a = product(center, center) + 1

    def kernel(u: jax.Array, v: jax.Array) -> jax.Array:
        p, q, g = product(u, center), product(center, v), product(u, v)
        both = a + p + q
        return g * (3 * both * (both + g) + g * g) + 3 * p * q * (both + a)

    return _unbiased(kernel(real, real), kernel(fake, fake), kernel(real, fake))
