"""What is raised once training has begun, in one line that says where."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from gacf.lab import blame, processes
from gacf.lab.errors import BadInput, Failed


@contextlib.contextmanager
def failing(path: Path, doing: Callable[[], str], again: bool) -> Iterator[None]:
    """Turns what is raised once training has begun into a `Failed` that names file and line.

    Args:
        path: the file whose code may raise.
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
        where, what = _of_callback(error, path) or blame.told(error, path)
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
