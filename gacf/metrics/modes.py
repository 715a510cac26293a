"""Mode coverage of samples from a mixture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from gacf.core.types import Metrics


def modes(samples: jax.Array, means: jax.Array, scale: float | jax.Array) -> Metrics:
    """How many modes a sample covers, and how well.

    A sample is of high quality within 3·scale of its nearest mean; a mode is captured by one
    high-quality sample. With h_k the share of samples nearest to mean k,

        reverse_kl = KL(h ‖ uniform) = Σ_k h_k log(K h_k)

    Samples of the mixture itself score 98.89 % high quality in the plane, not 100 %. A sample
    that is not finite is not of high quality, and is assigned to the first mode.

    Args:
        samples: [n, D].
        means: the means of the K modes [K, D].
        scale: the modes' standard deviation.

    Returns:
        `modes`, `high_quality` (a fraction) and `reverse_kl`, float32 scalars.

    Reference:
        Srivastava et al. 2017 (VEEGAN), section 4.1; Lin et al. 2018 (PacGAN).

    Example:
        >>> import gacf.data, jax
        >>> ring = gacf.data.ring()
        >>> metrics = modes(ring.sample(jax.random.key(0), 2500), ring.means, ring.scale)
        >>> float(metrics["modes"])
        8.0
    """
    square = jnp.sum(jnp.square(samples[:, None] - means[None]), axis=-1)
    near = jax.nn.one_hot(jnp.argmin(square, axis=-1), means.shape[0], dtype=jnp.float32)
    good = (jnp.min(square, axis=-1) <= (3 * scale) ** 2).astype(jnp.float32)
    share = near.mean(0)
    return {
        "modes": jnp.sum((near * good[:, None]).max(0)),
        "high_quality": good.mean(),
        "reverse_kl": jnp.sum(xlogy(share, share * means.shape[0])),
    }
