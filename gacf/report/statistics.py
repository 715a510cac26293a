"""Statistics over seeds: interquartile mean and its bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000
FEW = 8  # from so many seeds on a bootstrap interval is about what it says
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


def caution(n: int) -> str:
    """What so few seeds can carry, in a sentence; nothing from `FEW` seeds on.

    A bootstrap of n seeds has C(2n − 1, n) different resamples. Its interval lies between the
    lowest and the highest seed, and these miss the median of all seeds with probability 2^(1 − n),
    whatever the distribution. The smallest two-sided p value of a rank test against n other seeds
    is 2 / C(2n, n).

    Example:
        >>> caution(3)  # doctest: +ELLIPSIS
        '3 seeds carry little: they have 10 different resamples, the bootstrap interval cannot ...'
        >>> caution(8)
        ''
    """
    if n >= FEW or n < 1:
        return ""
    if n == 1:
        return "1 seed carries little: it says nothing about how much seeds differ"
    missed = 100 * 2.0 ** (1 - n)
    return (
        f"{n} seeds carry little: they have {math.comb(2 * n - 1, n)} different resamples, the "
        "bootstrap interval cannot leave the range of the seeds, which misses the median of all "
        f"seeds with probability {missed:.2g} %, and no two-sided rank test against {n} other "
        f"seeds gives p < {2 / math.comb(2 * n, n):.2g}"
    )


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
