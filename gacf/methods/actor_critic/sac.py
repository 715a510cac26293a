"""Soft actor-critic, Haarnoja et al. 2018."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf import envs
from gacf.core.checks import require, whole
from gacf.core.game import Game, add_player
from gacf.core.types import Batch, Key, Outcome, Params, PyTree, World
from gacf.methods.actor_critic.environment import Act, environment
from gacf.methods.actor_critic.exploration import Exploration
from gacf.methods.actor_critic.improve import reparameterised
from gacf.methods.actor_critic.normalize import standardised
from gacf.methods.actor_critic.off_policy import (
    Divergence,
    box,
    default_network,
    explore_with,
    head_of,
    made,
    q_network,
    replayed,
)
from gacf.methods.actor_critic.policies import Policy, gaussian, squashed_gaussian, yields
from gacf.methods.actor_critic.target import q_target, sampled
from gacf.networks import Model, model
from gacf.stabilizers import target_networks


def stochastic(env: envs.Environment, network: Any) -> tuple[Model, Policy]:
    """The model and policy of an actor on a box: squashed where actions are bounded."""
    shape, actions = box(env)
    require("env", shape, lambda s: len(s) == 1, "actions that are vectors")
    policy = squashed_gaussian(shape[0]) if actions.bounded else gaussian(shape[0])
    wide = default_network(env, (256, 256), (policy.width,)) if network is None else network
    return standardised(yields(model("actor", wide), policy.width)), policy


def acting(actor: Model, policy: Policy) -> tuple[Any, Any]:
    """How a policy explores (by itself; uniformly while a buffer is filled) and how it exploits."""

    def exploit(params: Params, world: World, observation: jax.Array, key: Key) -> jax.Array:
        output, _ = actor.apply(params["actor"], world, observation, key=key, train=False)
        return policy.mode(output)

    def explore(params: Params, world: World, observation: jax.Array, key: Key) -> Act:
        noise_key, random_key, act_key = jax.random.split(key, 3)
        output, _ = actor.apply(params["actor"], world, observation, key=act_key, train=False)
        action, log_prob = policy.sample(output, policy.noise(noise_key, len(output)))
        if jnp.issubdtype(action.dtype, jnp.floating):
            random = jax.random.uniform(random_key, action.shape, action.dtype, -1, 1)
            action = jnp.where(world["step"] < 0, random, action)
        return Act(action, {"log_prob": log_prob})

    return explore, exploit


def sac(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    discount: float | jax.Array = 0.99,
    target_entropy: float | jax.Array | None = None,
    temperature: float | jax.Array = 1.0,
    learn_temperature: bool = True,
    exploration: float | jax.Array | Exploration = 0.0,
    batch_size: int = 256,
    capacity: int = 100_000,
    warmup: int = 1_000,
    target_rate: float | jax.Array = 0.005,
    num_envs: int = 1,
    divergence: Divergence = "squared_error",
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Any = None,
    episodes: int = 100,
    critics: int = 2,
    n_step: int = 1,
    normalize_observations: bool = False,
) -> Game:
    """SAC: entropy in the target and in the actor's loss; the temperature is a player.

        critic       min_φ mean D(Q_φi(s, a), r + γ (1 − d) (min_i Q′_i(s′, a′) − α log π(a′|s′)))
        actor        min_θ mean (α log π_θ(a|s) − min_i Q_i(s, a)),   a ~ π_θ along the path
        temperature  min_log α  mean −log α (log π(a|s) + H̄)

    Args:
        env: an `Environment` with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> [B, 2A], mean and log σ before squashing; by default 2 × 256.
        critic: one critic's network, as for `ddpg`.
        discount: γ.
        target_entropy: H̄; −A by default.
        temperature: α at the start, or for good.
        learn_temperature: whether there is a player `temperature`; its params are log α.
        exploration: noise added to the policy's own samples, as for `ddpg`; none by default. One
            with inertia finds rewards that are many like actions away.
        batch_size: B.
        capacity: of the replay buffer.
        warmup: steps of uniformly random actions before the first update.
        target_rate: Polyak rate of the slow critics.
        num_envs: environments N.
        divergence: as for `ddpg`.
        transform_target: of the targets, [B] -> [B].
        penalty: added to the critic's loss.
        episodes: an evaluation plays, with the policy's mode.
        critics: how many critics.
        n_step: steps that a transition reaches over.
        normalize_observations: by their running mean and deviation.

    Returns:
        A `Game` of the players `actor`, `critic` and, if it learns, `temperature`.

    Raises:
        ValueError: discrete actions, unknown names, sizes below 1.

    Reference:
        Haarnoja et al. 2018 (SAC, and its applications paper for the temperature).

    Example:
        >>> import gacf, optax
        >>> game = gacf.sac("Pendulum-v1", warmup=8, capacity=64, batch_size=4)
        >>> sorted(game.losses)
        ['actor', 'critic', 'temperature']
    """
    env = made(env)
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("target_rate", target_rate, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("temperature", temperature, lambda x: x > 0, "a number > 0")
    require("critics", critics, whole, "a whole number >= 1")
    pi, policy = stochastic(env, actor)
    (size,), actions = box(env)
    head = head_of(divergence, critics)
    q = standardised(q_network(env, critic, head, critics))
    explore, exploit = acting(pi, policy)
    noisy, memory = explore_with(lambda *args: explore(*args).action, exploration, env)
    source = environment(
        env, noisy, exploit, actions.to_env, num_envs, episodes, memory=memory,
        normalize_observations=normalize_observations,
    )  # fmt: skip

    def alpha(params: Params) -> jax.Array:
        return jnp.exp(params["temperature"]) if learn_temperature else jnp.asarray(temperature)

    game = replayed(
        source, pi, q, q_target(pi, q, discount, head, sampled(policy, alpha)), head,
        reparameterised(policy, alpha), discount, n_step, capacity, batch_size, warmup,
        {"noise": policy.noise, "next_noise": policy.noise}, transform_target, penalty,
    )  # fmt: skip
    game = target_networks(game, target_rate, reads={"critic": ("critic",)})
    if not learn_temperature:
        return game
    wanted = -size if target_entropy is None else target_entropy

    def loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        output, _ = pi.apply(params["actor"], world, batch["observation"], key=key)
        _, log_prob = policy.sample(output, batch["noise"])
        return -own * (jnp.mean(log_prob) + wanted), Outcome({"temperature": jnp.exp(own)}, {})

    return add_player(
        game, "temperature", lambda key: jnp.log(jnp.asarray(temperature, float)), loss
    )
