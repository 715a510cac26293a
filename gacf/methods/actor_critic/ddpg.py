"""Deep deterministic policy gradient, and what differs from it in a setting or two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf import envs
from gacf.core.checks import require, whole
from gacf.core.game import Game
from gacf.methods.actor_critic.environment import environment
from gacf.methods.actor_critic.exploration import Exploration
from gacf.methods.actor_critic.improve import pathwise
from gacf.methods.actor_critic.normalize import standardised
from gacf.methods.actor_critic.off_policy import (
    Divergence,
    box,
    default_network,
    explore_with,
    greedy,
    head_of,
    made,
    q_network,
    replayed,
)
from gacf.methods.actor_critic.policies import yields
from gacf.methods.actor_critic.target import as_it_is, q_target, smoothed
from gacf.networks import Model, model
from gacf.stabilizers import target_networks

READS = {"critic": ("actor", "critic")}


def deterministic(env: envs.Environment, network: Any) -> Model:
    """The model of an actor that yields actions: squashed by tanh where they are bounded."""
    shape, actions = box(env)
    wide = default_network(env, (256, 256), shape) if network is None else network
    pi = yields(model("actor", wide), *shape)
    return standardised(pi.then(jnp.tanh) if actions.bounded else pi)


def ddpg(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    discount: float | jax.Array = 0.99,
    exploration: float | jax.Array | Exploration = 0.1,
    batch_size: int = 256,
    capacity: int = 100_000,
    warmup: int = 1_000,
    target_rate: float | jax.Array = 0.005,
    num_envs: int = 1,
    divergence: Divergence = "squared_error",
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Any = None,
    episodes: int = 100,
    critics: int = 1,
    target_noise: float | jax.Array | None = None,
    target_clip: float | jax.Array = 0.5,
    n_step: int = 1,
    normalize_observations: bool = False,
) -> Game:
    """DDPG as a setting of `actor_critic`: replayed transitions, TD targets, pathwise actor.

        critic   min_φ mean D(Q_φ(s, a), r + γ (1 − d) Q′(s′, π′(s′)))
        actor    max_θ mean Q(s, π_θ(s))

    Actions are those of the actor's network squashed by tanh, [−1, 1]^A; the critic and the buffer
    see them so, the environment scaled to its bounds. Where actions have no bounds, nothing is
    squashed or scaled.

    Args:
        env: an `Environment` with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> [B, A], before squashing; by default an MLP of 2 × 256.
        critic: network ([B, O], [B, A]) -> [B] or [B, 1], or what the head reads; by default an
            MLP of 2 × 256.
        discount: γ.
        exploration: standard deviation of Gaussian noise, in units of half the action range; or
            an `Exploration`, for instance `ornstein_uhlenbeck()`.
        batch_size: B, replayed transitions a batch.
        capacity: of the replay buffer, in transitions.
        warmup: steps of uniformly random actions before the first update.
        target_rate: Polyak rate of the slow copies Q′ and π′.
        num_envs: environments N stepped at once.
        divergence: a name in `DIVERGENCES`, `(prediction, target) -> [B]`, or a `Head`:
            `heads.two_hot`, `heads.hl_gauss`, `heads.quantile`.
        transform_target: of the TD targets, [B] -> [B].
        penalty: added to the critic's loss, `(judge, groups, key) -> scalar`.
        episodes: an evaluation plays, from start states common to all seeds.
        critics: how many critics learn side by side; the target reads their minimum, the actor
            the first.
        target_noise: deviation of the noise on the target's action; None for none.
        target_clip: bound of that noise.
        n_step: steps that a transition reaches over.
        normalize_observations: by their running mean and deviation.

    Returns:
        A `Game`. Metrics: `episode/return` of exploration; `evaluate/return`.

    Raises:
        ValueError: discrete actions, or bounds on some alone; unknown names, sizes below 1.

    Reference:
        Lillicrap et al. 2016, algorithm 1 (with Gaussian in place of Ornstein-Uhlenbeck noise).

    Example:
        >>> import gacf, optax
        >>> game = gacf.ddpg("Pendulum-v1", warmup=8, capacity=64, batch_size=4)
        >>> rule = gacf.rules.alternating({p: optax.adam(1e-3) for p in ("actor", "critic")})
        >>> algorithm = gacf.compose(game, rule)
    """
    env = made(env)
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("target_rate", target_rate, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("critics", critics, whole, "a whole number >= 1")
    pi = deterministic(env, actor)
    head = head_of(divergence, critics, value="first")
    q = standardised(q_network(env, critic, head, critics))
    _, actions = box(env)

    exploit = greedy(pi)
    explore, memory = explore_with(exploit, exploration, env)
    source = environment(
        env, explore, exploit, actions.to_env, num_envs, episodes, memory=memory,
        normalize_observations=normalize_observations,
    )  # fmt: skip
    choose = as_it_is
    if target_noise is not None:
        choose = smoothed(target_noise, target_clip, actions.bounded)
    game = replayed(
        source, pi, q, q_target(pi, q, discount, head, choose), head, pathwise(), discount, n_step,
        capacity, batch_size, warmup, transform_target=transform_target, penalty=penalty,
    )  # fmt: skip
    return target_networks(game, target_rate, reads=READS)


def td3(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    critics: int = 2,
    target_noise: float | jax.Array = 0.2,
    target_clip: float | jax.Array = 0.5,
    **settings: Any,
) -> Game:
    """TD3: DDPG with the smaller of two critics and a smoothed target. The delay is a rule's.

        y = r + γ (1 − d) min_i Q′_i(s′, clip(π′(s′) + clip(ε, −c, c), −1, 1)),   ε ~ N(0, σ²)

    The third of its ideas, the delayed actor, is
    `sequence(player_step("critic", …), every(2, player_step("actor", …)))`.

    Args:
        env: as for `ddpg`.
        actor: as for `ddpg`.
        critic: one critic's network, as for `ddpg`.
        critics: how many.
        target_noise: σ.
        target_clip: c.
        **settings: the others of `ddpg`.

    Reference:
        Fujimoto, van Hoof & Meger 2018. There the slow copies move with the actor, every second
        update; here with every update.

    Example:
        >>> import gacf, optax
        >>> game = gacf.td3("Pendulum-v1", warmup=8, capacity=64, batch_size=4)
        >>> step, adam = gacf.rules.player_step, optax.adam(1e-3)
        >>> delayed = gacf.rules.every(2, step("actor", adam))
        >>> algorithm = gacf.compose(game, gacf.rules.sequence(step("critic", adam), delayed))
    """
    return ddpg(
        env, actor, critic, critics=critics, target_noise=target_noise, target_clip=target_clip,
        **settings,
    )  # fmt: skip
