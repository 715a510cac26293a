"""Which variants are trained as one program.

Variants whose configs differ only in floats are candidates. Tracing shows whether `build` accepts a
tracer in place of a float: code that branches on the float, or takes a shape from it, raises. Such
keys split the candidates further, with a note; the other keys become batched arrays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from gacf.lab import blame, config, experiment_file, preparation
from gacf.lab.config import Config
from gacf.lab.errors import BadInput
from gacf.lab.experiment_file import Experiment
from gacf.lab.sweep.variants import Variants
from gacf.runner import Program


class Unit(NamedTuple):
    """Variants that are trained together: a group, or a slice of one.

    Attributes:
        name: the name of its directory.
        variants: the names of its variants.
        traced: the keys in which they differ; empty for a single variant.
    """

    name: str
    variants: list[str]
    traced: list[str]


KEPT = 4  # traced programs that a plan keeps; no more, because each holds its data set


class Plan(NamedTuple):
    """The result of `plan`.

    Attributes:
        units: the units to train.
        notes: notes on keys that could not be traced.
        programs: the programs of some units, already traced.
    """

    units: list[Unit]
    notes: list[str]
    programs: dict[str, dict[str, Program]]


def plan(loaded: Experiment, variants: Variants, workers: int = 1, first: int = 0) -> Plan:
    """Groups variants, and splits groups that do not fit into memory or leave a worker idle.

    Args:
        loaded: the experiment.
        variants: the variants.
        workers: how many workers will train at once, sharing this machine's memory.
        first: the number of the first unit.
    """
    classes: dict[str, list[str]] = {}
    for name, settings in variants.items():
        classes.setdefault(_kind(settings), []).append(name)
    groups, notes = [], []
    for members in classes.values():
        for group, program in _split(loaded, {n: variants[n] for n in members}, notes):
            most = _most(program, len(group[0]), workers) if program else 1
            groups.append((*group, most, program))
    idle = math.ceil(workers / max(1, len(groups)))
    units, programs = [], {}
    for members, traced, most, program in groups:
        pieces = min(len(members), max(math.ceil(len(members) / most), idle))
        for i in range(pieces):
            piece = members[i * len(members) // pieces : (i + 1) * len(members) // pieces]
            keys = traced if len(piece) > 1 else []
            units.append(Unit(f"{first + len(units):04d}", piece, keys))
        if program and pieces == 1 and len(programs) < KEPT:
            programs[units[-1].name] = program
    return Plan(units, list(dict.fromkeys(notes)), programs)


def _kind(settings: Config) -> str:
    """A key that is equal for configs that differ only in floats."""
    flat = config.leaves(settings)
    return json.dumps({k: "float" if type(v) is float else [v] for k, v in flat.items()})


def _most(program: Mapping[str, Program], members: int, workers: int) -> int:
    """How many of a group's variants fit into the free memory at once.

    A program needs the memory of its data, and the same amount more for each variant.
    """
    least = members
    for one in program.values():
        needed, free = preparation.memory(one)
        if free is not None and needed > free // workers:
            least = min(least, max(1, (free // workers) * members // needed))
    return least


Group = tuple[list[str], list[str]]


def _split(
    loaded: Experiment, members: Variants, notes: list[str]
) -> list[tuple[Group, dict[str, Program] | None]]:
    """Groups of variants that one program can train, with the keys that it takes as arrays."""
    names = list(members)
    alone: list[tuple[Group, dict[str, Program] | None]] = [(([name], []), None) for name in names]
    varying = _varying(members)
    if len(names) == 1 or not varying:
        return alone  # also equal configs under two names
    jax.config.update("jax_enable_x64", members[names[0]].x64)
    refused = [name for name in names if not _builds(loaded, members[name])]
    if refused:  # as tracers, its values would not be checked
        rest = {name: each for name, each in members.items() if name not in refused}
        return [one for one in alone if one[0][0][0] in refused] + (
            _split(loaded, rest, notes) if rest else []
        )
    program, _ = _trace(loaded, members, varying)
    if program:
        return [((names, varying), program)]
    concrete = {}
    for key in varying:
        two = {n: config.replaced(members[names[0]], {key: members[n][key]}) for n in names[:2]}
        traced, why = _trace(loaded, two, [key])
        if not traced:
            concrete[key] = why
    if not concrete:
        concrete = dict.fromkeys(varying, "not together with the other keys")
    for key, why in concrete.items():
        notes.append(
            f"{key}: one program for each of its values, because it cannot be traced: {why}"
        )
    smaller: dict[str, Variants] = {}
    for name, settings in members.items():
        flat = config.leaves(settings)
        smaller.setdefault(repr([flat[key] for key in concrete]), {})[name] = settings
    return [one for part in smaller.values() for one in _split(loaded, part, notes)]


def _varying(members: Variants) -> list[str]:
    flat = [config.leaves(settings) for settings in members.values()]
    return [k for k, v in flat[0].items() if any(other[k] != v for other in flat)]


def _builds(loaded: Experiment, settings: Config) -> bool:
    try:
        experiment_file.build(loaded, settings)
    except Exception:
        return False
    return True


def _trace(
    loaded: Experiment, members: Variants, keys: Sequence[str]
) -> tuple[dict[str, Program] | None, str]:
    try:
        return preparation.prepare_group(loaded, list(members.values()), keys), ""
    except BadInput as error:
        return None, _reason(error)
    except Exception as error:  # code may raise anything when it gets a tracer instead of a number
        return None, f"{type(error).__name__}: {blame.one_line(error)}"


def _reason(error: Exception) -> Any:
    text = str(error)
    return text if len(text) < 160 else text[:157] + "…"
