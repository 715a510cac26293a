"""Which variants a sweep has: from the experiment's `get_sweep`, or from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gacf.lab import blame, files, run_directory
from gacf.lab.config import Config
from gacf.lab.errors import BadInput
from gacf.lab.experiment_file import Experiment
from gacf.lab.overrides import overridden, resolve
from gacf.lab.sweep import vocabulary

Variants = dict[str, Config]
"""Name -> resolved config."""


def variants(
    loaded: Experiment,
    overrides: Sequence[str] = (),
    swept: Sequence[str] = (),
    samples: int = 10,
    sample_seed: int = 0,
) -> Variants:
    """Name -> resolved config of every variant.

    Args:
        loaded: an experiment file.
        overrides: overrides from the command line for all variants; see `overrides.resolve`.
        swept: `--sweep.KEY=A,B,C`, …, see `vocabulary.parse`; they replace `get_sweep`.
        samples: how many random draws there are.
        sample_seed: the seed of the draws.

    Raises:
        BadInput: there is no `get_sweep`, or its result has another form; a name cannot be that of
            a directory; the command line sets a swept key too; `overrides.resolve` refuses a value.
    """
    base = resolve(loaded, overrides)
    if swept:
        try:
            given: Any = vocabulary.parse(swept, samples, sample_seed)
        except ValueError as error:
            raise BadInput(f"sweep.{error}") from error
        blamed = lambda name, error: f"sweep.{error}"  # noqa: E731
    else:
        given = _of_the_file(loaded, base)
        blamed = lambda name, error: f"get_sweep(config): variant {name!r}: {error}"  # noqa: E731
    taken = overridden(overrides)
    configs = {}
    for name, changes in given.items():
        _check_name(name, configs)
        if both := [key for key in changes if key in taken]:
            raise BadInput(f"{both[0]}: was given, but variant {name!r} sets it too")
        own = [f"--config.{key}={value}" for key, value in changes.items()]
        try:
            configs[name] = resolve(loaded, [*overrides, *own])
        except BadInput as error:
            raise BadInput(blamed(name, error)) from error
    return configs


def _check_name(name: str, others: Iterable[str]) -> None:
    """Raises a `BadInput` unless a variant's name can name its directory on any file system."""
    given = f"get_sweep(config): the variant {name[:60] + '…' * (len(name) > 60)!r}"
    if not re.fullmatch(r"\w([\w .,=+-]*[\w,=+-])?", name):
        raise BadInput(
            f"{given} was given; allowed: names of directories: letters, digits and _; after the "
            "first character also , = + -; and between others also space and ."
        )
    if len(name.encode()) > files.LONGEST:
        raise BadInput(
            f"{given} was given, {len(name.encode())} bytes long; allowed: at most {files.LONGEST}"
        )
    lower = run_directory.same_name(name)
    if lower in RESERVED or re.fullmatch(r"report.*\.(html|md|png)", lower):
        raise BadInput(
            f"{given} was given; allowed: other names than those of the sweep's own files: "
            f"{', '.join(RESERVED)}, report-….png"
        )
    for other in others:
        if run_directory.same_name(other) == lower:
            raise BadInput(
                f"{given} was given, and {other!r} too; "
                "allowed: names that differ in more than capital letters"
            )


RESERVED = (
    "units", "workers", "track", "experiment.py", "sweep.json", "sweep.parquet",
    "sweep-summary.json", "report.html", "report.md", "config.json", "summary.json",
    "metrics.parquet", "checkpoints", "profile", "__pycache__", "table.json", "progress.json",
)  # fmt: skip


def _of_the_file(loaded: Experiment, base: Config) -> Any:
    get_sweep = getattr(loaded.module, "get_sweep", None)
    if not callable(get_sweep):
        raise BadInput(
            f"CONFIG: {loaded.path.name} does not define the function get_sweep(config); "
            "define it, or give --sweep.KEY=A,B,C"
        )
    with blame.blame(loaded.path, "get_sweep(config)"):
        given: Any = get_sweep(base)
    if not (isinstance(given, Mapping) and given and all(map(_named, [given, *given.values()]))):
        raise BadInput(
            f"CONFIG: get_sweep(config) of {loaded.path.name} returned {given!r:.60}; "
            "allowed: a dict {variant: {dotted key: value}} with at least one variant"
        )
    return given


def _named(given: Any) -> bool:
    return isinstance(given, Mapping) and all(isinstance(key, str) for key in given)
