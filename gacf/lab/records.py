"""What the directories of runs and sweeps say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gacf.lab import (
    blame,
)
from gacf.lab.errors import BadInput

SWEEP = "sweep.json"  # what makes a directory one of a sweep


def read_sweep(directory: str | Path) -> dict[str, Any]:
    """What a sweep's directory says about it.

    Raises:
        BadInput: it cannot be read.
    """
    path = Path(directory) / SWEEP
    try:
        stored = json.loads(path.read_text())
        if not {"experiment", "variants", "devices"} <= set(stored):
            raise ValueError("a key is missing")
        variants = stored["variants"]
        if not (isinstance(variants, dict) and all(isinstance(x, dict) for x in variants.values())):
            raise ValueError("its variants are no configs by name")
        return stored
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"DIR: {str(path)!r} cannot be read: {error}") from error


def read_stored(directory: str | Path) -> dict[str, Any]:
    """What config.json of a run directory holds.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    path = Path(directory) / "config.json"
    try:
        stored = json.loads(path.read_text())
        if not {"experiment", "config", "devices"} <= set(stored):
            raise ValueError("a key is missing")
        kinds = {"experiment": str, "config": dict, "devices": dict}
        for key, kind in kinds.items():
            if not isinstance(stored[key], kind):
                raise ValueError(f"{key}: {json.dumps(stored[key]):.60} was found")
        return stored
    except FileNotFoundError:
        raise BadInput(f"DIR: {str(directory)!r} is no directory of a run") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInput(f"DIR: {str(path)!r} cannot be read: {blame.one_line(error)}") from error


def finished(directory: Path) -> bool:
    """Whether nothing is left to do: a summary that cannot be read is written anew."""
    try:
        summary = json.loads((directory / "summary.json").read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and (directory / "metrics.parquet").exists()
