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
from gacf.methods.actor_critic.acting import actions_alone, by_policy, with_noise
from gacf.methods.actor_critic.actions import action_box
from gacf.methods.actor_critic.environment import as_environment, environment
from gacf.methods.actor_critic.exploration import Exploration
from gacf.methods.actor_critic.heads import Divergence, make_head
from gacf.methods.actor_critic.improve import reparameterised
from gacf.methods.actor_critic.normalize import standardised
from gacf.methods.actor_critic.off_policy import one_time_step, replayed
from gacf.methods.actor_critic.players import q_network, stochastic
from gacf.methods.actor_critic.settings import Replay, Rollout, takes_settings
from gacf.methods.actor_critic.target import q_target, sampled
from gacf.stabilizers import target_networks


@takes_settings
def sac(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    *,
    discount: float | jax.Array = 0.99,
    target_entropy: float | jax.Array | None = None,
    temperature: float | jax.Array = 1.0,
    learn_temperature: bool = True,
    exploration: float | jax.Array | Exploration = 0.0,
    critics: int = 2,
    target_rate: float | jax.Array = 0.005,
    divergence: Divergence = "squared_error",
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Any = None,
    rollout: Rollout = Rollout(),
    replay: Replay = Replay(),
) -> Game:
    """SAC: entropy in the target and in the actor's loss, with the temperature as a third player.

        critic       min_φ mean D(Q_φi(s, a), r + γ (1 − d) (min_i Q′_i(s′, a′) − α log π(a′|s′)))
        actor        min_θ mean (α log π_θ(a|s) − min_i Q_i(s, a)),   a ~ π_θ along the path
        temperature  min_log α  mean −log α (log π(a|s) + H̄)

    Args:
        env: an `Environment` with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> [B, 2A], mean and log σ before squashing; by default 2 × 256.
        critic: one critic's network, as for `ddpg`.
        discount: γ.
        target_entropy: H̄; −A by default.
        temperature: α at the start; it stays so if `learn_temperature` is False.
        learn_temperature: whether there is a player `temperature`; its params are log α.
        exploration: noise added to the policy's own samples, as for `ddpg`; none by default. Noise
            with inertia can reach rewards that need many similar actions in a row.
        critics: the number of critics; target and actor use the smallest of their values.
        target_rate: the Polyak rate of the slow critics.
        divergence: as for `ddpg`.
        transform_target: transforms the targets, [B] -> [B].
        penalty: added to the critic's loss.
        rollout: how evidence is gathered; an evaluation plays the policy's mode.
        replay: how evidence is replayed.

    Returns:
        A `Game` of the players `actor`, `critic` and, if it learns, `temperature`.

    Raises:
        ValueError: actions are discrete, a name is unknown, or a setting does not fit the method.

    Reference:
        Haarnoja et al. 2018 (SAC, and its applications paper for the temperature).

    Example:
        >>> import gacf, optax
        >>> game = gacf.sac("Pendulum-v1", replay=gacf.Replay(capacity=64, batch_size=4, warmup=8))
        >>> sorted(game.losses)
        ['actor', 'critic', 'temperature']
    """
    env = as_environment(env)
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("target_rate", target_rate, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("temperature", temperature, lambda x: x > 0, "a number > 0")
    require("critics", critics, whole, "a whole number >= 1")
    pi, policy = stochastic(env, actor)
    (size,), actions = action_box(env)
    head = make_head(divergence, critics)
    q = standardised(q_network(env, critic, head, critics))
    explore, exploit = by_policy(pi, policy)
    noisy, memory = with_noise(actions_alone(explore), exploration, env)
    source = environment(env, noisy, exploit, actions.to_env, one_time_step(rollout), memory=memory)

    def alpha(params: Params) -> jax.Array:
        return jnp.exp(params["temperature"]) if learn_temperature else jnp.asarray(temperature)

    game = replayed(
        source, pi, q, q_target(pi, q, discount, head, sampled(policy, alpha)), head,
        reparameterised(policy, alpha), discount, replay,
        {"noise": policy.noise, "next_noise": policy.noise}, transform_target, penalty,
    )  # fmt: skip
    game = target_networks(game, target_rate, reads={"critic": ("critic",)})
    if not learn_temperature:
        return game
    entropy_goal = -size if target_entropy is None else target_entropy

    def loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        output, _ = pi.apply(params["actor"], world, batch["observation"], key=key)
        _, log_prob = policy.sample(output, batch["noise"])
        return -own * (jnp.mean(log_prob) + entropy_goal), Outcome(
            {"temperature": jnp.exp(own)}, {}
        )

    return add_player(
        game, "temperature", lambda key: jnp.log(jnp.asarray(temperature, float)), loss
    )
