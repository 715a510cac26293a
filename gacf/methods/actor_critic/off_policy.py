"""What the methods that learn from replayed transitions share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from gacf import envs
from gacf.core.checks import lookup
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Params, World
from gacf.envs.check import check_spaces
from gacf.methods.actor_critic.constructor import Source, actor_critic
from gacf.methods.actor_critic.divergence import DIVERGENCES
from gacf.methods.actor_critic.environment import Act, Actions, Exploit, Explore, actions_of
from gacf.methods.actor_critic.exploration import Exploration, gaussian_noise
from gacf.methods.actor_critic.heads import Head, scalar, several
from gacf.methods.actor_critic.improve import Improve
from gacf.methods.actor_critic.n_step import n_step
from gacf.methods.actor_critic.target import Target
from gacf.networks import MLP, Model, encoded, ensemble, model
from gacf.stabilizers import replay

Divergence = str | Head | Callable[[jax.Array, jax.Array], jax.Array]


def made(env: envs.Environment | str) -> envs.Environment:
    """The environment, by name or itself; its source checks the rest of it."""
    return check_spaces(envs.make(env) if isinstance(env, str) else env)


def default_network(env: envs.Environment, *settings: Any) -> Any:
    """An MLP of these settings that reads observations of the environment, of whatever kind."""
    return encoded(envs.features(env.observation), MLP(*settings))


def box(env: envs.Environment) -> tuple[tuple[int, ...], Actions]:
    """Shape of an action, and how it reaches the environment.

    Raises:
        ValueError: discrete actions.
    """
    if not isinstance(env.action, envs.Box):
        raise ValueError(f"env: {env.name} has discrete actions; allowed: a box of actions")
    return env.action.shape, actions_of(env)


def head_of(divergence: Divergence, members: int = 1, value: str = "min") -> Head:
    """The critic's head: by a divergence's name, a divergence, or itself; for so many members."""
    if isinstance(divergence, str):
        divergence = lookup("divergence", divergence, DIVERGENCES)
    head = divergence if isinstance(divergence, Head) else scalar(divergence)  # type: ignore
    return several(head, members, value)


def q_network(env: envs.Environment, network: Any, head: Head, members: int = 1) -> Model:
    """The model of a critic of actions: by default an ensemble of MLPs of 2 × 256."""
    if isinstance(network, Model):
        return network
    one = head.shape[1:] if members > 1 else head.shape
    wide = default_network(env, (256, 256), one) if network is None else network
    return model("critic", ensemble(wide, members))


def greedy(actor: Model) -> Exploit:
    """How an actor that yields its action exploits."""

    def exploit(params: Params, world: World, observation: jax.Array, key: Key) -> jax.Array:
        return actor.apply(params["actor"], world, observation, key=key, train=False)[0]

    return exploit


def explore_with(
    act: Exploit, exploration: Exploration | float | jax.Array, env: envs.Environment
) -> tuple[Explore, Callable[[int], Any]]:
    """A deterministic actor with noise, uniform while the buffer is filled; and its memory."""
    if not isinstance(exploration, Exploration):
        exploration = gaussian_noise(exploration)
    shape, actions = box(env)

    def explore(params: Params, world: World, observation: jax.Array, key: Key) -> Act:
        noise_key, random_key, act_key = jax.random.split(key, 3)
        action = act(params, world, observation, act_key)
        noise, memory = exploration.noise(world["env"]["memory"], action.shape, noise_key)
        random = jax.random.uniform(random_key, action.shape, action.dtype, -1, 1)
        noisy = action + noise.astype(action.dtype)
        noisy = jnp.clip(noisy, -1, 1) if actions.bounded else noisy
        return Act(jnp.where(world["step"] < 0, random, noisy), {}, memory)

    return explore, lambda num_envs: exploration.init((num_envs, *shape))


def acted(batch: Batch, action: jax.Array) -> dict[str, Any]:
    """The view of a critic of actions."""
    return {"taken": (batch["observation"], action)}


def replayed(
    source: Source,
    actor: Model,
    critic: Model,
    target: Target,
    head: Head,
    improve: Improve,
    discount: float | jax.Array,
    steps: int,
    capacity: int,
    batch_size: int,
    warmup: int,
    noise: Mapping[str, Callable[[Key, int], jax.Array]] = MappingProxyType({}),
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Any = None,
) -> Game:
    """The game of a critic of actions that learns from replayed transitions.

    Args:
        source: an `environment` of single steps.
        actor: the actor.
        critic: the critic, Q(s, a).
        target: of the critic.
        head: of the critic.
        improve: how the verdict reaches the actor.
        discount: γ, for transitions of several steps.
        steps: n of such transitions.
        capacity: of the buffer.
        batch_size: B.
        warmup: observations before the first step, besides the n − 1 that a first transition of n
            steps needs.
        noise: entry of the batch -> `(key, B) -> noise`: drawn anew with every batch.
        transform_target: of the targets.
        penalty: added to the critic's loss.
    """
    source = n_step(source, steps, discount, step=-1 if warmup else 0)
    lean = source._replace(sample=lambda world, key: _lean(source.sample(world, key)))
    game = actor_critic(
        actor, critic, lean, acted, target, head, improve,
        transform_target=transform_target, penalty=penalty,
    )  # fmt: skip
    game = replay(game, capacity, batch_size, warmup)
    if not noise:
        return game
    drawn = game.sample

    def sample(world: World, key: Key) -> Batch:
        batch_key, *keys = jax.random.split(key, 1 + len(noise))
        drawers = zip(noise.items(), keys, strict=True)
        fresh = {name: draw(k, batch_size) for (name, draw), k in drawers}
        return {**drawn(world, batch_key), **fresh}

    return game._replace(sample=sample)


def _lean(transition: Batch) -> Batch:
    """Without what a target of single transitions never reads."""
    return {name: leaf for name, leaf in transition.items() if name != "truncated"}
