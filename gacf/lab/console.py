"""The console on which commands print."""

from __future__ import annotations

from typing import Any


def console(stderr: bool = False) -> Any:
    """A rich console that does not wrap lines unless it writes to a terminal."""
    from rich.console import Console

    result = Console(stderr=stderr, highlight=False)
    return result if result.is_terminal else Console(stderr=stderr, highlight=False, width=240)
