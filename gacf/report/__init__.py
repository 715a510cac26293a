"""Statistics over seeds, tables and learning curves; reads results alone, and needs no JAX (L6)."""

from __future__ import annotations


class BadInput(ValueError):
    """Something that the user gave is wrong; the message is one line."""
