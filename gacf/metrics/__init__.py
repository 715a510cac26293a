"""Metrics of samples (L2). To add one: a file beside these, and a line here."""

from gacf.metrics.modes import modes

__all__ = ["modes"]
