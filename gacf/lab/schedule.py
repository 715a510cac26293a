"""How a run is cut into windows, and these into calls of the compiled program."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gacf.lab.config import Config
from gacf.runner import plan_windows
from gacf.runner.windows import Grid

CALLS = 100  # calls of the compiled program that a run is cut into, if its windows allow


class Plan(NamedTuple):
    """The windows of a run.

    Attributes:
        counts: steps of each window, [W].
        grid: where they end, and which end with an evaluation.
        width: windows of one call of the compiled program.
    """

    counts: list[int]
    grid: Grid
    width: int


def plan(settings: Config) -> Plan:
    """Cuts a run into windows and calls.

    The last step ends a window and is evaluated, whatever the numbers are. A call ends at every
    checkpoint, and otherwise often enough for a progress bar.
    """
    log_every = settings.log_every
    counts, due = plan_windows(settings.steps, log_every, settings.evaluate_every)
    grid = Grid(np.cumsum(counts), np.array([*due[:-1], True]))
    each = min(settings.checkpoint_every // log_every, len(counts))
    most = min(each, max(1, len(counts) // CALLS))
    return Plan(counts, grid, max(n for n in range(1, most + 1) if each % n == 0))
