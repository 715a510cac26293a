"""How a run is divided into windows, and these into calls of the compiled program."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gacf.lab.config import Config
from gacf.runner import plan_windows
from gacf.runner.windows import Grid

CALLS = 100  # calls of the compiled program into which a run is divided, if its windows allow it


class Plan(NamedTuple):
    """The windows of a run.

    Attributes:
        counts: the number of steps of each window, [W].
        grid: where the windows end, and which of them end with an evaluation.
        width: the number of windows in one call of the compiled program.
    """

    counts: list[int]
    grid: Grid
    width: int


def plan(settings: Config) -> Plan:
    """Divides a run into windows and calls.

    The last step always ends a window and is evaluated. A call ends at every checkpoint, and often
    enough in between for a progress bar.
    """
    log_every = settings.log_every
    counts, due = plan_windows(settings.steps, log_every, settings.evaluate_every)
    grid = Grid(np.cumsum(counts), np.array([*due[:-1], True]))
    each = min(settings.checkpoint_every // log_every, len(counts))
    most = min(each, max(1, len(counts) // CALLS))
    return Plan(counts, grid, max(n for n in range(1, most + 1) if each % n == 0))
