"""What a sweep's report says: against known answers, and against rliable where it is there."""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gacf.lab.cli import main
from gacf.lab.errors import BadInput
from gacf.lab.report import analysis, page


def sweep(directory: Path, values: dict[tuple[float, int], np.ndarray], goal: str = "max") -> Path:
    """A finished sweep as the report reads it."""
    stored: dict[str, Any] = {
        "experiment": "made", "variants": {}, "devices": {}, "units": [], "goal": goal,
        "key_metric": "evaluate/score",
    }  # fmt: skip
    for (rate, width), finals in values.items():
        name = f"rate={rate},width={width}"
        stored["variants"][name] = {"seeds": 8, "actor": {"rate": rate}, "width": width}
        (directory / name).mkdir(parents=True)
        entry = {
            "seeds": len(finals), "diverged": {}, "steps": 10, "wall_seconds": 1.0,
            "metrics": {"evaluate/score": {"finals": list(finals), "n": len(finals), "iqm": 0.0,
                                           "low": 0.0, "high": 0.0}},
        }  # fmt: skip
        summary = {"cells": {"made": entry}, "key_metric": "evaluate/score", "metrics": []}
        (directory / name / "summary.json").write_text(json.dumps(summary))
        rows = [
            {"cell": "made", "seed": i, "step": step, "metric": "evaluate/score", "value": x * step}
            for i, x in enumerate(finals)
            for step in (5, 10)
        ]
        pd.DataFrame(rows).to_parquet(directory / name / "metrics.parquet")
    (directory / "sweep.json").write_text(json.dumps(stored))
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    values = {
        (rate, width): 10 * rate + rng.normal(size=8)
        for rate in (0.1, 0.2, 0.4)
        for width in (8, 16)
    }
    return sweep(tmp_path_factory.mktemp("made") / "sweep", values)


def test_the_best_cell_is_first_whichever_way_is_better(tmp_path: Path, made: Path):
    assert analysis.read(made).cells[0].settings["actor.rate"] == 0.4
    low, high = np.zeros(4), np.ones(4)
    less = sweep(tmp_path / "less", {(0.1, 8): high, (0.2, 8): low}, "min")
    results = analysis.read(less)
    assert [c.settings["actor.rate"] for c in results.cells] == [0.2, 0.1]
    assert results.keys == ["actor.rate"]
    assert analysis.improvement(low, high, "min")[0] == 1.0
    assert analysis.profile(low, np.array([0.5]), "min")[0] == 1.0


def test_sensitivity_sees_what_matters_and_only_that(made: Path):
    found = analysis.sensitivity(analysis.read(made))
    assert [name for name, _, _ in found["actor.rate"]] == ["0.1", "0.2", "0.4"]
    first, last = found["actor.rate"][0][1], found["actor.rate"][-1][1]
    assert first[2] < last[1], "the intervals of 0.1 and 0.4 are apart"
    one, other = (row[1] for row in found["width"])
    assert one[1] < other[2] and other[1] < one[2], "those of the width are not"


def test_many_values_are_binned(tmp_path: Path):
    values = {(float(r), 8): np.full(3, r) for r in np.linspace(1, 20, 20)}
    rows = analysis.sensitivity(analysis.read(sweep(tmp_path / "many", values)))["actor.rate"]
    assert len(rows) == analysis.BINS
    assert [row[1][0] for row in rows] == sorted(row[1][0] for row in rows)


def test_power_grows_with_the_difference_and_is_the_level_without_one():
    rng = np.random.default_rng(1)
    one = rng.normal(size=200)
    same = analysis.power(one, one)
    assert max(same.values()) < 0.1 and analysis.seeds_needed(same) is None
    small, large = analysis.power(one, one + 0.8), analysis.power(one, one + 2.0)
    assert small[16] < large[16]
    # Two-sided t test: 26 for a difference of .8 deviations (Mann-Whitney: 1.05 times as many).
    assert analysis.seeds_needed(small) in (24, 32)
    assert analysis.seeds_needed(large) in (5, 6, 8)


def test_statistics_are_those_of_rliable(monkeypatch: pytest.MonkeyPatch):
    metrics = pytest.importorskip("rliable.metrics")
    # Its bootstrap alone needs arch, which does not load beside pandas 3.
    arch: Any = types.ModuleType("arch.bootstrap")
    arch.IIDBootstrap = arch.IndependentSamplesBootstrap = object
    monkeypatch.setitem(sys.modules, "arch", types.ModuleType("arch"))
    monkeypatch.setitem(sys.modules, "arch.bootstrap", arch)
    library = importlib.import_module("rliable.library")
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=12), rng.normal(0.3, size=9)
    ours = analysis.improvement(x, y)[0]
    assert ours == pytest.approx(metrics.probability_of_improvement(x[:, None], y[:, None]))
    taus = np.linspace(-1, 1, 7)
    theirs = [library.run_score_deviation(x[:, None], tau) for tau in taus]
    np.testing.assert_allclose(analysis.profile(x, taus, "max")[0], theirs)
    assert analysis.middle(x)[0] == pytest.approx(metrics.aggregate_iqm(x[:, None]))


@pytest.mark.long
def test_the_page_needs_nothing_else_and_the_markdown_says_the_same(
    made: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["report", str(made)]) == 0
    assert "report.html" in capsys.readouterr().out
    text, other = (made / "report.html").read_text(), (made / "report.md").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|https?://|@import|<script""", text)
    assert text.count("<img") == other.count("![") == 4
    for title in (
        "Best cells", "Sensitivity", "Learning curves", "Performance profiles",
        "Probability of improvement", "How many seeds",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in text and f"## {title}\n" in other
    cells = re.findall(r"<td>(.*?)</td>", text)
    lines = [line for line in other.splitlines() if line.startswith("| ")]
    assert cells and set(cells) <= {c for line in lines for c in line[2:-2].split(" | ")}
    for name in re.findall(r"!\[.*?\]\((.*?)\)", other):
        assert (made / name).read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_reported_is_told(tmp_path: Path):
    stored = {"experiment": "made", "variants": {"a": {"seeds": 1}}, "devices": {}}
    (tmp_path / "sweep.json").write_text(json.dumps(stored))
    with pytest.raises(BadInput, match="not finished: a"):
        page.write(tmp_path)
