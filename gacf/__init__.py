"""gacf: generative adversarial networks and actor-critic methods as one family, in JAX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gacf import data, envs, games, methods, metrics, networks, rules, stabilizers
    from gacf.core.compose import compose
    from gacf.core.game import Game, Rule, add_loss, add_player, commit, from_losses
    from gacf.core.types import Algorithm, Outcome, State
    from gacf.lab.states import load, load_algorithm, save
    from gacf.methods import flows
    from gacf.methods.actor_critic import (
        Replay,
        Rollout,
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
    from gacf.methods.gan import gan
    from gacf.runner import data_parallel, propose, run, take_seed

__version__ = "0.1.0"

# Name -> where it lives. Imported at first use: the command `gacf` shows help and reports without
# waiting for JAX.
_HOMES = {
    "Algorithm": "core.types",
    "Game": "core.game",
    "Outcome": "core.types",
    "Replay": "methods.actor_critic",
    "Rollout": "methods.actor_critic",
    "Rule": "core.game",
    "State": "core.types",
    "a2c": "methods.actor_critic",
    "actor_critic": "methods.actor_critic",
    "add_loss": "core.game",
    "add_player": "core.game",
    "commit": "core.game",
    "compose": "core.compose",
    "data": "",
    "data_parallel": "runner",
    "ddpg": "methods.actor_critic",
    "dpg": "methods.actor_critic",
    "envs": "",
    "flows": "methods",
    "from_losses": "core.game",
    "games": "",
    "gan": "methods.gan",
    "load": "lab.states",
    "load_algorithm": "lab.states",
    "methods": "",
    "metrics": "",
    "natural_actor_critic": "methods.actor_critic",
    "networks": "",
    "nfqca": "methods.actor_critic",
    "ppo": "methods.actor_critic",
    "propose": "runner",
    "rules": "",
    "run": "runner",
    "sac": "methods.actor_critic",
    "save": "lab.states",
    "stabilizers": "",
    "svg": "methods.actor_critic",
    "take_seed": "runner",
    "td3": "methods.actor_critic",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gacf' has no attribute {name!r}")
    home = importlib.import_module(f"gacf.{_HOMES[name]}".rstrip("."))
    # A package is an attribute of its parent only once something has imported it.
    value = getattr(home, name, None) if home.__name__ != "gacf" else None
    if value is None:
        value = importlib.import_module(f"{home.__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
