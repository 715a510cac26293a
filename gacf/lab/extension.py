"""Training a run for longer than it was meant to be: `gacf resume DIR --config.steps=…`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gacf.lab import config, files, overrides
from gacf.lab.errors import BadInput
from gacf.lab.records import SWEEP
from gacf.lab.run_directory import Run
from gacf.runner import Program


def extended(run: Run, tokens: Sequence[str]) -> Run:
    """The run with more steps; nothing is written.

    Args:
        run: an opened run.
        tokens: the overrides of the command line.

    Raises:
        BadInput: another key than `steps`, or not more steps than the run has.
    """
    for key in sorted(overrides.overridden(tokens) - {"steps"}):
        raise BadInput(
            f"{key}: was given for a run that has begun; allowed: --config.steps, to train longer"
        )
    if (run.directory.parent / SWEEP).exists():
        raise BadInput(
            f"DIR: {str(run.directory)!r} is a variant of a sweep; allowed with --config.steps: "
            "runs of their own"
        )
    changed = run.config.copy_and_resolve_references()
    overrides.apply(changed, tokens)
    settings = config.checked(changed)
    before = run.config.steps
    if settings.steps < before:
        raise BadInput(f"steps: {settings.steps} was given; allowed: at least {before}")
    stored = {**run.stored, "config": config.to_json(settings)}
    if settings.steps > before:
        stored["extended_from"] = [*run.stored.get("extended_from", []), before]
    return Run(run.directory, run.experiment, settings, stored)


def write(run: Run) -> None:
    """Records the larger number of steps; from now on the run counts as unfinished."""
    with files.writing():
        # in this order: a run whose summary is gone is finished again with its old steps
        (run.directory / "summary.json").unlink(missing_ok=True)
        text = json.dumps(run.stored, indent=2).encode()
        files.write_atomically(Path(run.directory) / "config.json", text)


def reading_steps(before: Mapping[str, Program], after: Mapping[str, Program]) -> list[str]:
    """The cells whose training depends on the number of steps, by a schedule for instance.

    In all others a run that is extended is the same, to the bit, as one that was as long from the
    start.

    Args:
        before: cell -> program for the old number of steps.
        after: cell -> program for the new one.
    """
    return [name for name in after if name not in before or _differ(before[name], after[name])]


def _differ(one: Program, other: Program) -> bool:
    for (code, consts), (other_code, other_consts) in zip(one.code, other.code, strict=True):
        if _plain(code) != _plain(other_code) or len(consts) != len(other_consts):
            return True
        if not all(map(_same_array, consts, other_consts)):
            return True
    return False


def _plain(code: Any) -> str:
    """A program as text, without the addresses of functions in memory."""
    return re.sub(r"0x[0-9a-f]+", "", str(code))


def _same_array(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    try:
        return np.asarray(x).tobytes() == np.asarray(y).tobytes()
    except TypeError:  # keys
        return str(x) == str(y)
