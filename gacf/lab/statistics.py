"""Statistics over seeds: interquartile mean, its bootstrap interval, and tests of pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000
FEW = 8  # with fewer seeds a bootstrap interval is unreliable
NUMBERS = 100_000  # drawn at once: more do not fit into the cache, fewer need too many calls


def iqm(values: Any, axis: int = -1) -> Any:
    """Interquartile mean: the mean of the values without the lowest and the highest quarter.

    Args:
        values: finite numbers, [..., S] if `axis` is the last.
        axis: the axis of the seeds.

    Reference:
        Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.

    Example:
        >>> float(iqm([0.0, 1.0, 2.0, 100.0]))
        1.5
    """
    return stats.trim_mean(np.asarray(values, float), 0.25, axis=axis)


def interval(values: Any, axis: int = -1, resamples: int = RESAMPLES) -> tuple[Any, Any]:
    """95 % interval of the interquartile mean by the percentile bootstrap over seeds.

    The draws are fixed, so that the same values always have the same interval.

    Args:
        values: numbers, [..., S] if `axis` is the last.
        axis: the axis of the seeds.
        resamples: the number of resamples.

    Returns:
        The low and the high end, without the axis of the seeds; both are NaN for a single seed.

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
    result = stats.bootstrap(
        (values,), iqm, axis=axis, n_resamples=resamples, batch=batch, method="percentile", rng=0
    )
    return result.confidence_interval.low, result.confidence_interval.high


def caution(n: int) -> str:
    """A sentence of warning about few seeds; empty from `FEW` seeds on.

    A bootstrap of n seeds has C(2n − 1, n) different resamples. Its interval lies between the
    lowest and the highest seed, and that range misses the true median with probability 2^(1 − n),
    whatever the distribution. The smallest two-sided p value of a rank test against n other seeds
    is 2 / C(2n, n).

    Example:
        >>> caution(3)  # doctest: +ELLIPSIS
        '3 seeds carry little evidence: they have 10 different resamples, the ...'
        >>> caution(8)
        ''
    """
    if n >= FEW or n < 1:
        return ""
    if n == 1:
        return "1 seed carries little evidence: it says nothing about how much seeds differ"
    missed = 100 * 2.0 ** (1 - n)
    return (
        f"{n} seeds carry little evidence: they have {math.comb(2 * n - 1, n)} different "
        "resamples, the bootstrap interval cannot leave the range of the seeds, which misses the "
        f"median of all seeds with probability {missed:.2g} %, and no two-sided rank test against "
        f"{n} other seeds gives p < {2 / math.comb(2 * n, n):.2g}"
    )


def wilcoxon(differences: Any) -> float:
    """The p value of the two-sided signed-rank test, exact even with ties.

    Under the null hypothesis both signs are equally likely. So W⁺, the sum of the ranks of positive
    differences, is Σ_i b_i r_i with fair coins b_i, and p = 2 min(P(W⁺ ≥ w), P(W⁺ ≤ w)), at most 1.
    Differences of equal size share their mean rank, and the coins are tossed for these ranks.
    Tables of the test, and the normal approximation that replaces them, assume ranks that differ.
    Pairs without a difference have no sign and are left out before ranks are assigned, as in
    Wilcoxon's paper.

    Args:
        differences: the difference of each pair, finite, [n].

    Returns:
        p in (0, 1]; 1 if no pair differs, or if there is none.

    Raises:
        ValueError: a difference is not finite. The caller must decide how to treat such pairs.

    Reference:
        Wilcoxon 1945; with ties: Hollander, Wolfe & Chicken 2014, section 3.1.

    Example:
        >>> wilcoxon([1.0, 2.0, 2.0, 0.0, 3.0])
        0.125
    """
    differences = np.asarray(differences, float)
    if differences.ndim != 1 or not np.isfinite(differences).all():
        raise ValueError(
            f"differences: {differences!r:.60} was given; allowed: finite numbers, [n]"
        )
    signed = differences[differences != 0]
    ranks = np.rint(2 * stats.rankdata(np.abs(signed))).astype(int)  # mean ranks may end in ½
    chance = np.zeros(ranks.sum() + 1)  # of each sum of twice the ranks
    chance[0] = 1.0
    for rank in ranks:
        moved = chance / 2
        chance = moved.copy()
        chance[rank:] += moved[: len(moved) - rank]
    observed = ranks[signed > 0].sum()
    return float(min(1.0, 2 * min(chance[observed:].sum(), chance[: observed + 1].sum())))


def holm(p: Sequence[float]) -> list[float]:
    """The p values corrected for their number by Holm's method.

    Reference:
        Holm 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    scaled = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def power_of_pairs(
    scores: Any, gain: float, best: float = np.inf, level: float = 0.05, draws: int = 1000
) -> float:
    """How often the signed-rank test would find a true gain with the given number of seeds.

    Each draw takes two runs of the plain method for each seed from the scores, with replacement.
    The gain is added to the second, as far as the best score allows, and the pairs are tested.

    Args:
        scores: finite scores of the plain method, [S].
        gain: the true gain of a strategy.
        best: the highest possible score.
        level: the level below which p must lie; for one of k corrected tests, its level over k.
        draws: the number of draws, which are always the same.

    Returns:
        The share of draws with p below the level and more positive than negative ranks.

    Example:
        >>> scores = np.random.default_rng(1).normal(size=16)
        >>> [power_of_pairs(scores, 5.0, best, draws=50) for best in (np.inf, scores.min())]
        [1.0, 0.0]
    """
    scores = np.asarray(scores, float)
    rng = np.random.default_rng(0)
    first, second = scores[rng.integers(scores.size, size=(2, draws, scores.size))]
    apart = np.minimum(second + gain, np.maximum(second, best)) - first
    return float(np.mean([wilcoxon(one) < level and np.median(one) > 0 for one in apart]))


def summarise(finals: Any, diverged: Mapping[int, int]) -> dict[str, Any]:
    """One metric over the seeds that did not diverge, as JSON.

    Args:
        finals: the last value of each seed, [S].
        diverged: seed -> the step at which it was first seen to have diverged.

    Returns:
        `iqm`, `low` and `high` (None if there are too few seeds); `n`, the number of seeds that
        they cover; and `finals`, the last value of every seed (None for NaN).

    Example:
        >>> summarise([1.0, 3.0, float("nan")], {2: 40})["n"]
        2
    """
    finals = np.asarray(finals, float)
    sound = np.array([np.isfinite(x) and i not in diverged for i, x in enumerate(finals)], bool)
    values = finals[sound]
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
    """A float that JSON can represent; None for NaN and infinities."""
    return float(x) if np.isfinite(x) else None
