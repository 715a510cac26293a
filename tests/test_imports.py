"""Imports go downwards only; siblings are independent; nothing below the runner jits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gacf"

# Lowest first. A module may import from the rows below its own, and from its own package.
LAYERS = [
    {"children", "types"},
    {"game"},
    {"rules", "networks", "conv", "envs", "data", "replay", "parallel"},
    {"stabilizers", "metrics", "games"},
    {"actor_critic"},
    {"gan"},
    {"flows"},
    {"runner", "checkpoint"},
    {"profile"},
    {"report"},
    {"config", "locks", "provenance", "registry", "progress", "processes"},
    {"experiment", "draw"},
    {"sweep"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, row in enumerate(LAYERS) for name in row}
# `states.load` opens a run by its config, at call time.
UPWARDS = {("checkpoint", "config"), ("checkpoint", "experiment")}


def owner(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The parts of gacf that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            names = [f"gacf.{a.name}" for a in node.names] if module == "gacf" else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "gacf" and len(parts) > 1 and parts[1] in LEVEL:
                yield parts[1]


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    mine = owner(path)
    assert mine in LEVEL, f"give {mine!r} a row in LAYERS"
    for other in imported(path):
        if other == mine or (mine, other) in UPWARDS:
            continue
        assert LEVEL[other] < LEVEL[mine], f"{mine} imports {other}, which is not below it"


def test_nothing_below_the_runner_jits() -> None:
    # The reference classifier is trained on fixed data, and kept: as good as a data reader.
    aside = PACKAGE / "metrics" / "classifier.py"
    for path in FILES:
        if LEVEL[owner(path)] < LEVEL["runner"] and path != aside:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                named = getattr(node, "attr", getattr(node, "id", None))
                assert named not in ("jit", "pjit"), f"{path.relative_to(PACKAGE)} jits"


def test_exceptions_are_still_needed() -> None:
    for mine, other in UPWARDS:
        assert any(owner(path) == mine and other in imported(path) for path in FILES)
