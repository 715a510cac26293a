"""Analyses of a sweep: best variants, sensitivity, profiles, comparisons, seeds needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from gacf.lab import records
from gacf.lab.curves import Curve
from gacf.lab.errors import BadInput
from gacf.lab.report import table
from gacf.lab.statistics import interval, iqm

RESAMPLES = 2000
BINS = 5  # of a key with more values than `MANY`
MANY = 8
LEVEL, POWER = 0.05, 0.8
SEEDS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)

Interval = tuple[float, float, float]
"""Middle, low and high end."""


class Cell(NamedTuple):
    """One cell of one variant.

    Attributes:
        name: the name of the variant, with that of the cell if a variant has several.
        variant: the name of the variant.
        cell: the name of the cell.
        settings: the values of the swept keys.
        finals: the key metric at the last step for the seeds that did not diverge, [S].
        seeds: how many seeds there were.
    """

    name: str
    variant: str
    cell: str
    settings: dict[str, Any]
    finals: np.ndarray
    seeds: int


class Results(NamedTuple):
    """A sweep's results.

    Attributes:
        directory: the sweep's.
        metric: the key metric.
        goal: `max`, `min`, or None: the experiment states none, so nothing is ranked.
        keys: the swept keys.
        cells: the cells, best first; without a goal in the order of the variants.
        missing: the variants without results.
    """

    directory: Path
    metric: str
    goal: str | None
    keys: list[str]
    cells: list[Cell]
    missing: list[str]


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a config by their full keys, as in "actor.learning_rate"."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = tuple(value) if isinstance(value, list) else value
    return flat


def read(directory: str | Path) -> Results:
    """Reads a sweep's finished variants.

    Raises:
        BadInput: there is no sweep, no variant has finished, or there is no metric to compare.
    """
    directory = Path(directory)
    stored = records.read_sweep(directory)
    runs, missing = table.finished_runs(directory)
    if not runs:
        raise BadInput(
            f"DIR: {str(directory)!r}: not finished: {', '.join(missing)}; "
            f"go on with: gacf resume {directory}"
        )
    flat = {name: leaves(config) for name, config in stored["variants"].items()}
    every = dict.fromkeys(key for one in flat.values() for key in one)
    keys = [k for k in every if len({repr(one.get(k)) for one in flat.values()}) > 1]
    summaries = {name: table.read_summary(place) for name, place in runs}
    metric = stored.get("key_metric") or next(iter(summaries.values())).get("key_metric")
    if not metric:
        raise BadInput(
            f"DIR: {str(directory)!r}: its experiment states no KEY_METRIC; allowed: sweeps whose "
            "experiment does, or a table with --markdown"
        )
    cells = []
    for name, summary in summaries.items():
        for cell, entry in summary["cells"].items():
            if metric in entry["metrics"]:
                values = entry["metrics"][metric]["finals"]
                bad = set(map(int, entry["diverged"]))
                sound = [x for i, x in enumerate(values) if x is not None and i not in bad]
                title = name if len(summary["cells"]) == 1 else f"{name}, {cell}"
                settings = {key: flat[name].get(key) for key in keys}
                finals = np.array(sound, float)
                cells.append(Cell(title, name, cell, settings, finals, len(values)))
    if not cells:
        raise BadInput(f"DIR: {str(directory)!r}: no variant reports {metric!r}, its key metric")
    goal = table.stated_goal(directory, stored)
    if goal:
        sign = -1.0 if goal == "min" else 1.0
        cells.sort(key=lambda c: -sign * iqm(c.finals) if c.finals.size else np.inf)
    return Results(directory, metric, goal, keys, cells, missing)


def middle(values: np.ndarray) -> Interval:
    """Interquartile mean and its 95 % interval; NaN where there are no values."""
    if not values.size:
        return np.nan, np.nan, np.nan
    low, high = interval(values)
    return float(iqm(values)), float(low), float(high)


def pooled(strata: Sequence[np.ndarray], seed: int = 0) -> Interval:
    """Interquartile mean over several cells' seeds, resampled within each cell.

    Args:
        strata: the values of each cell, [S].
        seed: the seed of the resampling.

    Reference:
        Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.

    Example:
        >>> pooled([np.ones(3), np.ones(4)])
        (1.0, 1.0, 1.0)
    """
    strata = [values for values in strata if values.size]
    if not strata:
        return np.nan, np.nan, np.nan
    rng = np.random.default_rng(seed)
    drawn = [v[rng.integers(v.size, size=(RESAMPLES, v.size))] for v in strata]
    means = iqm(np.concatenate(drawn, axis=1), axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(iqm(np.concatenate(strata))), float(low), float(high)


def sensitivity(results: Results) -> dict[str, list[tuple[str, Interval, Interval]]]:
    """How much each swept key matters.

    Returns:
        Key -> for each of its values, or bins of them: the value, the interquartile mean over all
        cells with that value, and that of the best cell with it, both with intervals. Without a
        goal no cell is the best, and the last entry is NaN.
    """
    effects = {}
    for key in results.keys:
        groups: dict[str, list[Cell]] = {}
        values = [cell.settings[key] for cell in results.cells]
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        order = (lambda v: (v,)) if numeric else (lambda v: (repr(v),))
        distinct = sorted(set(values), key=order)
        label = _labels(distinct, values, numeric)
        for value in distinct:
            groups.setdefault(label[value], [])
        for cell in results.cells:
            groups[label[cell.settings[key]]].append(cell)
        rows = []
        for name, cells in groups.items():  # cells are sorted, the best first
            best = middle(cells[0].finals if results.goal else np.empty(0))
            rows.append((name, pooled([c.finals for c in cells]), best))
        if len(rows) > 1:
            effects[key] = rows
    return effects


def _labels(distinct: list[Any], values: list[Any], numeric: bool) -> dict[Any, str]:
    if not numeric or len(distinct) <= MANY:
        return {v: f"{v:g}" if isinstance(v, float) else str(v) for v in distinct}
    edges = np.quantile(np.array(values, float), np.linspace(0, 1, BINS + 1))
    at = np.clip(np.searchsorted(edges, distinct, side="right") - 1, 0, BINS - 1)
    return {v: f"{edges[i]:.3g} to {edges[i + 1]:.3g}" for v, i in zip(distinct, at, strict=True)}


def profile(values: np.ndarray, thresholds: np.ndarray, goal: str) -> np.ndarray:
    """Performance profile: the share of seeds that are better than each threshold.

    Args:
        values: of the seeds, [S].
        thresholds: [T].
        goal: `max` or `min`.

    Returns:
        The shares and both ends of their 95 % bootstrap intervals, [3, T].

    Reference:
        Agarwal et al. (2021), equation 3.

    Example:
        >>> profile(np.array([1.0, 3.0]), np.array([0.0, 2.0]), "max")[0]
        array([1. , 0.5])
    """
    better = values[:, None] > thresholds if goal == "max" else values[:, None] < thresholds
    rng = np.random.default_rng(0)
    drawn = rng.integers(values.size, size=(RESAMPLES, values.size))
    shares = better[drawn].mean(axis=1)
    return np.stack([better.mean(axis=0), *np.quantile(shares, (0.025, 0.975), axis=0)])


def improvement(one: np.ndarray, other: np.ndarray, goal: str = "max") -> Interval:
    """Probability of improvement: that a seed of one is better than a seed of the other.

        P(X > Y) + ½ P(X = Y)

    Args:
        one: values of X, [S].
        other: values of Y, [R].
        goal: `max` or `min`.

    Returns:
        The probability and its 95 % bootstrap interval.

    Reference:
        Agarwal et al. (2021), section 4.3.

    Example:
        >>> improvement(np.array([2.0, 2.0]), np.array([1.0, 2.0]))[0]
        0.75
    """
    sign = 1.0 if goal == "max" else -1.0
    win = 0.5 * (1 + np.sign(sign * (one[:, None] - other[None, :])))
    rng = np.random.default_rng(0)
    rows = rng.integers(one.size, size=(RESAMPLES, one.size))
    columns = rng.integers(other.size, size=(RESAMPLES, other.size))
    drawn = win[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(win.mean()), float(low), float(high)


def power(one: np.ndarray, other: np.ndarray, draws: int = 500) -> dict[int, float]:
    """How likely a comparison with n seeds on each side would have found the difference.

    Seeds are drawn from the existing ones, with replacement. The difference counts as found if a
    two-sided Mann-Whitney test has p < 5 %.

    Args:
        one: the values of one cell's seeds, [S].
        other: the values of another cell's seeds, [R].
        draws: the number of comparisons drawn for each n.

    Returns:
        n -> the share of comparisons that find the difference.

    Example:
        >>> shares = power(np.arange(20.0), np.arange(20.0) + 100)
        >>> shares[2], shares[8]
        (0.0, 1.0)
    """
    rng = np.random.default_rng(0)
    shares = {}
    for n in SEEDS:
        left = one[rng.integers(one.size, size=(draws, n))]
        right = other[rng.integers(other.size, size=(draws, n))]
        spread = np.ptp(np.concatenate([left, right], axis=1), axis=1) > 0
        p = np.ones(draws)
        if spread.any():
            p[spread] = stats.mannwhitneyu(left[spread], right[spread], axis=1).pvalue
        shares[n] = float((p < LEVEL).mean())
    return shares


def seeds_needed(curve: Mapping[int, float]) -> int | None:
    """The smallest number of seeds from which on the power is 80 %; None: more than were tried.

    Example:
        >>> seeds_needed({2: 0.9, 3: 0.5, 4: 0.85, 5: 0.95})
        4
    """
    enough = [n for n in curve if all(p >= POWER for m, p in curve.items() if m >= n)]
    return min(enough, default=None)


def tracks(results: Results, cells: Sequence[Cell]) -> list[Any]:
    """Learning curves of the key metric, one `curves.Curve` per cell.

    Raises:
        BadInput: a variant's metrics.parquet cannot be read.
    """
    import pandas as pd

    curves = []
    for cell in cells:
        place = results.directory / cell.variant
        path = place / "metrics.parquet"
        selection = [("metric", "==", results.metric), ("cell", "==", cell.cell)]
        try:
            rows = pd.read_parquet(path, filters=selection)
        except (OSError, ValueError) as error:
            why = str(error).partition("\n")[0]
            raise BadInput(f"DIR: {str(path)!r} cannot be read: {why}") from error
        wide = rows.pivot(index="seed", columns="step", values="value")
        summary = json.loads((place / "summary.json").read_text())
        bad = [int(seed) for seed in summary["cells"][cell.cell]["diverged"]]
        curves.append(Curve(wide.columns.to_numpy(), wide.to_numpy(), bad))
    return curves
