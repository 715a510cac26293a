"""How the critic's verdict reaches the actor (L3): along the path, or by the score function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gacf.types import Batch, Metrics, PyTree, World, lookup

Utility = Callable[[jax.Array], jax.Array]


class Evidence(NamedTuple):
    """What an actor's loss may use.

    Attributes:
        propose: `actor's params -> (the actor's output on this batch, world entries)`.
        judge: `action -> {group: the critic's verdict}`; the critic is held fixed.
        fixed: the actor's params as the others see them, for ratios.
        batch: the batch.
    """

    propose: Callable[[PyTree], tuple[PyTree, World]]
    judge: Callable[[PyTree], dict[str, jax.Array]]
    fixed: PyTree
    batch: Batch


class Improve(Protocol):
    """`(own, evidence) -> (loss, metrics, world entries)`."""

    def __call__(self, own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]: ...


def identity(verdict: jax.Array) -> jax.Array:
    """The verdict is the utility: Q-functions, Wasserstein and hinge critics."""
    return verdict


def pathwise(utility: Utility = identity, of: Sequence[str] | None = None) -> Improve:
    """Through the critic, by the chain rule: loss = −Σ_groups mean_B utility(critic(view(actor))).

    Args:
        utility: of a verdict; the identity for Q, log σ for a non-saturating generator.
        of: the groups to sum over; all by default. A group that the actor does not touch adds no
            gradient, and left out it costs nothing.

    Reference:
        DPG: Silver et al. 2014, eq. 9. GAN: Goodfellow et al. 2014, algorithm 1.
    """

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        action, entries = evidence.propose(own)
        verdicts = evidence.judge(action)
        chosen = [lookup("improve: group", group, verdicts) for group in of or verdicts]
        utilities = [jnp.mean(utility(verdict)) for verdict in chosen]
        return -jnp.sum(jnp.stack(utilities)), {}, entries

    return improve


def score_function(
    log_prob: Callable[[PyTree, PyTree], jax.Array],
    utility: Utility = identity,
    of: Sequence[str] | None = None,
) -> Improve:
    """By the likelihood ratio: loss = −Σ_groups mean_B π_own(a) / π(a) · utility(Q(a)).

    The ratio is 1, and there so that value, own gradient and cross gradients are all right: with
    log π · Q only the own gradient is.

    Args:
        log_prob: `(actor's output, action) -> [B]`; the action is the one that the batch records.
        utility: of a verdict, [B] -> [B].
        of: the groups to sum over; all by default.

    Reference:
        Williams 1992; Sutton et al. 1999, theorem 1.
    """

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        action = lookup("score_function: batch", "action", evidence.batch)
        output, entries = evidence.propose(own)
        fixed, _ = evidence.propose(evidence.fixed)
        ratio = jnp.exp(log_prob(output, action) - log_prob(fixed, action))
        verdicts = evidence.judge(action)
        chosen = [lookup("improve: group", group, verdicts) for group in of or verdicts]
        gains = [jnp.mean(ratio * utility(verdict)) for verdict in chosen]
        return -jnp.sum(jnp.stack(gains)), {}, entries

    return improve
