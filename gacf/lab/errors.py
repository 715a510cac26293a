"""The errors that reach a user as one line."""

from __future__ import annotations

import os

LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes that file systems accept
DEEPEST = 200  # nested folders that Python can handle


class BadInput(ValueError):
    """Something that the user gave is wrong; the message is one line."""


class Failed(Exception):
    """Something failed after the first results had been written; the message is one line.

    Args:
        message: what failed, and where.
        again: whether another attempt may succeed.
    """

    def __init__(self, message: str, again: bool = True):
        super().__init__(message)
        self.again = again


def check_text(argument: str, text: str, allowed: str) -> None:
    """Raises a `BadInput` for a path that no file system accepts: empty, with NUL, too long."""
    if not text or "\0" in text:
        raise BadInput(f"{argument}: {text!r} was given; allowed: {allowed}")
    parts = [len(os.fsencode(part)) for part in text.split(os.sep)]
    if max(parts) > LONGEST_NAME or len(os.fsencode(text)) > LONGEST_PATH or len(parts) > DEEPEST:
        raise BadInput(
            f"{argument}: {text[:40]!r}… was given, {len(text)} letters; allowed: {allowed} of "
            f"at most {LONGEST_NAME} bytes a part, {LONGEST_PATH} in all, {DEEPEST} parts"
        )
