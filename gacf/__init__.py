"""gacf: generative adversarial networks and actor-critic methods as one family, in JAX."""

from gacf import data, envs, metrics, networks, rules, stabilizers
from gacf.actor_critic import actor_critic, ddpg
from gacf.game import Game, Rule, add_loss, add_player, commit, compose, from_losses
from gacf.gan import gan
from gacf.runner import run, take_seed
from gacf.types import Algorithm, Outcome, State

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Game",
    "Outcome",
    "Rule",
    "State",
    "actor_critic",
    "add_loss",
    "add_player",
    "commit",
    "compose",
    "data",
    "ddpg",
    "envs",
    "from_losses",
    "gan",
    "metrics",
    "networks",
    "rules",
    "run",
    "stabilizers",
    "take_seed",
]
