"""Neural fitted Q iteration with continuous actions."""

from __future__ import annotations

from typing import Any

import jax

from gacf import envs, stabilizers
from gacf.core.checks import require, whole
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Metrics, Params, World
from gacf.methods.actor_critic.acting import greedy, with_noise
from gacf.methods.actor_critic.actions import actions_of
from gacf.methods.actor_critic.constructor import actor_critic
from gacf.methods.actor_critic.environment import as_environment, environment
from gacf.methods.actor_critic.exploration import Exploration
from gacf.methods.actor_critic.heads import Divergence, make_head
from gacf.methods.actor_critic.improve import pathwise
from gacf.methods.actor_critic.n_step import n_step
from gacf.methods.actor_critic.normalize import standardised
from gacf.methods.actor_critic.off_policy import READS, one_time_step
from gacf.methods.actor_critic.players import deterministic, q_network
from gacf.methods.actor_critic.settings import Replay, Rollout, takes_settings, with_defaults
from gacf.methods.actor_critic.target import q_target
from gacf.methods.actor_critic.view import state_action_view


@takes_settings
def nfqca(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    *,
    discount: float | jax.Array = 0.99,
    transitions: int = 2_048,
    exploration: float | jax.Array | Exploration = 0.1,
    grow: bool = True,
    divergence: Divergence = "squared_error",
    rollout: Rollout = Rollout(),
    replay: Replay = Replay(),
) -> Game:
    """NFQCA: both players are fitted to all transitions, with one Bellman backup per update.

        critic   Q_{k+1} = argmin_φ mean_data D(Q_φ(s, a), r + γ (1 − d) Q_k(s′, π_k(s′)))
        actor    π_{k+1} = argmax_θ mean_data Q_{k+1}(s, π_θ(s))

    The rule decides how long each is fitted: `alternating(optimizers, steps={"critic": 50,
    "actor": 20})` makes that many steps on the whole batch, while the targets stay fixed. The
    paper's optimiser is `optax.rprop`. The first data are collected by random actions.

    Args:
        env: an `Environment` with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> [B, A], as for `ddpg`.
        critic: network ([B, O], [B, A]) -> [B] or [B, 1], as for `ddpg`.
        discount: γ.
        transitions: the number of transitions in the data set, B; a multiple of the rollout's
            `num_envs`.
        exploration: the noise on the actions of transitions that are added, as for `ddpg`.
        grow: whether each step replaces the oldest `num_envs` transitions by new ones of the
            present actor; otherwise the data set never changes.
        divergence: as for `ddpg`.
        rollout: how evidence is gathered.
        replay: only its `n_step` may be set; the buffer, each batch and the warm-up have the size
            that `transitions` gives.

    Returns:
        A `Game`; every batch is the whole data set.

    Raises:
        ValueError: actions are discrete, a name is unknown, or a size is out of bounds.

    Reference:
        Hafner & Riedmiller 2011.

    Example:
        >>> import gacf, optax
        >>> game = gacf.nfqca("Pendulum-v1", transitions=64, rollout=gacf.Rollout(num_envs=4))
        >>> moves = {p: optax.rprop(1e-3) for p in game.losses}
        >>> rule = gacf.rules.alternating(moves, steps={"critic": 20, "actor": 10})
        >>> algorithm = gacf.compose(game, rule)
    """
    env = as_environment(env)
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    steps = one_time_step(rollout, num_envs=16)
    num_envs = steps.num_envs
    divides = lambda n: whole(n) and n % num_envs == 0  # noqa: E731
    require("transitions", transitions, divides, f"a multiple of num_envs, {num_envs}")
    sizes = with_defaults(
        replay,
        Replay(transitions, transitions, transitions // num_envs),
        dict.fromkeys(("capacity", "batch_size", "warmup"), "a batch is all `transitions`"),
    )
    pi = deterministic(env, actor)
    head = make_head(divergence)
    q = standardised(q_network(env, critic, head))

    exploit = greedy(pi)
    explore, memory = with_noise(exploit, exploration, env)
    source = environment(env, explore, exploit, actions_of(env).to_env, steps, memory=memory)
    source = n_step(source, sizes.n_step, discount, step=-1)
    target = q_target(pi, q, discount, head)
    game = actor_critic(pi, q, source, state_action_view, target, head, pathwise())
    game = stabilizers.replay(game, transitions, transitions, sizes.warmup)

    def everything(world: World, key: Key) -> Batch:
        del key
        return world["buffer"].items

    def stay(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        del params, key
        return world, {}

    game = game._replace(sample=everything, observe=game.observe if grow else stay)
    return stabilizers.target_networks(game, period=1, reads=READS)
