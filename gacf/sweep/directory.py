"""A sweep's directory, which alone tells what has been done."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console

from gacf import checkpoint, config, experiment
from gacf.config import BadInput, Config, Experiment
from gacf.report.table import SWEEP, read_sweep
from gacf.runner import Program
from gacf.sweep import claims, units
from gacf.sweep.units import Unit
from gacf.sweep.variants import Variants

TABLE, SUMMARY = "sweep.parquet", "sweep-summary.json"


class Sweep(NamedTuple):
    """A sweep's directory, opened.

    Attributes:
        directory: where.
        experiment: the file that variants are built from.
        variants: name -> resolved config, as JSON, of all.
        units: what is trained at once.
        notes: on keys that could not be traced.
        programs: of some units, traced already.
    """

    directory: Path
    experiment: Experiment
    variants: Mapping[str, Any]
    units: list[Unit]
    notes: list[str]
    programs: dict[str, dict[str, Program]]

    def place(self, unit: Unit) -> Path:
        """The unit's directory."""
        return self.directory / "units" / unit.name

    def missing(self) -> list[str]:
        """The variants that have not finished, in the order of training."""
        return [n for u in self.units for n in u.variants if not self._finished(n)]

    def left(self) -> list[Unit]:
        """The units of which a variant has not finished."""
        return [u for u in self.units if not all(map(self._finished, u.variants))]

    def _finished(self, name: str) -> bool:
        return experiment.finished(self.directory / name)

    def settings(self, name: str) -> Config:
        """A variant's config."""
        return config.from_json(self.experiment, self.variants[name])


def start(
    directory: Path, loaded: Experiment, found: Variants, err: Console, workers: int = 1
) -> Sweep:
    """Makes a sweep's directory, or takes up the one that is there; trains nothing.

    Variants that have finished there and are not in `found` stay.

    Args:
        directory: where.
        loaded: the experiment.
        found: its variants.
        err: warnings.
        workers: how many will train at once.

    Raises:
        BadInput: the place is taken by something else, or by a variant of another config.
    """
    known: dict[str, Any] = {}
    kept: list[Unit] = []
    notes: list[str] = []
    if (directory / SWEEP).exists():
        stored = read_sweep(directory)
        if stored["experiment"] != loaded.name:
            raise BadInput(
                f"workdir: {str(directory)!r} is a sweep of {stored['experiment']!r}; "
                f"{loaded.name!r} was given"
            )
        _check_same(directory, stored, found)
        known = {n: x for n, x in stored["variants"].items() if experiment.finished(directory / n)}
        changed = _text(directory / "experiment.py") != _text(loaded.path)
        if changed:
            err.print("gacf: experiment.py has changed since the sweep began", markup=False)
        kept = _kept(directory, stored, {**known, **found}, changed)
        notes = stored.get("notes", [])
    else:
        experiment.check_free(directory)
    held = {name for unit in kept for name in unit.variants}
    new = {n: made for n, made in found.items() if n not in held and n not in known}
    first = 1 + max((int(unit.name) for unit in kept), default=-1)
    planned = units.plan(loaded, new, workers, first)
    notes = list(dict.fromkeys([*notes, *planned.notes]))
    stored = {
        "experiment": loaded.name,
        "variants": {**{name: config.to_json(made) for name, made in found.items()}, **known},
        "units": [unit._asdict() for unit in (*kept, *planned.units)],
        "notes": notes,
        "key_metric": loaded.key_metric,
        "goal": loaded.goal,
        "versions": experiment.versions(),
        "devices": experiment.devices(),
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
    return Sweep(
        directory, loaded, stored["variants"], [*kept, *planned.units], notes, planned.programs
    )


def _kept(
    directory: Path, stored: dict[str, Any], all_: Mapping[str, Any], changed: bool
) -> list[Unit]:
    """The units that stay as they are: finished, begun, or of a file that has not changed."""
    kept = []
    for unit in (Unit(**entry) for entry in stored.get("units", [])):
        place = directory / "units" / unit.name
        live = claims.status(place).live
        if changed and live:
            raise BadInput(
                f"CONFIG: experiment.py has changed, and {str(directory)!r} is being trained by "
                "another process; allowed: wait for it, or stop it"
            )
        begun = (place / "checkpoints").exists() and set(unit.variants) <= set(all_)
        done = all(experiment.finished(directory / name) for name in unit.variants)
        if done or begun or live or (not changed and set(unit.variants) <= set(all_)):
            kept.append(unit)
        else:
            shutil.rmtree(place, ignore_errors=True)
    return kept


def open_sweep(directory: Path) -> Sweep:
    """Opens a sweep's directory, to go on with what is missing.

    Raises:
        BadInput: no sweep there, or its configs are not those of its experiment.
    """
    stored = read_sweep(directory)
    loaded = config.load(directory / "experiment.py", stored["experiment"])
    grouped = [Unit(**unit) for unit in stored.get("units", [])]
    held = {name for unit in grouped for name in unit.variants}
    # A sweep of an older version, or one whose units a later version forgot: one by one.
    alone = [name for name in stored["variants"] if name not in held]
    first = 1 + max((int(unit.name) for unit in grouped), default=-1)
    grouped += [Unit(f"{first + i:04d}", [name], []) for i, name in enumerate(alone)]
    made = Sweep(directory, loaded, stored["variants"], grouped, stored.get("notes", []), {})
    _check_same(directory, stored, {name: made.settings(name) for name in made.missing()})
    return made


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _check_same(directory: Path, stored: dict[str, Any], found: Variants) -> None:
    for name, settings in found.items():
        if (directory / name / "config.json").exists():
            was = experiment.read_stored(directory / name)["config"]
        elif _begun(directory, stored, name):
            was = stored["variants"][name]
        else:
            continue
        if differ := config.differences(was, config.to_json(settings)):
            raise BadInput(
                f"workdir: variant {name!r} in {str(directory)!r} was made under another "
                f"config; differing: {', '.join(differ)}"
            )


def _begun(directory: Path, stored: dict[str, Any], name: str) -> bool:
    return any(
        name in unit["variants"] and (directory / "units" / unit["name"] / "checkpoints").exists()
        for unit in stored.get("units", [])
    )


def write_table(sweep: Sweep) -> dict[str, Any]:
    """Writes the tidy table of the whole sweep, and what it took.

        sweep.parquet        variant, the swept keys, cell, seed, step, metric, value
        sweep-summary.json   programs, compilations, seconds, notes, and each unit's

    Returns:
        What sweep-summary.json holds.
    """
    parts = []
    keys = swept_keys(sweep.variants)
    flat = {name: config.leaves(made) for name, made in sweep.variants.items()}
    for name in sweep.variants:
        if experiment.finished(sweep.directory / name):
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
        checkpoint.write_atomically(sweep.directory / TABLE, buffer.getvalue())
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
    checkpoint.write_atomically(sweep.directory / SUMMARY, text)
    return summary


def swept_keys(variants: Mapping[str, Any]) -> list[str]:
    """The keys in which variants differ.

    Example:
        >>> swept_keys({"a": {"rate": 1, "steps": 5}, "b": {"rate": 2, "steps": 5}})
        ['rate']
    """
    flat = [config.leaves(made) for made in variants.values()]
    keys: Iterable[str] = dict.fromkeys(key for one in flat for key in one)
    return [key for key in keys if len({repr(one.get(key)) for one in flat}) > 1]
