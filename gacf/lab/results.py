"""The results of a run: the tidy table, the summary and the learning curves of its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from gacf.lab import curves
from gacf.lab.statistics import caution, summarise
from gacf.runner.windows import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History = dict[str, np.ndarray]
"""Metric -> [S, W]."""


class Cell(NamedTuple):
    """The results of one cell.

    Attributes:
        history: metric -> [S, W].
        finals: metric -> [S], known only at the last step.
        seconds: wall, compile and train.
    """

    history: History
    finals: History
    seconds: Mapping[str, float]


def diverged(grid: Grid, history: History) -> dict[int, int]:
    """Seed -> the end of the first window in which it has diverged.

    Example:
        >>> grid = Grid(np.array([10, 20]), np.array([False, True]))
        >>> diverged(grid, {"diverged": np.array([[False, False], [False, True]])})
        {1: 20}
    """
    flags = history["diverged"].astype(bool)
    return {seed: int(grid.ends[row.argmax()]) for seed, row in enumerate(flags) if row.any()}


def tidy(grid: Grid, cells: Mapping[str, Cell]) -> pd.DataFrame:
    """A table with one row per cell, metric, seed and step.

    Returns:
        Columns cell, seed, step, metric, value. The value of a diverged seed may be NaN; windows
        without an evaluation have no rows of `evaluate/…`.
    """
    parts = []
    for cell, (history, finals, _) in cells.items():
        tracks = {name: grid.track(name, values) for name, values in history.items()}
        tracks |= {name: (grid.ends[-1:], values[:, None]) for name, values in finals.items()}
        for name, (steps, values) in tracks.items():
            seeds, length = values.shape
            parts.append(
                pd.DataFrame(
                    {
                        "cell": cell,
                        "seed": np.repeat(np.arange(seeds, dtype=np.int32), length),
                        "step": np.tile(steps.astype(np.int64), seeds),
                        "metric": name,
                        "value": values.astype(np.float64).ravel(),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def summary(grid: Grid, cells: Mapping[str, Cell]) -> dict[str, Any]:
    """Cell -> last-step statistics of every metric, divergences and times, as JSON."""
    entries = {}
    for cell, (history, finals, seconds) in cells.items():
        bad = diverged(grid, history)
        last = {k: grid.track(k, v)[1][:, -1] for k, v in history.items() if k != "diverged"}
        seeds, steps = len(history["diverged"]), int(grid.ends[-1])
        metrics = {k: summarise(v, bad) for k, v in {**last, **finals}.items()}
        entries[cell] = {
            "seeds": seeds,
            "steps": steps,
            "diverged": {str(seed): at for seed, at in bad.items()},
            "wall_seconds": seconds["wall"],
            "compile_seconds": seconds["compile"],
            "train_seconds": seconds["train"],
            "seed_steps_per_second": seeds * steps / max(seconds["train"], 1e-9),
            "caution": caution(min((m["n"] for m in metrics.values() if m["n"]), default=0)),
            "metrics": metrics,
        }
    return entries


def learning_curves(grid: Grid, cells: Mapping[str, Cell]) -> dict[str, Figure]:
    """File stem -> figure: one for the evaluations, one for the metrics of training."""
    groups: dict[str, dict[str, dict[str, curves.Curve]]] = {"evaluation": {}, "training": {}}
    for cell, (history, _, _) in cells.items():
        bad = list(diverged(grid, history))
        for name, values in history.items():
            if name == "diverged":
                continue
            group = groups["evaluation" if name.startswith("evaluate/") else "training"]
            curve = curves.Curve(*grid.track(name, values), bad)
            group.setdefault(name.removeprefix("evaluate/"), {})[cell] = curve
    return {f"curves-{name}": curves.draw(group) for name, group in groups.items() if group}
