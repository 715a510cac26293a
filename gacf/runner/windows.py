"""Windows: the stretches of steps after which metrics are kept and evaluations may run."""

from __future__ import annotations

import operator
from typing import NamedTuple

import jax
import numpy as np

from gacf.core.checks import at_most, require
from gacf.runner.memory import bytes_free

MOST_STEPS = 2**31 - 1  # what the step counter, an int32, can count
MANY = 10**6  # with more windows the free memory is checked first
BYTES_A_WINDOW = 64


def plan_windows(
    steps: int, log_every: int, evaluate_every: int | None, start: int = 0
) -> tuple[list[int], list[bool]]:
    """Divides `steps` steps from step `start` into windows, and says which are evaluated.

    A remainder makes a last, shorter window, whose metrics are not kept.

    Raises:
        ValueError: a number is below 1, there are more steps than a counter holds, or evaluations
            do not fall on the end of a window.
    """
    for name, n in (("steps", steps), ("log_every", log_every), ("evaluate_every", evaluate_every)):
        if n is not None or name != "evaluate_every":
            allowed = f"a whole number >= 1 and <= {MOST_STEPS}"
            require(name, n, at_most(MOST_STEPS), allowed)
    steps, log_every = operator.index(steps), operator.index(log_every)
    if evaluate_every is not None and evaluate_every % log_every:
        raise ValueError(
            f"evaluate_every: {evaluate_every} was given; "
            f"allowed: a multiple of log_every, {log_every}"
        )
    if start + steps > MOST_STEPS:
        raise ValueError(
            f"steps: {steps} more than the {start} made were given; allowed: {MOST_STEPS - start}"
        )
    if evaluate_every is not None and start % log_every:
        raise ValueError(
            f"log_every: {log_every} was given, and {start} steps have been made; allowed with "
            "evaluations: a divisor of that number"
        )
    free = bytes_free(jax.devices("cpu")[0]) if steps // log_every > MANY else None
    if free is not None and (steps // log_every) * BYTES_A_WINDOW > free:
        raise ValueError(
            f"steps: {steps} with log_every {log_every} make {steps // log_every} windows, more "
            "than the memory holds; allowed: fewer steps, or a larger log_every"
        )
    counts = [log_every] * (steps // log_every)
    ends = start + np.cumsum(counts, dtype=int)
    due = [evaluate_every is not None and end % evaluate_every == 0 for end in ends]
    if steps % log_every:
        counts, due = [*counts, steps % log_every], [*due, False]
    return counts, due


class Grid(NamedTuple):
    """Where a run's windows of steps end.

    Attributes:
        ends: the number of steps made by the end of each window, [W].
        due: whether the window ends with an evaluation, [W].
    """

    ends: np.ndarray
    due: np.ndarray

    def track(self, name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The steps [T] and values [S, T] of a metric, without windows that have no value."""
        if name.startswith("evaluate/"):
            return self.ends[self.due], values[:, self.due]
        return self.ends, values
