"""How the critic's verdict reaches the actor: along the path, or by the score function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gacf.core.checks import lookup, require
from gacf.core.types import Batch, Metrics, Params, PyTree, World
from gacf.methods.actor_critic.policies import Policy

Utility = Callable[[jax.Array], jax.Array]


class Evidence(NamedTuple):
    """What an actor's loss may use.

    Attributes:
        propose: `actor's params -> (the actor's output on this batch, world entries)`.
        judge: `action -> {group: the critic's verdict}`; the critic is held fixed.
        fixed: the actor's params, held fixed, for likelihood ratios.
        batch: the batch.
        params: the params of all players, held fixed.
        targets: `() -> {group: what the critic should have said}`.
        world: the world.
    """

    propose: Callable[[PyTree], tuple[PyTree, World]]
    judge: Callable[[PyTree], dict[str, jax.Array]]
    fixed: PyTree
    batch: Batch
    params: Params = {}  # noqa: RUF012
    targets: Callable[[], dict[str, jax.Array]] = dict
    world: World = {}  # noqa: RUF012


class Improve(Protocol):
    """`(own, evidence) -> (loss, metrics, world entries)`."""

    def __call__(self, own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]: ...


def identity(verdict: jax.Array) -> jax.Array:
    """The verdict is the utility: Q-functions, Wasserstein and hinge critics."""
    return verdict


def pathwise(utility: Utility = identity, of: Sequence[str] | None = None) -> Improve:
    """Through the critic, by the chain rule: loss = −Σ_groups mean_B utility(critic(view(actor))).

    Args:
        utility: a function of the verdict: the identity for Q, log σ for a non-saturating
            generator.
        of: the groups to sum over; all by default. A group that does not depend on the actor adds
            no gradient, so leaving it out saves its cost.

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


def reparameterised(
    policy: Policy, temperature: Callable[[Params], float | jax.Array] | None = None
) -> Improve:
    """Through the critic and the policy's noise: loss = mean_B (α log π(a|s) − Q(s, a)).

    Args:
        policy: the policy whose parameters the actor yields; its noise is `batch["noise"]`.
        temperature: `params -> α`; if None, the entropy term is left out (SVG(0)).

    Reference:
        Heess et al. 2015 (SVG(0)); Haarnoja et al. 2018.
    """

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        output, entries = evidence.propose(own)
        action, log_prob = policy.sample(output, evidence.batch["noise"])
        loss = -_total(evidence.judge(action))
        if temperature is not None:
            loss = loss + jnp.mean(temperature(evidence.params) * log_prob)
        return loss, {"entropy": -jnp.mean(log_prob)}, entries

    return improve


def _total(verdicts: dict[str, jax.Array]) -> jax.Array:
    return jnp.sum(jnp.stack([jnp.mean(verdict) for verdict in verdicts.values()]))


def _entropy(policy: Policy, output: Any, log_prob: jax.Array, ratio: jax.Array) -> jax.Array:
    """The mean entropy, or −mean ρ log π, whose gradient is right, if there is no closed form.

    Without the likelihood ratio ρ, the gradient of −mean log π would be 0 in expectation.
    """
    if policy.entropy is None:
        return -jnp.mean(ratio * log_prob)
    return jnp.mean(policy.entropy(output))


def _standardised(advantage: jax.Array) -> jax.Array:
    """The advantages, shifted and scaled to mean 0 and standard deviation 1 over the batch.

    If they are all equal up to rounding, then no action was better than another, and all become 0.

    Raises:
        ValueError: there is only one, which would always become 0.
    """
    if advantage.size < 2:
        raise ValueError(
            "standardise: True was given with an advantage of one transition, which would become "
            "0; allowed: batches and minibatches of at least 2, or standardise=False"
        )
    rounding = 8 * jnp.finfo(advantage.dtype).eps * jnp.max(jnp.abs(advantage))
    differ = jnp.max(advantage) - jnp.min(advantage) > rounding
    # a deviation of 0 has no derivative, and cross gradients would become NaN
    x = jnp.where(differ, advantage, jnp.arange(advantage.size, dtype=advantage.dtype))
    return jnp.where(differ, (x - jnp.mean(x)) / (jnp.std(x) + 1e-8), 0)


def score_function(
    log_prob: Callable[[PyTree, PyTree], jax.Array],
    utility: Utility = identity,
    of: Sequence[str] | None = None,
) -> Improve:
    """By the likelihood ratio: loss = −Σ_groups mean_B π_own(a) / π(a) · utility(Q(a)).

    The ratio has the value 1. With it the value, the own gradient and the cross gradients are all
    right, whereas with log π · Q only the own gradient is.

    Args:
        log_prob: `(actor's output, action) -> [B]`; the action is the one that the batch records.
        utility: a function of the verdict, [B] -> [B].
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


def advantage(
    policy: Policy, entropy: float | jax.Array = 0.0, standardise: bool = False
) -> Improve:
    """By the likelihood ratio, for a critic of states, whose error is the advantage.

        loss = −mean_B π_own(a) / π(a) · (target − V(s)) − entropy · H(π_own)

    With the λ-return as target, the difference is the generalised advantage estimate. Target and
    verdict are functions of the critic's parameters here, so that cross gradients are right.

    Args:
        policy: the policy whose parameters the actor yields.
        entropy: the weight of the policy's entropy.
        standardise: whether advantages are shifted and scaled to mean 0 and deviation 1 over the
            batch, which must hold at least 2. If all are equal, they become 0.

    Reference:
        Mnih et al. 2016 (A2C, A3C); Schulman et al. 2016, eq. 16 (GAE).
    """
    require("entropy", entropy, lambda x: x >= 0, "a number >= 0")

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        action = evidence.batch["action"]
        output, entries = evidence.propose(own)
        fixed, _ = evidence.propose(evidence.fixed)
        log_prob = policy.log_prob(output, action)
        ratio = jnp.exp(log_prob - policy.log_prob(fixed, action))
        verdicts, targets = evidence.judge(action), evidence.targets()
        differences = [targets[group] - verdicts[group] for group in verdicts]
        advantages = functools.reduce(jnp.add, differences)
        advantages = _standardised(advantages) if standardise else advantages
        bonus = _entropy(policy, output, log_prob, ratio)
        return -jnp.mean(ratio * advantages) - entropy * bonus, {"entropy": bonus}, entries

    return improve


def clipped(
    policy: Policy,
    clip: float | jax.Array = 0.2,
    entropy: float | jax.Array = 0.0,
    standardise: bool = True,
) -> Improve:
    """By a likelihood ratio that is clipped where it is far from 1 (PPO).

        loss = −mean_B min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) − entropy · H(π_own),   ρ = π_own(a) / π_acted(a)

    The batch records `log_prob` and `advantage` as they were when it was collected. They are
    evidence and not functions of the critic. So a direction that differentiates through the
    critic's response yields the own gradient.

    Args:
        policy: the policy whose parameters the actor yields.
        clip: ε.
        entropy: the weight of the policy's entropy.
        standardise: whether advantages are standardised over the (mini)batch, as in `advantage`.

    Reference:
        Schulman et al. 2017, eq. 7.
    """  # noqa: E501
    require("clip", clip, lambda x: x > 0, "a number > 0")
    require("entropy", entropy, lambda x: x >= 0, "a number >= 0")

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        batch = evidence.batch
        output, entries = evidence.propose(own)
        log_prob = policy.log_prob(output, batch["action"])
        ratio = jnp.exp(log_prob - batch["log_prob"])
        advantages = _standardised(batch["advantage"]) if standardise else batch["advantage"]
        clipped_ratio = jnp.clip(ratio, 1 - clip, 1 + clip)
        gain = jnp.mean(jnp.minimum(ratio * advantages, clipped_ratio * advantages))
        bonus = _entropy(policy, output, log_prob, ratio)
        metrics = {
            "entropy": bonus,
            "ratio_clipped": jnp.mean(jnp.abs(ratio - 1) > clip, dtype=ratio.dtype),
        }
        return -gain - entropy * bonus, metrics, entries

    return improve


def natural(weights: Callable[[PyTree], PyTree]) -> Improve:
    """The natural gradient, read from a compatible critic's weights: loss = −⟨θ_own, w⟩, ∇ = −w.

    At the critic's least-squares fit, w = F⁻¹ ∇J, without the Fisher matrix ever being formed.

    Args:
        weights: `critic's params -> w`, like the actor's params.

    Reference:
        Kakade 2002; Peters & Schaal 2008; Bhatnagar et al. 2009.
    """

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        w = weights(evidence.params["critic"])
        products = jax.tree.map(lambda theta, step: jnp.sum(theta * step), own, w)
        return -jnp.sum(jnp.stack(jax.tree.leaves(products))), {}, {}

    return improve
