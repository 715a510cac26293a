"""The one constructor for both families, and the named actor-critic methods."""

from gacf.methods.actor_critic import heads, policies
from gacf.methods.actor_critic.constructor import Source, actor_critic
from gacf.methods.actor_critic.ddpg import ddpg, td3
from gacf.methods.actor_critic.divergence import DIVERGENCES
from gacf.methods.actor_critic.dpg import dpg
from gacf.methods.actor_critic.environment import environment
from gacf.methods.actor_critic.exploration import gaussian_noise, ornstein_uhlenbeck
from gacf.methods.actor_critic.heads import Head
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
from gacf.methods.actor_critic.on_policy import a2c, natural_actor_critic, ppo
from gacf.methods.actor_critic.sac import sac
from gacf.methods.actor_critic.svg import svg
from gacf.methods.actor_critic.target import lambda_target, q_target, reward_target

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
    "Head",
    "Source",
    "a2c",
    "actor_critic",
    "advantage",
    "clipped",
    "ddpg",
    "dpg",
    "environment",
    "gaussian_noise",
    "heads",
    "identity",
    "lambda_target",
    "natural",
    "natural_actor_critic",
    "nfqca",
    "ornstein_uhlenbeck",
    "pathwise",
    "policies",
    "ppo",
    "q_target",
    "reparameterised",
    "reward_target",
    "sac",
    "score_function",
    "svg",
    "td3",
]
