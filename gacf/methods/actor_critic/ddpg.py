"""Deep deterministic policy gradient, and TD3, which corrects three of its weaknesses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from gacf import envs
from gacf.core.checks import require, whole
from gacf.core.game import Game
from gacf.methods.actor_critic.acting import greedy, with_noise
from gacf.methods.actor_critic.actions import action_box
from gacf.methods.actor_critic.environment import as_environment, environment
from gacf.methods.actor_critic.exploration import Exploration
from gacf.methods.actor_critic.heads import Divergence, make_head
from gacf.methods.actor_critic.improve import pathwise
from gacf.methods.actor_critic.normalize import standardised
from gacf.methods.actor_critic.off_policy import READS, one_time_step, replayed
from gacf.methods.actor_critic.players import deterministic, q_network
from gacf.methods.actor_critic.settings import Replay, Rollout, takes_settings
from gacf.methods.actor_critic.target import as_it_is, q_target, smoothed
from gacf.stabilizers import target_networks


@takes_settings
def ddpg(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    *,
    discount: float | jax.Array = 0.99,
    exploration: float | jax.Array | Exploration = 0.1,
    target_rate: float | jax.Array = 0.005,
    divergence: Divergence = "squared_error",
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Any = None,
    rollout: Rollout = Rollout(),
    replay: Replay = Replay(),
) -> Game:
    """DDPG as a setting of `actor_critic`: replayed transitions, TD targets, pathwise actor.

        critic   min_φ mean D(Q_φ(s, a), r + γ (1 − d) Q′(s′, π′(s′)))
        actor    max_θ mean Q(s, π_θ(s))

    The output of the actor's network is squashed by tanh to [−1, 1]^A. The critic and the buffer
    see actions in this form, and the environment gets them scaled to its bounds. If actions have no
    bounds, nothing is squashed or scaled.

    Args:
        env: an `Environment` with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> [B, A], before squashing; by default an MLP of 2 × 256.
        critic: network ([B, O], [B, A]) -> [B] or [B, 1], or what the head reads; by default an
            MLP of 2 × 256.
        discount: γ.
        exploration: the standard deviation of Gaussian noise, in units of half the action range; or
            an `Exploration`, for instance `ornstein_uhlenbeck()`.
        target_rate: the Polyak rate of the slow copies Q′ and π′.
        divergence: a name in `DIVERGENCES`, `(prediction, target) -> [B]`, or a `Head`:
            `heads.two_hot`, `heads.hl_gauss`, `heads.quantile`.
        transform_target: transforms the TD targets, [B] -> [B].
        penalty: added to the critic's loss, `(judge, groups, key) -> scalar`.
        rollout: how evidence is gathered.
        replay: how evidence is replayed.

    Returns:
        A `Game`. Metrics: `episode/return` of exploration; `evaluate/return`.

    Raises:
        ValueError: actions are discrete, or only some of them have bounds; a name is unknown, or
            a setting does not fit the method.

    Reference:
        Lillicrap et al. 2016, algorithm 1 (with Gaussian in place of Ornstein-Uhlenbeck noise).

    Example:
        >>> import gacf, optax
        >>> game = gacf.ddpg("Pendulum-v1", replay=gacf.Replay(capacity=64, batch_size=4, warmup=8))
        >>> rule = gacf.rules.alternating({p: optax.adam(1e-3) for p in ("actor", "critic")})
        >>> algorithm = gacf.compose(game, rule)
    """
    return _deterministic_gradient(
        env, actor, critic, discount, exploration, target_rate, divergence, transform_target,
        penalty, rollout, replay,
    )  # fmt: skip


@takes_settings
def td3(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    *,
    critics: int = 2,
    target_noise: float | jax.Array | None = 0.2,
    target_clip: float | jax.Array = 0.5,
    discount: float | jax.Array = 0.99,
    exploration: float | jax.Array | Exploration = 0.1,
    target_rate: float | jax.Array = 0.005,
    divergence: Divergence = "squared_error",
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Any = None,
    rollout: Rollout = Rollout(),
    replay: Replay = Replay(),
) -> Game:
    """TD3: DDPG with the smaller of two critics and a smoothed target; the rule makes the delay.

        y = r + γ (1 − d) min_i Q′_i(s′, clip(π′(s′) + clip(ε, −c, c), −1, 1)),   ε ~ N(0, σ²)

    The third idea of the paper, an actor that moves at every second update, is the rule
    `sequence(player_step("critic", …), every(2, player_step("actor", …)))`.

    Args:
        env: as for `ddpg`.
        actor: as for `ddpg`.
        critic: one critic's network, as for `ddpg`.
        critics: the number of critics. The target uses the smallest of their values, and the actor
            the value of the first critic.
        target_noise: σ; None for no noise.
        target_clip: c.
        discount: as for `ddpg`, like all arguments that follow.
        exploration: noise on the actions.
        target_rate: the Polyak rate of the slow copies.
        divergence: the critics' divergence.
        transform_target: transforms the TD targets.
        penalty: added to the critics' loss.
        rollout: how evidence is gathered.
        replay: how evidence is replayed.

    Reference:
        Fujimoto, van Hoof & Meger 2018. There the slow copies move with the actor, every second
        update; here with every update.

    Example:
        >>> import gacf, optax
        >>> game = gacf.td3("Pendulum-v1", replay=gacf.Replay(capacity=64, batch_size=4, warmup=8))
        >>> step, adam = gacf.rules.player_step, optax.adam(1e-3)
        >>> delayed = gacf.rules.every(2, step("actor", adam))
        >>> algorithm = gacf.compose(game, gacf.rules.sequence(step("critic", adam), delayed))
    """
    return _deterministic_gradient(
        env, actor, critic, discount, exploration, target_rate, divergence, transform_target,
        penalty, rollout, replay, critics, target_noise, target_clip,
    )  # fmt: skip


def _deterministic_gradient(
    env: envs.Environment | str,
    actor: Any,
    critic: Any,
    discount: float | jax.Array,
    exploration: float | jax.Array | Exploration,
    target_rate: float | jax.Array,
    divergence: Divergence,
    transform_target: Callable[[jax.Array], jax.Array],
    penalty: Any,
    rollout: Rollout,
    replay: Replay,
    critics: int = 1,
    target_noise: float | jax.Array | None = None,
    target_clip: float | jax.Array = 0.5,
) -> Game:
    """DDPG with any number of critics and, if `target_noise` is not None, a smoothed target."""
    env = as_environment(env)
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("target_rate", target_rate, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("critics", critics, whole, "a whole number >= 1")
    pi = deterministic(env, actor)
    head = make_head(divergence, critics, value="first")
    q = standardised(q_network(env, critic, head, critics))
    _, actions = action_box(env)

    exploit = greedy(pi)
    explore, memory = with_noise(exploit, exploration, env)
    source = environment(
        env, explore, exploit, actions.to_env, one_time_step(rollout), memory=memory
    )
    choose = as_it_is
    if target_noise is not None:
        choose = smoothed(target_noise, target_clip, actions.bounded)
    target = q_target(pi, q, discount, head, choose)
    game = replayed(
        source, pi, q, target, head, pathwise(), discount, replay,
        transform_target=transform_target, penalty=penalty,
    )  # fmt: skip
    return target_networks(game, target_rate, reads=READS)
