"""`gacf watch`: show the progress of a run or a sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from gacf.lab.cli.arguments import Dotted
from gacf.lab.console import console
from gacf.lab.sweep import watch


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Shows progress until all is over; returns the exit code."""
    del dotted

    watch.watch(Path(args.directory), console(), once=args.once)
    return 0
