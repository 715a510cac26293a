"""Which losses take smoothed labels: those whose best verdict follows the label."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import gacf
from gacf.methods.gan import F_DIVERGENCES, LOSSES, GanLoss
from gacf.networks import MLP
from gacf.stabilizers import smooth

# By the formulas: cross-entropies, squares, f-divergences; a sign or a margin is no such thing.
TAKES = {
    "minimax", "non_saturating", "least_squares", "relativistic", "relativistic_least_squares",
    *F_DIVERGENCES,
}  # fmt: skip


def make(loss: Any, transform: Any, **options: Any) -> gacf.Game:
    return gacf.gan(
        MLP((4,), (2,)), MLP((4,)), np.ones((4, 2), np.float32), loss, 4, 2,
        transform_target=transform, **options,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("one_sided", [True, False])
def test_smoothing_goes_with_losses_that_follow_the_label(loss: str, one_sided: bool) -> None:
    transform = smooth(0.1, one_sided=one_sided)
    if loss in TAKES:
        make(loss, transform)
    else:
        with pytest.raises(ValueError, match=f"^transform_target: labels of .*'{loss}'[^\n]*$"):
            make(loss, transform)
    make(loss, smooth(0.0, one_sided=one_sided))


@pytest.mark.parametrize("loss", sorted(TAKES))
def test_what_is_taken_has_a_best_verdict_that_moves_with_the_label(loss: str) -> None:
    wrong = LOSSES[loss].divergence

    def best(label: float) -> float:
        def of(verdict: float) -> float:
            with jax.enable_x64(True):
                return float(wrong(jnp.float64(verdict), jnp.float64(label)))

        return minimize_scalar(of, bounds=(-8, 8), method="bounded").x

    low, middle, high = map(best, (0.2, 0.5, 0.8))
    assert -7 < low < middle - 0.1 < middle < high - 0.1 < 7


@pytest.mark.long
def test_labels_of_a_function_of_ones_own_are_looked_at() -> None:
    make("wasserstein", lambda t: 1 - t)  # still 0 and 1
    make("least_squares", lambda t: 1.2 * t)  # a square has a best verdict for any number
    for loss, transform in (("minimax", lambda t: 1.2 * t), ("hinge", lambda t: t - 0.1)):
        with pytest.raises(ValueError, match="transform_target: labels of"):
            make(loss, transform)
    with pytest.raises(ValueError, match=r"transform_target: labels of 0.25 .*that was given"):
        make(GanLoss(lambda v, t: (1 - 2 * t) * v), lambda t: t / 4)
    with pytest.raises(ValueError, match=r"transform_target: labels \[4\] became \[4, 1\]"):
        make("minimax", lambda t: t[:, None])
    with pytest.raises(ValueError, match="transform_target: labels of"):
        make("hinge", smooth(0.1), show="bernoulli")


def test_a_traced_amount_is_taken_for_some_amount() -> None:
    def value(amount: jax.Array, loss: str) -> jax.Array:
        make(loss, smooth(amount))
        return amount

    jax.eval_shape(lambda amount: value(amount, "non_saturating"), jnp.ones(()))
    with pytest.raises(ValueError, match="transform_target"):
        jax.eval_shape(lambda amount: value(amount, "hinge"), jnp.ones(()))
