from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console
from scipy import stats

from gacf.lab import curves, results, statistics
from gacf.lab.errors import BadInput
from gacf.lab.inspect.progress import Display
from gacf.lab.report import fitted, table
from gacf.runner import Grid

from .common import ROOT


def entry(iqm: float | None, low: float | None, high: float | None, n: int = 3) -> dict[str, Any]:
    return {"iqm": iqm, "low": low, "high": high, "n": n, "finals": []}


def summary(cell: str, diverged: dict[str, int], **metrics: dict[str, Any]) -> dict[str, Any]:
    named = {f"evaluate/{name}": value for name, value in metrics.items()}
    cells = {cell: {"seeds": 4, "diverged": diverged, "metrics": named}}
    return {"metrics": list(named), "cells": cells}


def test_the_interval_is_scipys_and_always_the_same():
    values = np.random.default_rng(0).normal(size=16)
    low, high = statistics.interval(values)
    again = stats.bootstrap(
        (values,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=statistics.RESAMPLES,
        batch=50,
        method="percentile",
        rng=0,
    ).confidence_interval
    assert (low, high) == (again.low, again.high)
    assert low < statistics.iqm(values) < high


def test_diverged_and_unknown_seeds_are_left_out_and_counted():
    made = statistics.summarise([1.0, 2.0, np.nan, 3.0, 1e9], {4: 10})
    assert (made["iqm"], made["n"]) == (2.0, 3)
    assert made["finals"] == [1.0, 2.0, None, 3.0, 1e9]
    assert statistics.summarise([np.nan, np.nan], {}) == {
        **dict.fromkeys(("iqm", "low", "high")),
        "n": 0,
        "finals": [None, None],
    }
    assert statistics.summarise([5.0], {})["low"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((-157.31, -160.2, -150.1), "-157 [-160, -150]"),
        ((0.92361, 0.9201, 0.9302), "0.924 [0.920, 0.930]"),
        ((8.0, 8.0, 8.0), "8.00 [8.00, 8.00]"),
        ((0.0, 0.0, 0.0), "0.00 [0.00, 0.00]"),
        ((1.5e-9, 1e-9, 2e-9), "1.50e-09 [1.00e-09, 2.00e-09]"),
        ((12345.6, 12000.0, 12999.9), "12346 [12000, 13000]"),
        ((0.5, None, None), "0.5"),
    ],
)
def test_figures_show_two_digits_of_their_interval(value: tuple[Any, Any, Any], text: str):
    assert table.interval_text(entry(*value)) == text


def test_runs_are_compared_over_the_union_of_their_metrics():
    one = summary("a", {}, modes=entry(7.5, 7.0, 8.0, 4))
    two = summary("b", {"2": 40}, modes=entry(7.0, 6.0, 8.0), fid=entry(1.0, 0.5, 1.5))
    made = table.compare([("first", one), ("second", two)])
    assert made.columns == ["run", "cell", "modes", "fid", "n", "diverged"]
    assert made.rows == [
        ["first", "a", "7.5 [7.0, 8.0]", "–", "4/4", "none"],
        ["second", "b", "7.0 [6.0, 8.0]", "1.0 [0.5, 1.5]", "3/4", "seed 2 at 40"],
    ]


def test_latex_escapes_and_sets_minus_signs():
    made = table.compare([("", summary("a_b & 5 %", {}, x=entry(-2.0, -3.0, -1.0)))])
    text = table.latex(made)
    assert r"a\_b \& 5 \% & $-$2.0 [$-$3.0, $-$1.0] & 3/4 & none \\" in text
    assert text.startswith("% ") and r"\begin{tabular}{lrrl}" in text


def test_a_run_that_is_none_or_has_not_finished_is_one_line(tmp_path: Path):
    with pytest.raises(BadInput, match="is not the directory of a run"):
        table.read_summary(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="has not finished; go on with: gacf resume"):
        table.read_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"cells"')
    with pytest.raises(BadInput, match="cannot be read"):
        table.read_summary(tmp_path)


def test_windows_without_evaluation_have_no_rows_and_nan_of_a_bad_seed_has():
    grid = Grid(np.array([2, 4, 6]), np.array([False, True, True]))
    history = {
        "loss": np.array([[1.0, 2.0, 3.0], [1.0, np.nan, np.nan]]),
        "evaluate/x": np.array([[np.nan, 5.0, 6.0], [np.nan, np.nan, np.nan]]),
        "diverged": np.array([[False] * 3, [False, True, True]]),
    }
    cells = {"c": results.Cell(history, {"final/y": np.array([7.0, 8.0])}, {})}
    frame = results.tidy(grid, cells)
    assert list(frame.columns) == ["cell", "seed", "step", "metric", "value"]
    evaluated = frame[frame.metric == "evaluate/x"]
    assert evaluated.step.tolist() == [4, 6, 4, 6]
    np.testing.assert_array_equal(evaluated.value, [5.0, 6.0, np.nan, np.nan])
    assert frame[frame.metric == "final/y"].step.tolist() == [6, 6]
    assert results.diverged(grid, history) == {1: 4}


def test_a_runaway_seed_does_not_flatten_the_curves():
    values = np.random.default_rng(0).normal(size=(4, 20))
    values[3] *= 1e9
    figure = curves.draw({"x": {"c": curves.Curve(np.arange(20), values, [3])}})
    low, high = figure.axes[0].get_ylim()
    assert -5 < low < high < 5
    single = curves.draw({"x": {"c": curves.Curve(np.array([9]), np.ones((1, 1)), [])}})
    assert single.axes[0].get_ylim()[0] < 1 < single.axes[0].get_ylim()[1]


def test_help_reports_and_wrong_names_do_without_jax():
    code = (
        "import sys, contextlib\n"
        "from gacf.lab.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "for wrong in ('report nowhere', 'run nothing.py', 'sweep nothing.py', 'draw nothing.py', "
        "'resume nowhere', 'list nonsense'):\n"
        "    assert main(wrong.split()) == 2\n"
        "assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


NAMES = ["actor.learning_rate=0.001,r1=0.1", "actor.learning_rate=0.004,r1=10.0"]
WIDE = table.Table(
    ["run", "cell", "modes", "high_quality", "wasserstein", "n", "diverged"],
    [
        [NAMES[0], "ring_gan", "7.94 [7.81, 8.00]", "0.924 [0.920, 0.930]", "12346 [12000, 13000]",
         "16/16", "none"],
        [NAMES[1], "ring_gan", "6.94 [5.81, 8.00]", "0.924 [0.920, 0.930]",
         "1.50e-09 [1.00e-09, 2.00e-09]", "13/16", "seed 1 at 40, seed 2 at 100, 4 more"],
    ],
    table.NOTE,
)  # fmt: skip


def printed(made: table.Table, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table.terminal(made))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("columns", [range(7), (0, 2, 5, 6), (1, 2, 3, 5, 6), (0, 6)])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_words_and_intervals_stay_whole(columns: Sequence[int], width: int):
    rows = [[row[i] for i in columns] for row in (WIDE.columns, *WIDE.rows)]
    lines = printed(table.Table(rows[0], rows[1:], WIDE.note), width)
    assert max(map(len, lines)) <= width
    pieces = [word for row in rows for text in row for word in fitted.words(text)]
    for word in pieces:
        assert sum(line.count(word) for line in lines) >= pieces.count(word), word


def test_a_table_that_fits_has_one_line_per_row():
    lines = printed(WIDE, 200)
    assert all(any(all(text in line for text in row) for line in lines) for row in WIDE.rows)


def test_a_table_that_is_far_too_wide_becomes_a_list():
    lines = [line.strip() for line in printed(WIDE, 60)]
    assert f"run           {NAMES[0]}" in lines and "wasserstein   12346 [12000, 13000]" in lines


@pytest.mark.parametrize("width", [80, 120])
def test_progress_fits_the_terminal(width: int):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    with Display(console, "a_cell", 100_000, 64, 0, "evaluate/modes") as display:
        display.compiled(1.0)
        display.update(50_000, {"evaluate/modes": np.ones((64, 1)), "diverged": np.ones((64, 1))})
        display.bar.refresh()
    assert "50,000/100,000" in out.getvalue() and "diverged 64/64" in out.getvalue()


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_say_what_their_lines_are():
    curve = curves.Curve(np.arange(5), np.random.default_rng(0).normal(size=(3, 5)), [])
    parts = ["interquartile mean", "95 % interval", "single seeds"]
    assert legend(curves.draw({"x": {"c": curve}})) == parts
    both = curves.draw({"x": {"c": curve, "d": curve}})
    assert legend(both) == ["c", "d", *parts]
    assert len(both.axes[0].lines) == 2 and len(both.axes[0].collections) == 4
    overlay = curves.draw({"x": {"c": curve, "d": curve}}, seeds=False)
    assert legend(overlay) == ["c", "d", *parts[:2]] and len(overlay.axes[0].collections) == 2


@pytest.mark.parametrize(
    "names", [["c"], ["c", "d"], [f"learning_rate=0.{i}, r1=1" * 2 for i in range(9)]]
)
@pytest.mark.parametrize("metrics", [1, 2, 5])
def test_a_legend_covers_no_panel(names: list[str], metrics: int):
    curve = curves.Curve(np.arange(5), np.random.default_rng(0).normal(size=(3, 5)), [])
    figure = curves.draw({f"m{i}": dict.fromkeys(names, curve) for i in range(metrics)})
    FigureCanvasAgg(figure).draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
    for ax in figure.axes[:metrics]:
        assert ax.get_tightbbox().y0 >= box.y1 - 1
