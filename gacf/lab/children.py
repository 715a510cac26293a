"""Processes that gacf starts for itself: workers of a sweep, of one run, and the one that draws.

They import what this process imports and nothing else, in whatever folder they are started, and
end with the process that started them.
"""

from __future__ import annotations

import json
import os
import sys

GRACE = 5.0  # seconds that a process has to end in order once its parent has ended
ANY = 0  # in place of a parent's number: whichever process starts this one
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

    That process searches for modules where this one does: not in the folder that it happens to be
    started in. It watches for the end of its parent before it imports anything, for imports alone
    take seconds.

    Args:
        function: "module:function" without arguments; what it returns is the exit code.
        parent: the process with which it is to end; `ANY`: the one that starts it; None: it
            notices by itself that it is not needed.
    """
    path = [os.path.abspath(p) if not p or os.path.exists(p) else p for p in map(str, sys.path)]
    return [sys.executable, "-P", "-c", _START, json.dumps([path, parent, function])]


def parent() -> int:
    """The process with which this one is to end."""
    return getattr(sys.modules["__main__"], "parent", None) or os.getppid()
