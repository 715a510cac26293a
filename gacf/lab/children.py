"""Processes that gacf starts for itself: workers of a sweep or of a run, and the one that draws.

They import exactly the modules that this process would import, whatever folder they are started in,
and end when the process that started them ends.
"""

from __future__ import annotations

import json
import os
import sys

GRACE = 5.0  # seconds that a process has to end cleanly once its parent has ended
ANY = 0  # instead of a parent's number: whichever process starts this one
_START = f"""\
import importlib, json, os, sys, threading, time
path, parent, function = json.loads(sys.argv.pop(1))
sys.path[:] = path
parent = os.getppid() if parent == {ANY} else parent
def watch():
    while os.getppid() == parent:
        time.sleep(0.5)
    time.sleep({GRACE})
    os._exit(130)
if parent is not None:
    threading.Thread(target=watch, daemon=True).start()
module, name = function.split(":")
sys.exit(getattr(importlib.import_module(module), name)())
"""


def python(function: str, parent: int | None = None) -> list[str]:
    """The command that calls a function in a process of its own; arguments may follow.

    The new process searches for modules where this one does, and not in the folder in which it is
    started. It watches for the end of its parent before it imports anything, because imports alone
    take seconds.

    Args:
        function: "module:function", called without arguments; it returns the exit code.
        parent: the process with which the new one ends; `ANY`: the process that starts it; None:
            the new process notices by itself when it is no longer needed.
    """
    path = [os.path.abspath(p) if not p or os.path.exists(p) else p for p in map(str, sys.path)]
    return [sys.executable, "-P", "-c", _START, json.dumps([path, parent, function])]


def parent() -> int:
    """The process with which this one ends."""
    return getattr(sys.modules["__main__"], "parent", None) or os.getppid()
