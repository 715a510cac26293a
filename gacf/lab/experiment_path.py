"""Finds an experiment's file; this module needs no JAX, so that a wrong name is known at once."""

from __future__ import annotations

from pathlib import Path

from gacf.core.names import nearest
from gacf.lab.errors import BadInput, check_text


def find(given: str | Path) -> Path:
    """The path of an experiment's file.

    Args:
        given: CONFIG, as a user writes it.

    Raises:
        BadInput: there is no such file.
    """
    check_text("CONFIG", str(given), "a Python file")
    path = Path(given)
    if not path.is_file():
        known = [str(p) for p in sorted(Path("experiments").glob("*.py"))]
        hint = f"; {nearest(str(path), known)}" if known else ""
        raise BadInput(f"CONFIG: there is no file {str(path)!r}{hint}")
    return path
