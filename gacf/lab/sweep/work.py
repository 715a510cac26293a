"""A worker: takes units of a sweep one after the other, until none is left for it."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from gacf.lab import blame, config, files, preparation, records, results, run_directory, training
from gacf.lab.errors import BadInput, Failed
from gacf.lab.inspect.progress import PROGRESS, Record
from gacf.lab.sweep import claims
from gacf.lab.sweep.claims import ATTEMPTS, Claim
from gacf.lab.sweep.directory import Sweep
from gacf.lab.sweep.units import Unit

POLL = 0.5  # seconds between looks at units that other workers hold

Track = Callable[[str, str, np.ndarray, results.History], None]
"""Takes a variant, a cell, the ends of windows [W] and scalars [S, W]; see `lab.sweep.track`."""


class Options(NamedTuple):
    """The options of a worker.

    Attributes:
        show_traceback: whether to show where in the code failures came from.
        parent: a process with which the worker ends.
        track: a function that receives all scalars.
    """

    show_traceback: bool = False
    parent: int | None = None
    track: Track | None = None


def work(sweep: Sweep, out: Console, err: Console, options: Options = Options()) -> None:  # noqa: B008
    """Trains the units that no other worker trains.

    It waits for the units that other workers hold, and takes them over if those workers are lost.

    Raises:
        Unwritable: the file system refuses to be written.
        claims.Lost: the parent of this process has gone.
    """
    everything = len(sweep.left())
    begun = 0
    while True:
        taken = waiting = False
        for unit in sweep.left():
            claim = claims.take(sweep.place(unit), options.parent)
            if claim is None:
                waiting |= claims.status(sweep.place(unit)).live
                continue
            taken = True
            begun += claim.number == 1
            if unit in sweep.left():  # it may have been finished just before it was taken
                _announce(sweep, unit, f"({min(begun, everything)}/{everything})", out)
                _attempt(sweep, unit, claim, out, err, options)
            else:
                claim.release()
        if not taken:
            if not waiting:
                return
            time.sleep(POLL)


def _announce(sweep: Sweep, unit: Unit, count: str, out: Console) -> None:
    if len(unit.variants) == 1:
        text = f"{sweep.directory / unit.variants[0]} {count}"
    else:
        what = f"{len(unit.variants)} variants as one program, over {', '.join(unit.traced)}"
        text = f"{sweep.directory}: {what} {count}"
    out.print(text, markup=False)


def _attempt(
    sweep: Sweep, unit: Unit, claim: Claim, out: Console, err: Console, options: Options
) -> None:
    try:
        _train(sweep, unit, claim, out, err, options)
    except claims.Lost:
        claim.release()
        if options.parent is not None:
            raise
        return
    except KeyboardInterrupt:
        claim.release()
        raise
    except Exception as error:
        refused = files.unwritable(error)
        ours = refused is error or isinstance(error, run_directory.Refused)
        if refused is not None and (ours or refused.full):
            claim.release()
            raise refused from error
        try:
            claim.check()
        except claims.Lost:  # the worker that has the unit now may have caused the error
            claim.release()
            if options.parent is not None:
                raise
            return
        trace = "".join(traceback.format_exception(error))
        if options.show_traceback:
            err.print(trace, markup=False)
        kind = "" if isinstance(error, ValueError | Failed) else f"{type(error).__name__}: "
        message = kind + blame.one_line(error)
        # The same input fails the same way again.
        again = not isinstance(error, BadInput) and getattr(error, "again", True)
        claim.fail(message, trace, claim.number if again else ATTEMPTS)
        if again and claim.number < ATTEMPTS:
            text = f"{words(unit)} failed: {message}; attempt {claim.number} of {ATTEMPTS}"
            err.print(f"gacf: {text}", markup=False, soft_wrap=True)
        return
    claim.release()


def words(unit: Unit) -> str:
    """The unit in words, by the names of its variants.

    Example:
        >>> words(Unit("0000", ["a", "b"], ["rate"]))
        "variants 'a', 'b'"
    """
    return f"variant{'s' * (len(unit.variants) > 1)} {', '.join(map(repr, unit.variants))}"


def failures(sweep: Sweep) -> dict[str, dict[str, str]]:
    """Unit -> message and traceback, of the units that have been given up."""
    lost = {"message": "its worker was lost in every attempt", "traceback": ""}
    messages = {}
    for unit in sweep.left():
        status = claims.status(sweep.place(unit))
        if status.attempts >= ATTEMPTS:
            messages[unit.name] = status.failure or lost
    return messages


def _train(
    sweep: Sweep, unit: Unit, claim: Claim, out: Console, err: Console, options: Options
) -> None:
    began = time.perf_counter()
    loaded, place = sweep.experiment, sweep.place(unit)
    settings = [sweep.settings(name) for name in unit.variants]
    alone = not unit.traced
    jax.config.update("jax_enable_x64", settings[0].x64)  # the previous unit may differ in it
    programs = sweep.programs.pop(unit.name, None)
    if programs is None and alone:
        programs = preparation.prepare(loaded, settings[0])
    programs = programs or preparation.prepare_group(loaded, settings, unit.traced)
    on_window = _Report(sweep, unit, claim, list(programs), settings[0], options.track)
    if alone:
        where = sweep.directory / unit.variants[0]
        run = _opened(where, sweep, settings[0], claim)
        training.train(run, programs, out, err, on_window, claim.check)
    else:
        runs = [
            _opened(sweep.directory / name, sweep, each, claim, create=False)
            for name, each in zip(unit.variants, settings, strict=True)
        ]
        training.train_group(runs, programs, place, out, err, on_window, claim.check)
    compiled = [p.compile_seconds for p in programs.values()]
    done = {
        "variants": unit.variants,
        "traced": unit.traced,
        "compilations": sum(x > 0 for x in compiled),
        "compile_seconds": sum(compiled),
        "train_seconds": on_window.seconds,
        "wall_seconds": time.perf_counter() - began,
        "peak_bytes": peak_bytes(),
        "devices": run_directory.devices(),
    }
    claim.check()
    files.write_atomically(place / "done.json", json.dumps(done, indent=2).encode())
    shutil.rmtree(place / "checkpoints", ignore_errors=True)
    with files.writing():
        (place / PROGRESS).unlink(missing_ok=True)


def peak_bytes() -> int:
    """The largest amount of memory that this process has used so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _opened(
    where: Path, sweep: Sweep, settings: config.Config, claim: Claim, create: bool = True
) -> run_directory.Run:
    """Opens the run of a variant, which the claim on its unit entitles this worker to write.

    A process that resumes the run alone first holds it and then looks for a claim. A worker does
    this in the opposite order, so that at least one of the two sees the other.
    """
    loaded = sweep.experiment
    claim.check()
    if (where / "config.json").exists():
        with run_directory.alone(where):
            if not (where / "experiment.py").exists() or (
                (where / "experiment.py").read_bytes() != loaded.source
            ):
                files.write_atomically(where / "experiment.py", loaded.source)
            return run_directory.Run(where, loaded, settings, records.read_stored(where))
    run_directory.check_free(where)
    make = run_directory.create if create else run_directory.describe
    return make(where, loaded, settings, sweep.code)


class _Report:
    """Called as a unit trains: writes its progress, feeds the tracker, stops if it is lost."""

    def __init__(
        self,
        sweep: Sweep,
        unit: Unit,
        claim: Claim,
        cells: list[str],
        settings: config.Config,
        track: Track | None,
    ):
        self.unit, self.claim, self.track = unit, claim, track
        path, key_metric = sweep.place(unit) / PROGRESS, sweep.experiment.key_metric
        self.record = Record(path, cells, settings.steps, unit.variants, key_metric)
        self.seconds = 0.0
        self.last = time.perf_counter()

    def __call__(self, cell: str, ends: np.ndarray, scalars: results.History) -> None:
        now = time.perf_counter()
        self.seconds, self.last = self.seconds + now - self.last, now
        one = len(self.unit.variants) == 1
        rows = {k: v[None] if one else v for k, v in scalars.items()}
        if self.track is not None:
            for h, name in enumerate(self.unit.variants):
                self.track(name, cell, ends, {k: v[h] for k, v in rows.items()})
        self.claim.check()
        self.record(cell, ends, rows)
