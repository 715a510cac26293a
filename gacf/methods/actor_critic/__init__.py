"""The one constructor for both families, and the named actor-critic methods."""

from gacf.methods.actor_critic import heads, policies
from gacf.methods.actor_critic.actions import Actions, action_box, actions_of
from gacf.methods.actor_critic.constructor import Source, actor_critic
from gacf.methods.actor_critic.ddpg import ddpg, td3
from gacf.methods.actor_critic.divergence import DIVERGENCES, cross_entropy, squared_error
from gacf.methods.actor_critic.dpg import dpg
from gacf.methods.actor_critic.environment import as_environment, environment
from gacf.methods.actor_critic.exploration import gaussian_noise, ornstein_uhlenbeck
from gacf.methods.actor_critic.heads import Head, make_head
from gacf.methods.actor_critic.improve import (
    advantage,
    clipped,
    identity,
    natural,
    pathwise,
    reparameterised,
    score_function,
)
from gacf.methods.actor_critic.nfqca import nfqca
from gacf.methods.actor_critic.normalize import (
    normalized_observations,
    normalized_rewards,
    standardised,
)
from gacf.methods.actor_critic.on_policy import a2c, natural_actor_critic, ppo
from gacf.methods.actor_critic.players import (
    deterministic,
    policy_of,
    q_network,
    stochastic,
    v_network,
)
from gacf.methods.actor_critic.sac import sac
from gacf.methods.actor_critic.settings import Replay, Rollout
from gacf.methods.actor_critic.svg import svg
from gacf.methods.actor_critic.target import lambda_target, q_target, reward_target
from gacf.methods.actor_critic.view import state_action_view, state_view

METHODS = {
    "nfqca": nfqca,
    "dpg": dpg,
    "ddpg": ddpg,
    "td3": td3,
    "svg": svg,
    "a2c": a2c,
    "natural_actor_critic": natural_actor_critic,
    "sac": sac,
    "ppo": ppo,
}

__all__ = [
    "DIVERGENCES",
    "METHODS",
    "Actions",
    "Head",
    "Replay",
    "Rollout",
    "Source",
    "a2c",
    "action_box",
    "actions_of",
    "actor_critic",
    "advantage",
    "as_environment",
    "clipped",
    "cross_entropy",
    "ddpg",
    "deterministic",
    "dpg",
    "environment",
    "gaussian_noise",
    "heads",
    "identity",
    "lambda_target",
    "make_head",
    "natural",
    "natural_actor_critic",
    "nfqca",
    "normalized_observations",
    "normalized_rewards",
    "ornstein_uhlenbeck",
    "pathwise",
    "policies",
    "policy_of",
    "ppo",
    "q_network",
    "q_target",
    "reparameterised",
    "reward_target",
    "sac",
    "score_function",
    "squared_error",
    "standardised",
    "state_action_view",
    "state_view",
    "stochastic",
    "svg",
    "td3",
    "v_network",
]
