"""Who trains a unit: claims in its directory, for workers that share nothing but a file system.

    units/<unit>/claim.<n>   the n-th that takes the unit made it, and touches it while it works
    units/<unit>/error.<n>   how that attempt ended, if it failed

A claim that is not touched for `STALE` seconds, or whose process is known to be gone, has lost its
worker: it counts as a failed attempt, and the next one takes the unit by making claim n + 1. Nobody
removes the claim of another, so that two cannot both take over; who finds a higher one than its own
stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from gacf import checkpoint

BEAT, STALE = 5.0, 60.0
ATTEMPTS = 3


class Lost(Exception):
    """The unit is not this worker's any more, or its driver has gone."""


class Status(NamedTuple):
    """What a unit's directory says.

    Attributes:
        attempts: how often it was taken, and failed or lost its worker.
        live: whether somebody works on it now.
        failure: message and traceback of the last failure, if there was one.
    """

    attempts: int
    live: bool
    failure: dict[str, str] | None


def _process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """What tells a process from a later one with the same number; None where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot + Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _numbered(directory: Path, kind: str) -> dict[int, Path]:
    found = {}
    for path in directory.glob(f"{kind}.*"):
        number = path.name.rpartition(".")[2]
        if number.isdigit():
            found[int(number)] = path
    return found


def _now(directory: Path) -> float:
    """The file system's clock, which another machine's need not agree with."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".now") as file:
            return os.stat(file.name).st_mtime
    except OSError:
        return time.time()


def _dead(path: Path) -> bool:
    """Whether a claim has lost its worker."""
    try:
        owner = json.loads(path.read_text() or "{}")
        age = _now(path.parent) - path.stat().st_mtime
    except (OSError, ValueError):
        return False  # being written, or gone
    here = owner.get("host") == socket.gethostname() and owner.get("started")
    if here and owner["started"] != _started(owner["pid"]):
        return True
    return age > STALE


def status(directory: Path) -> Status:
    """What a unit's directory says about who works on it."""
    taken, errors = _numbered(directory, "claim"), _numbered(directory, "error")
    last = max([*taken, *errors], default=0)
    live = last in taken and last not in errors and not _dead(taken[last])
    failure = None
    if errors:
        with contextlib.suppress(OSError, ValueError):
            failure = json.loads(errors[max(errors)].read_text())
    return Status(last - live, live, failure)


def reset(directory: Path) -> None:
    """Forgets the failed attempts at a unit on which nobody works."""
    if not status(directory).live:
        for kind in ("claim", "error"):
            for path in _numbered(directory, kind).values():
                path.unlink(missing_ok=True)


class Claim:
    """A unit taken; touched by a thread until it is released.

    Args:
        directory: the unit's.
        number: how often it was taken, this one included.
        parent: the process whose end is this worker's too.
    """

    def __init__(self, directory: Path, number: int, parent: int | None = None):
        self.directory, self.number, self.parent = directory, number, parent
        self.path = directory / f"claim.{number}"
        self.lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT if self.parent is None else min(BEAT, 1.0)):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                self.lost = True
            except OSError:
                pass  # the file system's trouble; another worker judges by the age
            orphaned = self.parent is not None and os.getppid() != self.parent
            newest = max(_numbered(self.directory, "claim"), default=0)
            self.lost |= orphaned or newest > self.number

    def check(self) -> None:
        """Raises `Lost` if the unit has been given to somebody else."""
        if self.lost:
            raise Lost

    def fail(self, message: str, trace: str, number: int) -> None:
        """Leaves the unit, saying why; the attempt counts as the `number`-th."""
        self._stop()
        text = json.dumps({"message": message, "traceback": trace}).encode()
        with contextlib.suppress(OSError):  # a full disk: the claim's number counts the attempt
            checkpoint.write_atomically(self.directory / f"error.{number}", text)

    def release(self) -> None:
        """Leaves the unit as if it had not been taken."""
        self._stop()
        self.path.unlink(missing_ok=True)

    def _stop(self) -> None:
        self._over.set()
        self._thread.join()


def take(directory: Path, parent: int | None = None) -> Claim | None:
    """Takes a unit, unless somebody works on it or too many attempts at it have failed."""
    directory.mkdir(parents=True, exist_ok=True)
    found = status(directory)
    if found.live or found.attempts >= ATTEMPTS:
        return None
    number = found.attempts + 1
    text = json.dumps(_process()).encode()
    try:
        # Linked into place: a claim that can be seen can be read.
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".claim") as file:
            file.write(text)
            file.flush()
            os.link(file.name, directory / f"claim.{number}")
    except FileExistsError:
        return None
    return Claim(directory, number, parent)
