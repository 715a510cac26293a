"""Table 1: every cell builds, and what is measured is what was put in."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from gacf import config

ROOT = Path(__file__).parents[2]
TABLE1 = config.load(ROOT / "experiments" / "table1.py")
FAST = ("ring", "pendulum", "cart_pole")  # one of each family
ARMS = [
    pytest.param(task, arm, marks=[pytest.mark.slow] * (task not in FAST))
    for task in TABLE1.module.TASKS
    for arm in TABLE1.module.arms(task)
]


@pytest.mark.parametrize(("task", "arm"), ARMS)
def test_every_cell_builds_and_keeps_its_structure(task, arm):
    made = config.resolve(TABLE1, [f"--config.task={task}", f"--config.strategy={arm}"])
    algorithm = config.build(TABLE1, made)["table1"]
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    after, _ = jax.eval_shape(algorithm.step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert [x.shape for x in jax.tree.leaves(after)] == [x.shape for x in jax.tree.leaves(state)]
    assert set(jax.eval_shape(algorithm.evaluate, state)) >= {"score"}
