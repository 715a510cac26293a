"""Reads what the directories of runs and sweeps record about themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gacf.lab import blame
from gacf.lab.errors import BadInput

SWEEP = "sweep.json"  # the file that makes a directory that of a sweep


def read_sweep(directory: str | Path) -> dict[str, Any]:
    """Reads sweep.json from a sweep's directory.

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
            raise ValueError("its variants are not configs by name")
        return stored
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"DIR: {str(path)!r} cannot be read: {error}") from error


def read_stored(directory: str | Path) -> dict[str, Any]:
    """Reads config.json from a run directory.

    Raises:
        BadInput: there is no such file, or it cannot be read.
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
        raise BadInput(f"DIR: {str(directory)!r} is not the directory of a run") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInput(f"DIR: {str(path)!r} cannot be read: {blame.one_line(error)}") from error


def finished(directory: Path) -> bool:
    """Whether a run is complete; a summary that cannot be read does not count."""
    try:
        summary = json.loads((directory / "summary.json").read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and (directory / "metrics.parquet").exists()
