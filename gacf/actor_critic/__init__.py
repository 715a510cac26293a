"""The one constructor for both families, and the named actor-critic methods (L3)."""

from gacf.actor_critic.constructor import Source, actor_critic
from gacf.actor_critic.ddpg import ddpg
from gacf.actor_critic.divergence import DIVERGENCES
from gacf.actor_critic.environment import environment
from gacf.actor_critic.improve import identity, pathwise, score_function
from gacf.actor_critic.target import q_target, reward_target

__all__ = [
    "DIVERGENCES",
    "Source",
    "actor_critic",
    "ddpg",
    "environment",
    "identity",
    "pathwise",
    "q_target",
    "reward_target",
    "score_function",
]
