"""The command `gacf` (L7). Exit code 0: done; 2: bad input, told in one line, nothing written."""

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

COMMANDS = ("run", "resume", "report", "list")
INTERRUPTED = 130

_EPILOG = """\
examples:
  gacf run experiments/ring_gan.py --config.seeds=64 --config.actor.learning_rate=3e-4
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

    run = commands.add_parser(
        "run",
        help="train an experiment",
        usage="%(prog)s CONFIG [--workdir DIR] [--config.KEY=VALUE ...]",
        allow_abbrev=False,
    )
    run.add_argument("config", metavar="CONFIG", help="the experiment's Python file")
    run.add_argument(
        "--workdir", metavar="DIR", help="new directory; default: runs/<experiment>-<time>"
    )
    # Never parsed here: it stands for all the overrides, which `main` takes out beforehand.
    run.add_argument("--config.KEY", metavar="VALUE", help="overrides a key of the config")
    run.add_argument(
        "--traceback", action="store_true", help="show where in the code a bad input was refused"
    )

    resume = commands.add_parser(
        "resume", help="go on with a run that was stopped", allow_abbrev=False
    )
    resume.add_argument("directory", metavar="DIR", help="what `gacf run` made")
    resume.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)

    report = commands.add_parser("report", help="compare finished runs", allow_abbrev=False)
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
    return _train(experiment.create(directory, loaded, settings), programs)


def _resume(args: argparse.Namespace) -> int:
    directory = Path(args.directory)
    # Which devices the numbers depend on is known before JAX starts.
    import json

    try:
        devices = json.loads((directory / "config.json").read_text())["devices"]
        _use_all_cores(devices["count"] if devices["platform"] == "cpu" else None)
    except (OSError, ValueError, LookupError, TypeError):
        _use_all_cores()
    from gacf import experiment

    run = experiment.open_run(directory)
    if experiment.finished(directory):
        print(f"{directory} is finished; see: gacf report {directory}")
        return 0
    import jax

    here = {"platform": jax.local_devices()[0].platform, "count": jax.local_device_count()}
    for name, now in (("devices", here), ("versions", experiment.versions())):
        if now != run.stored.get(name):
            print(
                f"gacf: {name} are not those that the run began with; "
                "its numbers may differ in the last bits",
                file=sys.stderr,
            )
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


def _report(args: argparse.Namespace) -> int:
    from gacf.report import table

    directories = [Path(d) for d in args.directories]
    names = [d.resolve().name for d in directories]
    names = [n if names.count(n) == 1 else str(d) for n, d in zip(names, directories, strict=True)]
    summaries = [(n, table.read(d)) for n, d in zip(names, directories, strict=True)]
    made = table.compare(summaries)
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
        if args.command == "run" and word.startswith("--"):
            key = f"--config.{word[2:]}={value}"
            hint = f"allowed: --workdir, --traceback, --config.KEY, as in {key}"
        else:
            hint = f"see gacf {args.command} --help"
        print(f"gacf: {unknown[0]!r} was given; {hint}", file=sys.stderr)
        return 2
    if overrides and args.command != "run":
        print(f"gacf: {overrides[0]}: only `gacf run` takes overrides", file=sys.stderr)
        return 2
    try:
        if args.command == "run":
            return _run(args, overrides)
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
