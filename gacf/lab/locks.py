"""One writer for each directory, on one machine and on several that share a file system.

    DIR/.lock   who writes there: a process, its machine, and when it last gave a sign of life

The system's own lock (`flock`) decides wherever it works, also between containers of one machine,
and it disappears with its process, however that ends. Not every network file system has such
a lock, or shares it between machines. So the holder also touches the file every `BEAT` seconds, and
a file that was not touched for `STALE` seconds no longer counts. Only processes on the same machine
and in the same process namespace look up the holder by its process number, which means nothing to
all others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gacf.lab.errors import BadInput
from gacf.lab.files import Unwritable

FILE = ".lock"
BEAT, STALE = 5.0, 60.0
PAUSE = 0.2  # seconds between attempts, and before trusting a lock that flock does not guard
_NONE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class Held(BadInput):
    """Another process is writing to the directory."""


class Taken(BadInput):
    """The path exists already."""


def identity() -> dict[str, Any]:
    """What distinguishes this process from all others, even a later one with the same number."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "boot": _boot(),
        "namespace": _namespace(),
        "token": secrets.token_hex(8),
    }


def _started(pid: int) -> str | None:
    """When a process started, in the system's ticks; None if there is none or it is unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _boot() -> str | None:
    """Identifies the machine since it was started; containers share it, two machines never do."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _namespace() -> str | None:
    """Identifies the set of process numbers that this process sees."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def in_sight(owner: Mapping[str, Any]) -> bool:
    """Whether the process number of an owner refers to the same process here."""
    mine = (_boot(), _namespace())
    return None not in mine and (owner.get("boot"), owner.get("namespace")) == mine


def ended(owner: Mapping[str, Any]) -> bool:
    """Whether an owner's process is known to have ended."""
    pid, started = owner.get("pid"), owner.get("started")
    return isinstance(pid, int) and in_sight(owner) and started != _started(pid)


def read_owner(data: bytes) -> dict[str, Any]:
    """The identity stored in a lock file; empty if the bytes are something else.

    Example:
        >>> read_owner(b'{"pid": 3}'), read_owner(b"[1]"), read_owner(bytes(80))
        ({'pid': 3}, {}, {})
    """
    try:
        owner = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def silence(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system.

    A time in the future is not a sign of life either, so its distance counts in the same way.
    """
    touched = path.stat().st_mtime
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{FILE}.") as file:
            now = os.stat(file.name).st_mtime
    except OSError:
        now = time.time()
    return abs(now - touched)


class Lock:
    """A directory held by this process; `acquire` and `make` return it.

    Args:
        directory: the directory.
        handle: the handle of its open lock file.
        data: the contents of the lock file.
    """

    def __init__(self, directory: Path, handle: int, data: bytes):
        self.directory, self._handle, self._data = directory, handle, data
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):  # if the file system refuses, saving will report it
                os.utime(self._handle)

    def check(self) -> None:
        """Raises an `Unwritable` if this process no longer holds the directory."""
        if not self.directory.is_dir():
            raise Unwritable(errno.ENOENT, "it was removed or moved")
        if not self._own():
            raise Unwritable(errno.EBUSY, "another process has taken it over")

    def _own(self) -> bool:
        if not _same(self._handle, self.directory / FILE):
            return False
        return os.pread(self._handle, len(self._data) + 1, 0) == self._data

    def release(self) -> None:
        """Releases the directory."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # a waiting process sees that the file was replaced
            if self._own():
                (self.directory / FILE).unlink()
        os.close(self._handle)


def _same(handle: int, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def acquire(directory: Path, wait: float = 0.0) -> Lock:
    """Holds a directory for this process.

    Args:
        directory: an existing one.
        wait: seconds to wait for the process that holds it.

    Raises:
        Held: another process has it.
        OSError: the directory cannot be written.
    """
    until = time.monotonic() + wait
    while True:
        try:
            if lock := _attempt(directory):
                return lock
        except Held:
            if time.monotonic() >= until:
                raise
            time.sleep(PAUSE)


def _attempt(directory: Path) -> Lock | None:
    """A lock; None: the lock file was replaced in the meantime."""
    path = directory / FILE
    try:
        handle = _opened(path)
    except FileNotFoundError:
        if directory.is_dir():
            return None  # it was removed between two checks
        raise
    try:
        locked = _flock(handle)
        if not _same(handle, path):
            os.close(handle)
            return None
        owner = read_owner(os.pread(handle, 4096, 0))
        try:
            counts = _counts(owner, path, locked)
        except FileNotFoundError:  # it was removed in the meantime
            os.close(handle)
            return None
        if counts:
            raise Held(f"DIR: {str(directory)!r} is being trained by another process{_who(owner)}")
        if locked is False:  # held by a child that outlived the process which took the lock
            os.close(handle)
            handle = -1
            handle = _replaced(directory)
        data = json.dumps(identity()).encode()
        _write(path, data)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(handle)
        raise
    lock = Lock(directory, handle, data)
    if not locked:
        time.sleep(PAUSE)
        if not lock._own():
            lock.release()
            raise Held(f"DIR: {str(directory)!r} is being trained by another process")
    return lock


def _opened(path: Path) -> int:
    """The lock file, open for reading: a file open for writing would keep the disk busy."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EBADF:  # NFS locks only files that are open for writing
            os.close(handle)
            return os.open(path, os.O_RDWR)
    return handle


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, data, 0)
    finally:
        os.close(handle)


def _flock(handle: int) -> bool | None:
    """Whether the system granted its lock; None if the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NONE:
            return None
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _counts(owner: Mapping[str, Any], path: Path, locked: bool | None) -> bool:
    """Whether the owner still holds the directory."""
    if locked and (not owner or owner.get("boot") == _boot() is not None):
        return False  # its lock would still be there
    if in_sight(owner):
        return not ended(owner)
    return silence(path) <= STALE and (bool(owner) or locked is False)


def _who(owner: Mapping[str, Any]) -> str:
    if "pid" not in owner:
        return ""
    here = "" if in_sight(owner) else f"; if that has ended, it can be taken {STALE:.0f} s later"
    return f" (number {owner['pid']} on {owner.get('host')}{here})"


def _replaced(directory: Path) -> int:
    """Replaces the existing lock file with one that this process holds."""
    new = directory / f"{FILE}.{secrets.token_hex(8)}"
    handle = _opened(new)
    _flock(handle)
    os.replace(new, directory / FILE)
    return handle


def held(directory: Path) -> bool:
    """Whether a process seems to hold a directory; this only looks and takes no lock."""
    path = directory / FILE
    try:
        owner = read_owner(path.read_bytes())
        return not ended(owner) if in_sight(owner) else silence(path) <= STALE
    except OSError:
        return False


def make(directory: Path, files: Mapping[str, bytes]) -> Lock:
    """Makes a directory with some files, completely or not at all, and holds it.

    If several processes make the same directory, one of them succeeds.

    Args:
        directory: a new directory, or an empty one.
        files: name -> bytes.

    Raises:
        Taken: the path exists already.
        Held: another process is making the directory.
        OSError: the directory cannot be made.
    """
    check_free(directory)
    if directory.exists():  # it may be a mount point, or its parent may be read-only
        lock = acquire(directory)
        try:
            check_free(directory)
            _fill(directory, files)
        except BaseException:
            lock.release()
            raise
        return lock
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = directory.with_name(f".making-{secrets.token_hex(8)}")
    unfinished.mkdir()
    lock = acquire(unfinished)
    try:
        _fill(unfinished, files)
        os.rename(unfinished, directory)  # fails if anything but an empty directory is there
    except BaseException:
        lock.release()
        shutil.rmtree(unfinished, ignore_errors=True)
        check_free(directory)
        raise
    lock.directory = directory
    return lock


def _fill(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (directory / name).write_bytes(data)


def check_free(directory: Path) -> None:
    """Raises a `Taken` unless the path is free or an empty directory."""
    if directory.exists() and not directory.is_dir():
        raise Taken(f"workdir: {str(directory)!r} is a file; allowed: a new directory")
    if directory.exists() and any(
        path.name != FILE and not path.name.startswith(f"{FILE}.") for path in directory.iterdir()
    ):
        raise Taken(
            f"workdir: {str(directory)!r} is not empty; allowed: a new directory, "
            f"or go on with: gacf resume {directory}"
        )
