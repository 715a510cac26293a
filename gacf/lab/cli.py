"""The command `gacf` (L7).

Exit code 0: done; 1: something failed in the run or in a variant of the sweep, or a process of the
run was lost; 2: bad input, nothing written. Both come with one line that says what is wrong; with
--traceback, where in the code.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from gacf import __version__
from gacf.lab.errors import BadInput, Failed
from gacf.lab.run_directory import SWEEP

COMMANDS = ("run", "sweep", "resume", "watch", "report", "draw", "list")
TRAINING = ("run", "sweep")
EXECUTORS = ("processes", "ray", "slurm")
TRACKERS = ("tensorboard", "wandb", "mlflow")
INTERRUPTED = 130

_EPILOG = """\
examples:
  gacf run experiments/ring_gan.py --config.seeds=64 --config.actor.learning_rate=3e-4
  gacf sweep experiments/rules.py --config.seeds=4
  gacf sweep experiments/ring_gan.py --sweep.actor.learning_rate=1e-3,4e-3 --sweep.r1=0.1,1.0
  gacf watch runs/ring_gan-20250101-120000
  gacf resume runs/ring_gan-20250101-120000
  gacf report runs/* --markdown
"""


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor",
        choices=("inline", *EXECUTORS),
        default="inline",
        help="where a sweep's programs run; default: in this process",
    )
    parser.add_argument("--workers", type=int, help="of other executors; default: one a core")
    parser.add_argument(
        "--executor.KEY",
        metavar="VALUE",
        help="address, cores (ray); cluster, partition, … (slurm, see submitit)",
    )


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of the processes of a SLURM, Open MPI or Kubernetes job, which share the seeds",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", help="elsewhere: an address of process 0"
    )
    parser.add_argument("--processes", metavar="N", type=int, help="how many there are")
    parser.add_argument("--process", metavar="I", type=int, help="which one this is, from 0 on")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gacf",
        description="Trains generative adversarial networks and actor-critic methods, "
        "many seeds at once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gacf {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    for name, does, where in (
        ("run", "train an experiment", "new directory"),
        ("sweep", "train all variants of an experiment", "new directory, or one to go on with"),
    ):
        sweeps = name == "sweep"
        train = commands.add_parser(
            name,
            help=does,
            usage="%(prog)s CONFIG [--workdir DIR] [--config.KEY=VALUE ...]"
            + (" [--sweep.KEY=A,B,C ...]" if sweeps else ""),
            allow_abbrev=False,
        )
        train.add_argument("config", metavar="CONFIG", help="the experiment's Python file")
        train.add_argument(
            "--workdir", metavar="DIR", help=f"{where}; default: runs/<experiment>-<time>"
        )
        # Never parsed here: it stands for all the overrides, which `main` takes out beforehand.
        train.add_argument("--config.KEY", metavar="VALUE", help="overrides a key of the config")
        if sweeps:
            train.add_argument(
                "--sweep.KEY",
                metavar="VALUES",
                help="A,B,C: a grid over all such keys; KEY,KEY2=A:X,B:Y: together; or "
                "uniform(A,B), log_uniform(A,B), integers(A,B), choice(A,B): random",
            )
            train.add_argument("--samples", type=int, default=10, help="random draws; default 10")
            train.add_argument("--sample-seed", type=int, default=0, help="of the draws")
            train.add_argument(
                "--resume", action="store_true", help="CONFIG is a sweep's directory: go on with it"
            )
            _add_executor(train)
        train.add_argument("--track", choices=TRACKERS, help="also tell a tracker")
        if name == "run":
            train.add_argument(
                "--profile",
                action="store_true",
                help="before training, trace some steps and print where their time goes",
            )
            _add_processes(train)

    resume = commands.add_parser(
        "resume",
        help="go on with a run or a sweep that was stopped",
        description="Goes on with a run or a sweep that was stopped. This executes the file "
        "DIR/experiment.py, whoever wrote it: resume only what you would run. Of a run that "
        "has finished nothing is executed.",
        allow_abbrev=False,
    )
    resume.add_argument("directory", metavar="DIR", help="what `gacf run` or `gacf sweep` made")
    resume.add_argument("--track", choices=TRACKERS, help="also tell a tracker")
    _add_executor(resume)
    _add_processes(resume)

    watch = commands.add_parser(
        "watch", help="show where a run or a sweep stands, until it is over", allow_abbrev=False
    )
    watch.add_argument("directory", metavar="DIR", help="what `gacf run` or `gacf sweep` makes")
    watch.add_argument("--once", action="store_true", help="one look is enough")

    report = commands.add_parser(
        "report", help="compare finished runs, those of a sweep among them", allow_abbrev=False
    )
    report.add_argument("directories", metavar="DIR", nargs="+")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true")
    form.add_argument("--latex", action="store_true", help="for the package booktabs")

    draw = commands.add_parser(
        "draw", help="draw who hears what from whom in an experiment's games", allow_abbrev=False
    )
    draw.add_argument("config", metavar="CONFIG", help="the experiment's Python file")
    draw.add_argument("--workdir", metavar="DIR", help="for the drawings; default: drawings")

    commands.add_parser(
        "list",
        help="list experiments, games, rules, stabilisers and environments",
        allow_abbrev=False,
    )
    for command in commands.choices.values():
        command.add_argument(
            "--traceback",
            action="store_true",
            help="show where in the code something was refused or failed",
        )
    return parser


class _Dotted(NamedTuple):
    """Arguments whose names are keys.

    Attributes:
        config: `--config.KEY=VALUE` and `--config.KEY VALUE`.
        sweep: `--sweep.KEY=VALUES`.
        executor: `--executor.KEY=VALUE`.
    """

    config: list[str]
    sweep: list[str]
    executor: list[str]


def _split(argv: Sequence[str]) -> tuple[list[str], _Dotted]:
    """The arguments without those whose names are keys, and these."""
    plain, overrides, takes = [], [], False
    dotted = _Dotted(overrides, [], [])
    for argument in argv:
        if match := re.match(r"--(sweep|executor)\.", argument):
            getattr(dotted, match[1]).append(argument)
            takes = False
        elif re.match(r"--?(no)?config\.", argument):
            overrides.append(argument)
            takes = "=" not in argument
        elif takes and not argument.startswith("--"):
            overrides.append(argument)
            takes = False
        else:
            plain.append(argument)
            takes = False
    return plain, dotted


def _group(args: argparse.Namespace) -> Any:
    """The processes among which the command line puts this one; None: a run of one."""
    if args.command not in ("run", "resume"):
        return None
    given = args.distributed, args.coordinator, args.processes, args.process
    if given == (False, None, None, None):
        return None
    from gacf.lab import processes

    found = processes.group(*given)
    assert found is not None
    if args.command == "run" and args.profile:
        raise BadInput("--profile: was given for several processes; allowed: for one")
    if args.command == "resume" and (Path(args.directory) / SWEEP).exists():
        raise BadInput(f"{found.flags()}: {args.directory!r} is a sweep; allowed: for runs")
    return found


def _join(args: argparse.Namespace) -> None:
    if group := _group(args):
        from gacf.lab import processes

        processes.join(group)


def _use_all_cores(count: int | None = None) -> None:
    """One host device a core: that is what makes many seeds fast on a CPU.

    Args:
        count: as many as a run to be resumed had; None: the cores that this process may use.
    """
    given = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if given or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A caller in the same process may have started the backend already.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count or cores or 1)


def _run(args: argparse.Namespace, overrides: list[str]) -> int:
    _use_all_cores()
    _join(args)
    from gacf.lab import (
        experiment_file,
        overrides,
        preparation,
        processes,
        run_directory,
    )

    loaded = experiment_file.load(args.config)
    settings = overrides.resolve(loaded, overrides)

    directory = Path(args.workdir) if args.workdir else None

    def check() -> str:
        if directory:
            run_directory.check_free(directory)
        return ""

    processes.agreed(check)
    _check_track(args.track)
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
        return _train(run, programs, args.track, locks)


def _check_track(kind: str | None) -> None:
    from gacf.lab.sweep import track

    if kind:
        track.check(kind)


def _profile(run: Any, programs: Any) -> None:
    """Prints where the time of some steps of each cell goes; leaves their traces."""
    import jax

    from gacf.lab import console
    from gacf.lab.inspect import profile

    out = console.console()
    for index, (cell, program) in enumerate(programs.items()):
        place = run.directory / "profile" / str(index)
        found = profile.profile(program, jax.random.key(run.config.seed), place)
        out.print(profile.table(found, cell))
        out.print(profile.words(found), markup=False)
        trace = max(place.rglob("*.trace.json.gz"))
        out.print(f"trace for TensorBoard and ui.perfetto.dev: {trace}", markup=False)


def _sweep(args: argparse.Namespace, dotted: _Dotted) -> int:
    if args.resume:
        if dotted.config or dotted.sweep or args.workdir:
            raise BadInput("--resume: goes on with what the directory holds; allowed: no overrides")
        return _go_on(Path(args.config), args, dotted)
    if Path(args.config).is_dir():
        raise BadInput(f"CONFIG: {args.config!r} is a directory; go on with it by --resume")
    directory = Path(args.workdir) if args.workdir else None
    if directory:
        _use_cores_of(directory / SWEEP)
    else:
        _use_all_cores()
    from gacf.lab import (
        console,
        experiment_file,
        preparation,
        run_directory,
        sweep,
    )

    loaded = experiment_file.load(args.config)
    if args.samples < 1:
        raise BadInput(f"--samples: {args.samples} was given; allowed: a whole number >= 1")
    if args.sample_seed < 0:
        raise BadInput(f"--sample-seed: {args.sample_seed} was given; allowed: a whole number >= 0")
    found = sweep.variants(loaded, dotted.config, dotted.sweep, args.samples, args.sample_seed)
    workers = _workers(args, dotted)
    _check_track(args.track)
    preparation.use_cache()
    stored = directory and (directory / SWEEP).exists() and run_directory.read_sweep(directory)
    err = console.console(stderr=True)
    opened = sweep.start(directory, loaded, found, err, workers)
    if stored and opened.missing():
        _tell_changes(stored)
    return _train_variants(opened, args, dotted, workers)


def _workers(args: argparse.Namespace, dotted: _Dotted) -> int:
    """How many workers are wanted; refuses an executor that is not installed, or its settings."""
    from gacf.lab.sweep import executors

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


def _go_on(directory: Path, args: argparse.Namespace, dotted: _Dotted) -> int:
    """Goes on with a sweep."""
    _use_cores_of(directory / SWEEP)
    from gacf.lab import preparation, run_directory, sweep

    workers = _workers(args, dotted)
    _check_track(args.track)
    _tell_execution(directory)
    opened = sweep.open_sweep(directory)
    preparation.use_cache()
    if opened.missing():
        _tell_changes(run_directory.read_sweep(directory))
    return _train_variants(opened, args, dotted, workers)


def _watch(args: argparse.Namespace) -> int:
    from gacf.lab.console import console
    from gacf.lab.sweep import watch

    watch.watch(Path(args.directory), console(), once=args.once)
    return 0


def _use_cores_of(stored: Path, processes: int | None = 1) -> None:
    """As many devices as what is to be resumed had, known before JAX starts.

    Args:
        stored: where it is written.
        processes: that share them; None: as many as then.
    """
    import json

    try:
        devices = json.loads(stored.read_text())["devices"]
        share = max(1, devices["count"] // (processes or devices.get("processes", 1)))
        _use_all_cores(share if devices["platform"] == "cpu" else None)
    except (OSError, ValueError, LookupError, TypeError):
        _use_all_cores()


def _tell_changes(stored: dict[str, Any]) -> None:
    from gacf.lab import processes, provenance, run_directory

    if processes.first() and (said := provenance.changes(stored.get("code"))):
        print(f"gacf: the code is not that of the run's beginning: {'; '.join(said)}; "
              "its numbers may differ", file=sys.stderr)  # fmt: skip
    for name, now in (("devices", run_directory.devices()), ("versions", run_directory.versions())):
        if processes.first() and now != stored.get(name):
            print(
                f"gacf: {name} are not those that the run began with; "
                "its numbers may differ in the last bits",
                file=sys.stderr,
            )


def _tell_execution(directory: Path) -> None:
    """Says what code is about to be executed, before it is: it may be somebody else's."""
    from gacf.lab.console import console

    text = f"executing {directory / 'experiment.py'}, as it lies there"
    console().print(text, markup=False, soft_wrap=True)


def _resume(args: argparse.Namespace, dotted: _Dotted) -> int:
    directory = Path(args.directory)
    if (directory / SWEEP).exists():
        return _go_on(directory, args, dotted)
    if args.executor != "inline":
        raise BadInput(f"--executor: {args.directory!r} is a run; allowed: for sweeps")
    _check_track(args.track)
    group = _group(args)
    _use_cores_of(directory / "config.json", group.processes if group else 1)
    _join(args)
    from gacf.lab import preparation, processes, run_directory, sweep

    run_directory.read_stored(directory)
    if run_directory.finished(directory):
        _consoles()[0].print(
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
            _tell_execution(directory)
        run = run_directory.open_run(directory)
        _tell_changes(run.stored)
        preparation.use_cache()
        return _train(run, preparation.prepare(run.experiment, run.config), args.track, locks)


def _consoles() -> tuple[Any, Any]:
    """Of a run: standard output and error; of several processes the first prints."""
    from rich.console import Console

    from gacf.lab import console, processes

    if processes.first():
        return console.console(), console.console(stderr=True)
    return Console(quiet=True), Console(quiet=True)


def _train(run: Any, programs: Any, track: str | None, locks: Sequence[Any]) -> int:
    from gacf.lab import checkpoint, finishing, processes, training

    def guard() -> None:
        for lock in locks:
            lock.check()

    out, err = _consoles()
    out.print(f"{run.directory}", markup=False)
    with contextlib.ExitStack() as held:
        tracker = held.enter_context(
            _tracker(track if processes.first() else None, run.directory, err)
        )
        heard = functools.partial(tracker, run.directory.name) if tracker else None
        try:
            summary = training.train(run, programs, out, err, heard, guard)
        except Failed as error:
            if processes.first():
                _tell_failure(run.directory, error)
            return 1
        except (OSError, ValueError, RuntimeError) as error:
            refused = checkpoint.unwritable(error)
            if refused is None or not (refused is error or refused.full):
                raise
            return _unwritable(run.directory, refused)
        except KeyboardInterrupt:
            print(
                f"gacf: stopped; go on from the last checkpoint with: gacf resume {run.directory}",
                file=sys.stderr,
            )
            return INTERRUPTED
    if processes.first():
        finishing.show(run, summary, out)
    return 0


@contextlib.contextmanager
def _tracker(kind: str | None, directory: Path, err: Any) -> Iterator[Any]:
    if kind is None:
        yield None
        return
    from gacf.lab.sweep import track

    made = track.Tracker(kind, directory, err)
    try:
        yield made
    finally:
        made.close()


def _tell_failure(directory: Path, error: Failed) -> None:
    _say(
        f"{error}; what was trained is kept; once {directory / 'experiment.py'} is mended, go on "
        f"with: gacf resume {directory}"
    )


def _say(message: object) -> None:
    """One line on standard error."""
    print(f"gacf: {' '.join(str(message).splitlines())}", file=sys.stderr)


def _unwritable(directory: Path, error: Any) -> int:
    """Says in a line why nothing could be written, and how to go on; the exit code."""
    why = str(error.strerror or error).splitlines()[0][:120]
    if error.full:
        text = f"the disk is full ({why}); what was whole still is; make room, then:"
    elif directory.is_dir():
        text = f"{directory} cannot be written ({why}); what was whole still is; go on later with:"
    else:
        text = f"{directory} is no longer there; if it was moved, go on where it is now, as in:"
    print(f"gacf: {text} gacf resume {directory}", file=sys.stderr)
    return 1


def _train_variants(opened: Any, args: argparse.Namespace, dotted: _Dotted, workers: int) -> int:
    from gacf.lab import checkpoint, console, sweep
    from gacf.lab.report import table
    from gacf.lab.sweep import claims, work

    out, err = console.console(), console.console(stderr=True)
    directory = opened.directory
    again = f"gacf resume {directory}"
    out.print(f"{directory}: variants left to train: {len(opened.missing())}", markup=False)
    for note in opened.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    try:
        for unit in opened.left():
            with checkpoint.writing():
                claims.reset(opened.place(unit))
        _work(opened, args, dotted, workers, out, err)
        summary = sweep.write_table(opened)
    except KeyboardInterrupt:
        print(f"gacf: stopped; go on with: {again}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        refused = checkpoint.unwritable(error)
        if refused is None or not (refused is error or refused.full):
            raise
        return _unwritable(directory, refused)
    runs, _ = table.expand(directory)
    if runs:
        made = table.compare([(name, table.read(place)) for name, place in runs])
        out.print(table.terminal(made))
    out.print(
        f"{directory}: {summary['finished']} variants of {summary['variants']}; "
        f"{summary['compilations']} compilations, {summary['compile_seconds']:.1f} s of "
        f"{summary['wall_seconds']:.1f} s",
        markup=False,
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
        print(f"gacf: failed: {names}; once that is mended: {again}", file=sys.stderr)
    return 1 if failed else 0


def _work(
    opened: Any, args: argparse.Namespace, dotted: _Dotted, workers: int, out: Any, err: Any
) -> None:
    from gacf.lab.sweep import executors, work

    if args.executor == "inline":
        with _tracker(args.track, opened.directory, err) as tracker:
            work.work(opened, out, err, work.Options(args.traceback, None, tracker))
        return
    if not opened.left():
        return
    settings = executors.parse(args.executor, dotted.executor)
    _, make = executors.EXECUTORS[args.executor]
    more = [*(["--track", args.track] if args.track else [])]
    more += ["--traceback"] if args.traceback else []
    executors.drive(opened, make(opened.directory, workers, more, settings), workers, out, err)


def _report(args: argparse.Namespace) -> int:
    from gacf.lab import console
    from gacf.lab.report import effects, table

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
                from gacf.lab.report import page

                written = page.write(directory)
                out.print(f"report: {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    return 0


def _report_effects(args: argparse.Namespace) -> int:
    from gacf.lab import console
    from gacf.lab.report import effects, table

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


def _draw(args: argparse.Namespace, overrides: list[str]) -> int:
    from gacf.lab import experiment_file, overrides
    from gacf.lab.inspect import draw
    from gacf.lab.run_directory import refusing

    loaded = experiment_file.load(args.config)
    built = experiment_file.build(loaded, overrides.resolve(loaded, overrides))
    games = {cell: draw.game_of(algorithm) for cell, algorithm in built.items()}
    flows = {cell: draw.trace(game) for cell, game in games.items() if game is not None}
    if not flows:
        raise BadInput("CONFIG: no algorithm in it was made by compose; allowed: those that are")
    directory = Path(args.workdir or "drawings")
    with refusing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    for cell, flow in flows.items():
        stem = cell if len(flows) == 1 else f"{loaded.name}-{cell}"
        place = directory / re.sub(r"[^\w.-]+", "_", stem)
        print(f"{cell}\n\n{draw.words(flow)}\n")
        place.with_name(place.name + ".md").write_text(f"```mermaid\n{draw.mermaid(flow)}\n```\n")
        made = draw.figure(flow, cell)
        for kind in ("png", "svg"):
            made.savefig(place.with_name(f"{place.name}.{kind}"), dpi=150)
    print(directory)
    return 0


def _list() -> int:
    from rich.table import Table
    from rich.text import Text

    from gacf.lab.console import console
    from gacf.lab.registry import names

    out = console()
    for i, (section, entries) in enumerate(names().items()):
        out.print(Text(("\n" if i else "") + section, style="bold"))
        if not any(entries.values()):
            out.print("  " + (", ".join(entries) or "(none here)"), markup=False)
            continue
        grid = Table.grid(padding=(0, 2))
        for name, line in entries.items():
            grid.add_row(Text("  " + name, style="cyan", no_wrap=True), Text(line))
        out.print(grid)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments without the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    arguments = list(sys.argv[1:] if argv is None else argv)
    plain, dotted = _split(arguments)
    if not arguments:
        _parser().print_help()
        return 0
    if plain and not plain[0].startswith("-") and plain[0] not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(plain[0], COMMANDS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        print(f"gacf: {plain[0]!r}: {hint}allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    args, unknown = _parser().parse_known_args(plain)
    if args.command is None:
        given = repr(unknown[0]) if unknown else "none"
        _say(f"COMMAND: {given} was given; allowed: {', '.join(COMMANDS)}")
        return 2
    if unknown:
        word, _, value = unknown[0].partition("=")
        if args.command in TRAINING and word.startswith("--"):
            key = f"--config.{word[2:]}={value}"
            hint = f"allowed: --workdir, --traceback, --config.KEY, as in {key}"
        else:
            hint = f"see gacf {args.command} --help"
        print(f"gacf: {unknown[0]!r} was given; {hint}", file=sys.stderr)
        return 2
    if dotted.config and args.command not in (*TRAINING, "draw"):
        print(
            f"gacf: {dotted.config[0]}: only `gacf run` and `gacf sweep` take overrides",
            file=sys.stderr,
        )
        return 2
    if dotted.sweep and args.command != "sweep":
        print(f"gacf: {dotted.sweep[0]}: only `gacf sweep` takes it", file=sys.stderr)
        return 2
    if dotted.executor and args.command not in ("sweep", "resume"):
        print(f"gacf: {dotted.executor[0]}: only sweeps take it", file=sys.stderr)
        return 2
    try:
        _check_places(args)
        group = _group(args)
    except BadInput as error:
        print(f"gacf: {error}", file=sys.stderr)
        return 2
    if group is None:
        return _do(args, dotted)
    from gacf.lab import processes

    if processes.child():
        return processes.guarded(lambda: _do(args, dotted))
    where = args.workdir or "DIR" if args.command == "run" else args.directory
    return processes.supervise(
        arguments,
        "gacf: another process of the run was lost, or never came; once all are there, go on from "
        f"the last checkpoint with: gacf resume {where} {group.flags('I')}",
    )


def _check_places(args: argparse.Namespace) -> None:
    """Raises a `BadInput` for a name that no file or directory can have."""
    from gacf.lab.errors import check_text

    for argument, given in (
        ("--workdir", getattr(args, "workdir", None)),
        ("CONFIG", getattr(args, "config", None)),
        ("DIR", getattr(args, "directory", None)),
        *(("DIR", given) for given in getattr(args, "directories", ())),
    ):
        if given is not None:
            check_text(argument, given, "the name of a file or a directory")


def _do(args: argparse.Namespace, dotted: _Dotted) -> int:
    try:
        if args.command == "run":
            return _run(args, dotted.config)
        if args.command == "sweep":
            return _sweep(args, dotted)
        if args.command == "resume":
            return _resume(args, dotted)
        if args.command == "draw":
            return _draw(args, dotted.config)
        if args.command == "watch":
            return _watch(args)
        return _report(args) if args.command == "report" else _list()
    except KeyboardInterrupt:
        print("gacf: stopped", file=sys.stderr)
        return INTERRUPTED
    except (BadInput, Failed) as error:
        if args.traceback:
            traceback.print_exc()
        _say(error)
        return 2 if isinstance(error, BadInput) else 1
    except Exception as error:
        if args.traceback:
            traceback.print_exc()
        from gacf.lab.blame import one_line

        frame = traceback.extract_tb(error.__traceback__)[-1]
        _say(
            f"{args.command}: {type(error).__name__}: {one_line(error)} "
            f"({Path(frame.filename).name}:{frame.lineno}); --traceback shows where it comes from"
        )
        return 1
