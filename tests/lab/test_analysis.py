"""What a sweep's report says: against known answers, and against rliable where it is there."""

from __future__ import annotations

import html
import importlib
import json
import re
import sys
import types
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from gacf.lab.cli import main
from gacf.lab.curves import Curve
from gacf.lab.errors import BadInput
from gacf.lab.report import analysis, page, plot
from gacf.lab.report.sections import Link


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


@pytest.fixture(scope="module")
def reported(made: Path) -> tuple[Path, str, str]:
    """A sweep's directory with its report: the page, and the Markdown."""
    stored = json.loads((made / "sweep.json").read_text())
    stored |= {"commands": ["gacf sweep made.py --sweep.width=8,16"], "versions": {"jax": "1.2"},
               "code": {"experiment": {"file": "made.py", "commit": "0123456789abc"}}}  # fmt: skip
    (made / "sweep.json").write_text(json.dumps(stored))
    for name in stored["variants"]:
        (made / name / "samples.png").write_bytes(b"")
    assert main(["report", str(made)]) == 0
    return made, (made / "report.html").read_text(), (made / "report.md").read_text()


def without_tags(text: str) -> str:
    return re.sub(r"<[^>]*>", "", text)


@pytest.mark.long
def test_the_page_needs_nothing_else_and_the_markdown_says_the_same(
    reported: tuple[Path, str, str],
):
    made, text, other = reported
    assert not re.findall(r"""src=["'](?!data:)|https?://|@import|<script[^>]*src""", text)
    assert text.count("<img") == other.count("![") == 5
    for title in (
        "Best cells", "Curves overlaid", "Sensitivity", "Learning curves", "Performance profiles",
        "Probability of improvement", "How many seeds", "Runs", "How it was made", "Config",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in text and f"## {title}\n" in other
    cells = [without_tags(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", text)]
    plain = re.sub(r"\[([^\]]*)\]\(<[^>]*>\)", r"\1", other)
    lines = [line for line in plain.splitlines() if line.startswith("| ")]
    assert cells and set(cells) <= {c for line in lines for c in line[2:-2].split(" | ")}
    for name in re.findall(r"!\[.*?\]\((.*?)\)", other):
        assert (made / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_all_links_of_a_report_lead_somewhere(reported: tuple[Path, str, str]):
    made, text, other = reported
    targets = re.findall(r'href="([^"]*)"', text)
    ids = set(re.findall(r'id="([^"]*)"', text))
    inside = [target[1:] for target in targets if target.startswith("#")]
    assert len(inside) == len(ids) == text.count("<h2>") and set(inside) == ids
    files = [html.unescape(target) for target in targets if not target.startswith("#")]
    files += re.findall(r"\]\(<([^>]*)>\)", other)
    assert any("samples.png" in file for file in files)
    for file in files:
        assert file.startswith("./") and (made / unquote(file)).exists()


@pytest.mark.long
def test_a_report_says_how_the_sweep_was_made(reported: tuple[Path, str, str]):
    for said in ("gacf sweep made.py --sweep.width=8,16", "0123456789", "jax 1.2"):
        assert all(said in without_tags(text) for text in reported[1:])


@pytest.mark.long
def test_the_value_comes_first_in_the_page(reported: tuple[Path, str, str]):
    heads = re.findall(r"<thead>(.*?)</thead>", reported[1])[0]
    assert re.findall(r">([^<>]+)</th>", heads)[:2] == ["value", "rank"]


@pytest.mark.long
def test_the_plot_has_every_cell(reported: tuple[Path, str, str]):
    made, text, _ = reported
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    content = json.loads(found)
    cells = analysis.read(made).cells
    assert [curve["name"] for curve in content["curves"]] == [cell.name for cell in cells]
    assert content["metric"] == "evaluate/score" and content["shown"] == 6
    first = content["curves"][0]
    assert first["steps"] == [5, 10]
    assert first["middle"][1] == pytest.approx(10 * analysis.middle(cells[0].finals)[0], rel=1e-4)


def test_the_data_of_a_plot_cannot_end_its_script():
    curve = Curve(np.arange(3), np.array([[0.0, np.nan, 1 / 3]]), [])
    content = plot.data("a<b", ["</script><b>", "unused"], [curve], 1)
    text = plot.markup(content)
    assert text.count("</script>") == 2 and "<b>" not in text.replace("<body", "")
    found = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', text)[0])
    assert found["curves"] == [
        {"name": "</script><b>", "steps": [0, 1, 2], "middle": [0.0, None, 0.33333],
         "low": [0.0, None, 0.33333], "high": [0.0, None, 0.33333]}
    ]  # fmt: skip


def test_a_link_to_a_run_is_a_path_whatever_its_name():
    for name in ("javascript:alert(1)", 'a"b', "a b#c?d", "//x"):
        target = Link(name, f"{name}/").target
        assert target.startswith("./") and not set(target) & set(':"#? ()<>')
        assert unquote(target) == f"./{name}/"


def test_what_cannot_be_reported_is_told(tmp_path: Path):
    stored = {"experiment": "made", "variants": {"a": {"seeds": 1}}, "devices": {}}
    (tmp_path / "sweep.json").write_text(json.dumps(stored))
    with pytest.raises(BadInput, match="not finished: a"):
        page.write(tmp_path)
