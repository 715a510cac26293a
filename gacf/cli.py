"""The command `gacf` (L7).

Exit code 0: done; 1: some variant of a sweep failed; 2: bad input, told in one line, nothing
written.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from gacf.report import BadInput
from gacf.report.table import SWEEP

COMMANDS = ("run", "sweep", "resume", "report", "list")
TRAINING = ("run", "sweep")
INTERRUPTED = 130

_EPILOG = """\
examples:
  gacf run experiments/ring_gan.py --config.seeds=64 --config.actor.learning_rate=3e-4
  gacf sweep experiments/rules.py --config.seeds=4
  gacf resume runs/ring_gan-20250101-120000
  gacf report runs/* --markdown
"""


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gacf",
        description="Trains generative adversarial networks and actor-critic methods, "
        "many seeds at once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    for name, does, where in (
        ("run", "train an experiment", "new directory"),
        ("sweep", "train all variants of an experiment", "new directory, or one to go on with"),
    ):
        train = commands.add_parser(
            name,
            help=does,
            usage="%(prog)s CONFIG [--workdir DIR] [--config.KEY=VALUE ...]",
            allow_abbrev=False,
        )
        train.add_argument("config", metavar="CONFIG", help="the experiment's Python file")
        train.add_argument(
            "--workdir", metavar="DIR", help=f"{where}; default: runs/<experiment>-<time>"
        )
        # Never parsed here: it stands for all the overrides, which `main` takes out beforehand.
        train.add_argument("--config.KEY", metavar="VALUE", help="overrides a key of the config")
        train.add_argument(
            "--traceback",
            action="store_true",
            help="show where in the code something was refused or failed",
        )
        if name == "run":
            train.add_argument(
                "--profile",
                action="store_true",
                help="before training, trace some steps and print where their time goes",
            )

    resume = commands.add_parser(
        "resume", help="go on with a run or a sweep that was stopped", allow_abbrev=False
    )
    resume.add_argument("directory", metavar="DIR", help="what `gacf run` or `gacf sweep` made")
    resume.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)

    report = commands.add_parser(
        "report", help="compare finished runs, those of a sweep among them", allow_abbrev=False
    )
    report.add_argument("directories", metavar="DIR", nargs="+")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true")
    form.add_argument("--latex", action="store_true", help="for the package booktabs")

    commands.add_parser(
        "list",
        help="list experiments, games, rules, stabilisers and environments",
        allow_abbrev=False,
    )
    return parser


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without the overrides `--config.KEY=VALUE` and `--config.KEY VALUE`."""
    plain, overrides, takes = [], [], False
    for argument in argv:
        if re.match(r"--?(no)?config\.", argument):
            overrides.append(argument)
            takes = "=" not in argument
        elif takes and not argument.startswith("--"):
            overrides.append(argument)
            takes = False
        else:
            plain.append(argument)
            takes = False
    return plain, overrides


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
    from gacf import config, experiment

    loaded = config.load(args.config)
    settings = config.resolve(loaded, overrides)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    directory = Path(args.workdir or f"runs/{loaded.name}-{stamp}")
    experiment.check_free(directory)
    programs = experiment.prepare(loaded, settings)
    run = experiment.create(directory, loaded, settings)
    if args.profile:
        _profile(run, programs)
    return _train(run, programs)


def _profile(run: Any, programs: Any) -> None:
    """Prints where the time of some steps of each cell goes; leaves their traces."""
    import jax

    from gacf import profile
    from gacf.report import table

    out = table.console()
    for index, (cell, program) in enumerate(programs.items()):
        place = run.directory / "profile" / str(index)
        found = profile.profile(program, jax.random.key(run.config.seed), place)
        out.print(profile.table(found, cell))
        out.print(profile.words(found), markup=False)
        trace = max(place.rglob("*.trace.json.gz"))
        out.print(f"trace for TensorBoard and ui.perfetto.dev: {trace}", markup=False)


def _sweep(args: argparse.Namespace, overrides: list[str]) -> int:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    directory = Path(args.workdir or f"runs/{Path(args.config).stem}-{stamp}")
    _use_cores_of(directory / SWEEP)
    from gacf import config, sweep
    from gacf.report import table

    loaded = config.load(args.config)
    found = sweep.variants(loaded, overrides)
    stored = table.read_sweep(directory) if (directory / SWEEP).exists() else None
    opened = sweep.start(directory, loaded, found, table.console(stderr=True))
    if stored and opened.missing:
        _tell_changes(stored)
    return _train_variants(opened, args.traceback)


def _use_cores_of(stored: Path) -> None:
    """As many devices as what is to be resumed had, known before JAX starts."""
    import json

    try:
        devices = json.loads(stored.read_text())["devices"]
        _use_all_cores(devices["count"] if devices["platform"] == "cpu" else None)
    except (OSError, ValueError, LookupError, TypeError):
        _use_all_cores()


def _tell_changes(stored: dict[str, Any]) -> None:
    import jax

    from gacf import experiment

    here = {"platform": jax.local_devices()[0].platform, "count": jax.local_device_count()}
    for name, now in (("devices", here), ("versions", experiment.versions())):
        if now != stored.get(name):
            print(
                f"gacf: {name} are not those that the run began with; "
                "its numbers may differ in the last bits",
                file=sys.stderr,
            )


def _resume(args: argparse.Namespace) -> int:
    directory = Path(args.directory)
    if (directory / SWEEP).exists():
        _use_cores_of(directory / SWEEP)
        from gacf import sweep
        from gacf.report import table

        opened = sweep.open_sweep(directory)
        if opened.missing:
            _tell_changes(table.read_sweep(directory))
        return _train_variants(opened, args.traceback)
    _use_cores_of(directory / "config.json")
    from gacf import experiment

    run = experiment.open_run(directory)
    if experiment.finished(directory):
        print(f"{directory} is finished; see: gacf report {directory}")
        return 0
    _tell_changes(run.stored)
    return _train(run, experiment.prepare(run.experiment, run.config))


def _train(run: Any, programs: Any) -> int:
    from gacf import experiment
    from gacf.report import table

    out, err = table.console(), table.console(stderr=True)
    out.print(f"{run.directory}", markup=False)
    with experiment.alone(run.directory):
        try:
            summary = experiment.train(run, programs, out, err)
        except KeyboardInterrupt:
            print(
                f"gacf: stopped; go on from the last checkpoint with: gacf resume {run.directory}",
                file=sys.stderr,
            )
            return INTERRUPTED
    experiment.show(run, summary, out)
    return 0


def _train_variants(opened: Any, show_traceback: bool) -> int:
    from gacf import experiment, sweep
    from gacf.report import table

    out, err = table.console(), table.console(stderr=True)
    directory = opened.directory
    again = f"gacf resume {directory}"
    out.print(f"{directory}: variants left to train: {len(opened.missing)}", markup=False)
    with experiment.alone(directory):
        try:
            failed = sweep.train(opened, out, err, show_traceback)
        except KeyboardInterrupt:
            print(f"gacf: stopped; go on with: {again}", file=sys.stderr)
            return INTERRUPTED
    runs, _ = table.expand(directory)
    if runs:
        made = table.compare([(name, table.read(place)) for name, place in runs])
        out.print(table.terminal(made))
    if failed:
        names = ", ".join(failed)
        print(f"gacf: failed: {names}; once that is mended: {again}", file=sys.stderr)
    return 1 if failed else 0


def _report(args: argparse.Namespace) -> int:
    from gacf.report import table

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
        table.console().print(table.terminal(made))
    return 0


def _list() -> int:
    from rich.table import Table
    from rich.text import Text

    from gacf.registry import names
    from gacf.report.table import console

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
    plain, overrides = _split(arguments)
    if plain and not plain[0].startswith("-") and plain[0] not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(plain[0], COMMANDS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        print(f"gacf: {plain[0]!r}: {hint}allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    args, unknown = _parser().parse_known_args(plain)
    if unknown:
        word, _, value = unknown[0].partition("=")
        if args.command in TRAINING and word.startswith("--"):
            key = f"--config.{word[2:]}={value}"
            hint = f"allowed: --workdir, --traceback, --config.KEY, as in {key}"
        else:
            hint = f"see gacf {args.command} --help"
        print(f"gacf: {unknown[0]!r} was given; {hint}", file=sys.stderr)
        return 2
    if overrides and args.command not in TRAINING:
        print(
            f"gacf: {overrides[0]}: only `gacf run` and `gacf sweep` take overrides",
            file=sys.stderr,
        )
        return 2
    try:
        if args.command == "run":
            return _run(args, overrides)
        if args.command == "sweep":
            return _sweep(args, overrides)
        if args.command == "resume":
            return _resume(args)
        return _report(args) if args.command == "report" else _list()
    except KeyboardInterrupt:
        print("gacf: stopped", file=sys.stderr)
        return INTERRUPTED
    except BadInput as error:
        if getattr(args, "traceback", False):
            traceback.print_exc()
        print(f"gacf: {error}", file=sys.stderr)
        return 2
