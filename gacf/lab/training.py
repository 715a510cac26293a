"""Trains the cells of a run, or of several runs at once, starting from the newest checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from gacf.core.types import State
from gacf.lab import blame, checkpoint, config, files, processes
from gacf.lab.errors import BadInput, Failed
from gacf.lab.failure import failing
from gacf.lab.finishing import write_results
from gacf.lab.inspect.progress import PROGRESS, Display, Record
from gacf.lab.painter import WAITING, Painter
from gacf.lab.records import finished
from gacf.lab.results import History
from gacf.lab.run_directory import Run, create, versions
from gacf.lab.schedule import plan
from gacf.runner import Program, on_one_device

Listener = Callable[[str, np.ndarray, History], None]
"""Takes a cell, the ends of the windows just trained [W] and their scalars [S, W] or [H, S, W]."""


def _resumed(
    directory: Path,
    manifest: dict[str, Any],
    program: Program,
    err: Console,
    extended_from: Sequence[int],
) -> tuple[State, History, dict[str, float]] | None:
    """The newest undamaged checkpoint of a cell, if there is one; reports the damaged ones.

    Checkpoints of the run with the numbers of steps in `extended_from` are its own, too.
    """
    damaged = False
    for saved in checkpoint.newest_first(directory):
        if isinstance(saved, checkpoint.Damaged):
            damaged = True
            err.print(f"gacf: checkpoint {saved}", markup=False)
            continue
        then, now = saved.manifest["config"], manifest["config"]
        if then.get("steps") in extended_from:
            then = {**then, "steps": now["steps"]}
        if differ := config.differences(then, now):
            raise BadInput(
                f"DIR: checkpoint {saved.path.name} was made with another config; "
                f"differing: {', '.join(differ)}"
            )
        if saved.manifest["source"] != manifest["source"]:
            err.print("gacf: experiment.py has changed since the checkpoint", markup=False)
        if damaged:
            err.print(
                f"gacf: going on from step {saved.step:,}, the checkpoint before it", markup=False
            )
        try:
            state, metrics = checkpoint.restore(saved, program.state_shape())
        except (ValueError, KeyError) as error:
            raise BadInput(
                f"DIR: the state of checkpoint {saved.path.name} is not this experiment's: "
                f"{blame.one_line(error)}"
            ) from error
        return state, metrics, saved.manifest["seconds"]
    if damaged:
        err.print("gacf: no undamaged checkpoint is left; starting again from step 0", markup=False)
    return None


def _manifest(runs: Sequence[Run], settings: dict[str, Any]) -> dict[str, Any]:
    source = runs[0].experiment.source.decode(errors="replace").replace("\r\n", "\n")
    return {"config": settings, "source": source, "versions": versions()}


def _train(
    runs: Sequence[Run],
    cell: str,
    program: Program,
    place: Path,
    out: Console,
    err: Console,
    on_window: Listener | None = None,
    guard: Callable[[], None] = lambda: None,
) -> tuple[State, History, dict[str, float]]:
    """Trains one cell to its last step, starting from its newest checkpoint if it has one.

    Returns:
        The final batched state on one device, metric -> [S, W] or [H, S, W], and the seconds that
        the training took.
    """
    began = time.perf_counter()
    first = runs[0]
    steps, every = first.config.steps, first.config.checkpoint_every
    counts, grid, width = plan(first.config)
    ndim = 2 if program.hypers is None else 3
    history: list[History] = []
    spent = {"wall": 0.0, "compile": 0.0, "train": 0.0}
    start = 0
    names = {run.directory.name: run.stored["config"] for run in runs}
    manifest = _manifest(runs, first.stored["config"] if program.hypers is None else names)
    directory = checkpoint.cell_directory(place, cell)
    guard()
    if processes.first():
        with files.writing():
            files.clean(directory)
    resumed = _resumed(directory, manifest, program, err, first.stored.get("extended_from", ()))
    if resumed:
        state, metrics, spent = resumed
        start, history = int(state.step), [metrics]
    if start != int(agreed := processes.agreed(lambda: str(start))):
        raise BadInput(
            f"DIR: process {jax.process_index()} finds a checkpoint of step {start}, process 0 one "
            f"of step {agreed}; allowed: one directory that all processes see"
        )
    if resumed:
        if start == steps:
            return resumed
        lanes = program.lanes_of(resumed[0])
    else:
        with failing(first.experiment.path, lambda: f"cell {cell!r}, at its start", again=True):
            lanes = program.init(jax.random.key(first.config.seed))
    at = start

    def doing() -> str:
        return f"cell {cell!r}, after step {at:,}"

    done = int(np.searchsorted(grid.ends, start, side="right"))
    if resumed and done < len(counts):
        history = [_begun(history[0], grid.due[:done])]
        counts[done] = int(grid.ends[done]) - start
    key_metric = first.experiment.key_metric
    with Display(out, cell, steps, program.lanes, start, key_metric) as display:
        program.compile(lanes, width)
        display.compiled(program.compile_seconds)
        ready = time.perf_counter()
        saving = 0.0
        while done < len(counts):
            count = min(width, len(counts) - done)
            these, rest = slice(done, done + count), width - count
            due = [*grid.due[these].tolist(), *[False] * rest]
            with failing(first.experiment.path, doing, again=True):
                lanes, metrics = program.advance(lanes, counts[these] + [0] * rest, due)
                scalars = {
                    k: np.asarray(v)[..., :count] for k, v in metrics.items() if v.ndim == ndim
                }
            history.append(scalars)
            done += count
            at = step = int(grid.ends[done - 1])
            if step % every == 0 or step == steps:
                now = time.perf_counter()
                history = [_joined(history)]
                seconds = {
                    "wall": spent["wall"] + now - began,
                    "compile": spent["compile"] + program.compile_seconds,
                    "train": spent["train"] + now - ready - saving,
                }
                state = program.state_of(lanes)
                guard()
                checkpoint.save(directory, state, history[0], {**manifest, "seconds": seconds})
                saving += time.perf_counter() - now
            display.update(step, {k: v.reshape(-1, count) for k, v in scalars.items()})
            if on_window is not None:
                on_window(cell, grid.ends[these], scalars)
    # The state comes back on one device, because LAPACK calls in the experiment's `finish` can hang
    # when the state is spread over several.
    return jax.device_put(state, on_one_device()), history[0], seconds


def _begun(history: History, due: np.ndarray) -> History:
    """The windows of a run that goes on; of one that is extended, without those of its old end.

    Where a run ends, a window ends and is evaluated, which would not be so in a longer run.
    """
    windows = {name: values[..., : len(due)] for name, values in history.items()}
    return {
        name: np.where(due, values, np.nan) if name.startswith("evaluate/") else values
        for name, values in windows.items()
    }


def _joined(history: Sequence[History]) -> History:
    return {k: np.concatenate([h[k] for h in history], axis=-1) for k in history[0]}


def train(
    run: Run,
    programs: Mapping[str, Program],
    out: Console,
    err: Console,
    on_window: Listener | None = None,
    guard: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Trains a run from where it stopped to its end, then writes results and pictures.

    Args:
        run: an opened run, which this process may write to.
        programs: the programs that `prepare` returned.
        out: where progress is shown.
        err: where warnings go.
        on_window: called after each call of the compiled program.
        guard: called before anything is written; it raises an error of its choice once this process
            may no longer write there.

    Raises:
        Unwritable: the file system refuses a checkpoint or a result.

    Returns:
        The contents of summary.json; empty on all processes but the first.
    """
    name, path = run.directory.name, run.directory / PROGRESS
    record = Record(path, list(programs), run.config.steps, [name], run.experiment.key_metric)

    def note(cell: str, ends: np.ndarray, scalars: History) -> None:
        if processes.first():
            record(cell, ends, {k: v[None] for k, v in scalars.items()})
        if on_window is not None:
            on_window(cell, ends, scalars)

    trained = {
        cell: _train([run], cell, program, run.directory, out, err, note, guard)
        for cell, program in programs.items()
    }
    summary: dict[str, Any] = {}

    def write() -> str:
        guard()
        with Painter(beside=False) as painter:
            summary.update(write_results(run, trained, painter)())
        with files.writing():
            path.unlink(missing_ok=True)
        return "written"

    processes.agreed(write)  # no process continues before everything is written
    return summary


def train_group(
    runs: Sequence[Run],
    programs: Mapping[str, Program],
    place: Path,
    out: Console,
    err: Console,
    on_window: Listener | None = None,
    guard: Callable[[], None] = lambda: None,
) -> None:
    """Trains several runs in one program, and leaves each of them as if it had been trained alone.

    The seconds in a run's summary are those of all runs divided by their number.

    Args:
        runs: one run per setting, in the order of the programs' hyperparameters.
        programs: the programs that `prepare_group` returned.
        place: the directory for checkpoints of the whole group during training.
        out: where progress is shown.
        err: where warnings go.
        on_window: called after each call of the compiled program.
        guard: as in `train`.
    """
    trained = {
        cell: _train(runs, cell, program, place, out, err, on_window, guard)
        for cell, program in programs.items()
    }
    waiting: list[Callable[[], Any]] = []
    failed: list[str] = []

    def complete() -> None:
        try:
            waiting.pop(0)()
        except Failed as error:  # the other runs are completed all the same
            failed.append(str(error))

    with Painter() as painter:
        try:
            for h, run in enumerate(runs):
                guard()
                if finished(run.directory):
                    continue
                if not (run.directory / "config.json").exists():
                    code = run.stored.get("code")
                    run = create(run.directory, run.experiment, run.config, code)
                own = {}
                for cell, (state, history, seconds) in trained.items():
                    body = jax.tree.map(lambda x: x[h], tuple(state[:4]))  # noqa: B023
                    one = State._make((*body, state.step))
                    share = {name: value / len(runs) for name, value in seconds.items()}
                    own[cell] = one, {k: v[h] for k, v in history.items()}, share
                    manifest = {**_manifest([run], run.stored["config"]), "seconds": share}
                    where = checkpoint.cell_directory(run.directory, cell)
                    files.clean(where)
                    checkpoint.save(where, one, own[cell][1], manifest)
                waiting.append(write_results(run, own, painter))
                if len(waiting) > WAITING:
                    complete()
        finally:
            while waiting:
                complete()
    if failed:
        raise Failed("; ".join(dict.fromkeys(failed)), again=False)
