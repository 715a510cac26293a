"""What the command prints when something went wrong; this module needs no JAX."""

from __future__ import annotations

import sys

from gacf.lab.escape import plain

INTERRUPTED = 130  # exit code


def say(message: object) -> None:
    """Prints one line on standard error."""
    print(f"gacf: {plain(' '.join(str(message).splitlines()))}", file=sys.stderr)
