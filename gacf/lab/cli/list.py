"""`gacf list`: what there is to choose from."""

from __future__ import annotations

import argparse

from gacf.lab.cli.arguments import Dotted
from gacf.lab.console import console
from gacf.lab.registry import SECTIONS, names


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Prints all names of a kind, one per line with what it is; returns the exit code."""
    del dotted
    from rich.table import Table
    from rich.text import Text

    out = console()
    for i, (section, entries) in enumerate(names(args.kind).items()):
        heading = Text.assemble((section, "bold"), (f"  {SECTIONS[section][0]}", "dim"))
        out.print(Text("\n" if i else "", end="") + heading)
        grid = Table.grid(padding=(0, 2))
        for name, line in entries.items():
            grid.add_row(Text("  " + name, style="cyan", no_wrap=True), Text(line))
        out.print(grid if entries else "  (none here)")
    return 0
