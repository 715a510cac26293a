"""Writes files completely or not at all, and reports file systems that refuse them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

LONGEST = 180  # bytes of a file name that a user chose; most file systems accept 255
WRITING = ".writing-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEXTS = {
    "No space left": errno.ENOSPC,
    "File too large": errno.EFBIG,
    "quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "No such file or directory": errno.ENOENT,
    "Stale file handle": errno.ESTALE,
    "Input/output error": errno.EIO,
}  # texts in Orbax's errors, which replace the error's number


class Unwritable(OSError):
    """Nothing can be written: the disk is full, or the directory is read-only or gone."""

    @property
    def full(self) -> bool:
        """Whether the disk is full."""
        return self.errno in _FULL


def unwritable(error: BaseException) -> Unwritable | None:
    """The refusal of the file system behind an error or one of its causes; None: there is none."""
    chain: list[BaseException | None] = [error]
    for one in chain:
        if isinstance(one, Unwritable):
            return one
        if isinstance(one, OSError) and one.errno is not None:
            return Unwritable(one.errno, one.strerror or os.strerror(one.errno))
        for text, number in _TEXTS.items():
            if one is not None and text in str(one):
                return Unwritable(number, os.strerror(number))
        if one is not None and len(chain) < 100:
            chain += [*getattr(one, "exceptions", ()), one.__cause__, one.__context__]
    return None


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turns a file system's refusal into an `Unwritable`, whatever a library turns it into."""
    try:
        yield
    except Exception as error:
        if refusal := unwritable(error):
            raise refusal from error
        raise


def shortened(name: str) -> str:
    """A name that a file may have; if it was too long, a digest keeps it distinct.

    Example:
        >>> shortened("short"), len(shortened("long" * 100))
        ('short', 137)
    """
    data = name.encode()
    if len(data) <= LONGEST:
        return name
    start = data[:120].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(data).hexdigest()[:16]}"


def temporary(path: Path) -> Path:
    """A path at which this process alone writes a file before it is renamed to `path`."""
    return path.with_name(f"{WRITING}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file such that a killed process leaves the old one or the new one.

    Raises:
        Unwritable: the file system refuses it.
    """
    unfinished = temporary(path)
    with writing():
        try:
            unfinished.write_bytes(data)
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise


def clean(directory: Path) -> None:
    """Removes unfinished files of killed processes; only for the process that writes there."""
    for path in directory.glob(f"{WRITING}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
