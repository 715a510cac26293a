"""A sweep's directory, which records what is to be trained and what has been done."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console

from gacf.lab import config, experiment_file, files, locks, provenance, records, run_directory
from gacf.lab.config import Config
from gacf.lab.errors import BadInput
from gacf.lab.experiment_file import Experiment
from gacf.lab.records import SWEEP, read_sweep
from gacf.lab.sweep import claims, units
from gacf.lab.sweep.units import Unit
from gacf.lab.sweep.variants import Variants
from gacf.runner import Program

WAIT = 20.0  # seconds to wait for another process that is adding variants
TABLE, SUMMARY = "sweep.parquet", "sweep-summary.json"


class Sweep(NamedTuple):
    """A sweep's directory, opened.

    Attributes:
        directory: its path.
        experiment: the file from which variants are built.
        variants: name -> resolved config of every variant, as JSON.
        units: the groups of variants that are trained together.
        notes: notes on keys that could not be traced.
        programs: the programs of some units, already traced.
        code: where the experiment's code comes from, see `gacf.lab.provenance`.
    """

    directory: Path
    experiment: Experiment
    variants: Mapping[str, Any]
    units: list[Unit]
    notes: list[str]
    programs: dict[str, dict[str, Program]]
    code: Any = None

    def place(self, unit: Unit) -> Path:
        """The unit's directory."""
        return self.directory / "units" / unit.name

    def missing(self) -> list[str]:
        """The variants that have not finished, in the order of training."""
        return [n for u in self.units for n in u.variants if not self._finished(n)]

    def left(self) -> list[Unit]:
        """The units with at least one variant that has not finished."""
        return [u for u in self.units if not all(map(self._finished, u.variants))]

    def _finished(self, name: str) -> bool:
        return records.finished(self.directory / name)

    def settings(self, name: str) -> Config:
        """A variant's config."""
        return config.from_json(self.experiment, self.variants[name])


def start(
    directory: Path | None,
    loaded: Experiment,
    variants: Variants,
    err: Console,
    workers: int = 1,
    command: str = "",
) -> Sweep:
    """Makes a sweep's directory, or adds to the existing one; trains nothing.

    Variants that are in the directory but not in `variants` stay, so that several sweeps in one
    directory do not drop each other's variants. One process at a time reads the directory and adds
    its variants.

    Args:
        directory: its path; None: a new name in `runs`.
        loaded: the experiment.
        variants: its variants.
        err: where warnings go.
        workers: how many workers will train at once.
        command: the command, which the directory records; empty: there is none.

    Raises:
        BadInput: the place is taken by something else, or by a variant of another config.
    """
    for place in itertools.repeat(directory) if directory else run_directory.fresh(loaded.name):
        if directory and (directory / SWEEP).exists():
            with run_directory.alone(directory, WAIT):
                sweep, contents, replaced = _added(
                    directory, loaded, variants, err, workers, command
                )
                _close(directory, replaced)
                with run_directory.refusing(directory):
                    for name, data in contents.items():
                        files.write_atomically(directory / name, data)
            return sweep
        try:
            run_directory.check_free(place)
            sweep, contents = _planned(place, loaded, variants, workers, command)
            with run_directory.refusing(place):
                locks.make(place, contents).release()
            return sweep
        except (locks.Taken, locks.Held):
            # Another process was faster: add to its sweep, or try another name.
            if directory and not _appears(directory / SWEEP):
                raise
    raise AssertionError


def _appears(path: Path) -> bool:
    """Whether a file exists now or within a second."""
    until = time.monotonic() + 1.0
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return path.exists()


def _planned(
    directory: Path,
    loaded: Experiment,
    variants: Variants,
    workers: int,
    command: str,
    stored: Mapping[str, Any] | None = None,
    unchanged: Sequence[Unit] = (),
) -> tuple[Sweep, dict[str, bytes]]:
    """A sweep of the unchanged units and new ones, and the files that describe it."""
    stored = stored or {"variants": {}, "units": []}
    planned_before = {name for unit in unchanged for name in unit.variants}
    new = {
        name: settings
        for name, settings in variants.items()
        if name not in planned_before and not records.finished(directory / name)
    }
    planned = units.plan(loaded, new, workers, _next(directory, stored))
    notes = list(dict.fromkeys([*stored.get("notes", []), *planned.notes]))
    added = {name: config.to_json(settings) for name, settings in variants.items()}
    done = {n: x for n, x in stored["variants"].items() if records.finished(directory / n)}
    text = {
        "experiment": loaded.name,
        "variants": {**stored["variants"], **added, **done},
        "units": [unit._asdict() for unit in (*unchanged, *planned.units)],
        "notes": notes,
        "commands": list(dict.fromkeys([*stored.get("commands", []), *filter(None, [command])])),
        "key_metric": loaded.key_metric,
        "goal": loaded.goal,
        "versions": run_directory.versions(),
        "code": provenance.code(loaded.path),
        "devices": run_directory.devices(),
    }
    sweep = Sweep(
        directory,
        loaded,
        text["variants"],
        [*unchanged, *planned.units],
        notes,
        planned.programs,
        text["code"],
    )
    contents = {"experiment.py": loaded.source, SWEEP: json.dumps(text, indent=2).encode()}
    return sweep, contents


def _next(directory: Path, stored: Mapping[str, Any]) -> int:
    """The number of the next unit, which no directory has, not even that of a replaced unit."""
    taken = [unit["name"] for unit in stored["units"]]
    taken += [path.name for path in directory.glob("units/*") if path.name.isdigit()]
    return 1 + max(map(int, taken), default=-1)


def _added(
    directory: Path,
    loaded: Experiment,
    variants: Variants,
    err: Console,
    workers: int,
    command: str,
) -> tuple[Sweep, dict[str, bytes], list[Unit]]:
    """The existing sweep with the variants of this call added, its files, and replaced units."""
    stored = {"units": [], **read_sweep(directory)}
    if stored["experiment"] != loaded.name:
        raise BadInput(
            f"workdir: {str(directory)!r} is a sweep of {stored['experiment']!r}; "
            f"{loaded.name!r} was given"
        )
    _check_names(directory, [*stored["variants"], *variants])
    _check_same(directory, stored, variants)
    changed = _source(directory / "experiment.py") != loaded.source
    if changed:
        err.print("gacf: experiment.py has changed since the sweep began", markup=False)
    union = {**_unfinished(directory, stored, loaded, variants), **variants}
    unchanged, replaced = _divided(directory, stored, union, changed)
    return *_planned(directory, loaded, union, workers, command, stored, unchanged), replaced


def _check_names(directory: Path, names: Sequence[str]) -> None:
    distinct: dict[str, str] = {}
    for name in names:
        if (other := distinct.setdefault(run_directory.same_name(name), name)) != name:
            raise BadInput(
                f"workdir: {str(directory)!r} has the variant {other!r}; {name!r} was given; "
                "allowed: names that differ in more than capital letters"
            )


def _unfinished(
    directory: Path, stored: Mapping[str, Any], loaded: Experiment, variants: Variants
) -> Variants:
    """The variants of earlier calls that this call leaves out and that have not finished."""
    unfinished = {}
    for name, settings in stored["variants"].items():
        if name in variants or records.finished(directory / name):
            continue
        try:
            unfinished[name] = config.from_json(loaded, settings)
        except BadInput as error:
            raise BadInput(
                f"workdir: variant {name!r} in {str(directory)!r} has not finished, and "
                f"experiment.py has changed: {error}; allowed: another --workdir"
            ) from error
    return unfinished


def _divided(
    directory: Path, stored: dict[str, Any], variants: Mapping[str, Any], changed: bool
) -> tuple[list[Unit], list[Unit]]:
    """The units that stay as they are, and the units that are to be replaced."""
    before = stored["variants"]
    unchanged, replaced = [], []
    for unit in (Unit(**entry) for entry in stored["units"]):
        place = directory / "units" / unit.name
        status = claims.status(place)
        if changed and status.live:
            raise BadInput(
                f"CONFIG: experiment.py has changed, and {str(directory)!r} is being trained by "
                "another process; allowed: wait for it, or stop it"
            )
        differ = [
            f"{name}: {', '.join(keys)}"
            for name in unit.variants
            if name in variants
            and (keys := config.differences(before[name], config.to_json(variants[name])))
        ]
        begun = (place / "checkpoints").exists() and set(unit.variants) <= set(variants)
        done = all(records.finished(directory / name) for name in unit.variants)
        if differ and not changed and not done and (status.live or not status.attempts):
            raise BadInput(
                f"workdir: {str(directory)!r} is to train variants with another config; "
                f"differing: {'; '.join(differ)}; allowed: another --workdir"
            )
        stays = done or begun or status.live or not (changed or differ)
        (unchanged if stays else replaced).append(unit)
    return unchanged, replaced


def _close(directory: Path, replaced: Sequence[Unit]) -> None:
    """Closes units for good, because another process may still intend to train them.

    Raises:
        BadInput: one of them is being trained; then all stay as they were.
    """
    held = []
    for unit in replaced:
        place = directory / "units" / unit.name
        if claim := claims.take(place):
            held.append(claim)
        elif claims.status(place).live:
            for other in held:
                other.release()
            raise BadInput(
                f"workdir: {str(directory)!r} is being trained by another process; "
                "allowed: wait for it, or stop it"
            )
    for claim in held:
        claim.fail("another sweep in this directory has replaced it", "", claims.ATTEMPTS)


def check_idle(directory: Path) -> None:
    """Raises a `BadInput` if the run is a variant that a sweep is training.

    Args:
        directory: the run's directory, which this process holds.
    """
    place = directory.resolve()
    if not (place.parent / SWEEP).exists():
        return
    for entry in read_sweep(place.parent).get("units", []):
        unit = place.parent / "units" / entry["name"]
        if place.name in entry["variants"] and claims.status(unit).live:
            raise BadInput(
                f"DIR: {str(directory)!r} is being trained by another process, as a variant of "
                f"the sweep {str(place.parent)!r}"
            )


def open_sweep(directory: Path) -> Sweep:
    """Opens a sweep's directory, to train what is missing.

    Raises:
        BadInput: there is no sweep, or its configs do not fit its experiment.
    """
    stored = read_sweep(directory)
    loaded = experiment_file.load(directory / "experiment.py", stored["experiment"])
    grouped = [Unit(**unit) for unit in stored.get("units", [])]
    in_units = {name for unit in grouped for name in unit.variants}
    # Variants without a unit, as older versions left them, are trained one by one.
    alone = [name for name in stored["variants"] if name not in in_units]
    first = 1 + max((int(unit.name) for unit in grouped), default=-1)
    grouped += [Unit(f"{first + i:04d}", [name], []) for i, name in enumerate(alone)]
    notes, code = stored.get("notes", []), stored.get("code")
    sweep = Sweep(directory, loaded, stored["variants"], grouped, notes, {}, code)
    _check_same(directory, stored, {name: sweep.settings(name) for name in sweep.missing()})
    return sweep


def _source(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _check_same(directory: Path, stored: dict[str, Any], variants: Variants) -> None:
    for name, settings in variants.items():
        if (directory / name / "config.json").exists():
            was = records.read_stored(directory / name)["config"]
        elif _begun(directory, stored, name):
            was = stored["variants"][name]
        else:
            continue
        if differ := config.differences(was, config.to_json(settings)):
            raise BadInput(
                f"workdir: variant {name!r} in {str(directory)!r} was made with another "
                f"config; differing: {', '.join(differ)}"
            )


def _begun(directory: Path, stored: dict[str, Any], name: str) -> bool:
    return any(
        name in unit["variants"] and (directory / "units" / unit["name"] / "checkpoints").exists()
        for unit in stored.get("units", [])
    )


def write_table(sweep: Sweep) -> dict[str, Any]:
    """Writes the tidy table of the whole sweep, and a summary of its cost.

        sweep.parquet        variant, the swept keys, cell, seed, step, metric, value
        sweep-summary.json   programs, compilations, seconds, notes, and the same for each unit

    Returns:
        The contents of sweep-summary.json.
    """
    parts = []
    keys = swept_keys(sweep.variants)
    flat = {name: config.leaves(settings) for name, settings in sweep.variants.items()}
    for name in sweep.variants:
        if records.finished(sweep.directory / name):
            one = pd.read_parquet(sweep.directory / name / "metrics.parquet")
            one.insert(0, "variant", name)
            for i, key in enumerate(keys):
                value = flat[name].get(key)
                one.insert(1 + i, key, str(value) if isinstance(value, list) else value)
            parts.append(one)
    if parts:
        buffer = io.BytesIO()
        whole = pd.concat(parts, ignore_index=True)
        for column in ("variant", "cell", "metric"):
            whole[column] = whole[column].astype("category")
        for key in keys:
            if whole[key].dtype == object and len({type(x) for x in whole[key].unique()}) > 1:
                whole[key] = whole[key].astype(str)
        whole.to_parquet(buffer, index=False)
        files.write_atomically(sweep.directory / TABLE, buffer.getvalue())
    entries = {}
    for unit in sweep.units:
        try:
            entries[unit.name] = json.loads((sweep.place(unit) / "done.json").read_text())
        except (OSError, ValueError):
            continue
    total = lambda key: sum(entry[key] for entry in entries.values())  # noqa: E731
    summary = {
        "variants": len(sweep.variants),
        "finished": len(sweep.variants) - len(sweep.missing()),
        "compilations": total("compilations"),
        "compile_seconds": total("compile_seconds"),
        "train_seconds": total("train_seconds"),
        "wall_seconds": total("wall_seconds"),
        "notes": sweep.notes,
        "units": entries,
    }
    text = json.dumps(summary, indent=2).encode()
    files.write_atomically(sweep.directory / SUMMARY, text)
    return summary


def swept_keys(variants: Mapping[str, Any]) -> list[str]:
    """The keys in which variants differ.

    Example:
        >>> swept_keys({"a": {"rate": 1, "steps": 5}, "b": {"rate": 2, "steps": 5}})
        ['rate']
    """
    flat = [config.leaves(settings) for settings in variants.values()]
    keys: Iterable[str] = dict.fromkeys(key for one in flat for key in one)
    return [key for key in keys if len({repr(one.get(key)) for one in flat}) > 1]
