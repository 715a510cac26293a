"""All names and their constructors, gathered in one place, as `gacf list` shows them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gacf
from gacf.envs import ENVIRONMENTS
from gacf.methods.actor_critic import METHODS
from gacf.rules import DIRECTIONS, SCHEDULES
from gacf.stabilizers import STABILIZERS

GAMES: dict[str, Callable[..., gacf.Game]] = {"gan": gacf.gan, **METHODS}

SECTIONS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "games": GAMES,
    "rules": SCHEDULES,
    "directions": DIRECTIONS,
    "stabilizers": STABILIZERS,
    "environments": ENVIRONMENTS,
}


def _first(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


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


def names() -> dict[str, dict[str, str]]:
    """Section -> name -> a description in one line.

    Example:
        >>> sorted(names())
        ['directions', 'environments', 'experiments', 'games', 'rules', 'stabilizers']
        >>> "gan" in names()["games"]
        True
    """

    def describe(entry: Callable[..., Any]) -> str:
        # A partial has the docstring of `functools.partial`.
        return "" if hasattr(entry, "func") else _first(entry.__doc__)

    sections = {title: {k: describe(v) for k, v in t.items()} for title, t in SECTIONS.items()}
    return {"experiments": experiments(), **sections}
