"""Sweeps: variants of one experiment, each in a run directory of its own (L6).

An experiment that can be swept defines, besides what `gacf.config` lists,

    get_sweep(config) -> {variant: {dotted key: value}}

`config` is the experiment's with the overrides of the command line; a variant's own come on top and
are checked as those are. What a sweep leaves:

    DIR/sweep.json       experiment, configs of all variants, versions, devices
    DIR/experiment.py    copy of the file, which `gacf resume` builds from
    DIR/<variant>/       exactly what `gacf run` makes

Variants are trained one after the other. The run directories alone tell what has been done, so the
same command on the same directory does what is missing.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from gacf import checkpoint, config, experiment
from gacf.config import BadInput, Config, Experiment
from gacf.report.table import SWEEP, read_sweep

Variants = dict[str, Config]


class Sweep(NamedTuple):
    """A sweep's directory, opened.

    Attributes:
        directory: where.
        experiment: the file that variants are built from.
        missing: name -> config of the variants that have not finished, in the order of training.
    """

    directory: Path
    experiment: Experiment
    missing: Variants


def variants(loaded: Experiment, overrides: Sequence[str] = ()) -> Variants:
    """Name -> resolved config of every variant that `get_sweep` gives.

    Args:
        loaded: an experiment file.
        overrides: of all variants, from the command line; see `config.resolve`.

    Raises:
        BadInput: no `get_sweep`, or one that does not give what it should; a name that cannot be
            a directory's; a key that the command line sets too; what `config.resolve` refuses.
    """
    base = config.resolve(loaded, overrides)
    get_sweep = getattr(loaded.module, "get_sweep", None)
    if not callable(get_sweep):
        raise BadInput(f"CONFIG: {loaded.path.name} does not define the function get_sweep(config)")
    with config.blame(loaded.path, "get_sweep(config)"):
        given = get_sweep(base)
    if not (isinstance(given, Mapping) and given and all(map(_named, [given, *given.values()]))):
        raise BadInput(
            f"CONFIG: get_sweep(config) of {loaded.path.name} gave {given!r:.60}; "
            "allowed: a dict {variant: {dotted key: value}} with a variant or more"
        )
    taken = config.overridden(overrides)
    found = {}
    for name, changes in given.items():
        if not re.fullmatch(r"\w[\w .,=+-]*", name):
            raise BadInput(
                f"get_sweep(config): the variant {name!r} was given; allowed: names of "
                "directories: letters, digits, _, and after the first also space . , = + -"
            )
        if both := [key for key in changes if key in taken]:
            raise BadInput(f"{both[0]}: was given, but variant {name!r} sets it too")
        own = [f"--config.{key}={value}" for key, value in changes.items()]
        try:
            found[name] = config.resolve(loaded, [*overrides, *own])
        except BadInput as error:
            raise BadInput(f"get_sweep(config): variant {name!r}: {error}") from error
    return found


def _named(given: Any) -> bool:
    return isinstance(given, Mapping) and all(isinstance(key, str) for key in given)


def start(directory: Path, loaded: Experiment, found: Variants, err: Console) -> Sweep:
    """Makes a sweep's directory, or takes up the one that is there; trains nothing.

    Variants that have finished there and are not in `found` stay.

    Raises:
        BadInput: the place is taken by something else, or by a variant of another config.
    """
    known: dict[str, Any] = {}
    if (directory / SWEEP).exists():
        stored = read_sweep(directory)
        if stored["experiment"] != loaded.name:
            raise BadInput(
                f"workdir: {str(directory)!r} is a sweep of {stored['experiment']!r}; "
                f"{loaded.name!r} was given"
            )
        _check_same(directory, found)
        known = {n: x for n, x in stored["variants"].items() if experiment.finished(directory / n)}
        if _text(directory / "experiment.py") != _text(loaded.path):
            err.print("gacf: experiment.py has changed since the sweep began", markup=False)
    else:
        experiment.check_free(directory)
    devices = jax.local_devices()
    stored = {
        "experiment": loaded.name,
        "variants": {**{name: config.to_json(made) for name, made in found.items()}, **known},
        "versions": experiment.versions(),
        "devices": {"platform": devices[0].platform, "count": len(devices)},
    }
    text = json.dumps(stored, indent=2).encode()
    with experiment.refusing(directory):
        beside = directory.with_name(f".{directory.name}.{os.getpid()}")
        place = directory if directory.exists() else beside
        place.mkdir(parents=True, exist_ok=True)
        with experiment.alone(place):
            checkpoint.write_atomically(place / "experiment.py", loaded.path.read_bytes())
            checkpoint.write_atomically(place / SWEEP, text)
        if place is beside:
            os.rename(beside, directory)
    return Sweep(directory, loaded, _missing(directory, found))


def open_sweep(directory: Path) -> Sweep:
    """Opens a sweep's directory, to go on with what is missing.

    Raises:
        BadInput: no sweep there, or its configs are not those of its experiment.
    """
    stored = read_sweep(directory)
    loaded = config.load(directory / "experiment.py", stored["experiment"])
    left = _missing(directory, stored["variants"])
    found = {name: config.from_json(loaded, entry) for name, entry in left.items()}
    _check_same(directory, found)
    return Sweep(directory, loaded, found)


def _missing(directory: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in found.items() if not experiment.finished(directory / name)}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _check_same(directory: Path, found: Variants) -> None:
    for name, settings in found.items():
        if (directory / name / "config.json").exists():
            stored = experiment.read_stored(directory / name)["config"]
            if differ := config.differences(stored, config.to_json(settings)):
                raise BadInput(
                    f"workdir: variant {name!r} in {str(directory)!r} was made under another "
                    f"config; differing: {', '.join(differ)}"
                )


def train(sweep: Sweep, out: Console, err: Console, show_traceback: bool = False) -> dict[str, str]:
    """Trains what is missing, one variant after the other; one that fails does not stop the rest.

    Args:
        sweep: what to train.
        out: progress.
        err: failures, as they come.
        show_traceback: whether to show where in the code they came from.

    Returns:
        Variant -> message of those that failed.
    """
    failed = {}
    for i, (name, settings) in enumerate(sweep.missing.items(), 1):
        where = sweep.directory / name
        out.print(f"{where} ({i}/{len(sweep.missing)})", markup=False)
        try:
            _train_one(where, sweep.experiment, settings, out, err)
        except Exception as error:
            if show_traceback:
                err.print("".join(traceback.format_exception(error)), markup=False)
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            failed[name] = kind + config.one_line(error)
            err.print(
                f"gacf: variant {name!r} failed: {failed[name]}", markup=False, soft_wrap=True
            )
    return failed


def _train_one(
    where: Path, loaded: Experiment, settings: Config, out: Console, err: Console
) -> None:
    programs = experiment.prepare(loaded, settings)
    if (where / "config.json").exists():
        if _text(where / "experiment.py") != _text(loaded.path):
            checkpoint.write_atomically(where / "experiment.py", loaded.path.read_bytes())
        run = experiment.Run(where, loaded, settings, experiment.read_stored(where))
    else:
        experiment.check_free(where)
        run = experiment.create(where, loaded, settings)
    with experiment.alone(where):
        experiment.train(run, programs, out, err)
