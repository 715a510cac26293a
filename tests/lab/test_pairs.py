"""The signed-rank test against all signs that there are, and what it would find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from gacf.lab.statistics import holm, power_of_pairs, wilcoxon

DRAW = np.random.default_rng(0)
CASES = {
    "one": [3.0],
    "one of two": [-1.0, 4.0],
    "all tied": [2.0, 2.0, -2.0, 2.0, 2.0],
    "two tied": [1.0, 1.0, 3.0, -4.0, 5.0, 6.0],
    "zeros": [0.0, 0.0, 1.0, 2.0, -2.0, 3.0],
    "few levels": DRAW.integers(-3, 5, 12).astype(float),
    "halves": [0.5, -0.5, 1.5, 1.5, 1.5, -2.0, 2.0, 7.0],
    "distinct": DRAW.normal(0.4, size=11),
}


def enumerated(differences: list[float]) -> float:
    """p from every assignment of signs; the statistic by pairs: Walsh averages, ties count ½."""
    sizes = np.abs([d for d in differences if d != 0])
    # the rank of a size: how many are smaller, half of those that are equal, and a half
    ranks = [sum(other < s for other in sizes) + (sum(sizes == s) + 1) / 2 for s in sizes]
    signs = np.array(list(itertools.product((0, 1), repeat=len(sizes))))
    sums = signs @ np.array(ranks)
    seen = sum(r for r, d in zip(ranks, [d for d in differences if d != 0], strict=True) if d > 0)
    return float(min(1.0, 2 * min(np.mean(sums <= seen + 1e-9), np.mean(sums >= seen - 1e-9))))


@pytest.mark.parametrize("name", CASES)
def test_every_assignment_of_signs(name: str) -> None:
    differences = list(map(float, CASES[name]))
    assert wilcoxon(differences) == pytest.approx(enumerated(differences), rel=1e-12)
    assert wilcoxon([-d for d in differences]) == pytest.approx(wilcoxon(differences), rel=1e-12)


@pytest.mark.parametrize("n", [1, 7, 32, 50, 120])
def test_without_ties_it_is_the_tabled_distribution(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.3, size=n)
    right = scipy.stats.wilcoxon(differences, method="exact").pvalue
    assert wilcoxon(differences) == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("n", [2, 32, 400])
def test_pairs_of_one_sign_are_the_same_evidence_tied_or_not(n: int) -> None:
    apart = np.arange(1.0, n + 1)
    for differences in (apart, np.maximum(apart, 2), np.ones(n)):
        assert wilcoxon(differences) == pytest.approx(2.0 ** (1 - n), rel=1e-9)


def test_many_pairs_with_ties_come_near_the_normal_distribution() -> None:
    differences = np.random.default_rng(0).integers(-9, 11, 300).astype(float)
    right = scipy.stats.wilcoxon(differences, method="asymptotic").pvalue
    assert wilcoxon(differences) == pytest.approx(right, rel=0.05)


def test_no_difference_is_no_evidence_and_no_number_is_refused() -> None:
    assert wilcoxon([]) == wilcoxon([0.0, 0.0]) == 1.0
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"differences: .* was given; allowed: finite numbers"):
            wilcoxon([1.0, bad])


def test_the_correction_keeps_small_numbers_apart_from_zero() -> None:
    assert holm([1e-40, 0.5, 2e-3]) == pytest.approx([3e-40, 0.5, 4e-3], rel=1e-12)


def test_a_gain_is_found_the_oftener_the_larger_it_is_and_not_above_the_best_score() -> None:
    scores = np.random.default_rng(0).normal(size=24)
    none, some, large = (power_of_pairs(scores, gain, draws=300) for gain in (0.0, 0.8, 3.0))
    assert none < 0.06 < some < large == 1.0
    # a paired t test with deviation √2 at 24 pairs finds .8 with a power of 76 %
    assert some == pytest.approx(0.74, abs=0.15)
    assert power_of_pairs(np.full(24, 5.0), 3.0, best=5.0, draws=10) == 0.0
