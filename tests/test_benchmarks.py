"""What a benchmark compares is the same computation, and what it reports is worked right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import peers, scaling, subjects
from benchmarks.foundation import SUBJECTS
from benchmarks.workers import Worker, in_turn


@pytest.mark.long
@pytest.mark.parametrize("name", SUBJECTS)
def test_the_hand_written_update_is_the_same(name: str) -> None:
    with jax.numpy_rank_promotion("allow"):  # the hand-written side leans on it
        assert subjects.disagreement(SUBJECTS[name](), 10) < 1e-4


ECHO = """
from benchmarks.workers import serve
print("a library greets")
serve({"a": 1}, lambda x: {"seconds": 2 * x})
"""


@pytest.mark.long
def test_a_worker_answers_and_the_sides_take_turns() -> None:
    worker = Worker([sys.executable, "-c", ECHO])
    assert worker.answer() == {"a": 1} and worker(x=3) == {"seconds": 6}
    worker.close()
    gone = Worker([sys.executable, "-c", "pass"])
    with pytest.raises(SystemExit, match="the process ended"):
        gone.answer()
    gone.close()
    order: list[str] = []

    def side(name: str) -> Any:
        return lambda: order.append(name) or float(len(order))

    taken = in_turn({name: side(name) for name in "abc"}, 2)
    assert "".join(order) == "abccba" and taken["a"].tolist() == [1, 6]


def test_a_row_has_ratio_and_spread() -> None:
    taken = {"gacf": np.array([0.2, 0.4]), "PyTorch": np.array([0.2, 0.2])}
    cells = peers.row("GAN, update", 2, "PyTorch", taken, {"gacf": 20, "PyTorch": 10})
    assert cells[3:] == ["15.00", "20.00", "0.750 [0.62, 0.88]", "0.50 to 1.00", "2"]
    made = peers.table([cells], {"torch": "2"}, 2).markdown()
    assert "| 0.750 [0.62, 0.88] | 0.50 to 1.00 |" in made and "torch 2" in made


def test_the_model_of_memory_counts_the_whole_state_of_several_processes() -> None:
    alone = {"needed": 300, "state": 100, "share": 1.0}
    assert scaling.by_model(alone) == 300
    assert scaling.by_model({**alone, "share": 0.5}) == 250


@pytest.mark.slow
@pytest.mark.parametrize("name", ["peers", "scaling"])
def test_the_command_measures_and_writes(tmp_path: Path, name: str) -> None:
    written = tmp_path / "table.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(written)]
    root = Path(__file__).parents[1]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    subprocess.run(command, cwd=root, env=environment, check=True, timeout=280)
    (table,) = json.loads(written.read_text())["tables"]
    assert len(table["rows"]) >= 3 and all(len(r) == len(table["columns"]) for r in table["rows"])
