"""The effects of strategies on tasks, paired by seed, as a table and a heat map.

    DIR/<any>.parquet   tidy: task, strategy, used, strength, seed, score, diverged, …
    DIR/table.json      tasks, strategies, families, {"task/strategy": why it is impossible}

A row with `strategy` "none" belongs to the plain method. A row with `used` belongs to the plain
method with that strategy added, and any other row to the plain method with that strategy taken
away. Higher scores are better.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from gacf.lab.errors import BadInput
from gacf.lab.painter import png
from gacf.lab.report.analysis import LEVEL, RESAMPLES, Interval, improvement
from gacf.lab.report.table import Table, interval_text, latex, markdown
from gacf.lab.statistics import caution, holm, iqm, wilcoxon

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = "none"
COLUMNS = ("task", "strategy", "used", "strength", "seed", "score", "diverged")
NOTE = (
    "Effect: difference of the interquartile means with and without the strategy [95 % bootstrap "
    "interval, paired by seed] over the n seeds that diverged in neither; P: probability of "
    "improvement [95 %], a diverged seed being the worst; p: two-sided Wilcoxon test of the pairs, "
    "exact, corrected for all rows (Holm); diverged: seeds without and with it"
)


class Effect(NamedTuple):
    """The effect of one strategy on one task.

    Attributes:
        task: the name of the task.
        strategy: the name of the strategy.
        strength: the strategy's strength; 0 if the plain method has the strategy already.
        change: the difference of interquartile means, and its 95 % interval.
        better: the probability of improvement, and its 95 % interval.
        plain: the interquartile mean of the plain method.
        diverged: how many seeds diverged without and with the strategy.
        pairs: how many seeds diverged in neither.
        seeds: how many seeds ran both.
        p: the p value of a two-sided Wilcoxon test of these pairs; 1 if none differs.
    """

    task: str
    strategy: str
    strength: float
    change: Interval
    better: Interval
    plain: float
    diverged: tuple[int, int]
    pairs: int
    seeds: int
    p: float


class Effects(NamedTuple):
    """All effects that were measured, and the combinations that are impossible.

    Attributes:
        tasks: the columns of the table.
        strategies: the rows of the table.
        cells: (task, strategy) -> the measured effect.
        impossible: (task, strategy) -> why the combination is impossible.
        families: heading -> tasks.
    """

    tasks: list[str]
    strategies: list[str]
    cells: dict[tuple[str, str], Effect]
    impossible: dict[tuple[str, str], str]
    families: dict[str, list[str]]


def holds(directory: str | Path) -> bool:
    """Whether a directory holds such results."""
    return (Path(directory) / "table.json").exists()


def read(directory: str | Path) -> Effects:
    """All effects of a directory's results.

    Raises:
        BadInput: there are no results, or they lack a necessary column.
    """
    directory = Path(directory)
    try:
        stored = json.loads((directory / "table.json").read_text())
        parts = [pd.read_parquet(path) for path in sorted(directory.glob("*.parquet"))]
        rows = pd.concat(parts, ignore_index=True)
        tasks, strategies = stored["tasks"], stored["strategies"]
        impossible = {tuple(key.split("/")): why for key, why in stored["impossible"].items()}
        families = stored["families"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"DIR: {str(directory)!r} cannot be read: {error}") from error
    if lacking := [name for name in COLUMNS if name not in rows]:
        raise BadInput(f"DIR: {str(directory)!r}: the column {lacking[0]!r} is missing")
    return Effects(tasks, strategies, effects(rows), impossible, families)


def effects(rows: pd.DataFrame) -> dict[tuple[str, str], Effect]:
    """The effect of each strategy on each task that was run both with and without it."""
    cells = {}
    for task, strategy in rows[["task", "strategy"]].drop_duplicates().to_numpy():
        of_task = rows["task"] == task
        plain, one = (rows.loc[of_task & (rows["strategy"] == x)] for x in (PLAIN, strategy))
        if strategy != PLAIN and len(plain):
            cells[task, strategy] = _effect(task, strategy, plain, one)
    return cells


def _effect(task: str, strategy: str, plain: pd.DataFrame, one: pd.DataFrame) -> Effect:
    both = plain.merge(one, on="seed", suffixes=("_plain", ""), validate="1:1")
    used = bool(one["used"].iloc[0])
    arms = [both[name].to_numpy(float) for name in ("score_plain", "score")]
    bad = [both[name].to_numpy(bool) for name in ("diverged_plain", "diverged")]
    bad = [gone | ~np.isfinite(arm) for gone, arm in zip(bad, arms, strict=True)]
    (without, off), (with_, on) = (
        zip(arms, bad, strict=True) if used else zip(arms[::-1], bad[::-1], strict=True)
    )
    paired = ~(off | on)
    finite = np.concatenate([without[~off], with_[~on], [0.0]])
    worst = finite.min() - 1.0
    better = improvement(np.where(on, worst, with_), np.where(off, worst, without))
    apart = (with_ - without)[paired]
    clean = arms[0][~bad[0]]
    return Effect(
        task, strategy, float(one["strength"].iloc[0]), change(without[paired], with_[paired]),
        better, float(iqm(clean)) if clean.size else np.nan, (int(off.sum()), int(on.sum())),
        int(paired.sum()), len(both), wilcoxon(apart),
    )  # fmt: skip


def change(without: np.ndarray, with_: np.ndarray) -> Interval:
    """The difference of interquartile means, with − without, and its 95 % interval.

    Seeds are drawn with replacement, and each contributes both of its values.

    Args:
        without: the score of each seed without the strategy, [S].
        with_: the scores of the same seeds with it, [S].

    Reference:
        Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.

    Example:
        >>> change(np.arange(8.0), np.arange(8.0) + 2)
        (2.0, 2.0, 2.0)
    """
    if without.size < 2:
        return np.nan, np.nan, np.nan
    rows = np.random.default_rng(0).integers(without.size, size=(RESAMPLES, without.size))
    drawn = iqm(with_[rows], axis=1) - iqm(without[rows], axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(iqm(with_) - iqm(without)), float(low), float(high)


def significant(measured: Effects) -> dict[tuple[str, str], float]:
    """Cell -> its p-value, corrected for all cells measured."""
    keys = list(measured.cells)
    return dict(zip(keys, holm([measured.cells[key].p for key in keys]), strict=True))


def paired(runs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Table:
    """Tests pairs of runs that share their seeds, with a correction for the number of tests.

    Overlapping intervals do not show that there is no difference: the seeds are paired, and the
    spread over seeds that both runs share widens both intervals. This test uses the pairs.

    Args:
        runs: title -> the scores without and with the change under test, for the same seeds, each
            [S]; a NaN marks a seed that diverged, whose pair is left out.
    """
    pairs = {}
    for title, arms in runs.items():
        without, with_ = (np.asarray(arm, float) for arm in arms)
        both = np.isfinite(without) & np.isfinite(with_)
        pairs[title] = without[both], with_[both], len(both)
    p = holm([wilcoxon(with_ - without) for without, with_, _ in pairs.values()])
    rows = [
        [title, _interval(change(without, with_)), f"{one:.2g}", f"{without.size}/{seeds}"]
        for (title, (without, with_, seeds)), one in zip(pairs.items(), p, strict=True)
    ]
    note = (
        "Effect: difference of the interquartile means [95 % bootstrap interval, paired by seed]; "
        "p: two-sided Wilcoxon test of the pairs, exact, corrected for all rows (Holm)"
    )
    return Table(["comparison", "effect", "p", "n"], rows, note)


def as_markdown(measured: Effects) -> str:
    """Both tables."""
    return f"{markdown(overview(measured))}\n\n{markdown(table(measured))}"


def as_latex(measured: Effects) -> str:
    """Both tables, for the package booktabs."""
    return f"{latex(overview(measured))}\n\n{latex(table(measured))}"


def write(directory: str | Path) -> list[Path]:
    """Writes table.md, table.tex, the heat map table.png and transfer.png next to the results."""
    measured, directory = read(directory), Path(directory)
    texts = {"table.md": as_markdown(measured), "table.tex": as_latex(measured)}
    for name, text in texts.items():
        (directory / name).write_text(text + "\n")
    figures = {"table.png": heat_map(measured)}
    if len(measured.families) > 1:
        figures["transfer.png"] = transfer(measured)
    for name, figure in figures.items():
        (directory / name).write_bytes(png(figure))
    return [directory / name for name in (*texts, *figures)]


def _interval(value: Interval) -> str:
    clean = [float(x) if np.isfinite(x) else None for x in value]
    return interval_text(dict(zip(("iqm", "low", "high"), clean, strict=True)))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _reason(measured: Effects, key: tuple[str, str]) -> str:
    """Why a cell has no number."""
    return f"n/a: {measured.impossible[key]}" if key in measured.impossible else "not yet run"


def overview(measured: Effects) -> Table:
    """The paper's table with numbers in it: one row per strategy, one column per task."""
    p = significant(measured)
    rows = []
    for strategy in measured.strategies:
        row = [_words(strategy)]
        for task in measured.tasks:
            cell = measured.cells.get((task, strategy))
            star = "*" if cell and p[task, strategy] < LEVEL else ""
            row.append(_reason(measured, (task, strategy)) if cell is None else _of(cell) + star)
        rows.append(row)
    note = f"{NOTE.partition(';')[0]}; * below 5 % after Holm's correction for all cells"
    return Table(["strategy", *map(_words, measured.tasks)], rows, note)


def _of(cell: Effect) -> str:
    return _interval(cell.change)


def table(measured: Effects) -> Table:
    """All numbers: one row per task and strategy."""
    p = significant(measured)
    rows = []
    for task in measured.tasks:
        for strategy in measured.strategies:
            cell = measured.cells.get((task, strategy))
            lead = [_words(task), _words(strategy)]
            if cell is None:
                rows.append([*lead, "", "", _reason(measured, (task, strategy)), "", "", "", ""])
                continue
            off, on = cell.diverged
            rows.append(
                [
                    *lead,
                    f"{cell.strength:g}" if cell.strength else "the method's",
                    f"{cell.plain:.3g}",
                    _interval(cell.change),
                    _interval(cell.better),
                    f"{p[task, strategy]:.2g}",
                    f"{off}/{cell.seeds} → {on}/{cell.seeds}",
                    f"{cell.pairs}/{cell.seeds}",
                ]
            )
    heads = ["task", "strategy", "strength", "plain", "effect", "P", "p", "diverged", "n"]
    few = caution(min((cell.pairs for cell in measured.cells.values() if cell.pairs), default=0))
    return Table(heads, rows, "; ".join(filter(None, [NOTE, few])))


def heat_map(measured: Effects) -> Figure:
    """The probability of improvement of each strategy on each task, grouped by family."""
    from matplotlib.figure import Figure

    p = significant(measured)
    tasks = [task for members in measured.families.values() for task in members]
    shape = len(measured.strategies), len(tasks)
    values = np.full(shape, np.nan)
    for i, strategy in enumerate(measured.strategies):
        for j, task in enumerate(tasks):
            if cell := measured.cells.get((task, strategy)):
                values[i, j] = cell.better[0]
    figure = Figure(figsize=(1.6 + 1.15 * shape[1], 1.2 + 0.5 * shape[0]), layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor("0.93")
    image = ax.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for i, strategy in enumerate(measured.strategies):
        for j, task in enumerate(tasks):
            key = (task, strategy)
            cell = measured.cells.get(key)
            text = (
                _reason(measured, key).partition(":")[0]
                if cell is None
                else f"{cell.better[0]:.2f}"
            )
            strong = cell is not None and p[key] < LEVEL
            dark = cell is not None and abs(cell.better[0] - 0.5) > 0.35
            ax.text(
                j, i, text, ha="center", va="center", fontsize=9 if cell else 6.5,
                color="white" if dark else "black", fontweight="bold" if strong else "normal",
            )  # fmt: skip
    ax.set_xticks(range(shape[1]), [_words(t) for t in tasks], fontsize=9)
    ax.set_yticks(range(shape[0]), [_words(s) for s in measured.strategies], fontsize=9)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    at = 0
    for name, members in measured.families.items():
        top = ax.secondary_xaxis("top")
        top.set_xticks([at + (len(members) - 1) / 2], [name], fontsize=9, fontweight="bold")
        top.tick_params(length=0)
        top.spines[:].set_visible(False)
        at += len(members)
        if at < shape[1]:
            ax.axvline(at - 0.5, color="black", lw=1.5)
    figure.colorbar(image, label="probability of improvement (bold: significant)")
    return figure


def transfer(measured: Effects) -> Figure:
    """Shows whether what helps one family helps the other: a point per strategy measured in both.

    Its coordinates are the means of the probability of improvement over each family's tasks. Its
    bars are the means of the ends of their intervals, and so wider than the interval of the mean.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    ax = figure.subplots()
    run = {task for task, _ in measured.cells}
    families = {
        name: [t for t in members if t in run] for name, members in measured.families.items()
    }
    (one, tasks), (other, others) = list(families.items())[:2]
    ax.axhline(0.5, color="0.7", lw=1, zorder=0)
    ax.axvline(0.5, color="0.7", lw=1, zorder=0)
    for i, strategy in enumerate(measured.strategies):
        ends = []
        for members in (tasks, others):
            cells = [
                measured.cells[t, strategy] for t in members if (t, strategy) in measured.cells
            ]
            if cells:
                ends.append(np.mean([cell.better for cell in cells], axis=0))
        if len(ends) < 2:
            continue
        (x, *bar_x), (y, *bar_y) = ends
        ax.errorbar(
            x, y, xerr=np.abs([[bar_x[0] - x], [bar_x[1] - x]]),
            yerr=np.abs([[bar_y[0] - y], [bar_y[1] - y]]),
            fmt="o", ms=6, lw=1, color=f"C{i}", label=_words(strategy),
        )  # fmt: skip
    corners = ((1, 1, "helps both"), (0, 0, "hurts both"))
    for x, y, text in (*corners, (0, 1, f"helps {other} alone"), (1, 0, f"helps {one} alone")):
        ax.text(
            0.02 + 0.96 * x, 0.02 + 0.96 * y, text, transform=ax.transAxes, color="0.45",
            ha="right" if x else "left", va="top" if y else "bottom", fontsize=9,
        )  # fmt: skip
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.set_xlabel(f"probability of improvement, {one}\n({', '.join(map(_words, tasks))})")
    ax.set_ylabel(f"probability of improvement, {other}\n({', '.join(map(_words, others))})")
    ax.spines[["top", "right"]].set_visible(False)
    if ax.containers:
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure
