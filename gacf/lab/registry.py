"""All names that a user can choose from, gathered in one place, as `gacf list` shows them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flax import linen

import gacf
from gacf import games, networks, rules
from gacf.data import DATA
from gacf.envs import ENVIRONMENTS
from gacf.methods.actor_critic import DIVERGENCES, METHODS
from gacf.methods.flows import FLOWS
from gacf.methods.gan import PENALTIES
from gacf.methods.gan.losses import DESCRIPTIONS
from gacf.metrics import METRICS
from gacf.rules import COMBINATORS, DIRECTIONS, SCHEDULES
from gacf.stabilizers import STABILIZERS


def _named(entries: Iterable[Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    return {entry.__name__: entry for entry in entries}


def _modules(package: Any) -> dict[str, Callable[..., Any]]:
    """The Flax modules that a module or a package defines, without private ones."""
    return {
        name: value
        for name, value in vars(package).items()
        if inspect.isclass(value)
        and issubclass(value, linen.Module)
        and value.__module__.startswith(package.__name__)
        and not name.startswith("_")
    }


def _public(package: Any) -> dict[str, Any]:
    return {name: getattr(package, name) for name in package.__all__}


def _makes_game(value: Any) -> bool:
    """Whether a function's signature says that it returns a game."""
    return inspect.isfunction(value) and inspect.signature(value).return_annotation in (
        "Game",
        gacf.Game,
    )


def _is_solver(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, rules.Solver) and value is not rules.Solver


GAME_TABLE = {name: value for name, value in _public(games).items() if _makes_game(value)}
SOLVER_TABLE = {name: value for name, value in _public(rules).items() if _is_solver(value)}
METHOD_TABLE = {"gan": gacf.gan, **METHODS, "actor_critic": gacf.actor_critic}
NETWORK_TABLE = {
    **_modules(networks),
    **{f"images.{name}": module for name, module in _modules(networks.images).items()},
    **_named((networks.ensemble, networks.encoded, networks.computed_in, networks.model)),
}
GYMNASIUM = {
    "gymnasium:<id>": "Any environment that Gymnasium knows, by its id, as in "
    "gymnasium:LunarLander-v3; it is stepped on the host (extra: gymnasium)."
}


def _first(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def _described(entries: Mapping[str, Any]) -> dict[str, str]:
    """Name -> the first line of the entry's docstring, or the entry if it is a text."""
    return {k: x if isinstance(x, str) else _first(x.__doc__) for k, x in entries.items()}


def experiments(directory: str | Path = "experiments") -> dict[str, str]:
    """File -> first line of its docstring, for every experiment in a directory.

    The files are only read and not run, so that a broken one is listed too.
    """
    lines = {}
    for path in sorted(Path(directory).glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "def get_config" not in text:
            continue
        try:
            line = _first(ast.get_docstring(ast.parse(text)))
            lines[str(path)] = line + (" (gacf sweep)" if "def get_sweep" in text else "")
        except SyntaxError as error:
            lines[str(path)] = f"(line {error.lineno}: {error.msg})"
    return lines


# The sections in the order in which they are printed: a heading, and the entries by their names.
SECTIONS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "experiments": ("for gacf run, sweep and draw", {}),  # those of the current directory
    "methods": ("games that learn: gacf.<name>", METHOD_TABLE),
    "flows": ("games of more than two models: gacf.flows.<name>", FLOWS),
    "games": ("games whose solution is known: gacf.games.<name>", GAME_TABLE),
    "rules": ("who moves when: gacf.rules.<name>", SCHEDULES),
    "rules: combinators": ("make rules of other rules: gacf.rules.<name>", COMBINATORS),
    "rules: directions": ("which way a player moves: gacf.rules.<name>", DIRECTIONS),
    "rules: solvers": ("of an implicit direction's linear system: gacf.rules.<name>", SOLVER_TABLE),
    "stabilizers": ("change a game, a network or an optimiser: gacf.stabilizers", STABILIZERS),
    "losses": ("what a GAN's players minimise: gacf.gan(loss=…)", DESCRIPTIONS),
    "penalties": ("on the slope of a critic: gacf.methods.gan.<name>", PENALTIES),
    "divergences": ("how wrong a critic was: gacf.methods.actor_critic.DIVERGENCES", DIVERGENCES),
    "networks": ("modules, and functions of networks: gacf.networks.<name>", NETWORK_TABLE),
    "environments": ("for gacf.envs.make(name)", {**ENVIRONMENTS, **GYMNASIUM}),
    "data": ("data sets: gacf.data.<name>", DATA),
    "metrics": ("of samples and games: gacf.metrics.<name>", METRICS),
}


def names(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Section -> name -> a description in one line.

    Args:
        kind: the name of a section, or one part of it ("rules" has four sections, of which
            "directions" is one); None: everything.

    Example:
        >>> list(names("rules"))
        ['rules', 'rules: combinators', 'rules: directions', 'rules: solvers']
        >>> "gan" in names("methods")["methods"]
        True
    """
    chosen = [title for title in SECTIONS if kind is None or kind in title.split(": ")]
    return {
        title: experiments() if title == "experiments" else _described(SECTIONS[title][1])
        for title in chosen
    }
