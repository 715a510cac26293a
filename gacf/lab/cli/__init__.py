"""The command `gacf`.

Exit code 0: done; 1: something failed in the run or in a variant of the sweep, or a process of the
run was lost; 2: bad input, nothing written. Both come with one line that says what is wrong; with
--traceback, where in the code.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from gacf.lab.cli import draw, list, report, resume, run, sweep, watch
from gacf.lab.cli.arguments import COMMANDS, TRAINING, Dotted, parser, split
from gacf.lab.cli.common import INTERRUPTED, processes_of, say
from gacf.lab.errors import BadInput, Failed, check_text

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments without the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    arguments = [*(sys.argv[1:] if argv is None else argv)]
    plain, dotted = split(arguments)
    if not arguments:
        parser().print_help()
        return 0
    if plain and not plain[0].startswith("-") and plain[0] not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(plain[0], COMMANDS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        print(f"gacf: {plain[0]!r}: {hint}allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    args, unknown = parser().parse_known_args(plain)
    if args.command is None:
        given = repr(unknown[0]) if unknown else "none"
        say(f"COMMAND: {given} was given; allowed: {', '.join(COMMANDS)}")
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
        group = processes_of(args)
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
    for argument, given in (
        ("--workdir", getattr(args, "workdir", None)),
        ("CONFIG", getattr(args, "config", None)),
        ("DIR", getattr(args, "directory", None)),
        *(("DIR", given) for given in getattr(args, "directories", ())),
    ):
        if given is not None:
            check_text(argument, given, "the name of a file or a directory")


def _do(args: argparse.Namespace, dotted: Dotted) -> int:
    commands = {
        "run": run.command,
        "sweep": sweep.command,
        "resume": resume.command,
        "watch": watch.command,
        "report": report.command,
        "draw": draw.command,
        "list": list.command,
    }
    try:
        return commands[args.command](args, dotted)
    except KeyboardInterrupt:
        print("gacf: stopped", file=sys.stderr)
        return INTERRUPTED
    except (BadInput, Failed) as error:
        if args.traceback:
            traceback.print_exc()
        say(error)
        return 2 if isinstance(error, BadInput) else 1
    except Exception as error:
        if args.traceback:
            traceback.print_exc()
        from gacf.lab.blame import one_line

        frame = traceback.extract_tb(error.__traceback__)[-1]
        say(
            f"{args.command}: {type(error).__name__}: {one_line(error)} "
            f"({Path(frame.filename).name}:{frame.lineno}); --traceback shows where it comes from"
        )
        return 1
