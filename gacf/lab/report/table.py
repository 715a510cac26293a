"""The comparison of runs as one table: terminal, Markdown, LaTeX."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gacf.lab import escape
from gacf.lab.errors import BadInput
from gacf.lab.records import SWEEP, read_sweep
from gacf.lab.report.fitted import Fitted
from gacf.lab.statistics import caution


class Table(NamedTuple):
    """A table as text, one row per cell of a run.

    Attributes:
        columns: the headings.
        rows: the rows, one text per column.
        note: what the numbers mean.
    """

    columns: list[str]
    rows: list[list[str]]
    note: str


LEFT = ("run", "cell", "task", "strategy", "diverged")  # columns of words, aligned to the left
LISTED = 4  # diverged seeds that are listed one by one
NOTE = (
    "interquartile mean [95 % bootstrap interval] over the n seeds that did not diverge, "
    "at the last step; diverged: a parameter is not finite, or a parameter or a loss is beyond 1e15"
)


def read_summary(run: str | Path) -> dict[str, Any]:
    """The summary of one finished run.

    Raises:
        BadInput: there is no run, or it has not finished.
    """
    run = Path(run)
    try:
        summary = json.loads((run / "summary.json").read_text())
        if not {"cells", "metrics"} <= set(summary) or not isinstance(summary["cells"], dict):
            raise ValueError("a key is missing")
        return summary
    except FileNotFoundError:
        if (run / "config.json").exists():
            why = f"has not finished; go on with: gacf resume {run}"
        else:
            why = "is not the directory of a run"
        raise BadInput(f"DIR: {str(run)!r} {why}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"DIR: {str(run / 'summary.json')!r} cannot be read: {error}") from None


def stated_goal(directory: str | Path, stored: dict[str, Any]) -> str | None:
    """Whether more or less of a sweep's key metric is better: `max`, `min`, or None: not stated.

    Earlier versions recorded a guess from the metric's name if the experiment did not state a goal.
    So the recorded goal counts only if the experiment's copy in the directory mentions a goal.

    Args:
        directory: the sweep's directory.
        stored: the result of `read_sweep`.
    """
    goal = stored.get("goal")
    try:
        states = "GOAL" in (Path(directory) / "experiment.py").read_text(encoding="utf-8")
    except (OSError, ValueError):
        states = True
    return goal if goal in ("max", "min") and states else None


def direction(goal: str | None) -> str:
    """A goal in words.

    Example:
        >>> direction("min"), direction(None)
        ('less is better', 'the experiment states no GOAL')
    """
    words = {"max": "more is better", "min": "less is better"}
    return words.get(goal or "", "the experiment states no GOAL")


def finished_runs(directory: str | Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """The runs of a directory: the variants of a sweep, or the run itself.

    Returns:
        The name and directory of each run, and the names of variants that have no results yet.
    """
    directory = Path(directory)
    if not (directory / SWEEP).exists():
        return [(directory.resolve().name, directory)], []
    names = list(read_sweep(directory)["variants"])
    missing = [name for name in names if not (directory / name / "summary.json").exists()]
    return [(name, directory / name) for name in names if name not in missing], missing


def interval_text(value: dict[str, Any] | None) -> str:
    """`IQM [low, high]`, rounded to two digits of the interval's width.

    Example:
        >>> interval_text({"iqm": 7.93712, "low": 7.8125, "high": 8.0})
        '7.94 [7.81, 8.00]'
        >>> interval_text({"iqm": None, "low": None, "high": None})
        '–'
    """
    if value is None or value["iqm"] is None:
        return "–"
    middle, low, high = value["iqm"], value["low"], value["high"]
    if low is None or high is None:
        return f"{middle:.4g}"
    largest, width = max(abs(middle), abs(low), abs(high)), high - low
    if largest and not 1e-3 <= largest < 1e6:
        return f"{middle:.2e} [{low:.2e}, {high:.2e}]"
    scale = math.floor(math.log10(width or largest or 1.0))
    digits = min(6, max(0, (1 if width else 2) - scale))
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(middle, low, high, d=digits)


def compare(summaries: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    """One table of several runs.

    Args:
        summaries: pairs of a run's name and the result of `read_summary`.

    Returns:
        Rows: run and cell; columns: the metrics that the runs' tables show, the key metric first.
    """
    columns: list[str] = []
    for _, summary in summaries:
        columns += [m for m in summary["metrics"] if m not in columns]
    rows = []
    for name, summary in summaries:
        for cell, entry in summary["cells"].items():
            metrics = entry["metrics"]
            listed = [metrics[m] for m in summary["metrics"] if m in metrics]
            counts = sorted({v["n"] for v in listed}) or [entry["seeds"] - len(entry["diverged"])]
            bad = [f"seed {seed} at {at}" for seed, at in entry["diverged"].items()]
            more = [f"{len(bad) - LISTED} more"] if len(bad) > LISTED else []
            diverged = ", ".join([*bad[:LISTED], *more])
            row = [] if len(summaries) == 1 else [name]
            row += [cell, *(interval_text(metrics.get(m)) for m in columns)]
            n = "–".join(str(c) for c in dict.fromkeys((counts[0], counts[-1])))
            rows.append([*row, f"{n}/{entry['seeds']}", diverged or "none"])
    lead = [] if len(summaries) == 1 else ["run"]
    heads = [m.removeprefix("evaluate/").removeprefix("final/") for m in columns]
    heads = [h if heads.count(h) == 1 else m for h, m in zip(heads, columns, strict=True)]
    return Table([*lead, "cell", *heads, "n", "diverged"], rows, _note(summaries))


def _note(summaries: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """What the numbers mean, which direction is better, and a warning about few seeds."""
    stated = dict.fromkeys((s.get("key_metric"), s.get("goal")) for _, s in summaries)
    ways = [
        f"{metric.removeprefix('evaluate/').removeprefix('final/')}: {direction(goal)}"
        for metric, goal in stated
        if metric
    ]
    entries = [entry for _, summary in summaries for entry in summary["cells"].values()]
    counts = [m["n"] for entry in entries for m in entry["metrics"].values() if m["n"]]
    return "; ".join(filter(None, [NOTE, *ways, caution(min(counts, default=0))]))


def terminal(table: Table) -> Any:
    """The table as a rich console prints it."""
    last = len(table.columns) - 1
    left = [i for i, column in enumerate(table.columns) if column in LEFT or i == last]
    warns = [table.columns[-1] == "diverged" and row[-1] != "none" for row in table.rows]
    return Fitted(table.columns, table.rows, table.note, left, warns)


def markdown(table: Table) -> str:
    r"""A Markdown table.

    Example:
        >>> print(markdown(Table(["cell", "n"], [["a|b", "2/2"]], "Note.")))
        | cell | n |
        | :--- | ---: |
        | a\|b | 2/2 |
        <BLANKLINE>
        Note.
    """
    lines = [[escape.markdown(c) for c in row] for row in (table.columns, *table.rows)]
    rule = [":---" if c in LEFT else "---:" for c in table.columns]
    lines.insert(1, rule)
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        + f"\n\n{escape.markdown(table.note)}"
    )


def latex(table: Table) -> str:
    r"""A LaTeX table for the package booktabs.

    Example:
        >>> print(latex(Table(["cell", "n"], [["a_b", "2/2"]], "95 % of it.")))
        % 95 % of it.
        \begin{tabular}{lr}
        \toprule
        cell & n \\
        \midrule
        a\_b & 2/2 \\
        \bottomrule
        \end{tabular}
    """
    align = "".join("l" if c in LEFT else "r" for c in table.columns)
    line = lambda row: " & ".join(map(escape.latex, row)) + r" \\"  # noqa: E731
    return "\n".join(
        [
            f"% {escape.plain(table.note)}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            line(table.columns),
            r"\midrule",
            *map(line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
