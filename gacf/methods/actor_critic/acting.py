"""How actors act: exploring while they learn, exploiting what they know when they are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.clock import steps_made
from gacf.core.types import Batch, Key, Params, PyTree, World
from gacf.envs import Environment
from gacf.methods.actor_critic.actions import action_box
from gacf.methods.actor_critic.exploration import Exploration, gaussian_noise
from gacf.methods.actor_critic.policies import Policy
from gacf.networks import Model


class Act(NamedTuple):
    """The result of one call of an explorer.

    Attributes:
        action: actions [N, …].
        record: further entries of the transition, a dict of arrays [N, …].
        memory: what the explorer keeps until its next action, leaves [N, …].
    """

    action: jax.Array
    record: Batch = {}  # noqa: RUF012
    memory: PyTree = ()


# While an explorer acts, `world["env"]` holds the environments' `state` and `observation`, the
# explorer's `memory`, and the `keys` with which the environments will be stepped.
Explore = Callable[[Params, World, Any, Key], jax.Array | Act]
Exploit = Callable[[Params, World, Any, Key], jax.Array]


def greedy(actor: Model) -> Exploit:
    """The exploiting function of an actor whose output is its action."""

    def exploit(params: Params, world: World, observation: Any, key: Key) -> jax.Array:
        return actor.apply(params["actor"], world, observation, key=key, train=False)[0]

    return exploit


def with_noise(
    act: Exploit, exploration: Exploration | float | jax.Array, env: Environment
) -> tuple[Explore, Callable[[int], PyTree]]:
    """An explorer that adds noise to actions, and acts uniformly while a buffer is filled.

    Returns:
        The explorer, and `N -> its memory at the start`.
    """
    if not isinstance(exploration, Exploration):
        exploration = gaussian_noise(exploration)
    shape, actions = action_box(env)

    def explore(params: Params, world: World, observation: Any, key: Key) -> Act:
        noise_key, random_key, act_key = jax.random.split(key, 3)
        action = act(params, world, observation, act_key)
        noise, memory = exploration.noise(world["env"]["memory"], action.shape, noise_key)
        random = jax.random.uniform(random_key, action.shape, action.dtype, -1, 1)
        noisy = action + noise.astype(action.dtype)
        noisy = jnp.clip(noisy, -1, 1) if actions.bounded else noisy
        return Act(jnp.where(steps_made(world) < 0, random, noisy), {}, memory)

    return explore, lambda num_envs: exploration.init((num_envs, *shape))


def by_policy(actor: Model, policy: Policy) -> tuple[Callable[..., Act], Exploit]:
    """The explorer of a policy, which samples from it, and the exploiting function, its mode.

    The explorer records `log_prob`, and acts uniformly while a buffer is filled.
    """

    def exploit(params: Params, world: World, observation: Any, key: Key) -> jax.Array:
        output, _ = actor.apply(params["actor"], world, observation, key=key, train=False)
        return policy.mode(output)

    def explore(params: Params, world: World, observation: Any, key: Key) -> Act:
        noise_key, random_key, act_key = jax.random.split(key, 3)
        output, _ = actor.apply(params["actor"], world, observation, key=act_key, train=False)
        action, log_prob = policy.sample(output, policy.noise(noise_key, len(output)))
        if jnp.issubdtype(action.dtype, jnp.floating):
            random = jax.random.uniform(random_key, action.shape, action.dtype, -1, 1)
            action = jnp.where(steps_made(world) < 0, random, action)
        return Act(action, {"log_prob": log_prob})

    return explore, exploit


def actions_alone(explore: Callable[..., Act]) -> Exploit:
    """The explorer without its records and its memory: it returns its actions alone."""

    def act(params: Params, world: World, observation: Any, key: Key) -> jax.Array:
        return explore(params, world, observation, key).action

    return act


def with_states(explore: Explore) -> Explore:
    """The explorer that also records what is needed to repeat a step of the environment.

    Transitions then hold `state`, the environment's state before the step, and `key`, the raw data
    of the key that the step used.
    """

    def recording(params: Params, world: World, observation: Any, key: Key) -> Act:
        act = as_act(explore(params, world, observation, key))
        entry = world["env"]
        again = {"state": entry["state"], "key": jax.random.key_data(entry["keys"])}
        return act._replace(record={**act.record, **again})

    return recording


def as_act(act: jax.Array | Act) -> Act:
    """What an explorer returned as an `Act`, even if it returned its actions alone."""
    return act if isinstance(act, Act) else Act(act)
