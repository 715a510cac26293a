"""`gacf run`: train an experiment."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gacf.lab import (
    console,
    experiment_file,
    files,
    finishing,
    overrides,
    preparation,
    processes,
    run_directory,
    training,
)
from gacf.lab.cli.arguments import Dotted
from gacf.lab.cli.common import (
    check_track,
    consoles,
    join,
    tracker_of,
    unwritable,
    use_all_cores,
)
from gacf.lab.cli.messages import INTERRUPTED, say
from gacf.lab.errors import Failed
from gacf.lab.inspect import profile


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Trains a new run; returns the exit code."""
    use_all_cores()
    join(args)

    loaded = experiment_file.load(args.config)
    settings = overrides.resolve(loaded, dotted.config)

    directory = Path(args.workdir) if args.workdir else None

    def check() -> str:
        if directory:
            run_directory.check_free(directory)
        return ""

    processes.agreed(check)
    check_track(args.track)
    preparation.use_cache()
    programs = preparation.prepare(loaded, settings)
    with contextlib.ExitStack() as held:
        locks: list[Any] = []

        def make() -> str:
            run, lock = run_directory.begin(directory, loaded, settings)
            locks.append(held.enter_context(lock))
            return str(run.directory)

        run = run_directory.describe(Path(processes.agreed(make)), loaded, settings)
        if args.profile:
            _profile(run, programs)
        return train(run, programs, args.track, locks)


def _profile(run: Any, programs: Any) -> None:
    """Prints where the time of some steps of each cell goes, and keeps their traces."""
    import jax

    out = console.console()
    for index, (cell, program) in enumerate(programs.items()):
        place = run.directory / "profile" / str(index)
        costs = profile.profile(program, jax.random.key(run.config.seed), place)
        out.print(profile.table(costs, cell))
        out.print(profile.words(costs), markup=False)
        trace = max(place.rglob("*.trace.json.gz"))
        text = f"trace for TensorBoard and ui.perfetto.dev: {trace}"
        out.print(text, markup=False, soft_wrap=True)


def train(run: Any, programs: Any, track: str | None, locks: Sequence[Any]) -> int:
    """Trains an opened run that this process holds; returns the exit code."""

    def guard() -> None:
        for lock in locks:
            lock.check()

    out, err = consoles()
    out.print(f"{run.directory}", markup=False, soft_wrap=True)
    with contextlib.ExitStack() as stack:
        tracker = stack.enter_context(
            tracker_of(track if processes.first() else None, run.directory, err)
        )
        on_window = functools.partial(tracker, run.directory.name) if tracker else None
        try:
            summary = training.train(run, programs, out, err, on_window, guard)
        except Failed as error:
            if processes.first():
                _report_failure(run.directory, error)
            return 1
        except (OSError, ValueError, RuntimeError) as error:
            refused = files.unwritable(error)
            if refused is None or not (refused is error or refused.full):
                raise
            return unwritable(run.directory, refused)
        except KeyboardInterrupt:
            print(
                f"gacf: stopped; go on from the last checkpoint with: gacf resume {run.directory}",
                file=sys.stderr,
            )
            return INTERRUPTED
    if processes.first():
        finishing.show(run, summary, out)
    return 0


def _report_failure(directory: Path, error: Failed) -> None:
    say(
        f"{error}; what was trained is kept; once {directory / 'experiment.py'} is corrected, go "
        f"on with: gacf resume {directory}"
    )
