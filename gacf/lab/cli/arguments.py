"""The arguments of every command."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from gacf import __version__
from gacf.core.names import nearest
from gacf.lab.errors import BadInput, check_text

COMMANDS = ("run", "sweep", "resume", "watch", "report", "sample", "play", "draw", "new", "list")
TRAINING = ("run", "sweep")
EXECUTORS = ("processes", "ray", "slurm")
TRACKERS = ("tensorboard", "wandb", "mlflow")
KINDS = (
    "experiments",
    "methods",
    "flows",
    "games",
    "rules",
    "combinators",
    "directions",
    "solvers",
    "stabilizers",
    "losses",
    "penalties",
    "divergences",
    "networks",
    "environments",
    "data",
    "metrics",
)  # of `gacf list`

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
    """A parser that reports what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor",
        choices=("inline", *EXECUTORS),
        default="inline",
        help="where a sweep's programs run; default: in this process",
    )
    parser.add_argument(
        "--workers", type=int, help="how many workers other executors start; default: one per core"
    )
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
        "--coordinator", metavar="HOST:PORT", help="without such a job: the address of process 0"
    )
    parser.add_argument("--processes", metavar="N", type=int, help="how many processes there are")
    parser.add_argument(
        "--process", metavar="I", type=int, help="the number of this process, from 0 on"
    )


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
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
        train.add_argument(
            "config", metavar="CONFIG", help="a Python file, or the name of a shipped experiment"
        )
        train.add_argument(
            "--workdir", metavar="DIR", help=f"{where}; default: runs/<experiment>-<time>"
        )
        # Never parsed here: it stands for all overrides, which are removed beforehand.
        train.add_argument("--config.KEY", metavar="VALUE", help="overrides a key of the config")
        if sweeps:
            train.add_argument(
                "--sweep.KEY",
                metavar="VALUES",
                help="A,B,C: a grid over all such keys; KEY,KEY2=A:X,B:Y: keys that vary together; "
                "uniform(A,B), log_uniform(A,B), integers(A,B), choice(A,B): random draws",
            )
            train.add_argument(
                "--samples", type=int, default=10, help="number of random draws; default 10"
            )
            train.add_argument(
                "--sample-seed", type=int, default=0, help="seed of the random draws"
            )
            train.add_argument(
                "--resume", action="store_true", help="CONFIG is a sweep's directory: go on with it"
            )
            _add_executor(train)
        train.add_argument("--track", choices=TRACKERS, help="also send all metrics to a tracker")
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
        "DIR/experiment.py, whoever wrote it: resume only what you would run. For a run "
        "that has finished, nothing is executed unless --config.steps makes it longer.",
        allow_abbrev=False,
    )
    resume.add_argument(
        "directory", metavar="DIR", help="a directory that `gacf run` or `gacf sweep` made"
    )
    resume.add_argument(
        "--config.steps", metavar="N", help="train a run for N steps in all, more than it has"
    )
    resume.add_argument("--track", choices=TRACKERS, help="also send all metrics to a tracker")
    _add_executor(resume)
    _add_processes(resume)

    watch = commands.add_parser(
        "watch", help="show the progress of a run or a sweep until it is over", allow_abbrev=False
    )
    watch.add_argument(
        "directory", metavar="DIR", help="a directory that `gacf run` or `gacf sweep` made"
    )
    watch.add_argument("--once", action="store_true", help="show it once and stop")

    report = commands.add_parser(
        "report", help="compare finished runs, or the variants of sweeps", allow_abbrev=False
    )
    report.add_argument("directories", metavar="DIR", nargs="+")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true")
    form.add_argument("--latex", action="store_true", help="for the package booktabs")

    for name, does, description in (
        (
            "sample",
            "draw samples from the generators of a run",
            "Draws samples from the generators of a run, and keeps them as pictures and arrays.",
        ),
        (
            "play",
            "play episodes with the actors of a run",
            "Plays episodes with the actors of a run, without exploration, and prints their "
            "returns.",
        ),
    ):
        use = commands.add_parser(
            name,
            help=does,
            description=f"{description} This executes the file DIR/experiment.py, whoever wrote "
            "it: use only what you would run.",
            allow_abbrev=False,
        )
        use.add_argument("directory", metavar="DIR", help="what `gacf run` made")
        use.add_argument("--cell", help="which cell, if the run has several")
        use.add_argument("--seed", type=int, default=0, help="which seed of the run; default 0")
        use.add_argument("--key", type=int, default=0, help="of what is drawn at random; default 0")
        use.add_argument("--workdir", metavar="PLACE", help=f"for what is made; default DIR/{name}")
        if name == "sample":
            use.add_argument("-n", type=int, default=64, help="how many; default 64")
            use.add_argument(
                "--truncation",
                type=float,
                metavar="T",
                help="draw noise anew where it is beyond ±T (Brock et al. 2019)",
            )
            use.add_argument(
                "--interpolate",
                type=int,
                metavar="STEPS",
                help="rows that lead from one sample to another in so many steps",
            )
            use.add_argument("--files", action="store_true", help="also a file for each sample")
        else:
            use.add_argument("--episodes", type=int, default=10, help="how many; default 10")
            use.add_argument(
                "--video", choices=("gif", "mp4"), help="film the first episode; mp4 needs ffmpeg"
            )

    new = commands.add_parser(
        "new", help="write a commented experiment to start from", allow_abbrev=False
    )
    new.add_argument("name", metavar="NAME", help="of the file to write, NAME.py")

    draw = commands.add_parser(
        "draw", help="draw how information flows in an experiment's games", allow_abbrev=False
    )
    draw.add_argument(
        "config", metavar="CONFIG", help="a Python file, or the name of a shipped experiment"
    )
    draw.add_argument("--workdir", metavar="DIR", help="for the drawings; default: drawings")

    kinds = commands.add_parser(
        "list", help="list what there is to choose from, by kind", allow_abbrev=False
    )
    kinds.add_argument(
        "kind", metavar="KIND", nargs="?", help=f"{', '.join(KINDS)}; default: all of them"
    )
    for command in commands.choices.values():
        command.add_argument(
            "--traceback",
            action="store_true",
            help="show where in the code something was refused or failed",
        )
    return parser


class Dotted(NamedTuple):
    """The arguments whose names contain keys.

    Attributes:
        config: `--config.KEY=VALUE` and `--config.KEY VALUE`.
        sweep: `--sweep.KEY=VALUES`.
        executor: `--executor.KEY=VALUE`.
    """

    config: list[str]
    sweep: list[str]
    executor: list[str]


def _split(argv: Sequence[str]) -> tuple[list[str], Dotted]:
    """Separates the arguments whose names contain keys from all others."""
    plain, overrides, value_follows = [], [], False
    dotted = Dotted(overrides, [], [])
    for argument in argv:
        if match := re.match(r"--(sweep|executor)\.", argument):
            getattr(dotted, match[1]).append(argument)
            value_follows = False
        elif re.match(r"--?(no)?config\.", argument):
            overrides.append(argument)
            value_follows = "=" not in argument
        elif value_follows and not argument.startswith("--"):
            overrides.append(argument)
            value_follows = False
        else:
            plain.append(argument)
            value_follows = False
    return plain, dotted


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Dotted]:
    """The arguments of a command.

    Args:
        argv: the arguments, at least one.

    Returns:
        The parsed arguments, with `several` saying whether this is one process of several and
        `line` repeating the command; and the arguments whose names contain keys.

    Raises:
        BadInput: a command or an argument is unknown.
    """
    plain, dotted = _split(argv)
    if plain and not plain[0].startswith("-") and plain[0] not in COMMANDS:
        raise BadInput(f"{plain[0]!r}: {nearest(plain[0], COMMANDS)}")
    args, unknown = parser().parse_known_args(plain)
    if args.command is None:
        given = repr(unknown[0]) if unknown else "none"
        raise BadInput(f"COMMAND: {given} was given; allowed: {', '.join(COMMANDS)}")
    if unknown:
        word, _, value = unknown[0].partition("=")
        hint = f"see gacf {args.command} --help"
        if args.command in TRAINING and word.startswith("--"):
            key = f"--config.{word[2:]}={value}"
            hint = f"allowed: --workdir, --traceback, --config.KEY, as in {key}"
        raise BadInput(f"{unknown[0]!r} was given; {hint}")
    if dotted.config and args.command not in (*TRAINING, "draw", "resume"):
        raise BadInput(f"{dotted.config[0]}: only `gacf run` and `gacf sweep` take overrides")
    if dotted.sweep and args.command != "sweep":
        raise BadInput(f"{dotted.sweep[0]}: only `gacf sweep` takes it")
    if dotted.executor and args.command not in ("sweep", "resume"):
        raise BadInput(f"{dotted.executor[0]}: only sweeps take it")
    for argument, given in (
        ("--workdir", getattr(args, "workdir", None)),
        ("CONFIG", getattr(args, "config", None)),
        ("DIR", getattr(args, "directory", None)),
        *(("DIR", given) for given in getattr(args, "directories", ())),
    ):
        if given is not None:
            check_text(argument, given, "the name of a file or a directory")
    kind = getattr(args, "kind", None)
    if kind is not None and kind not in KINDS:
        raise BadInput(f"KIND: {kind!r} was given; {nearest(kind, KINDS)}")
    args.line = shlex.join(["gacf", *argv])
    args.several = args.command in ("run", "resume") and (
        args.distributed,
        args.coordinator,
        args.processes,
        args.process,
    ) != (False, None, None, None)
    return args, dotted
