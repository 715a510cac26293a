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
    """Compares runs in the requested form; returns the exit code."""
    del dotted

    if len(args.directories) == 1 and effects.holds(args.directories[0]):
        return _report_effects(args)
    runs: list[tuple[str, Path]] = []
    for directory in args.directories:
        more, missing = table.finished_runs(directory)
        runs += more
        if missing:
            message = f"not finished: {', '.join(missing)}; go on with: gacf resume {directory}"
            if not more:
                raise BadInput(f"DIR: {directory!r}: {message}")
            print(f"gacf: {message}", file=sys.stderr)
    names = [name for name, _ in runs]
    names = [n if names.count(n) == 1 else str(place) for n, place in runs]
    summaries = [table.read_summary(place) for _, place in runs]
    comparison = table.compare(list(zip(names, summaries, strict=True)))
    if args.markdown:
        print(table.markdown(comparison))
    elif args.latex:
        print(table.latex(comparison))
    else:
        out = console.console()
        out.print(table.terminal(comparison))
        for directory in args.directories:
            if (Path(directory) / SWEEP).exists():
                written = page.write(directory)
                out.print(f"report: {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    return 0


def _report_effects(args: argparse.Namespace) -> int:
    measured = effects.read(args.directories[0])
    if args.markdown:
        print(effects.as_markdown(measured))
    elif args.latex:
        print(effects.as_latex(measured))
    else:
        out = console.console()
        out.print(table.terminal(effects.table(measured)))
        written = effects.write(args.directories[0])
        out.print(f"report: {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    return 0
