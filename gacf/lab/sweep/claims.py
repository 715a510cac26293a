"""Who trains a unit: claims in its directory, for workers that share nothing but a file system.

    units/<unit>/claim.<n>   the n-th that takes the unit made it, and touches it while it works
    units/<unit>/error.<n>   how that attempt ended, if it failed

A claim that is not touched for `STALE` seconds, or whose process is known to be gone, has lost its
worker: it counts as a failed attempt, and the next one takes the unit by making claim n + 1. Nobody
removes the claim of another, so that two cannot both take over; who finds a higher one than its own
stops. A worker that hangs stops touching its claim once it has made no progress for `PATIENCE`
seconds, or for ten times as long as it ever needed. Who works in another container or on another
machine is judged by this sign of life alone: process numbers mean nothing there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from gacf.lab import files, locks

BEAT, STALE = locks.BEAT, locks.STALE
PATIENCE = float(os.environ.get("GACF_PATIENCE", 3600))  # seconds, compilation included
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


def _numbered(directory: Path, kind: str) -> dict[int, Path]:
    found = {}
    for path in directory.glob(f"{kind}.*"):
        number = path.name.rpartition(".")[2]
        if number.isdigit():
            found[int(number)] = path
    return found


def _dead(path: Path) -> bool:
    """Whether a claim has lost its worker; one that cannot be read is judged by its age too."""
    try:
        owner = locks.read_owner(path.read_bytes())
        return locks.ended(owner) or locks.silence(path) > STALE
    except OSError:
        return False  # gone, or not to be read now


def losers(directory: Path) -> list[dict[str, Any]]:
    """The owners of claims on a unit that have been overtaken or are too old."""
    taken = _numbered(directory, "claim")
    found = []
    for number, path in taken.items():
        if number < max(taken) or _dead(path):
            with contextlib.suppress(OSError):
                found.append(locks.read_owner(path.read_bytes()))
    return found


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
        self._longest, self._progress = 0.0, time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT if self.parent is None else min(BEAT, 1.0)):
            quiet = time.monotonic() - self._progress
            if quiet < max(PATIENCE, 10 * self._longest):
                try:
                    os.utime(self.path)
                except FileNotFoundError:
                    self.lost = True
                except OSError:
                    pass  # the file system's trouble; another worker judges by the age
            self.lost |= self._orphaned() or self._overtaken()

    def _orphaned(self) -> bool:
        return self.parent is not None and os.getppid() != self.parent

    def _overtaken(self) -> bool:
        return max(_numbered(self.directory, "claim"), default=0) > self.number

    def check(self) -> None:
        """Notes progress; raises `Lost` if the unit has been given to somebody else.

        It looks for itself: a process that was stopped goes on at any point, and must not write
        before it has noticed.
        """
        now = time.monotonic()
        self._longest, self._progress = max(self._longest, now - self._progress), now
        self.lost |= self._orphaned() or self._overtaken()
        if self.lost:
            raise Lost
        if not self.directory.is_dir():
            raise files.Unwritable(errno.ENOENT, "it was removed or moved")

    def fail(self, message: str, trace: str, number: int) -> None:
        """Leaves the unit, saying why; the attempt counts as the `number`-th."""
        self._stop()
        text = json.dumps({"message": message, "traceback": trace}).encode()
        with contextlib.suppress(OSError):  # a full disk: the claim's number counts the attempt
            files.write_atomically(self.directory / f"error.{number}", text)

    def release(self) -> None:
        """Leaves the unit as if it had not been taken."""
        self._stop()
        with contextlib.suppress(OSError):  # it counts as lost as soon as this process has ended
            self.path.unlink(missing_ok=True)

    def _stop(self) -> None:
        self._over.set()
        self._thread.join()


def take(directory: Path, parent: int | None = None) -> Claim | None:
    """Takes a unit, unless somebody works on it or too many attempts at it have failed.

    Raises:
        Unwritable: the file system refuses it.
    """
    with files.writing():
        for path in (directory.parent, directory):  # a sweep that was removed stays so
            path.mkdir(exist_ok=True)
        found = status(directory)
        if found.live or found.attempts >= ATTEMPTS:
            return None
        number = found.attempts + 1
        text = json.dumps(locks.identity()).encode()
        try:
            # Linked into place: a claim that can be seen can be read.
            with tempfile.NamedTemporaryFile(dir=directory, prefix=".claim") as file:
                file.write(text)
                file.flush()
                os.link(file.name, directory / f"claim.{number}")
        except FileExistsError:
            return None
    return Claim(directory, number, parent)
