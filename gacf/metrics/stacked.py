"""Modes of stacked digits, counted by a classifier of single digits."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from gacf.core.types import Metrics

MODES = 1_000


def stacked_modes(samples: jax.Array, logits: Callable[[jax.Array], jax.Array]) -> Metrics:
    """How many of the thousand triples of digits a sample covers, and how evenly.

    Each colour is classified by itself, and one sample is enough to cover a mode. With h_k the
    share of samples of mode k,

        kl = KL(h ‖ uniform) = Σ_k h_k log(1000 h_k)

    Args:
        samples: [n, 8, 8, 3].
        logits: logits of single digits, [n, 8, 8, 1] -> [n, 10]; for instance those of
            `digits_classifier`, whose accuracy should be reported with the result.

    Returns:
        `modes` and `kl`, float32 scalars.

    Reference:
        Metz et al. 2017; Lin et al. 2018 (PacGAN), with 26,000 samples.

    Example:
        >>> import gacf.data, jax
        >>> from gacf.metrics import digits_classifier
        >>> samples = gacf.data.stacked_digits().sample(jax.random.key(0), 26_000)
        >>> float(stacked_modes(samples, digits_classifier().logits)["modes"])
        1000.0
    """
    colours = jnp.moveaxis(samples, -1, 0)[..., None]
    hundreds, tens, ones = (jnp.argmax(logits(colour), axis=-1) for colour in colours)
    mode = 100 * hundreds + 10 * tens + ones
    share = jnp.bincount(mode, length=MODES).astype(jnp.float32) / samples.shape[0]
    return {
        "modes": jnp.sum(share > 0, dtype=jnp.float32),
        "kl": jnp.sum(xlogy(share, share * MODES)),
    }
