"""The command `gacf`.

Exit codes: 0, done; 1, something failed in the run or in a variant of the sweep, or a process of
the run was lost; 2, the input was bad and nothing was written. With 1 and 2 comes one line that
says what is wrong; --traceback shows where in the code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from gacf.lab import records, shipped
from gacf.lab.cli.arguments import Dotted, parse, parser
from gacf.lab.cli.messages import INTERRUPTED, say
from gacf.lab.errors import BadInput, Failed

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: the arguments without the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        parser().print_help()
        return 0
    try:
        args, dotted = parse(argv)
        if not getattr(args, "several", False):
            return _do(args, dotted)
        from gacf.lab import processes
        from gacf.lab.cli.common import processes_of

        group = processes_of(args)
    except BadInput as error:
        say(error)
        return 2
    if processes.child():
        return processes.guarded(lambda: _do(args, dotted))
    where = args.workdir or "DIR" if args.command == "run" else args.directory
    return processes.supervise(
        argv,
        "gacf: another process of the run was lost, or never joined; once all are available, go on "
        f"from the last checkpoint with: gacf resume {where} {group.flags('I')}",
    )


def _check_places(args: argparse.Namespace) -> None:
    """Raises a `BadInput` if there is no such experiment, or no such run to resume."""
    if args.command == "resume":
        if not (Path(args.directory) / records.SWEEP).exists():
            records.read_stored(args.directory)
    elif "config" in args and not Path(args.config).is_dir():
        shipped.find(args.config)


def _do(args: argparse.Namespace, dotted: Dotted) -> int:
    try:
        # The command is imported last, so that help and mistakes do not wait for JAX.
        _check_places(args)
        module = importlib.import_module(f"gacf.lab.cli.{args.command}")
        return module.command(args, dotted)
    except KeyboardInterrupt:
        print("gacf: stopped", file=sys.stderr)
        return INTERRUPTED
    except (BadInput, Failed) as error:
        if args.traceback:
            traceback.print_exc()
        say(error)
        return 2 if isinstance(error, BadInput) else 1
    except Exception as error:
        from gacf.lab import processes
        from gacf.lab.blame import one_line

        if args.several and processes.is_loss(error):
            raise  # `guarded` ends this process, and its parent reports the loss
        if args.traceback:
            traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        say(
            f"{args.command}: {type(error).__name__}: {one_line(error)} "
            f"({Path(frame.filename).name}:{frame.lineno}); --traceback shows where it comes from"
        )
        return 1
