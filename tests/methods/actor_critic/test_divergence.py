from __future__ import annotations

import numpy as np
import pytest

from gacf.methods.actor_critic import DIVERGENCES

V, T = (
    x.ravel().astype(np.float32) for x in np.meshgrid(np.linspace(-3, 3, 9), np.linspace(0, 1, 5))
)


def sigmoid(v):
    return 1 / (1 + np.exp(-v.astype(np.float64)))


FORMULAS = {
    "squared_error": 0.5 * (V - T) ** 2,
    "huber": np.where(np.abs(V - T) <= 1, 0.5 * (V - T) ** 2, np.abs(V - T) - 0.5),
    "cross_entropy": -T * np.log(sigmoid(V)) - (1 - T) * np.log(1 - sigmoid(V)),
    "hinge": np.maximum(0, 1 - (2 * T - 1) * V),
    "wasserstein": -(2 * T - 1) * V,
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergence_is_its_formula(name):
    np.testing.assert_allclose(DIVERGENCES[name](V, T), FORMULAS[name], rtol=1e-5, atol=1e-6)


def test_cross_entropy_of_extreme_logits():
    v, t = np.float32([-1e4, 1e4, -1e4, 1e4]), np.float32([0, 1, 1, 0])
    np.testing.assert_allclose(DIVERGENCES["cross_entropy"](v, t), [0, 0, 1e4, 1e4], atol=1e-6)
