"""Experiment files: what they define, loading them, and building their algorithms.

An experiment is one Python file:

    get_config() -> ConfigDict            its keys may be nested freely
    build(config) -> Algorithm            or {cell: Algorithm}, trained one after the other
    KEY_METRIC = "evaluate/…"             optional: in the progress bar, and first in tables
    GOAL = "max" or "min"                 optional: whether more or less of KEY_METRIC is better;
                                          without it no report ranks variants or names a best one
    METRICS = ["evaluate/…", "final/…"]   optional: what tables show; default: all of these kinds
    complete(config)                      optional: fills in keys that are left at None
    finish(config, finals)                optional: -> {cell: {metric: array [S]}}, named final/…
    pictures(config, finals)              optional: -> {file stem: matplotlib Figure}
    get_sweep(config)                     optional: variants for `gacf sweep`, see `gacf.lab.sweep`

`finals` is {cell: final batched State}, each on one device, outside the sharded program.
`gacf.lab.config` lists the keys that every config has.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from gacf.core.checks import nearest
from gacf.core.types import Algorithm
from gacf.lab import experiment_path
from gacf.lab.blame import blame
from gacf.lab.errors import BadInput

Config = Any  # a ConfigDict, whose own annotations make every value a union of six types
GOALS = ("max", "min")
OPTIONAL = ("complete", "finish", "pictures", "get_sweep")  # functions of an experiment


class Experiment(NamedTuple):
    """An experiment file, loaded.

    Attributes:
        name: the file's stem; it names the run, and the cell of a plain `Algorithm`.
        path: the file.
        module: the loaded module with `get_config`, `build`, and optionally `KEY_METRIC`,
            `METRICS`, `finish` and `pictures`.
        source: the file's bytes as they were executed; the file itself may change later.
    """

    name: str
    path: Path
    module: ModuleType
    source: bytes

    @property
    def key_metric(self) -> str | None:
        """The metric that is shown in the progress bar and comes first in tables."""
        return getattr(self.module, "KEY_METRIC", None)

    @property
    def goal(self) -> str | None:
        """Whether more or less of the key metric is better: `max`, `min`, or None: not stated."""
        return getattr(self.module, "GOAL", None)

    @property
    def metrics(self) -> list[str] | None:
        """The metrics that tables show; None: all of `evaluate/…` and `final/…`."""
        return getattr(self.module, "METRICS", None)


def load(path: str | Path, name: str | None = None) -> Experiment:
    """Loads an experiment file.

    Raises:
        BadInput: there is no such file, it does not run, or it lacks `get_config` or `build`.
    """
    path = experiment_path.find(path).resolve()
    # Registered, because dataclasses and Flax look a class's module up by its name.
    spec = importlib.util.spec_from_file_location(f"gacf_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput(f"CONFIG: {str(path)!r} was given; allowed: a Python file, name ending .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    source = path.read_bytes()
    with blame(path, "CONFIG"):
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    for function in ("get_config", "build"):
        if not callable(getattr(module, function, None)):
            raise BadInput(f"CONFIG: {path.name} does not define the function {function}()")
    _check_stated(module, path.name)
    return Experiment(name or path.stem, path, module, source)


def _check_stated(module: ModuleType, name: str) -> None:
    """Raises a `BadInput` if one of the optional names of an experiment has a wrong value."""

    def refuse(key: str, value: Any, allowed: str) -> None:
        raise BadInput(f"{key}: {value!r:.80} was given in {name}; {allowed}")

    def is_name(x: Any) -> bool:
        return isinstance(x, str) and bool(x)

    key_metric, goal, metrics = (
        getattr(module, k, None) for k in ("KEY_METRIC", "GOAL", "METRICS")
    )
    if key_metric is not None and not is_name(key_metric):
        refuse("KEY_METRIC", key_metric, "allowed: the name of a metric, as text")
    if goal is not None and not (isinstance(goal, str) and goal in GOALS):
        refuse("GOAL", goal, nearest(str(goal), GOALS))
    if goal is not None and key_metric is None:
        refuse("GOAL", goal, "allowed: together with KEY_METRIC, whose values it ranks")
    if metrics is not None and not (
        isinstance(metrics, list | tuple) and all(map(is_name, metrics))
    ):
        refuse("METRICS", metrics, "allowed: a list of names of metrics, as text")
    for function in OPTIONAL:
        given = getattr(module, function, None)
        if given is not None and not callable(given):
            refuse(function, given, "allowed: a function")


def build(experiment: Experiment, config: Config) -> dict[str, Algorithm]:
    """Cell -> algorithm, as the experiment's `build` returns them.

    Raises:
        BadInput: `build` raised, or returned something else.
    """
    with blame(experiment.path, "build(config)"):
        built = experiment.module.build(config)
    cells = {experiment.name: built} if isinstance(built, Algorithm) else built
    if not (
        isinstance(cells, dict)
        and cells
        and all(isinstance(k, str) and k and isinstance(v, Algorithm) for k, v in cells.items())
    ):
        raise BadInput(
            f"CONFIG: build(config) of {experiment.path.name} returned a {type(built).__name__}; "
            "allowed: an Algorithm, or a dict {cell name: Algorithm}"
        )
    return cells
