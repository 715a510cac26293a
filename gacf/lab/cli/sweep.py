"""`gacf sweep`: train all variants of an experiment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gacf.lab import console, experiment_file, files, preparation, records, sweep
from gacf.lab.cli.arguments import Dotted
from gacf.lab.cli.common import (
    announce_execution,
    check_track,
    report_changes,
    tracker_of,
    unwritable,
    use_all_cores,
    use_cores_of,
)
from gacf.lab.cli.messages import INTERRUPTED
from gacf.lab.errors import BadInput
from gacf.lab.records import SWEEP
from gacf.lab.report import table
from gacf.lab.sweep import claims, executors, work


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Trains a new sweep or goes on with an old one; returns the exit code."""
    if args.resume:
        if dotted.config or dotted.sweep or args.workdir:
            raise BadInput("--resume: goes on with what the directory holds; allowed: no overrides")
        return go_on(Path(args.config), args, dotted)
    if Path(args.config).is_dir():
        raise BadInput(f"CONFIG: {args.config!r} is a directory; to go on with it, add --resume")
    directory = Path(args.workdir) if args.workdir else None
    if directory:
        use_cores_of(directory / SWEEP)
    else:
        use_all_cores()

    loaded = experiment_file.load(args.config)
    if args.samples < 1:
        raise BadInput(f"--samples: {args.samples} was given; allowed: a whole number >= 1")
    if args.sample_seed < 0:
        raise BadInput(f"--sample-seed: {args.sample_seed} was given; allowed: a whole number >= 0")
    variants = sweep.variants(loaded, dotted.config, dotted.sweep, args.samples, args.sample_seed)
    workers = _workers(args, dotted)
    check_track(args.track)
    preparation.use_cache()
    stored = directory and (directory / SWEEP).exists() and records.read_sweep(directory)
    err = console.console(stderr=True)
    opened = sweep.start(directory, loaded, variants, err, workers, args.line)
    if stored and opened.missing():
        report_changes(stored)
    return _train_variants(opened, args, dotted, workers)


def _workers(args: argparse.Namespace, dotted: Dotted) -> int:
    """The number of workers; refuses an executor that is not installed, and wrong settings."""
    executors.parse(args.executor, dotted.executor)
    if args.executor == "inline":
        if args.workers not in (None, 1):
            raise BadInput("--workers: was given for inline; allowed: with another --executor")
        return 1
    executors.check(args.executor)
    workers = len(executors.cores()) if args.workers is None else args.workers
    if workers < 1:
        raise BadInput(f"--workers: {workers} was given; allowed: a whole number >= 1")
    return workers


def go_on(directory: Path, args: argparse.Namespace, dotted: Dotted) -> int:
    """Goes on with a sweep."""
    use_cores_of(directory / SWEEP)

    workers = _workers(args, dotted)
    check_track(args.track)
    announce_execution(directory)
    opened = sweep.open_sweep(directory)
    preparation.use_cache()
    if opened.missing():
        report_changes(records.read_sweep(directory))
    return _train_variants(opened, args, dotted, workers)


def _train_variants(opened: Any, args: argparse.Namespace, dotted: Dotted, workers: int) -> int:
    out, err = console.console(), console.console(stderr=True)
    directory = opened.directory
    again = f"gacf resume {directory}"
    text = f"{directory}: variants left to train: {len(opened.missing())}"
    out.print(text, markup=False, soft_wrap=True)
    for note in opened.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    try:
        for unit in opened.left():
            with files.writing():
                claims.reset(opened.place(unit))
        _work(opened, args, dotted, workers, out, err)
        summary = sweep.write_table(opened)
    except KeyboardInterrupt:
        print(f"gacf: stopped; go on with: {again}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        refused = files.unwritable(error)
        if refused is None or not (refused is error or refused.full):
            raise
        return unwritable(directory, refused)
    runs, _ = table.finished_runs(directory)
    if runs:
        comparison = table.compare([(name, table.read_summary(place)) for name, place in runs])
        out.print(table.terminal(comparison))
    out.print(
        f"{directory}: {summary['finished']} variants of {summary['variants']}; "
        f"{summary['compilations']} compilations, {summary['compile_seconds']:.1f} s of "
        f"{summary['wall_seconds']:.1f} s",
        markup=False,
        soft_wrap=True,
    )
    failed = work.failures(opened)
    by_name = {unit.name: unit for unit in opened.units}
    for name, failure in failed.items():
        if args.traceback and failure["traceback"]:
            print(failure["traceback"], file=sys.stderr)
        text = f"gacf: {work.words(by_name[name])} failed: {failure['message']}"
        err.print(text, markup=False, soft_wrap=True)
    if failed:
        missing = set(opened.missing())
        names = ", ".join(v for name in failed for v in by_name[name].variants if v in missing)
        print(f"gacf: failed: {names}; once that is corrected: {again}", file=sys.stderr)
    return 1 if failed else 0


def _work(
    opened: Any, args: argparse.Namespace, dotted: Dotted, workers: int, out: Any, err: Any
) -> None:
    if args.executor == "inline":
        with tracker_of(args.track, opened.directory, err) as tracker:
            work.work(opened, out, err, work.Options(args.traceback, None, tracker))
        return
    if not opened.left():
        return
    settings = executors.parse(args.executor, dotted.executor)
    _, make = executors.EXECUTORS[args.executor]
    more = [*(["--track", args.track] if args.track else [])]
    more += ["--traceback"] if args.traceback else []
    executors.drive(opened, make(opened.directory, workers, more, settings), workers, out, err)
