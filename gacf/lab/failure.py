"""Turns errors that are raised once training has begun into one line that says where."""

from __future__ import annotations

import contextlib
import importlib
import linecache
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from gacf.lab import blame, processes
from gacf.lab.errors import BadInput, Failed


def _forget_effects() -> None:
    """Keeps JAX from printing a failed callback again, in full, when the process ends."""
    with contextlib.suppress(Exception):
        importlib.import_module("jax._src.dispatch").runtime_tokens.clear()


_INTERRUPTED = re.compile(r"^KeyboardInterrupt\b", re.MULTILINE)


@contextlib.contextmanager
def failing(path: Path, doing: Callable[[], str], again: bool) -> Iterator[None]:
    """Turns an error that is raised once training has begun into a `Failed` with file and line.

    Args:
        path: the file whose code may raise.
        doing: returns a description of what failed.
        again: whether another attempt may succeed.
    """
    log = logging.getLogger("jax._src.callback")
    level = log.level
    log.setLevel(logging.CRITICAL)  # JAX would print the traceback, which the error has anyway
    try:
        yield
    except (BadInput, Failed):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and _INTERRUPTED.search(
            blame.message(error)
        ):
            raise KeyboardInterrupt from error  # it interrupted a callback on the host
        if jax.process_count() > 1 and processes.is_loss(error):
            raise  # nothing failed here
        _forget_effects()
        where, what = _of_callback(error, path) or blame.located(error, path)
        raise Failed(f"{doing()} ({where}): {what}", again) from error
    finally:
        log.setLevel(level)


def _of_callback(error: BaseException, path: Path) -> tuple[str, str] | None:
    """Where a callback on the host raised, and what, read from the text of XLA's error."""
    text = blame.message(error)
    frames = re.findall(r'^  File "(.+?)", line (\d+)', text, re.MULTILINE)
    if not (isinstance(error, jax.errors.JaxRuntimeError) and frames):
        return None
    own = [f for f in frames if Path(f[0]) == path]
    others = [f for f in frames if not blame.is_library(f[0])]
    name, line = (own or others or [(path.name, "")])[-1]
    # The raised error follows the frames; it is the first line that is not indented.
    after = text[text.rindex('  File "') :].splitlines()[1:]
    raised = next((x for x in after if re.match(r"[A-Za-z_][\w.]*(:|$)", x)), "")
    kind, colon, detail = raised.partition(":")
    if colon and not detail.strip():  # the message begins on a line of its own
        rest = after[after.index(raised) + 1 :]
        detail = " " + next((x.strip() for x in rest if x.strip()), "")
    if kind == "AssertionError" and not detail.strip():
        colon, detail = ":", " " + linecache.getline(name, int(line or 0)).strip()
    what = blame.one_line(Exception(f"{kind}{colon}{detail}".strip()))
    return f"{Path(name).name}:{line}".rstrip(":"), what.removeprefix("ValueError: ")
