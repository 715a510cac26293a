"""Which worker trains a unit: claims in its directory, for workers that share only a file system.

    units/<unit>/claim.<n>   made by the n-th worker that takes the unit, and touched while it works
    units/<unit>/error.<n>   how that attempt ended, if it failed

If a claim is not touched for `STALE` seconds, or its process is known to be gone, its worker counts
as lost: the attempt has failed, and the next worker takes the unit by making claim n + 1. No worker
removes the claim of another, so two workers cannot both take over. A worker that sees a claim with
a higher number than its own stops. A worker that hangs stops touching its claim once it has made no
progress for `PATIENCE` seconds, or for ten times the longest time that a piece of its work has
taken so far. Workers in another container or on another machine are judged by this sign of life
alone, because process numbers mean nothing there.
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
    """The unit no longer belongs to this worker, or the worker's driver has gone."""


class Status(NamedTuple):
    """The state of a unit, as its directory records it.

    Attributes:
        attempts: how many attempts at the unit have failed or lost their worker.
        live: whether a worker is training it now.
        failure: message and traceback of the last failure, if there was one.
    """

    attempts: int
    live: bool
    failure: dict[str, str] | None


def _numbered(directory: Path, kind: str) -> dict[int, Path]:
    paths = {}
    for path in directory.glob(f"{kind}.*"):
        number = path.name.rpartition(".")[2]
        if number.isdigit():
            paths[int(number)] = path
    return paths


def _dead(path: Path) -> bool:
    """Whether a claim has lost its worker; unreadable contents leave only its age to judge by."""
    try:
        owner = locks.read_owner(path.read_bytes())
        return locks.ended(owner) or locks.silence(path) > STALE
    except OSError:
        return False  # the file is gone, or cannot be read at the moment


def losers(directory: Path) -> list[dict[str, Any]]:
    """The owners of claims on a unit that were overtaken by a later claim or have lapsed."""
    taken = _numbered(directory, "claim")
    owners = []
    for number, path in taken.items():
        if number < max(taken) or _dead(path):
            with contextlib.suppress(OSError):
                owners.append(locks.read_owner(path.read_bytes()))
    return owners


def status(directory: Path) -> Status:
    """Reads from a unit's directory whether a worker trains it, and how earlier attempts ended."""
    taken, errors = _numbered(directory, "claim"), _numbered(directory, "error")
    last = max([*taken, *errors], default=0)
    live = last in taken and last not in errors and not _dead(taken[last])
    failure = None
    if errors:
        with contextlib.suppress(OSError, ValueError):
            failure = json.loads(errors[max(errors)].read_text())
    return Status(last - live, live, failure)


def reset(directory: Path) -> None:
    """Removes the records of failed attempts at a unit, unless a worker is training it."""
    if not status(directory).live:
        for kind in ("claim", "error"):
            for path in _numbered(directory, kind).values():
                path.unlink(missing_ok=True)


class Claim:
    """A worker's claim on a unit; a thread touches its file until it is released.

    Args:
        directory: the unit's directory.
        number: how often the unit has been taken, this time included.
        parent: a process with which this worker ends.
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
                    pass  # the file system refused; other workers judge the claim by its age
            self.lost |= self._orphaned() or self._overtaken()

    def _orphaned(self) -> bool:
        return self.parent is not None and os.getppid() != self.parent

    def _overtaken(self) -> bool:
        return max(_numbered(self.directory, "claim"), default=0) > self.number

    def check(self) -> None:
        """Records progress; raises `Lost` if another worker has taken the unit.

        It reads the directory itself instead of waiting for the thread: a process that was stopped
        may wake up at any point, and must not write before it has noticed the loss.
        """
        now = time.monotonic()
        self._longest, self._progress = max(self._longest, now - self._progress), now
        self.lost |= self._orphaned() or self._overtaken()
        if self.lost:
            raise Lost
        if not self.directory.is_dir():
            raise files.Unwritable(errno.ENOENT, "it was removed or moved")

    def fail(self, message: str, trace: str, number: int) -> None:
        """Gives the unit up and records why; the attempt counts as the `number`-th."""
        self._stop()
        text = json.dumps({"message": message, "traceback": trace}).encode()
        with contextlib.suppress(OSError):  # on a full disk the claim's number counts the attempt
            files.write_atomically(self.directory / f"error.{number}", text)

    def release(self) -> None:
        """Gives the unit back as if it had never been taken."""
        self._stop()
        with contextlib.suppress(OSError):  # otherwise the claim lapses when this process ends
            self.path.unlink(missing_ok=True)

    def _stop(self) -> None:
        self._over.set()
        self._thread.join()


def take(directory: Path, parent: int | None = None) -> Claim | None:
    """Takes a unit, unless a worker is training it or too many attempts at it have failed.

    Raises:
        Unwritable: the file system refuses it.
    """
    with files.writing():
        for path in (directory.parent, directory):  # a sweep that was removed is not created again
            path.mkdir(exist_ok=True)
        now = status(directory)
        if now.live or now.attempts >= ATTEMPTS:
            return None
        number = now.attempts + 1
        text = json.dumps(locks.identity()).encode()
        try:
            # Linked into place, so that a claim is complete as soon as it is visible.
            with tempfile.NamedTemporaryFile(dir=directory, prefix=".claim") as file:
                file.write(text)
                file.flush()
                os.link(file.name, directory / f"claim.{number}")
        except FileExistsError:
            return None
    return Claim(directory, number, parent)
