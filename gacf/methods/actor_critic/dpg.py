"""The deterministic policy gradient on policy, with a compatible critic."""

from __future__ import annotations

from typing import Any

import jax

from gacf import envs
from gacf.core.checks import require
from gacf.core.game import Game
from gacf.methods.actor_critic.acting import greedy, with_noise
from gacf.methods.actor_critic.actions import actions_of
from gacf.methods.actor_critic.constructor import actor_critic
from gacf.methods.actor_critic.environment import as_environment, environment
from gacf.methods.actor_critic.exploration import Exploration
from gacf.methods.actor_critic.heads import Divergence, make_head
from gacf.methods.actor_critic.improve import pathwise
from gacf.methods.actor_critic.players import deterministic, v_network
from gacf.methods.actor_critic.settings import Rollout, takes_settings, with_defaults
from gacf.methods.actor_critic.target import q_target
from gacf.methods.actor_critic.view import state_action_view
from gacf.networks import Model
from gacf.stabilizers.compatible import compatible


@takes_settings
def dpg(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    *,
    discount: float | jax.Array = 0.99,
    exploration: float | jax.Array | Exploration = 0.1,
    divergence: Divergence = "squared_error",
    rollout: Rollout = Rollout(),
) -> Game:
    """DPG: a critic that is compatible with the actor, without replay and without slow copies.

        critic   min_{w,v} mean D(⟨a − μ_θ(s), ∇_θ μ_θ(s) w⟩ + V_v(s), r + γ (1 − d) V_v(s′))
        actor    max_θ mean Q(s, μ_θ(s)),   whose gradient is mean ∇_θ μ ∇_θ μᵀ w

    The target uses the actor's own next action, without noise: Q(s′, μ(s′)) = V_v(s′).

    Args:
        env: an `Environment` with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> [B, A], as for `ddpg`.
        critic: network of V, [B, O] -> [B] or [B, 1]; or a `Model` of Q(s, a), which need not be
            compatible.
        discount: γ.
        exploration: as for `ddpg`.
        divergence: a name in `DIVERGENCES`, or a function.
        rollout: how evidence is gathered.

    Returns:
        A `Game`; a batch is the T·N transitions of a step.

    Reference:
        Silver et al. 2014, theorem 3 and section 4.

    Example:
        >>> import gacf
        >>> sorted(gacf.dpg("Pendulum-v1", rollout=gacf.Rollout(num_envs=2)).losses)
        ['actor', 'critic']
    """
    env = as_environment(env)
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    pi = deterministic(env, actor)
    head = make_head(divergence)
    q = critic if isinstance(critic, Model) else compatible(pi, v_network(env, critic, head))

    exploit = greedy(pi)
    explore, memory = with_noise(exploit, exploration, env)
    source = environment(
        env, explore, exploit, actions_of(env).to_env,
        with_defaults(rollout, Rollout(num_envs=16, length=8)), memory=memory, discount=discount,
    )  # fmt: skip
    target = q_target(pi, q, discount, head)
    return actor_critic(pi, q, source, state_action_view, target, head, pathwise())
