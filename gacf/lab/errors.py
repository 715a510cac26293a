"""The errors that reach a user as one line."""

from __future__ import annotations


class BadInput(ValueError):
    """Something that the user gave is wrong; the message is one line."""


class Failed(Exception):
    """Something went wrong after results had begun to be written; the message is one line.

    Args:
        message: what failed, and where.
        again: whether another attempt may succeed.
    """

    def __init__(self, message: str, again: bool = True):
        super().__init__(message)
        self.again = again


def check_text(argument: str, text: str, allowed: str) -> None:
    """Raises a `BadInput` for a path without letters, or with a NUL byte."""
    if not text or "\0" in text:
        raise BadInput(f"{argument}: {text!r} was given; allowed: {allowed}")
