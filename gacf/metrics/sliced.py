"""Sliced Wasserstein distance."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gacf.core.types import Key
from gacf.metrics.distances import centred


def sliced_wasserstein(
    real: jax.Array, fake: jax.Array, key: Key, projections: int = 128, order: float = 2.0
) -> jax.Array:
    """Wasserstein distance of one-dimensional projections, averaged over random directions.

        ( E_u  mean_i |sort(x·u)_i − sort(y·u)_i|^order )^(1/order),   u uniform on the sphere

    Args:
        real: [n, D].
        fake: [n, D].
        key: the key of the directions; compare models under the same key.
        projections: the number of directions.
        order: the order of the distance, >= 1.

    Returns:
        A scalar.

    Raises:
        ValueError: the samples have different shapes.

    Reference:
        Rabin et al. 2012; Bonneel et al. 2015.

    Example:
        >>> import jax
        >>> x = jax.random.normal(jax.random.key(0), (50, 2))
        >>> round(float(sliced_wasserstein(x, x + 1, jax.random.key(1), projections=2000)), 1)
        1.0
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"real, fake: shapes {real.shape} and {fake.shape} were given; allowed: equal ones"
        )
    real, fake, _ = centred(real, fake)  # a projection far from zero has few digits left
    direction = jax.random.normal(key, (real.shape[1], projections), real.dtype)
    direction /= jnp.linalg.norm(direction, axis=0, keepdims=True)

    def projected(sample: jax.Array) -> jax.Array:
        return jnp.sort(jnp.matmul(sample, direction, precision=jax.lax.Precision.HIGHEST), axis=0)

    apart = jnp.abs(projected(real) - projected(fake))
    return jnp.mean(apart**order) ** (1 / order)
