"""`gacf list`: what there is to choose from."""

from __future__ import annotations

import argparse

from gacf.lab.cli.arguments import Dotted
from gacf.lab.console import console
from gacf.lab.registry import names


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Prints all names, one per line; returns the exit code."""
    del args, dotted
    from rich.table import Table
    from rich.text import Text

    out = console()
    for i, (section, entries) in enumerate(names().items()):
        out.print(Text(("\n" if i else "") + section, style="bold"))
        if not any(entries.values()):
            out.print("  " + (", ".join(entries) or "(none here)"), markup=False)
            continue
        grid = Table.grid(padding=(0, 2))
        for name, line in entries.items():
            grid.add_row(Text("  " + name, style="cyan", no_wrap=True), Text(line))
        out.print(grid)
    return 0
