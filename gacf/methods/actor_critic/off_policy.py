"""The common parts of the methods that learn from replayed transitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax

from gacf import stabilizers
from gacf.core.game import Game
from gacf.core.types import Batch, Key, World
from gacf.methods.actor_critic.constructor import Source, actor_critic
from gacf.methods.actor_critic.heads import Head
from gacf.methods.actor_critic.improve import Improve
from gacf.methods.actor_critic.n_step import n_step
from gacf.methods.actor_critic.settings import Replay, Rollout, with_defaults
from gacf.methods.actor_critic.target import Target
from gacf.methods.actor_critic.view import state_action_view
from gacf.networks import Model

Draw = Callable[[Key, int], jax.Array]
# The target reads the slow copies of both players.
READS = {"critic": ("actor", "critic")}


def one_time_step(rollout: Rollout, num_envs: int = 1) -> Any:
    """The rollout of a method that makes one time step per step, with a value in every field.

    Raises:
        ValueError: a field was given that such a method cannot use.
    """
    own = Rollout(num_envs=num_envs, length=1, normalize_rewards=False)
    fixed = {
        "length": "a method that replays transitions makes one time step between two updates",
        "normalize_rewards": "replayed rewards would have been divided by different numbers",
    }
    return with_defaults(rollout, own, fixed)


def replayed(
    source: Source,
    actor: Model,
    critic: Model,
    target: Target,
    head: Head,
    improve: Improve,
    discount: float | jax.Array,
    replay: Replay,
    noise: Mapping[str, Draw] = MappingProxyType({}),
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Any = None,
) -> Game:
    """The game of a critic of actions that learns from replayed transitions.

    Args:
        source: an `environment` of single steps.
        actor: the actor.
        critic: the critic, Q(s, a).
        target: the critic's target.
        head: the critic's head.
        improve: how the verdict reaches the actor.
        discount: γ, for transitions of several steps.
        replay: how transitions are replayed. The warm-up does not count the n − 1 observations that
            the first transition of n steps needs.
        noise: entry of the batch -> `(key, B) -> noise`, drawn anew with every batch.
        transform_target: transforms the targets.
        penalty: added to the critic's loss.
    """
    sizes = with_defaults(replay, Replay())
    source = n_step(source, sizes.n_step, discount, step=-1 if sizes.warmup else 0)
    game = actor_critic(
        actor, critic, without_truncation(source), state_action_view, target, head, improve,
        transform_target=transform_target, penalty=penalty,
    )  # fmt: skip
    game = stabilizers.replay(game, sizes.capacity, sizes.batch_size, sizes.warmup)
    return with_draws(game, noise, sizes.batch_size) if noise else game


def without_truncation(source: Source) -> Source:
    """The source whose transitions lack `truncated`, which one-transition targets never read."""

    def sample(world: World, key: Key) -> Batch:
        transition = source.sample(world, key)
        return {name: leaf for name, leaf in transition.items() if name != "truncated"}

    return source._replace(sample=sample)


def with_draws(game: Game, noise: Mapping[str, Draw], batch_size: int) -> Game:
    """The game whose batches also hold noise, which is drawn anew with every batch.

    Args:
        game: a game whose batches are dicts.
        noise: entry of the batch -> `(key, B) -> noise`.
        batch_size: B.
    """

    def sample(world: World, key: Key) -> Batch:
        batch_key, *keys = jax.random.split(key, 1 + len(noise))
        drawers = zip(noise.items(), keys, strict=True)
        drawn = {name: draw(k, batch_size) for (name, draw), k in drawers}
        return {**game.sample(world, batch_key), **drawn}

    return game._replace(sample=sample)
