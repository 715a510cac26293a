"""What a benchmark compares is the same computation."""

from __future__ import annotations

import jax
import pytest

from benchmarks import subjects
from benchmarks.foundation import SUBJECTS


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_hand_written_update_is_the_same(name: str) -> None:
    with jax.numpy_rank_promotion("allow"):  # the hand-written side leans on it
        assert subjects.disagreement(SUBJECTS[name](), 10) < 1e-4
