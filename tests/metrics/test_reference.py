"""Metrics against the packages that papers use; see reference.py for where the numbers are from."""

from __future__ import annotations

import json
from typing import Any

import jax
import pytest

from gacf.metrics import fid, prdc, sliced_wasserstein
from tests.metrics import reference


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return json.loads(reference.FILE.read_text())


@pytest.mark.parametrize("case", reference.CASES)
def test_fid_is_that_of_pytorch_fid(case, known):
    assert fid(*reference.features(case)) == pytest.approx(known[case]["fid"], rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(("case", "k"), [*((case, 5) for case in reference.CASES), ("unequal", 3)])
def test_prdc_is_that_of_prdc(case, k, known):
    found = {name: float(value) for name, value in prdc(*reference.features(case), k).items()}
    assert found == pytest.approx(known[case]["prdc"][str(k)], rel=1e-6)


@pytest.mark.long
@pytest.mark.parametrize(("case", "order"), [("few", 1), ("many", 2)])
def test_sliced_wasserstein_is_that_of_pot(case, order, known):
    real, fake = map(jax.numpy.asarray, reference.features(case))
    found = sliced_wasserstein(real, fake, jax.random.key(0), reference.PROJECTIONS, float(order))
    assert float(found) == pytest.approx(known[case]["sliced_wasserstein"][str(order)], rel=1e-4)
