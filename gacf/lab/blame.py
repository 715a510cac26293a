"""Turns errors of the user's own code into one line that names the file and the line in it."""

from __future__ import annotations

import contextlib
import site
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from gacf.lab.errors import BadInput
from gacf.lab.escape import plain

LONGEST = 500  # characters of a message that are shown


def message(error: BaseException) -> str:
    """An error's message; empty if the error's own code fails to give it."""
    try:
        return str(error).strip()
    except Exception:
        return ""


def one_line(error: BaseException) -> str:
    """The first line of an error's message, printable and not too long."""
    lines = message(error).splitlines() or [type(error).__name__]
    text = plain(lines[0].strip())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def user_line(error: BaseException, experiment: Path) -> traceback.FrameSummary | None:
    """The last line of the user's own code that an error passed through.

    That is a line of the experiment's file if the error passed through it, and otherwise a line of
    a file that belongs neither to Python, nor to an installed package, nor to gacf.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        frames.append(traceback.FrameSummary(error.filename, error.lineno, "<module>"))
    own = [f for f in frames if Path(f.filename) == experiment]
    others = [f for f in frames if not is_library(f.filename)]
    if isinstance(error, SyntaxError):
        own = own if others[-1:] == own[-1:] else others
    return next(reversed(own or others), None)


def is_library(filename: str) -> bool:
    """Whether code belongs to Python, an installed package or gacf."""
    places = [
        Path(__file__).parents[1],
        *map(Path, (*site.getsitepackages(), site.USER_SITE or "/")),
    ]
    places += [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    path = Path(filename)
    return filename.startswith("<") or any(
        place != Path("/") and path.is_relative_to(place) for place in places
    )


def located(error: BaseException, experiment: Path) -> tuple[str, str]:
    """Where in the user's code an error came from, and what it is: `("toy.py:7", "KeyError: 'a'")`.

    Args:
        error: the error that was raised.
        experiment: the experiment's file, which is named if no line of the user's code is known.
    """
    line = user_line(error, experiment)
    where = experiment.name if line is None else f"{Path(line.filename).name}:{line.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1].filename if frames else ""
    # Messages of gacf are complete sentences; for other errors the type is given as well.
    kind = "" if type(error) is ValueError and is_library(last) else f"{type(error).__name__}: "
    if message(error):
        return plain(where), kind + one_line(error)
    if isinstance(error, AssertionError) and line is not None and line.line:
        return plain(where), kind + plain(line.line.strip())
    return plain(where), type(error).__name__


@contextlib.contextmanager
def blame(experiment: Path, doing: str) -> Iterator[None]:
    """Turns an error that a file's code raises into a `BadInput` that names file and line."""
    try:
        yield
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        where, what = located(error, experiment)
        raise BadInput(f"{doing} ({where}): {what}") from error
