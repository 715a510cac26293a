"""What fails once training has begun, and what a report says where little is known."""

from __future__ import annotations

import json
import math
import re
import shutil
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gacf.lab import curves, statistics
from gacf.lab.cli import main
from gacf.lab.report import analysis, page, table
from gacf.lab.statistics import caution
from gacf.lab.sweep import watch

from .common import TOY
from .test_analysis import sweep

TEXT = TOY.read_text()
SHORT = ("--config.steps=8", "--config.seeds=2")
# A callback on the host that raises at the third evaluation, as long as there is no file `mended`.
CALLBACK = """
_build = build
calls = []

def look(x):
    calls.append(1)
    if len(calls) > 4 and not os.path.exists("mended"):
        raise RuntimeError("the sensor is gone")  # here
    return x

def build(config):
    made = _build(config)
    def evaluate(state):
        x = made.evaluate(state)
        shape = jax.ShapeDtypeStruct(x["distance"].shape, x["distance"].dtype)
        seen = jax.pure_callback(look, shape, x["distance"], vmap_method="sequential")
        return {**x, "distance": seen}
    return made._replace(evaluate=evaluate)
"""
FINISH = """
def finish(config, finals):
    if config.rate == 2.0 or config.rate is None:
        raise RuntimeError("no font")  # here
    return {}
"""
FIGURE = "{'own': __import__('matplotlib.figure').figure.Figure()}"
PICTURES = FINISH.replace("finish", "pictures").replace("{}", FIGURE)


def written(directory: Path, more: str) -> tuple[Path, int]:
    text = TEXT.replace("def pictures", "def unused") + more
    path = directory / "own.py"
    path.write_text(text)
    return path, next((i for i, x in enumerate(text.splitlines(), 1) if "# here" in x), 0)


@pytest.mark.long
def test_a_callback_that_raises_says_cell_step_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    path, line = written(tmp_path, CALLBACK)
    few = ["--config.steps=24", "--config.seeds=2", "--config.checkpoint_every=4"]
    assert main(["run", str(path), "--workdir", "W", *few]) == 1
    (said,) = capfd.readouterr().err.splitlines()
    # Two seeds are evaluated at 4 and at 8; the fifth call is the first of step 12.
    assert said.startswith(f"gacf: cell 'own', after step 10 (own.py:{line}): RuntimeError: the se")
    assert said.endswith("go on with: gacf resume W")
    Path("mended").touch()
    assert main(["resume", "W"]) == 0
    assert set(pd.read_parquet("W/metrics.parquet").step) == set(range(2, 25, 2))


WRONG_ENDS = [
    ("finish", "return 3", "finish: 3 was returned"),
    ("finish", "return {'x': {}}", "finish: 'x' is not a cell"),
    ("finish", "return {'own': {'x': jnp.ones(7)}}", "shape .7"),
    ("finish", "return {'own': {'x': ['a', 'b']}}", "dtype <U1"),
    ("finish", "open('nowhere')", "FileNotFoundError"),
    ("pictures", "return [3]", "pictures: .* was returned"),
    ("pictures", "return {'a': 3}", "pictures: .* was returned"),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "more", "what"),
    [
        ("finish", FINISH, "RuntimeError: no font"),
        ("pictures", PICTURES, "RuntimeError: no font"),
        *(
            pytest.param(name, f"def {name}(config, finals): {body}", what, marks=pytest.mark.slow)
            for name, body, what in WRONG_ENDS
        ),
    ],
)
def test_what_fails_at_the_end_costs_itself_alone(
    name: str,
    more: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    path, line = written(tmp_path, more)
    assert main(["run", str(path), "--workdir", "W", *SHORT]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    place = f":{line}" if line else r"(:\d+)?"
    assert re.search(rf"^gacf: {name}\(config, finals\) \(own\.py{place}\): .*{what}", said)
    assert said.endswith("go on with: gacf resume W")
    frame = pd.read_parquet("W/metrics.parquet")
    assert frame.step.max() == 8 and Path("W/curves-evaluation.png").exists()
    shutil.copyfile(TOY, "W/experiment.py")
    assert main(["resume", "W"]) == 0
    assert Path("W/summary.json").exists() and not Path("W/progress.json").exists()


@pytest.mark.long
@pytest.mark.parametrize("more", [FINISH, pytest.param(PICTURES, marks=pytest.mark.slow)])
def test_in_a_sweep_the_variant_fails_and_the_others_go_on(
    more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    path, line = written(tmp_path, more)
    rates = "--sweep.rate=1.0,2.0,3.0"  # the one in the middle fails
    assert main(["sweep", str(path), "--workdir", "S", *SHORT, rates]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and f"own.py:{line}): RuntimeError: no font" in said[0]
    assert said[1] == "gacf: failed: rate=2.0; once that is corrected: gacf resume S"
    assert {p.parent.name for p in Path("S").glob("*/summary.json")} == {"rate=1.0", "rate=3.0"}
    assert len(list(Path("S").glob("*/metrics.parquet"))) == 3
    Path("S/experiment.py").write_text(TEXT)
    assert main(["resume", "S"]) == 0
    assert len(list(Path("S").glob("*/summary.json"))) == 3


@pytest.mark.long
def test_a_goal_is_recorded_and_without_one_nothing_is_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    call = ["sweep", "own.py", "--workdir", "S", *SHORT, "--sweep.actor.learning_rate=0.01,0.1"]
    # The metric's name tells nobody's goal any more: this one would have been "less".
    Path("own.py").write_text(TEXT.replace('GOAL = "min"\n', ""))
    assert main(call) == 0
    capsys.readouterr()
    assert json.loads(Path("S/sweep.json").read_text())["goal"] is None
    assert main(["watch", "S"]) == 0
    assert "best distance 1" not in (said := capsys.readouterr().out)
    assert "no best distance, the experiment states no GOAL" in said
    assert main(["report", "S"]) == 0
    assert "distance: the experiment states no GOAL" in " ".join(capsys.readouterr().out.split())
    text = Path("S/report.md").read_text()
    assert "nothing here is ranked" in text and "## Cells" in text and "| rank |" not in text
    assert not re.search(r"best cell|is better|improvement", text, re.IGNORECASE)
    # Once it is stated the same command trains nothing, and all is ranked.
    Path("own.py").write_text(TEXT)
    assert main(call) == 0
    assert json.loads(Path("S/sweep.json").read_text())["goal"] == "min"
    assert main(["report", "S"]) == 0
    text = Path("S/report.md").read_text()
    assert "less is better" in text and "| 1 | 0.1 |" in text
    capsys.readouterr()
    assert main(["watch", "S"]) == 0
    assert re.search(r"best distance \S+ \(learning_rate=0.1\), less is b", capsys.readouterr().out)
    assert main(["run", "own.py", "--workdir", "W", *SHORT]) == 0
    for name in ("config.json", "summary.json"):
        stored = json.loads(Path("W", name).read_text())
        assert (stored["key_metric"], stored["goal"]) == ("evaluate/distance", "min")


def test_a_goal_that_an_earlier_version_guessed_ranks_nothing(tmp_path: Path):
    made = sweep(tmp_path / "old", {(0.1, 8): np.ones(8), (0.2, 8): np.zeros(8)}, "min")
    assert analysis.read(made).goal == "min"
    (made / "experiment.py").write_text('KEY_METRIC = "evaluate/score"\n')
    results = analysis.read(made)
    assert results.goal is None
    assert [cell.settings["actor.rate"] for cell in results.cells] == [0.1, 0.2]
    assert watch.snapshot(made).best is None


@pytest.mark.long
def test_long_names_that_look_alike_have_panels_of_their_own(tmp_path: Path):
    made = sweep(tmp_path / "long", {(0.1, 8): np.ones(8), (0.2, 8): np.zeros(8)})
    stored = json.loads((made / "sweep.json").read_text())
    lead = "discriminator_learning_rate_with_spectral_normalisation_and_more=" * 2
    for old in list(stored["variants"]):
        new = f"{lead}{old}_and_so_on"
        stored["variants"][new] = stored["variants"].pop(old)
        (made / old).rename(made / new)
    (made / "sweep.json").write_text(json.dumps(stored))
    parts = {one.title: one for one in page.sections(analysis.read(made))}
    (figure,) = parts["Learning curves"].figures.values()
    titles = [ax.get_title() for ax in figure.axes if ax.lines]
    assert len(titles) == 2 and "rate=0.1," in titles[0] and "rate=0.2," in titles[1]
    assert "the best 2 cells" in parts["Learning curves"].words


def test_shortened_names_stay_apart():
    rng = np.random.default_rng(0)
    letters = np.array(list("ab_-=,. 01$"))
    for _ in range(200):
        names = list({"".join(rng.choice(letters, rng.integers(1, 60))) for _ in range(5)})
        shown = curves.apart(names, 12)
        assert len(set(shown)) == len(names)
        assert all(len(line.partition(" (")[0]) <= 12 for one in shown for line in one.split("\n"))


@pytest.mark.parametrize("n", range(2, 8))
def test_what_few_seeds_can_carry_is_counted(n: int):
    """By hand: resamples as multisets, p values of all rank orders, the median by the binomial."""
    resamples = len(list(combinations_with_replacement(range(n), n)))
    orders = list(combinations(range(2 * n), n))
    ranks = [sum(order) for order in orders]
    lowest = 2 * sum(r == min(ranks) for r in ranks) / len(ranks)
    missed = stats.binom.pmf([0, n], n, 0.5).sum()
    said = caution(n)
    assert f"{n} seeds carry little evidence: they have {resamples} different resamples" in said
    assert float(re.search(r"p < ([\d.e-]+)$", said)[1]) == pytest.approx(lowest, rel=0.05)  # type: ignore
    percent = float(re.search(r"probability ([\d.]+) %", said)[1])  # type: ignore
    assert percent == pytest.approx(100 * missed, rel=0.05)


@pytest.mark.long
def test_few_seeds_are_cautioned_of_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert [bool(caution(n)) for n in (0, 1, 3, 7, 8, 100)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    few = sweep(tmp_path / "few", {(0.1, 8): np.ones(3), (0.2, 8): np.ones(3)})
    for more in ([], ["--markdown"], ["--latex"]):
        assert main(["report", str(few), *more]) == 0
        assert "3 seeds carry little" in " ".join(capsys.readouterr().out.split())
    for name in ("report.md", "report.html"):
        # without tags, and with every kind of space as a plain one
        text = " ".join(re.sub(r"</?[a-z][^>]*>|&nbsp;", " ", (few / name).read_text()).split())
        assert "1.00 [1.00, 1.00]" in text
        assert "3 seeds carry little" in text
    many = sweep(tmp_path / "many", {(0.1, 8): np.ones(8), (0.2, 8): np.zeros(8)})
    assert main(["report", str(many)]) == 0
    assert "carry little" not in capsys.readouterr().out + (many / "report.md").read_text()
    path = tmp_path / "own.py"
    path.write_text(TEXT)
    assert main(["run", str(path), "--workdir", str(tmp_path / "W"), *SHORT]) == 0
    summary = json.loads((tmp_path / "W" / "summary.json").read_text())
    assert summary["cells"]["own"]["caution"].startswith("2 seeds carry little")


def test_watching_a_run(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["watch", str(whole), "--once"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("100 %  finished  40 steps  5 seeds  distance ")
    assert "less is better" in said
    place = tmp_path / "run"
    shutil.copytree(whole, place)
    (place / "summary.json").unlink()
    text, over = watch.of_run(place)
    assert over and text.startswith("step 40 of 40 saved")
    assert text.endswith(f"go on with: gacf resume {place}")
    progress: dict[str, Any] = {
        "cell": "toy", "step": 10, "steps": 40, "seconds": 5.0, "since": 0, "values": {},
        "metrics": {"actor/loss": 0.5, "evaluate/distance": 0.25}, "diverged": 1,
    }  # fmt: skip
    (place / "progress.json").write_text(json.dumps(progress))
    text, over = watch.of_run(place)
    assert not over
    # 10 steps took 5 seconds, so 30 more take 15.
    assert text == (
        "25 %  toy: 10/40  0:15 left  distance 0.25, less is better  actor/loss 0.5  diverged 1"
    )
    assert main(["watch", str(tmp_path), "--once"]) == 2
    assert "not the directory of a run or a sweep" in capsys.readouterr().err


@pytest.mark.long
def test_the_best_of_several_cells_is_named_by_variant_and_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    two = (
        "\n_one = build\ndef build(config): return {x: _one(config) for x in ('first', 'second')}\n"
    )
    Path("own.py").write_text(TEXT + two)
    call = ["sweep", "own.py", "--workdir", "S", *SHORT, "--sweep.actor.learning_rate=0.01,0.1"]
    assert main(call) == 0
    capsys.readouterr()
    assert main(["watch", "S", "--once"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"best distance [\d.]+ \(learning_rate=0.1 (first|second)\), less", said)
    assert "{" not in said


def test_no_resample_leaves_the_range_and_there_are_no_more_than_counted():
    values = np.array([1.0, 5.0, 2.0])
    low, high = statistics.interval(values)
    assert values.min() <= low <= high <= values.max()
    assert math.comb(5, 3) == 10 and "10 different" in caution(3)
    made = table.compare([("a", {"metrics": [], "cells": {}})])
    assert made.note == table.NOTE
