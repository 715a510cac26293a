"""One experiment, from its file to its run directory (L6).

    DIR/config.json       resolved config, name, versions, the code's commits, devices
    DIR/experiment.py     copy of the file, which `gacf resume` executes
    DIR/metrics.parquet   tidy: cell, seed, step, metric, value
    DIR/summary.json      statistics, divergences, times; the last to be written
    DIR/*.png             learning curves, and the experiment's own pictures
    DIR/checkpoints/      see `gacf.checkpoint`

`metrics.parquet` holds every scalar metric of every window, `evaluate/…` where an evaluation ran,
and `final/…` where the experiment has a `finish`. It is the same bit for bit however often the run
was killed and resumed, on the same machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import logging
import os
import platform
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from gacf import checkpoint, config, locks, processes, provenance
from gacf.config import BadInput, Config, Experiment
from gacf.locks import Lock
from gacf.progress import PROGRESS, Display, Record
from gacf.report import Failed, results, table
from gacf.report.picture import WAITING, Painter
from gacf.report.results import Cell, Grid
from gacf.runner import Program, bytes_free, on_one_device, windows
from gacf.types import State, nearest

BYTES = 100  # of memory that a logged number takes until it is in the table
UNNOTICED = 2**26  # bytes of metrics that no run fails for
CALLS = 100  # calls of the compiled program that a run is cut into, if its windows allow

History = dict[str, np.ndarray]
Listener = Callable[[str, np.ndarray, History], None]
"""Is told the cell, where the windows just trained end [W], and their scalars [S, W] or [H, S, W].
"""


class Run(NamedTuple):
    """A run directory, opened.

    Attributes:
        directory: where.
        experiment: its copy of the experiment file.
        config: the resolved config.
        stored: what config.json holds.
    """

    directory: Path
    experiment: Experiment
    config: Config
    stored: dict[str, Any]


class Plan(NamedTuple):
    """The windows of a run.

    Attributes:
        counts: steps of each window, [W].
        grid: where they end, and which end with an evaluation.
        width: windows of one call of the compiled program.
    """

    counts: list[int]
    grid: Grid
    width: int


def prepare(experiment: Experiment, settings: Config) -> dict[str, Program]:
    """Cell -> program; builds and traces everything, and writes nothing.

    Raises:
        BadInput: what the experiment's code raised, in one line.
    """
    jax.config.update("jax_enable_x64", settings.x64)
    programs = {}
    for cell, algorithm in _cells(experiment, settings).items():
        with config.blame(experiment.path, f"cell {cell!r}"):
            programs[cell] = Program(algorithm, settings.seeds, map=settings.map, evaluate=True)
        _check_memory(programs[cell], settings)
    return _check_metrics(experiment, programs)


def prepare_group(
    experiment: Experiment, settings: Sequence[Config], traced: Sequence[str]
) -> dict[str, Program]:
    """Cell -> one program for several settings, which differ in floats alone.

    Args:
        experiment: a loaded file.
        settings: configs that are equal but for the keys in `traced`.
        traced: dotted keys; `build` sees tracers there.

    Raises:
        BadInput: what the experiment's code raised: among others that it branches on such a key,
            or that states have other shapes or types than with plain floats.
    """
    first = settings[0]
    jax.config.update("jax_enable_x64", first.x64)
    flat = [config.leaves(one) for one in settings]
    hyper = {key: np.array([one[key] for one in flat]) for key in traced}
    key = jax.eval_shape(lambda: jax.random.key(0))
    programs = {}
    for cell, algorithm in _cells(experiment, first).items():

        def build(hyper: Mapping[str, Any], cell: str = cell) -> Any:
            return config.build(experiment, config.replaced(first, hyper))[cell]

        with config.blame(experiment.path, f"cell {cell!r}"):
            programs[cell] = Program(build, first.seeds, hyper, first.map, evaluate=True)
            plain = jax.eval_shape(algorithm.init, key)
        if programs[cell].one()[1] != plain:
            raise BadInput(f"cell {cell!r}: {', '.join(traced)}: change the state's types")
    return _check_metrics(experiment, programs)


def _cells(experiment: Experiment, settings: Config) -> dict[str, Any]:
    """Cell -> algorithm; each has a directory of its own on any file system."""
    built = config.build(experiment, settings)
    seen: dict[str, str] = {}
    for cell in built:
        try:
            other = seen.setdefault(same_name(cell), cell)
        except UnicodeEncodeError:
            raise BadInput(f"CONFIG: build(config) gave the cell {cell!r}; allowed: text") from None
        if other != cell:
            raise BadInput(
                f"CONFIG: build(config) gave the cells {other!r} and {cell!r}; "
                "allowed: names that differ in more than capital letters"
            )
    return built


def same_name(name: str) -> str:
    """Equal for names that some file system takes for one.

    Example:
        >>> same_name("A") == same_name("a"), same_name("A") == same_name("b")
        (True, False)
    """
    name.encode()
    return unicodedata.normalize("NFC", name).casefold()


def _check_metrics(experiment: Experiment, programs: dict[str, Program]) -> dict[str, Program]:
    known = {k: v.shape for p in programs.values() for k, v in p.metrics_shape().items()}
    scalars = [name for name, shape in known.items() if shape == ()]
    stated = [
        ("KEY_METRIC", experiment.key_metric),
        *(("METRICS", m) for m in experiment.metrics or ()),
    ]
    for argument, name in stated:
        if name is None or name in scalars:
            continue
        if name in known:
            raise BadInput(
                f"{argument}: {name!r} has shape {known[name]}; allowed: a metric that is one "
                f"number, {nearest(name, scalars)}"
            )
        if not (name.startswith("final/") and getattr(experiment.module, "finish", None)):
            raise BadInput(f"{argument}: {name!r} is reported by no cell; {nearest(name, scalars)}")
    return programs


def memory(program: Program) -> tuple[int, int | None]:
    """Bytes that a program needs on a device, and those that are free there, None if unknown.

    Devices that share the machine's memory count as one.
    """
    devices = program.mesh.devices.flat
    shared = devices[0].platform == "cpu"
    return program.bytes_needed() // (1 if shared else len(devices)), bytes_free(devices[0])


def _check_memory(program: Program, settings: Config) -> None:
    """Raises a `BadInput` with the numbers if the state of all seeds or the metrics cannot fit."""
    needed, free = memory(program)
    here = bytes_free(jax.devices("cpu")[0])
    scalars = sum(not leaf.shape for leaf in program.metrics_shape().values())
    logged = -(-settings.steps // settings.log_every) * program.seeds * scalars * BYTES
    if here is not None and logged > max(here, UNNOTICED):
        least = -(-settings.log_every * logged // here)
        raise BadInput(
            f"steps: {settings.steps} with log_every {settings.log_every} leave about "
            f"{logged / 2**30:.3g} GiB of metrics, and {here / 2**30:.1f} GiB are free; allowed: "
            f"fewer steps, or log_every >= {least}"
        )
    if free is not None and needed > free:
        fits = program.seeds * free // needed
        raise BadInput(
            f"seeds: {program.seeds} need {needed / 2**30:.1f} GiB, "
            f"{program.bytes_a_lane() / 2**20:.1f} MiB of state each, and {free / 2**30:.1f} GiB "
            f"are free; allowed: at most about {fits} here, or less state (a smaller replay buffer)"
        )


def use_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told where already.

    A folder a kind of processor: what was compiled for one may not run on another, and home
    directories are shared.
    """
    told: Any = jax.config
    if told.jax_compilation_cache_dir:
        return
    home = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA", "~")}
    base = os.environ.get("XDG_CACHE_HOME") or home.get(sys.platform, "~/.cache")
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(kind.encode()).hexdigest()[:8]
    place = Path(base).expanduser() / "gacf" / f"xla-{digest}"
    with contextlib.suppress(OSError):  # a home that cannot be written
        place.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(place))


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    from gacf import __version__

    return {
        "gacf": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def describe(directory: Path, experiment: Experiment, settings: Config, code: Any = None) -> Run:
    """A run whose directory is not there yet.

    Args:
        directory: where it will be.
        experiment: a loaded file.
        settings: its resolved config.
        code: where the file's code comes from; None: from where the file lies.
    """
    stored = {
        "experiment": experiment.name,
        "key_metric": experiment.key_metric,
        "goal": experiment.goal,
        "config": config.to_json(settings),
        "versions": versions(),
        "code": code or provenance.code(experiment.path),
        "devices": devices(),
    }
    return Run(directory, experiment, settings, stored)


def devices() -> dict[str, Any]:
    """What the run is computed on."""
    found = {"platform": jax.local_devices()[0].platform, "count": jax.device_count()}
    several = {"processes": jax.process_count()} if jax.process_count() > 1 else {}
    return {**found, **several}


def begin(
    directory: Path | None, experiment: Experiment, settings: Config, code: Any = None
) -> tuple[Run, Lock]:
    """Makes the run directory, whole or not at all, and holds it for this process.

    Args:
        directory: where; None: in `runs`, under a name that nothing else has.
        experiment: a loaded file.
        settings: its resolved config.
        code: where the file's code comes from; None: from where the file lies.

    Raises:
        BadInput: the place is taken or cannot be written.
    """
    for place in (directory,) if directory else fresh(experiment.name):
        run = describe(place, experiment, settings, code)
        text = json.dumps(run.stored, indent=2).encode()
        files = {"experiment.py": experiment.source, "config.json": text}
        try:
            with refusing(place):
                return run, locks.make(place, files)
        except (locks.Taken, locks.Held):
            if directory:
                raise
    raise AssertionError


def create(directory: Path, experiment: Experiment, settings: Config, code: Any = None) -> Run:
    """As `begin`, for a directory that is held otherwise."""
    run, lock = begin(directory, experiment, settings, code)
    lock.release()
    return run


def fresh(name: str) -> Iterator[Path]:
    """Names for a directory in `runs`: with the time, then with a number after it too."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        yield Path("runs", f"{name}-{stamp}" + (f"-{number}" if number > 1 else ""))


class Refused(BadInput):
    """The file system refuses a directory."""


@contextlib.contextmanager
def refusing(directory: Path) -> Iterator[None]:
    """Turns a file system's refusal into a `BadInput`."""
    try:
        yield
    except OSError as error:
        raise Refused(f"workdir: {str(directory)!r}: {error.strerror or error}") from error


def check_free(directory: Path) -> None:
    """Raises a `BadInput` unless nothing, or an empty directory, is there."""
    with refusing(directory):
        locks.check_free(directory)


@contextlib.contextmanager
def alone(directory: Path, wait: float = 0.0) -> Iterator[Lock]:
    """Holds a directory that is there for this process.

    Args:
        directory: which.
        wait: seconds to wait for the process that holds it.

    Raises:
        BadInput: another process has it, or it cannot be written.
    """
    with refusing(directory):
        lock = locks.acquire(directory, wait)
    with lock:
        yield lock


def read_stored(directory: str | Path) -> dict[str, Any]:
    """What config.json of a run directory holds.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    path = Path(directory) / "config.json"
    try:
        stored = json.loads(path.read_text())
        if not {"experiment", "config", "devices"} <= set(stored):
            raise ValueError("a key is missing")
        kinds = {"experiment": str, "config": dict, "devices": dict}
        for key, kind in kinds.items():
            if not isinstance(stored[key], kind):
                raise ValueError(f"{key}: {json.dumps(stored[key]):.60} was found")
        return stored
    except FileNotFoundError:
        raise BadInput(f"DIR: {str(directory)!r} is no directory of a run") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"DIR: {str(path)!r} cannot be read: {config.one_line(error)}") from error


def open_run(directory: str | Path) -> Run:
    """Opens a run directory.

    Raises:
        BadInput: no run there, or its config is not one of its experiment.
    """
    directory = Path(directory)
    stored = read_stored(directory)
    experiment = config.load(directory / "experiment.py", stored["experiment"])
    return Run(directory, experiment, config.from_json(experiment, stored["config"]), stored)


def finished(directory: Path) -> bool:
    """Whether nothing is left to do."""
    return all((directory / name).exists() for name in ("metrics.parquet", "summary.json"))


def plan(settings: Config) -> Plan:
    """Cuts a run into windows and calls.

    The last step ends a window and is evaluated, whatever the numbers are. A call ends at every
    checkpoint, and otherwise often enough for a progress bar.
    """
    log_every = settings.log_every
    counts, due = windows(settings.steps, log_every, settings.evaluate_every)
    grid = Grid(np.cumsum(counts), np.array([*due[:-1], True]))
    each = min(settings.checkpoint_every // log_every, len(counts))
    most = min(each, max(1, len(counts) // CALLS))
    return Plan(counts, grid, max(n for n in range(1, most + 1) if each % n == 0))


def _resumed(
    directory: Path, manifest: dict[str, Any], program: Program, err: Console
) -> tuple[State, History, dict[str, float]] | None:
    """The newest whole checkpoint of a cell, if there is one; says which ones are not."""
    damaged = False
    for found in checkpoint.newest_first(directory):
        if isinstance(found, checkpoint.Damaged):
            damaged = True
            err.print(f"gacf: checkpoint {found}", markup=False)
            continue
        if differ := config.differences(found.manifest["config"], manifest["config"]):
            raise BadInput(
                f"DIR: checkpoint {found.path.name} was made under another config; "
                f"differing: {', '.join(differ)}"
            )
        if found.manifest["source"] != manifest["source"]:
            err.print("gacf: experiment.py has changed since the checkpoint", markup=False)
        if damaged:
            err.print(f"gacf: going on from step {found.step:,}, the one before", markup=False)
        try:
            state, metrics = checkpoint.restore(found, program.state_shape())
        except (ValueError, KeyError) as error:
            raise BadInput(
                f"DIR: the state of checkpoint {found.path.name} is not this experiment's: "
                f"{config.one_line(error)}"
            ) from error
        return state, metrics, found.manifest["seconds"]
    if damaged:
        err.print("gacf: no whole checkpoint is left; going on from step 0", markup=False)
    return None


def _manifest(runs: Sequence[Run], settings: dict[str, Any]) -> dict[str, Any]:
    source = runs[0].experiment.source.decode(errors="replace").replace("\r\n", "\n")
    return {"config": settings, "source": source, "versions": versions()}


@contextlib.contextmanager
def _failing(experiment: Experiment, doing: Callable[[], str], again: bool) -> Iterator[None]:
    """Turns what is raised once training has begun into a `Failed` that names file and line.

    Args:
        experiment: whose code may raise.
        doing: what it was that failed.
        again: whether another attempt may succeed.
    """
    log = logging.getLogger("jax._src.callback")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it would print the traceback, which the error holds
    try:
        yield
    except (BadInput, Failed):
        raise
    except (Exception, SystemExit) as error:
        if jax.process_count() > 1 and processes.is_loss(error):
            raise  # nothing failed here
        where, what = _of_callback(error, experiment.path) or config.told(error, experiment.path)
        raise Failed(f"{doing()} ({where}): {what}", again) from error
    finally:
        log.setLevel(level)


def _of_callback(error: BaseException, path: Path) -> tuple[str, str] | None:
    """Where a callback on the host raised and what, out of the text in which XLA hands it on."""
    text = str(error)
    frames = re.findall(r'^  File "(.+?)", line (\d+)', text, re.MULTILINE)
    raised = re.findall(r"^(?:[A-Za-z_][\w.]*)(?:: .+)?$", text, re.MULTILINE)
    if not (isinstance(error, jax.errors.JaxRuntimeError) and frames and raised):
        return None
    own = [f for f in frames if Path(f[0]) == path]
    others = [f for f in frames if not config.is_library(f[0])]
    name, line = (own or others or [(path.name, "")])[-1]
    what = config.one_line(Exception(raised[-1]))
    return f"{Path(name).name}:{line}".rstrip(":"), what.removeprefix("ValueError: ")


def _train(
    runs: Sequence[Run],
    cell: str,
    program: Program,
    place: Path,
    out: Console,
    err: Console,
    heard: Listener | None = None,
    guard: Callable[[], None] = lambda: None,
) -> tuple[State, History, dict[str, float]]:
    """Trains one cell to its last step, from its newest checkpoint if it has one.

    Returns:
        The final batched state on one device, metric -> [S, W] or [H, S, W], and the seconds that
        it took.
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
        with checkpoint.writing():
            checkpoint.clean(directory)
    resumed = _resumed(directory, manifest, program, err)
    if resumed:
        state, metrics, spent = resumed
        start, history = int(state.step), [metrics]
    if start != int(known := processes.agreed(lambda: str(start))):
        raise BadInput(
            f"DIR: process {jax.process_index()} finds a checkpoint of step {start}, process 0 one "
            f"of step {known}; allowed: one directory that all processes see"
        )
    if resumed:
        if start == steps:
            return resumed
        lanes = program.lanes_of(resumed[0])
    else:
        with _failing(first.experiment, lambda: f"cell {cell!r}, at its start", again=True):
            lanes = program.init(jax.random.key(first.config.seed))
    at = start

    def doing() -> str:
        return f"cell {cell!r}, after step {at:,}"

    done = int(np.searchsorted(grid.ends, start, side="right"))
    key_metric = first.experiment.key_metric
    with Display(out, cell, steps, program.lanes, start, key_metric) as display:
        program.compile(lanes, width)
        display.compiled(program.compile_seconds)
        ready = time.perf_counter()
        saving = 0.0
        while done < len(counts):
            kept = min(width, len(counts) - done)
            these, rest = slice(done, done + kept), width - kept
            due = [*grid.due[these].tolist(), *[False] * rest]
            with _failing(first.experiment, doing, again=True):
                lanes, metrics = program.advance(lanes, counts[these] + [0] * rest, due)
                scalars = {
                    k: np.asarray(v)[..., :kept] for k, v in metrics.items() if v.ndim == ndim
                }
            history.append(scalars)
            done += kept
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
            display.update(step, {k: v.reshape(-1, kept) for k, v in scalars.items()})
            if heard is not None:
                heard(cell, grid.ends[these], scalars)
    # On one device: a LAPACK call in `finish` could hang on a state spread over several.
    return jax.device_put(state, on_one_device()), history[0], seconds


def _joined(history: Sequence[History]) -> History:
    return {k: np.concatenate([h[k] for h in history], axis=-1) for k in history[0]}


def train(
    run: Run,
    programs: Mapping[str, Program],
    out: Console,
    err: Console,
    heard: Listener | None = None,
    guard: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Trains what is left to train, then writes results and pictures.

    Args:
        run: an opened run, which this process may write to.
        programs: from `prepare`.
        out: progress.
        err: warnings.
        heard: told after each call of the compiled program.
        guard: raises what it likes once this process may not write there any more; asked before
            anything is written.

    Raises:
        Unwritable: the file system refuses a checkpoint or a result.

    Returns:
        The summary, as summary.json holds it; an empty one on other processes than the first.
    """
    name, path = run.directory.name, run.directory / PROGRESS
    record = Record(path, list(programs), run.config.steps, [name], run.experiment.key_metric)

    def note(cell: str, ends: np.ndarray, scalars: History) -> None:
        if processes.first():
            record(cell, ends, {k: v[None] for k, v in scalars.items()})
        if heard is not None:
            heard(cell, ends, scalars)

    trained = {
        cell: _train([run], cell, program, run.directory, out, err, note, guard)
        for cell, program in programs.items()
    }
    summary: dict[str, Any] = {}

    def write() -> str:
        guard()
        with Painter(beside=False) as painter:
            summary.update(_write(run, trained, painter)())
        with checkpoint.writing():
            path.unlink(missing_ok=True)
        return "written"

    processes.agreed(write)  # nobody leaves before
    return summary


def train_group(
    runs: Sequence[Run],
    programs: Mapping[str, Program],
    place: Path,
    out: Console,
    err: Console,
    heard: Listener | None = None,
    guard: Callable[[], None] = lambda: None,
) -> None:
    """Trains several runs as one; then each of them has what it would have had alone.

    The seconds in a run's summary are its share, those of all divided by their number.

    Args:
        runs: one a setting, in the order of the programs' hyperparameters.
        programs: from `prepare_group`.
        place: where checkpoints of all lie while they train.
        out: progress.
        err: warnings.
        heard: told after each call of the compiled program.
        guard: as in `train`.
    """
    trained = {
        cell: _train(runs, cell, program, place, out, err, heard, guard)
        for cell, program in programs.items()
    }
    left: list[Callable[[], Any]] = []
    failed: list[str] = []

    def complete() -> None:
        try:
            left.pop(0)()
        except Failed as error:  # one that fails does not keep the others from being complete
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
                    checkpoint.save(where, one, own[cell][1], manifest)
                left.append(_write(run, own, painter))
                if len(left) > WAITING:
                    complete()
        finally:
            while left:
                complete()
    if failed:
        raise Failed("; ".join(dict.fromkeys(failed)), again=False)


def _write(
    run: Run, trained: Mapping[str, tuple[State, History, dict[str, float]]], painter: Painter
) -> Callable[[], dict[str, Any]]:
    """Writes the table, and begins to draw the pictures.

    Returns:
        What writes these, and the summary last, for it says that all is there; it returns it. If
        the experiment's own `finish` or `pictures` fail, it raises a `Failed` in place of writing
        the summary; table and learning curves are there by then.
    """
    states = {cell: state for cell, (state, _, _) in trained.items()}
    with checkpoint.writing():
        checkpoint.clean(run.directory)
    failed: list[str] = []

    def attempt(name: str, call: Callable[[], Any], otherwise: Any) -> Any:
        try:
            with _failing(run.experiment, lambda: f"{name}(config, finals)", again=False):
                return call()
        except (BadInput, Failed) as error:
            failed.append(str(error))
            return otherwise

    finals = attempt("finish", lambda: _finish(run, states), {cell: {} for cell in states})
    cells = {c: Cell(history, finals[c], s) for c, (_, history, s) in trained.items()}
    grid = plan(run.config).grid
    buffer = io.BytesIO()
    results.tidy(grid, cells).to_parquet(buffer, index=False)
    checkpoint.write_atomically(run.directory / "metrics.parquet", buffer.getvalue())
    curves = results.learning_curves(grid, cells)
    drawn = painter.draw(curves)
    made = attempt("pictures", lambda: named_pictures(_pictures(run, states), curves), {})
    own = attempt("pictures", lambda: painter.draw(made), None)
    summary = _summary(run, results.summary(grid, cells))

    def complete() -> dict[str, Any]:
        pictures = drawn.result()
        if own is not None:
            pictures |= attempt("pictures", own.result, {})
        for stem, picture in pictures.items():
            checkpoint.write_atomically(run.directory / f"{stem}.png", picture)
        if failed:
            raise Failed("; ".join(failed), again=False)
        text = json.dumps(summary, indent=2, allow_nan=False).encode()
        checkpoint.write_atomically(run.directory / "summary.json", text)
        return summary

    return complete


def _summary(run: Run, cells: dict[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys(name for entry in cells.values() for name in entry["metrics"])
    default = [n for n in names if n.startswith(("evaluate/", "final/"))]
    key = run.experiment.key_metric
    shown = [*filter(None, [key]), *(run.experiment.metrics or default)]
    return {
        "experiment": run.experiment.name,
        "key_metric": key,
        "goal": run.experiment.goal,
        "metrics": list(dict.fromkeys(shown)),
        "cells": cells,
        "versions": versions(),
        "code": run.stored.get("code"),
        "devices": run.stored["devices"],
    }


def _finish(run: Run, finals: dict[str, State]) -> dict[str, dict[str, np.ndarray]]:
    finish = getattr(run.experiment.module, "finish", None)
    found = finish(run.config, finals) if finish else {}
    if not (isinstance(found, Mapping) and all(isinstance(m, Mapping) for m in found.values())):
        raise ValueError(
            f"finish: {found!r:.60} was returned; allowed: {{cell: {{metric: array [seeds]}}}}"
        )
    extra: dict[str, dict[str, np.ndarray]] = {cell: {} for cell in finals}
    for cell, metrics in found.items():
        if cell not in extra:
            raise ValueError(f"finish: {cell!r} is no cell; {nearest(cell, extra)}")
        for name, values in metrics.items():
            values = np.asarray(values)
            if values.shape != (run.config.seeds,):
                raise ValueError(
                    f"finish: {name!r} of {cell!r} has shape {values.shape}; "
                    f"allowed: one number a seed, ({run.config['seeds']},)"
                )
            if values.dtype.kind not in "biuf":
                raise ValueError(
                    f"finish: {name!r} of {cell!r} has dtype {values.dtype}; allowed: real numbers"
                )
            extra[cell][f"final/{name}"] = values
    reported = dict.fromkeys(name for metrics in extra.values() for name in metrics)
    for name in [run.experiment.key_metric, *(run.experiment.metrics or [])]:
        if name and name.startswith("final/") and name not in reported:
            raise ValueError(f"finish: {name!r} is reported by no cell; {nearest(name, reported)}")
    return extra


def _pictures(run: Run, finals: dict[str, State]) -> dict[str, Any]:
    """File stem -> figure, of the experiment's own."""
    pictures = getattr(run.experiment.module, "pictures", None)
    own = pictures(run.config, finals) if pictures else {}
    if own:
        import matplotlib.pyplot as plt
        from matplotlib.figure import Figure

        if not (isinstance(own, Mapping) and all(isinstance(f, Figure) for f in own.values())):
            raise ValueError(
                f"pictures: {own!r:.60} was returned; allowed: {{file stem: matplotlib Figure}}"
            )
        for figure in own.values():
            plt.close(figure)
    return dict(own or {})


_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%\ud800-\udfff]|^\.|[. ]$')


def named_pictures(own: Mapping[Any, Any], taken: Iterable[str] = ()) -> dict[str, Any]:
    """An experiment's pictures by names that files may have; none takes the place of another.

    Args:
        own: name -> figure.
        taken: names of other pictures.

    Example:
        >>> list(named_pictures({"gap": 1, "../gap": 2, "Gap": 3, "": 4, "curves": 5}, ["curves"]))
        ['gap', '%2E.%2Fgap', 'Gap-2', 'picture', 'curves-2']
    """
    used = set(map(same_name, taken))
    made = {}
    for name, figure in own.items():
        safe = _UNSAFE.sub(lambda c: f"%{ord(c[0]):02X}", str(name)) or "picture"
        stem, number = checkpoint.shortened(safe), 2
        while same_name(stem) in used:
            stem, number = f"{checkpoint.shortened(safe)}-{number}", number + 1
        used.add(same_name(stem))
        made[stem] = figure
    return made


def show(run: Run, summary: dict[str, Any], out: Console) -> None:
    """The final table, and where everything is."""
    out.print(table.terminal(table.compare([(run.directory.name, summary)])))
    pictures = ", ".join(sorted(p.name for p in run.directory.glob("*.png")))
    out.print(f"{run.directory}: metrics.parquet, summary.json, {pictures}", markup=False)
