"""GAN losses as pairs of a critic's divergence and an actor's utility (L4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.actor_critic import DIVERGENCES, identity


class GanLoss(NamedTuple):
    """What the critic and the actor make of a verdict.

    Attributes:
        divergence: `(verdict [B], label [B]) -> [B]`, minimised by the critic.
        utility: `verdict [B] -> [B]`, maximised by the actor on what it made.
    """

    divergence: Callable[[jax.Array, jax.Array], jax.Array]
    utility: Callable[[jax.Array], jax.Array]


LOSSES = {
    # −log(1 − σ(v)): Goodfellow et al. 2014, eq. 1
    "minimax": GanLoss(DIVERGENCES["cross_entropy"], jax.nn.softplus),
    # log σ(v): Goodfellow et al. 2014, section 3
    "non_saturating": GanLoss(DIVERGENCES["cross_entropy"], jax.nn.log_sigmoid),
    # −(v − 1)² / 2: Mao et al. 2017, eq. 9
    "least_squares": GanLoss(
        DIVERGENCES["squared_error"], lambda verdict: -jnp.square(verdict - 1) / 2
    ),
    # v: Arjovsky et al. 2017, eq. 2; the critic has to be kept Lipschitz
    "wasserstein": GanLoss(DIVERGENCES["wasserstein"], identity),
    # v: Lim & Ye 2017, eqs. 10 and 11
    "hinge": GanLoss(DIVERGENCES["hinge"], identity),
}
