"""Imports go downwards only; siblings are independent; nothing below the runner jits."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import gacf

PACKAGE = Path(__file__).parents[1] / "gacf"

# Lowest first; a wing a block. A module may import from the rows below its own, and from its own
# part: a part is what lies at the top level of gacf, and in two wings what lies one level below it.
ROWS = [
    # the core and its parts
    {"core"},
    {"rules", "networks", "envs", "data", "games"},
    {"stabilizers", "metrics"},
    # the methods
    {"methods.actor_critic"},
    {"methods.gan"},
    {"methods.flows"},
    {"methods"},
    # the runner and the lab
    {"runner"},
    {"lab", "lab.children", "lab.console", "lab.errors", "lab.escape", "lab.files"},
    {"lab.provenance", "lab.shipped", "lab.statistics", "lab.structure"},
    {"lab.blame", "lab.checkpoint", "lab.curves", "lab.locks", "lab.painter", "lab.processes"},
    {"lab.experiment_file", "lab.failure", "lab.inspect", "lab.records", "lab.results"},
    {"lab.config", "lab.registry", "lab.report"},
    {"lab.episodes", "lab.overrides", "lab.run_directory", "lab.sampling", "lab.schedule"},
    {"lab.extension", "lab.finishing", "lab.preparation", "lab.states"},
    {"lab.training"},
    {"lab.sweep"},
    {"lab.cli"},
    {"__main__"},
]
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
WINGS = ("methods", "lab")


def part(names: Sequence[str]) -> str:
    """The part that a module belongs to: ("lab", "cli", "run") -> "lab.cli"."""
    deep = len(names) > 1 and names[0] in WINGS and names[1] != "__init__"
    return ".".join(names[:2]) if deep else names[0]


def names_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


TEMPLATES = PACKAGE / "lab" / "templates"  # what `gacf new` writes: read, and never imported
FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py" and path.parent != TEMPLATES
)
MODULES = {names_of(path) for path in FILES}


def imported(path: Path) -> Iterator[str]:
    """The parts of gacf that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: list[Sequence[str]] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            for alias in node.names:
                full = (*module.split("."), alias.name)
                inner = full[1:]
                is_module = inner in MODULES or (*inner, "__init__") in MODULES
                found.append(full if is_module else full[:-1])
        elif isinstance(node, ast.Import):
            found = [tuple(alias.name.split(".")) for alias in node.names]
        for names in found:
            if names[0] == "gacf" and len(names) > 1:
                yield part(names[1:])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    mine = part(names_of(path))
    assert mine in LEVEL, f"give {mine!r} a row in ROWS"
    for other in imported(path):
        if other != mine:
            assert LEVEL[other] < LEVEL[mine], f"{mine} imports {other}, which is not below it"


def test_every_row_is_needed() -> None:
    assert set(LEVEL) == {part(names) for names in MODULES}


def test_nothing_below_the_runner_jits() -> None:
    # The reference classifier is trained on fixed data, and kept: as good as a data reader.
    aside = PACKAGE / "metrics" / "classifier.py"
    for path in FILES:
        if LEVEL[part(names_of(path))] < LEVEL["runner"] and path != aside:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                named = getattr(node, "attr", getattr(node, "id", None))
                assert named not in ("jit", "pjit"), f"{path.relative_to(PACKAGE)} jits"


# Where an import inside a function saves time at start-up, or waits for an optional package.
WITHIN = {
    "lab/cli/__init__.py",  # help, reports and mistakes in arguments need no JAX
    "lab/sweep/worker.py",  # a worker looks for its driver before it waits for JAX
}


def test_imports_of_gacf_stand_at_the_top() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gacf"):
                        assert str(path.relative_to(PACKAGE)) in WITHIN, f"{path}:{node.lineno}"


def test_every_module_can_be_imported_by_its_name() -> None:
    found = pkgutil.walk_packages(gacf.__path__, "gacf.")
    names = [module.name for module in found if not module.name.endswith("__main__")]
    assert len(names) > 100
    for name in names:
        scope: dict[str, object] = {}
        exec(f"import {name} as module", scope)
        assert importlib.import_module(name).__name__ == name


@pytest.mark.parametrize("name", gacf.__all__)
def test_every_public_name_is_found(name: str) -> None:
    value = getattr(gacf, name)
    assert getattr(gacf, name) is value
    if isinstance(value, ModuleType):
        assert value.__name__ in (f"gacf.{name}", f"gacf.methods.{name}")


def test_no_public_name_is_shared_with_a_module() -> None:
    """`gacf.gan` is the function, whatever has been imported: its package lies elsewhere."""
    functions = {name for name in gacf.__all__ if not isinstance(getattr(gacf, name), ModuleType)}
    assert not functions & {names[0] for names in MODULES}


def test_type_checkers_see_the_annotations() -> None:
    assert (PACKAGE / "py.typed").is_file()


EXPERIMENTS = sorted((PACKAGE.parent / "experiments").glob("*.py"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_experiments_import_public_names_only(path: Path) -> None:
    """From `gacf` and its packages, and only what their `__all__` names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert not [n for n in names if n.startswith("gacf.")], f"{path}:{node.lineno}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gacf":
            module = importlib.import_module(node.module or "")
            assert hasattr(module, "__path__"), f"{path}:{node.lineno}: {module.__name__}"
            private = {alias.name for alias in node.names} - set(module.__all__)
            assert not private, f"{path}:{node.lineno}: {module.__name__} does not export {private}"
