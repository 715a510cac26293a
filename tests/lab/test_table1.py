"""Table 1: every cell builds, and what is measured is what was put in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from gacf.lab import experiment_file, overrides
from gacf.lab.cli import main
from gacf.lab.report import effects

ROOT = Path(__file__).parents[2]
TABLE1 = experiment_file.load(ROOT / "experiments" / "table1.py")
FAST = ("ring", "pendulum", "cart_pole")  # one of each family
ARMS = [
    pytest.param(task, arm, marks=[pytest.mark.slow] * (task not in FAST))
    for task in TABLE1.module.TASKS
    for arm in TABLE1.module.arms(task)
]


@pytest.mark.long
@pytest.mark.parametrize(("task", "arm"), ARMS)
def test_every_cell_builds_and_keeps_its_structure(task, arm):
    made = overrides.resolve(TABLE1, [f"--config.task={task}", f"--config.strategy={arm}"])
    algorithm = experiment_file.build(TABLE1, made)["table1"]
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    after, _ = jax.eval_shape(algorithm.step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert [x.shape for x in jax.tree.leaves(after)] == [x.shape for x in jax.tree.leaves(state)]
    assert set(jax.eval_shape(algorithm.evaluate, state)) >= {"score"}


def rows(task: str, strategy: str, scores: Any, used: bool = True, diverged: Any = ()) -> Any:
    seeds = np.arange(len(scores))
    return pd.DataFrame(
        {
            "task": task, "strategy": strategy, "used": used, "strength": 0.5, "seed": seeds,
            "score": np.asarray(scores, float), "diverged": np.isin(seeds, diverged),
        }
    )  # fmt: skip


NOISE = np.random.default_rng(0).normal(size=32)


def measured(*parts: Any) -> effects.Effect:
    (found,) = effects.effects(pd.concat(parts, ignore_index=True)).values()
    return found


def test_a_constant_shift_is_found_exactly_however_noisy_the_seeds_are():
    plain = rows("ring", "none", NOISE, used=False)
    found = measured(plain, rows("ring", "freezing", NOISE + 0.1))
    np.testing.assert_allclose(found.change, 0.1, atol=1e-12)
    assert found.p < 1e-5
    assert 0.5 < found.better[0] < 0.6  # of seeds that are not paired: they overlap
    # the order in which the seeds are listed is no matter
    shuffled = rows("ring", "freezing", NOISE + 0.1).sample(frac=1, random_state=0)
    assert measured(plain, shuffled) == found


def test_what_is_taken_away_counts_the_other_way_round():
    plain = rows("pendulum", "none", NOISE, used=False)
    found = measured(plain, rows("pendulum", "replay_buffer", NOISE - 2, used=False))
    np.testing.assert_allclose(found.change, 2.0)
    assert found.better[0] > 0.9
    assert found.plain == effects.iqm(NOISE)


def test_a_seed_that_diverged_is_left_out_of_the_effect_and_is_the_worst():
    scores = np.where(np.arange(32) < 8, np.nan, NOISE)
    plain = rows("ring", "none", NOISE, used=False, diverged=[31])
    found = measured(plain, rows("ring", "freezing", scores, diverged=range(4)))
    assert (found.diverged, found.pairs, found.seeds) == ((1, 8), 23, 32)
    assert found.change == (0.0, 0.0, 0.0)
    assert found.p == 1
    expected = measured(
        rows("ring", "none", np.where(np.arange(32) == 31, -99, NOISE), used=False),
        rows("ring", "freezing", np.where(np.arange(32) < 8, -99, NOISE)),
    )
    assert found.better == expected.better


@pytest.mark.long
def test_without_a_difference_five_per_cent_of_the_intervals_miss_zero():
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(200):
        both = rng.normal(size=(2, 32))
        _, low, high = effects.change(*both)
        missed += not low <= 0 <= high
    assert missed <= 22  # 5.6 standard errors above 5 % would be 27


def written(directory: Path, *parts: Any) -> Path:
    pd.concat(parts).to_parquet(directory / "some.parquet")
    known = {
        "tasks": ["ring", "cart_pole"],
        "strategies": ["freezing", "replay_buffer"],
        "impossible": {"cart_pole/replay_buffer": "on-policy"},
        "families": {"GAN": ["ring"], "actor-critic": ["cart_pole"]},
    }
    (directory / "table.json").write_text(json.dumps(known))
    return directory


SPREAD = np.linspace(1.0, 3.0, 32)


@pytest.mark.long
def test_the_report_fills_every_cell(tmp_path, capsys):
    plain = rows("ring", "none", NOISE, used=False)
    place = str(written(tmp_path, plain, rows("ring", "freezing", NOISE + SPREAD)))
    assert main(["report", place, "--markdown"]) == 0
    text = capsys.readouterr().out
    assert "| freezing | 2.03 [1.71, 2.31]* | not yet run |" in text
    assert "| replay buffer | not yet run | n/a: on-policy |" in text
    assert "0/32 → 0/32" in text
    assert main(["report", place, "--latex"]) == 0
    assert r"\toprule" in capsys.readouterr().out
    assert main(["report", place]) == 0
    assert {p.name for p in tmp_path.iterdir()} >= {
        "table.md",
        "table.tex",
        "table.png",
        "transfer.png",
    }


def test_results_without_a_column_are_refused_in_one_line(tmp_path, capsys):
    plain = rows("ring", "none", NOISE, used=False).drop(columns="diverged")
    assert main(["report", str(written(tmp_path, plain))]) == 2
    err = capsys.readouterr().err.strip()
    assert err.endswith("the column 'diverged' is missing")
    assert "\n" not in err


def test_the_kept_results_are_of_the_table_and_whole():
    """What lies in the repository has all seeds of each cell, and names that the table knows."""
    known = TABLE1.module
    for path in known.RESULTS.glob("*.parquet"):
        found = pd.read_parquet(path)
        assert set(found["task"]) == {path.stem}
        for strategy, one in found.groupby("strategy"):
            assert strategy in (known.PLAIN, *known.STRATEGIES)
            assert sorted(one["seed"]) == list(range(32))


@pytest.mark.long
def test_the_document_says_what_was_kept(tmp_path):
    kept = TABLE1.module.RESULTS
    for path in (kept / "table.json", *kept.glob("*.parquet")):
        shutil.copy(path, tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    rows = (tmp_path / "table.md").read_text().splitlines()
    made = [row for row in rows if row[:1] == "|" and "|  | not yet run" not in row]
    told = (ROOT / "docs" / "table1.md").read_text().splitlines()
    assert len(made) > 20 and not set(made) - set(told)


def test_runs_of_the_same_seeds_are_compared_as_pairs(tmp_path):
    """Of each method the second rule is better by a little on every seed, whatever their spread."""
    control = experiment_file.load(ROOT / "experiments" / "control.py").module
    for method in ("ddpg", "td3"):
        for i, rule in enumerate(control.RULES):
            finals = [float(x) + (i == 1) * 1e-3 for x in NOISE[:16]]
            cell = {"metrics": {"evaluate/return": {"finals": [*finals, None, 99.0]}}}
            place = tmp_path / f"{method}-{rule}"
            place.mkdir()
            summary = {"cells": {"control": {**cell, "diverged": {"17": 40} if i else {}}}}
            (place / "summary.json").write_text(json.dumps(summary))
    lines = control.paired(str(tmp_path)).splitlines()
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    assert len(rows) == 2 + 6
    found = {title: (p, n) for title, _, p, n in rows[2:]}
    tested = f"{6 * 2 / 2**16:.2g}"  # 16 pairs of one sign, the smallest of six p
    assert found["ddpg: alternating over simultaneous"] == (tested, "16/18")
    assert found["td3: stackelberg over simultaneous"] == ("1", "16/18")


def test_the_figures_show_what_was_measured_in_both_families(tmp_path):
    parts = [rows(task, "none", NOISE, used=False) for task in ("ring", "cart_pole")]
    parts += [rows("ring", "freezing", NOISE + 9), rows("cart_pole", "freezing", NOISE - 9)]
    found = effects.read(written(tmp_path, *parts, rows("ring", "replay_buffer", NOISE)))
    (ax,) = effects.transfer(found).axes
    (point,) = [bars.lines[0] for bars in ax.containers]
    assert point.get_xydata().tolist() == [[1.0, 0.0]]
    shown = [text.get_text() for text in effects.heat_map(found).axes[0].texts]
    assert shown == ["1.00", "0.00", "0.50", "n/a"]
