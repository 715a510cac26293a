"""`gacf report`: compare finished runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gacf.lab import console
from gacf.lab.cli.arguments import Dotted
from gacf.lab.errors import BadInput
from gacf.lab.records import SWEEP
from gacf.lab.report import effects, page, table


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Compares runs in the form that is asked for; returns the exit code."""
    del dotted

    if len(args.directories) == 1 and effects.holds(args.directories[0]):
        return _report_effects(args)
    runs: list[tuple[str, Path]] = []
    for directory in args.directories:
        more, missing = table.expand(directory)
        runs += more
        if missing:
            message = f"not finished: {', '.join(missing)}; go on with: gacf resume {directory}"
            if not more:
                raise BadInput(f"DIR: {directory!r}: {message}")
            print(f"gacf: {message}", file=sys.stderr)
    names = [name for name, _ in runs]
    names = [n if names.count(n) == 1 else str(place) for n, place in runs]
    made = table.compare([(n, table.read(d)) for n, (_, d) in zip(names, runs, strict=True)])
    if args.markdown:
        print(table.markdown(made))
    elif args.latex:
        print(table.latex(made))
    else:
        out = console.console()
        out.print(table.terminal(made))
        for directory in args.directories:
            if (Path(directory) / SWEEP).exists():
                written = page.write(directory)
                out.print(f"report: {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    return 0


def _report_effects(args: argparse.Namespace) -> int:

    found = effects.read(args.directories[0])
    if args.markdown:
        print(effects.as_markdown(found))
    elif args.latex:
        print(effects.as_latex(found))
    else:
        out = console.console()
        out.print(table.terminal(effects.table(found)))
        written = effects.write(args.directories[0])
        out.print(f"report: {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    return 0
