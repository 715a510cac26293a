"""One experiment, from its file to its run directory (L6).

    DIR/config.json       resolved config, name, versions, the code's commits, devices
    DIR/experiment.py     copy of the file, which `gacf resume` executes
    DIR/metrics.parquet   tidy: cell, seed, step, metric, value
    DIR/summary.json      statistics, divergences, times; the last to be written
    DIR/*.png             learning curves, and the experiment's own pictures
    DIR/checkpoints/      see `gacf.lab.checkpoint`

`metrics.parquet` holds every scalar metric of every window, `evaluate/…` where an evaluation ran,
and `final/…` where the experiment has a `finish`. It is the same bit for bit however often the run
was killed and resumed, on the same machine.
"""

from __future__ import annotations

import contextlib
import logging
import re
import site
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from gacf.lab import blame, processes
from gacf.lab.errors import BadInput, Failed
from gacf.lab.experiment_file import Experiment


@contextlib.contextmanager
def failing(experiment: Experiment, doing: Callable[[], str], again: bool) -> Iterator[None]:
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
        where, what = _of_callback(error, experiment.path) or blame.told(error, experiment.path)
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
    others = [f for f in frames if not blame.is_library(f[0])]
    name, line = (own or others or [(path.name, "")])[-1]
    what = blame.one_line(Exception(raised[-1]))
    return f"{Path(name).name}:{line}".rstrip(":"), what.removeprefix("ValueError: ")


LONGEST = 500  # letters of a message that are shown


def one_line(error: BaseException) -> str:
    """The first line of an error's message, printable and not too long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in lines[0].strip())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def user_line(error: BaseException, experiment: Path) -> traceback.FrameSummary | None:
    """The last line of the user's own code that an error came through.

    It is one of the experiment's file if there is one, or else one of a file that belongs neither
    to Python, nor to an installed package, nor to gacf.
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
    places = [Path(__file__).parent, *map(Path, (*site.getsitepackages(), site.USER_SITE or "/"))]
    places += [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    path = Path(filename)
    return filename.startswith("<") or any(
        place != Path("/") and path.is_relative_to(place) for place in places
    )


def told(error: BaseException, experiment: Path) -> tuple[str, str]:
    """Where in the user's code an error came from, and what it is: `("toy.py:7", "KeyError: 'a'")`.

    Args:
        error: what was raised.
        experiment: the experiment's file, which is named where no line of the user's is known.
    """
    line = user_line(error, experiment)
    where = experiment.name if line is None else f"{Path(line.filename).name}:{line.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1].filename if frames else ""
    # What gacf refuses is a sentence by itself; what the user's own code raises names its kind.
    kind = "" if type(error) is ValueError and is_library(last) else f"{type(error).__name__}: "
    text = one_line(error)
    if not str(error).strip() and line is not None and line.line:
        text = line.line.strip()
    return where, kind + text


@contextlib.contextmanager
def blame(experiment: Path, doing: str) -> Iterator[None]:
    """Turns what a file's code raises into a `BadInput` that names the file and the line."""
    try:
        yield
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        where, what = told(error, experiment)
        raise BadInput(f"{doing} ({where}): {what}") from error
