"""Statistics over seeds: interquartile mean and its bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000
NUMBERS = 100_000  # drawn at once: more do not fit the cache, fewer cost a call each


def iqm(values: Any, axis: int = -1) -> Any:
    """Interquartile mean: the mean of what remains without the lowest and highest quarter.

    Args:
        values: finite numbers, [..., S] if `axis` is the last.
        axis: that of the seeds.

    Reference:
        Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.

    Example:
        >>> float(iqm([0.0, 1.0, 2.0, 100.0]))
        1.5
    """
    return stats.trim_mean(np.asarray(values, float), 0.25, axis=axis)


def interval(values: Any, axis: int = -1, resamples: int = RESAMPLES) -> tuple[Any, Any]:
    """95 % interval of the interquartile mean, percentile bootstrap over seeds, always the same.

    Args:
        values: numbers, [..., S] if `axis` is the last.
        axis: that of the seeds.
        resamples: how often to draw.

    Returns:
        Low and high end, without the seeds' axis; both are NaN for a single seed.

    Example:
        >>> low, high = interval([1.0, 1.0, 1.0])
        >>> float(low), float(high)
        (1.0, 1.0)
    """
    values = np.asarray(values, float)
    if values.shape[axis] < 2:
        nothing = np.full(np.delete(values.shape, axis), np.nan)
        return nothing, nothing
    batch = max(50, NUMBERS // max(1, values.size))
    found = stats.bootstrap(
        (values,), iqm, axis=axis, n_resamples=resamples, batch=batch, method="percentile", rng=0
    )
    return found.confidence_interval.low, found.confidence_interval.high


def summarise(finals: Any, diverged: Mapping[int, int]) -> dict[str, Any]:
    """One metric over the seeds that did not diverge, as JSON.

    Args:
        finals: last value of each seed, [S].
        diverged: seed -> step at which it was first seen to have diverged.

    Returns:
        `iqm`, `low`, `high` (None where there are too few seeds), `n`, how many seeds these are
        of, and `finals`, every seed's last value (None for NaN).

    Example:
        >>> summarise([1.0, 3.0, float("nan")], {2: 40})["n"]
        2
    """
    finals = np.asarray(finals, float)
    kept = np.array([np.isfinite(x) and i not in diverged for i, x in enumerate(finals)], bool)
    values = finals[kept]
    middle = iqm(values) if values.size else np.nan
    low, high = interval(values) if values.size else (np.nan, np.nan)
    return {
        "iqm": number(middle),
        "low": number(low),
        "high": number(high),
        "n": int(values.size),
        "finals": [number(x) for x in finals],
    }


def number(x: Any) -> float | None:
    """A float that JSON knows; None for NaN and infinities."""
    return float(x) if np.isfinite(x) else None
