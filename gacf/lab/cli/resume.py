"""`gacf resume`: go on with a run or a sweep that was stopped."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from gacf.lab import extension, preparation, processes, records, run_directory, sweep
from gacf.lab.cli.arguments import Dotted
from gacf.lab.cli.common import (
    announce_execution,
    check_track,
    consoles,
    join,
    processes_of,
    report_changes,
    use_cores_of,
)
from gacf.lab.cli.messages import say
from gacf.lab.cli.run import train
from gacf.lab.cli.sweep import go_on
from gacf.lab.errors import BadInput
from gacf.lab.records import SWEEP


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Goes on with a run or a sweep; returns the exit code."""
    directory = Path(args.directory)
    if (directory / SWEEP).exists():
        if dotted.config:
            raise BadInput(f"{dotted.config[0]}: {args.directory!r} is a sweep; allowed: for runs")
        return go_on(directory, args, dotted)
    if args.executor != "inline":
        raise BadInput(f"--executor: {args.directory!r} is a run; allowed: for sweeps")
    check_track(args.track)
    group = processes_of(args)
    use_cores_of(directory / "config.json", group.processes if group else 1)
    join(args)

    records.read_stored(directory)
    if records.finished(directory) and not dotted.config:
        consoles()[0].print(
            f"{directory} is finished; see: gacf report {directory}", markup=False, soft_wrap=True
        )
        return 0
    with contextlib.ExitStack() as held:
        locks: list[Any] = []

        def hold() -> str:
            locks.append(held.enter_context(run_directory.alone(directory)))
            sweep.check_idle(directory)
            return ""

        processes.agreed(hold)
        if processes.first():
            announce_execution(directory)
        run = run_directory.open_run(directory)
        report_changes(run.stored)
        preparation.use_cache()
        programs = preparation.prepare(run.experiment, run.config)
        if dotted.config:
            longer = extension.extended(run, dotted.config)
            if longer.config.steps == run.config.steps and records.finished(directory):
                consoles()[0].print(f"{directory} is finished", markup=False, soft_wrap=True)
                return 0
            before, programs = programs, preparation.prepare(run.experiment, longer.config)
            _announce(extension.reading_steps(before, programs), run.config.steps)

            def record() -> str:
                extension.write(longer)
                return ""

            processes.agreed(record)
            run = longer
        return train(run, programs, args.track, locks)


def _announce(cells: list[str], before: int) -> None:
    """Says of which cells a run that had been longer from the start would be another one."""
    if cells and processes.first():
        say(
            f"the training of {', '.join(map(repr, cells))} depends on the number of steps (by a "
            f"schedule, for instance): its first {before:,} steps stay those of the shorter run"
        )
