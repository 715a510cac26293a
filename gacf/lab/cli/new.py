"""`gacf new`: write a commented experiment to start from."""

from __future__ import annotations

import argparse
import re
from importlib import resources
from pathlib import Path

from gacf.lab.cli.arguments import Dotted
from gacf.lab.errors import BadInput


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Writes NAME.py into the current directory; returns the exit code."""
    del dotted
    path = Path(args.name.removesuffix(".py") + ".py")
    if not re.fullmatch(r"[A-Za-z_]\w*", path.stem):
        raise BadInput(
            f"NAME: {args.name!r} was given; allowed: letters, digits and _, not beginning with a "
            "digit"
        )
    text = resources.files("gacf.lab").joinpath("templates", "experiment.py").read_text("utf-8")
    text = text.replace("NAME:", f"{path.stem}:", 1).replace("FILE", str(path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"NAME: {str(path)!r} exists; allowed: a new name") from None
    except OSError as error:
        raise BadInput(f"NAME: {str(path)!r}: {error.strerror or error}") from error
    print(f"{path}: run it with: gacf run {path}")
    return 0
