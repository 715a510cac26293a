"""One constructor for both families: Figure 1 of Pfau & Vinyals (2016) as a value.

The actor proposes, the critic judges; only the critic sees the evidence, and the actor learns
from its verdict alone. A GAN and DDPG differ in the arguments below, and in nothing else.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.game import Game
from gacf.core.tracing import blank
from gacf.core.types import Batch, Key, Metrics, Outcome, Params, PyTree, World
from gacf.methods.actor_critic.heads import Head, read, scalar
from gacf.methods.actor_critic.improve import Evidence, Improve
from gacf.networks import Model, model
from gacf.networks.network import as_inputs

Groups = dict[str, Any]
Targets = dict[str, jax.Array]


class Source(NamedTuple):
    """Where evidence comes from: a data set, or an environment.

    Attributes:
        init: `key -> world`.
        sample: `(world, key) -> batch`: a dict of arrays [B, …]. If it holds an `action`, the
            critic judges that one in its own loss; otherwise it judges the actor's.
        observe: `(params, world, key) -> (world, metrics)`: acts once per step.
        evaluate: `(params, world, key) -> metrics`.
        start: `(params, world, key) -> world`: the part of the initialisation that needs the
            params.
        propose: `(params, world, seen, key) -> action`, as for a `Game`.
    """

    init: Callable[[Key], World]
    sample: Callable[[World, Key], Batch]
    observe: Callable[[Params, World, Key], tuple[World, Metrics]] | None = None
    evaluate: Callable[[Params, World, Key], Metrics] | None = None
    start: Callable[[Params, World, Key], World] | None = None
    propose: Callable[[Params, World, Any, Key], Any] | None = None


Penalty = Callable[[Callable[..., jax.Array], Groups, Key], jax.Array]
# Folded into the key of a critic's evaluations to get the key of its penalty's. `split(key)[i]` is
# `fold_in(key, i)`, so this number must be larger than any into which a key is split.
PENALTY = 0x70656E


def penalty_judge(
    critic: Model, own: PyTree, params: Params, world: World, read: Callable[..., Any], key: Key
) -> Callable[..., jax.Array]:
    """The critic as its penalty sees it, with new random draws (such as dropout) in every call.

    Args:
        critic: the critic's model.
        own: its params.
        params: the params of all players.
        world: the world.
        read: `output -> verdicts [B]`.
        key: the key of the critic's evaluations in the same loss.
    """
    calls = itertools.count(PENALTY)

    def judge(*inputs: Any) -> jax.Array:
        own_key = jax.random.fold_in(key, next(calls))
        return read(critic.given(params).apply(own, world, *inputs, key=own_key)[0])

    return judge


def _no_change(target: jax.Array) -> jax.Array:
    return target


def actor_critic(
    actor: Any,
    critic: Any,
    source: Source,
    view: Callable[[Batch, PyTree], Groups],
    target: Callable[[Params, World, Batch, Key], Targets],
    divergence: Callable[[jax.Array, jax.Array], jax.Array] | Head,
    improve: Improve,
    sees: Callable[[Batch], Any] = lambda batch: (batch["observation"],),
    transform_target: Callable[[jax.Array], jax.Array] = _no_change,
    penalty: Penalty | None = None,
) -> Game:
    """A game of an actor and a critic.

        critic   min_φ  Σ_groups mean_B D(target ‖ critic_φ(view(batch, action)))
        actor    min_θ  improve(critic(view(batch, actor_θ(sees(batch)))))

    Args:
        actor: the actor's network, of any kind that `gacf.networks.model` takes.
        critic: the critic's network; its output is [B], [B, 1], or what `divergence` takes.
        source: where evidence comes from.
        view: `(batch, action) -> {group: critic inputs [B, …]}`: what the critic sees; a tuple is
            several inputs. The critic is applied to each group separately, so that batch statistics
            of real and fake examples do not mix.
        target: `(params, world, batch, key) -> {group: [B, …]}`: what the critic should have said.
        divergence: `(prediction, target) -> [B]` for a critic that yields one number per example,
            or a `Head` of `gacf.methods.actor_critic.heads` for one that yields more.
        improve: how the verdict reaches the actor, for instance `pathwise(…)` or
            `score_function(…)`.
        sees: `batch -> actor inputs`; a tuple is several inputs. By default the only input is the
            observation, which may be a pytree.
        transform_target: transforms the targets of one group, [B] -> [B], for instance label
            smoothing.
        penalty: `(judge, groups, key) -> scalar`, added to the critic's loss; `judge(*inputs)` is
            the critic with its own parameters, [B].

    Returns:
        A `Game` of the players `actor` and `critic`. Each loss renews only its own player's
        statistics (`stats/<player>` in the world).

    Raises:
        ValueError: while tracing, if view and target name different groups, or if a target and its
            prediction differ in shape.

    Reference:
        Pfau & Vinyals 2016, section 3 and figure 1.
    """
    actor, critic = model("actor", actor), model("critic", critic)
    head = divergence if isinstance(divergence, Head) else scalar(divergence)

    def init(key: Key) -> tuple[Params, World]:
        source_key, actor_key, critic_key, start_key = jax.random.split(key, 4)
        world = source.init(source_key)
        batch = blank(jax.eval_shape(source.sample, world, source_key))
        actor_inputs = as_inputs(sees(batch))
        actor_params, actor_stats = actor.init(actor_key, *actor_inputs)
        action = (
            batch["action"]
            if "action" in batch
            else _proposal(actor_params, actor_stats, actor_inputs)
        )
        group_inputs = next(iter(view(batch, action).values()))
        critic_params, critic_stats = critic.init(critic_key, *as_inputs(group_inputs))
        params = {"actor": actor_params, "critic": critic_params}
        world = {**world, **actor_stats, **critic_stats}
        return params, world if source.start is None else source.start(params, world, start_key)

    def _proposal(params: PyTree, world: World, actor_inputs: tuple[Any, ...]) -> PyTree:
        def proposed(key: Key) -> PyTree:
            return actor.apply(params, world, *actor_inputs, key=key, train=False)[0]

        return blank(jax.eval_shape(proposed, jax.random.key(0)))

    def outputs(
        own: PyTree, params: Params, world: World, groups: Groups, key: Key
    ) -> tuple[dict[str, jax.Array], World]:
        judge = critic.given(params)
        by_group: dict[str, jax.Array] = {}
        entries: World = {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
            inputs = as_inputs(groups[group])
            output, news = judge.apply(own, {**world, **entries}, *inputs, key=group_key)
            by_group[group] = read(output, head, f"group {group!r}")
            entries |= news
        return by_group, entries

    def critic_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        act_key, judge_key, target_key, penalty_key = jax.random.split(key, 4)
        if "action" in batch:
            action = batch["action"]
        else:
            action, _ = actor.apply(params["actor"], world, *as_inputs(sees(batch)), key=act_key)
        groups = view(batch, action)
        predictions, entries = outputs(own, params, world, groups, judge_key)
        targets = target(params, world, batch, target_key)
        if set(targets) != set(predictions):
            raise ValueError(
                f"target: groups {sorted(targets)}; those of view: {sorted(predictions)}"
            )
        losses: dict[str, jax.Array] = {}
        metrics: Metrics = {}
        for group, prediction in predictions.items():
            goal = transform_target(targets[group])
            if head.shape == () and goal.shape != prediction.shape:
                raise ValueError(
                    f"target: shape {goal.shape} in group {group!r}; "
                    f"the critic's: {prediction.shape}"
                )
            losses[group] = jnp.mean(head.divergence(prediction, goal))
            metrics[f"verdict/{group}"] = jnp.mean(head.value(prediction))
            if head.bounds is not None:
                low, high = head.bounds
                metrics[f"clipped/{group}"] = jnp.mean((goal < low) | (goal > high), dtype=float)
        loss = functools.reduce(jnp.add, losses.values())
        if penalty is not None:

            def judged(output: jax.Array) -> jax.Array:
                return head.value(read(output, head, "the penalty"))

            judge = penalty_judge(critic, own, params, world, judged, judge_key)
            metrics["penalty"] = penalty(judge, groups, penalty_key)
            loss = loss + metrics["penalty"]
        return loss, Outcome(metrics, entries)

    def actor_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        act_key, judge_key, target_key = jax.random.split(key, 3)

        def propose(weights: PyTree) -> tuple[PyTree, World]:
            # all proposals of one loss share their random draws, so that ratios of two are 1
            same_key = jax.random.clone(act_key)
            return actor.apply(weights, world, *as_inputs(sees(batch)), key=same_key)

        def verdicts(action: PyTree) -> dict[str, jax.Array]:
            groups = view(batch, action)
            by_group = outputs(params["critic"], params, world, groups, judge_key)[0]
            return {group: head.value(output) for group, output in by_group.items()}

        def targets() -> Targets:
            return target(params, world, batch, target_key)

        evidence = Evidence(propose, verdicts, params["actor"], batch, params, targets, world)
        loss, metrics, entries = improve(own, evidence)
        return loss, Outcome(metrics, entries)

    game = Game({"actor": actor_loss, "critic": critic_loss}, init, sample=source.sample)
    if source.observe is not None:
        game = game._replace(observe=source.observe)
    if source.evaluate is not None:
        game = game._replace(evaluate=source.evaluate)
    if source.propose is not None:
        game = game._replace(propose=source.propose)
    return game
