"""gacf: generative adversarial networks and actor-critic methods as one family, in JAX."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gacf import data, envs, games, metrics, networks, rules, stabilizers
    from gacf.core.compose import compose
    from gacf.core.game import Game, Rule, add_loss, add_player, commit, from_losses
    from gacf.core.types import Algorithm, Outcome, State
    from gacf.methods.actor_critic import (
        a2c,
        actor_critic,
        ddpg,
        dpg,
        natural_actor_critic,
        nfqca,
        ppo,
        sac,
        svg,
        td3,
    )
    from gacf.methods.gan import constructor as gan
    from gacf.runner import run, take_seed
    from gacf.runner.parallel import data_parallel

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Game",
    "Outcome",
    "Rule",
    "State",
    "a2c",
    "actor_critic",
    "add_loss",
    "add_player",
    "commit",
    "compose",
    "data",
    "data_parallel",
    "ddpg",
    "dpg",
    "envs",
    "from_losses",
    "games",
    "gan",
    "metrics",
    "natural_actor_critic",
    "networks",
    "nfqca",
    "ppo",
    "rules",
    "run",
    "sac",
    "stabilizers",
    "svg",
    "take_seed",
    "td3",
]

# Imported at first use: the command `gacf` shows help and reports without waiting for JAX.
_HOMES = {
    "actor_critic": (
        "a2c",
        "actor_critic",
        "ddpg",
        "dpg",
        "natural_actor_critic",
        "nfqca",
        "ppo",
        "sac",
        "svg",
        "td3",
    ),
    "game": ("Game", "Rule", "add_loss", "add_player", "commit", "compose", "from_losses"),
    "gan": ("gan",),
    "parallel": ("data_parallel",),
    "runner": ("run", "take_seed"),
    "types": ("Algorithm", "Outcome", "State"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gacf' has no attribute {name!r}")
    module = importlib.import_module(f"gacf.{_HOME.get(name, name)}")
    globals().setdefault(name, getattr(module, name) if name in _HOME else module)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # An imported subpackage is bound here, over the function of the same name.
        if _HOME.get(name) == name and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
