"""gacf: generative adversarial networks and actor-critic methods as one family, in JAX."""

from gacf import rules
from gacf.game import Game, Rule, add_loss, add_player, commit, compose, from_losses
from gacf.runner import run, take_seed
from gacf.types import Algorithm, Outcome, State

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Game",
    "Outcome",
    "Rule",
    "State",
    "add_loss",
    "add_player",
    "commit",
    "compose",
    "from_losses",
    "rules",
    "run",
    "take_seed",
]
