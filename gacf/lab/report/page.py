"""A sweep's report: one HTML page that needs nothing else, and the same as Markdown."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gacf.lab import curves, escape
from gacf.lab.painter import png
from gacf.lab.report import analysis
from gacf.lab.report.analysis import Interval, Results
from gacf.lab.report.table import direction, interval_text
from gacf.lab.statistics import caution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEST = 20  # cells listed
DRAWN = 6  # cells drawn together


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        title: heading.
        words: a text about what it shows.
        columns: the columns of its table.
        rows: the rows of its table, as text.
        figures: alternative text -> figure.
    """

    title: str
    words: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figures: Mapping[str, Figure] = {}


def _words(value: Interval) -> str:
    clean = [float(x) if np.isfinite(x) else None for x in value]
    return interval_text(dict(zip(("iqm", "low", "high"), clean, strict=True)))


def sections(results: Results) -> list[Section]:
    """All parts of the report; those that rank cells only if the experiment states a goal."""
    parts = [_best(results), _sensitivity(results)]
    whole = [cell for cell in results.cells if cell.finals.size][:DRAWN]
    parts.append(_curves(results, whole))
    if results.goal:
        parts.append(_profiles(results, whole))
    if results.goal and len(whole) > 1:
        parts += [_improvement(results), _power(results, whole)]
    return [one for one in parts if one.rows or one.figures]


def _curves(results: Results, cells: Sequence[analysis.Cell]) -> Section:
    tracks = analysis.tracks(results, cells)
    if not tracks:
        return Section("Learning curves", "")
    titles = curves.apart([cell.name for cell in cells], curves.TITLE)
    panels = {title: {"": curve} for title, curve in zip(titles, tracks, strict=True)}
    figure = curves.draw(panels)
    panel_axes = figure.axes[: len(panels)]
    low, high = zip(*(ax.get_ylim() for ax in panel_axes), strict=True)
    for ax in panel_axes:
        ax.set_ylim(min(low), max(high))
    which = (
        f"the best {_cells(len(panels))}, the best first"
        if results.goal
        else f"{_cells(len(panels))} of {len(results.cells)}, in the order of the sweep"
    )
    words = (
        f"{results.metric} of {which}: interquartile mean, 95 % bootstrap interval, single seeds "
        "faint."
    )
    return Section("Learning curves", words, figures={"learning curves": figure})


def _best(results: Results) -> Section:
    rows = []
    for rank, cell in enumerate(results.cells[:BEST], 1):
        settings = [_value(cell.settings[key]) for key in results.keys]
        value = _words(analysis.middle(cell.finals))
        n = f"{cell.finals.size}/{cell.seeds}"
        place = [str(rank)] if results.goal else []
        rows.append([*place, *settings, *_cell_name(results, cell), value, n])
    more = len(results.cells) - len(rows)
    words = (
        f"{results.metric} at the last step, {direction(results.goal)}: interquartile mean [95 % "
        "bootstrap interval] over the n seeds that did not diverge."
    )
    if results.goal:
        words += (
            " The best cells are chosen by these same seeds, so their values look better than they "
            "are."
        )
    else:
        words += (
            ' So nothing here is ranked. To rank the cells, set GOAL = "max" or "min" in the '
            "experiment and run the same gacf sweep again, which trains nothing a second time."
        )
    words += f" {more} more {'cell is' if more == 1 else 'cells are'} not listed." if more else ""
    words += f" {few}." if (few := _caution(results)) else ""
    several = ["cell"] if _several(results) else []
    heads = ["rank"] if results.goal else []
    title = "Best cells" if results.goal else "Cells"
    return Section(title, words, [*heads, *results.keys, *several, "value", "n"], rows)


def _cells(n: int) -> str:
    return "cell" if n == 1 else f"{n} cells"


def _caution(results: Results) -> str:
    """The warning about the smallest number of seeds of a cell."""
    return caution(min((c.finals.size for c in results.cells if c.finals.size), default=0))


def _several(results: Results) -> bool:
    return len({cell.cell for cell in results.cells}) > 1


def _cell_name(results: Results, cell: analysis.Cell) -> list[str]:
    return [cell.cell] if _several(results) else []


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _figure(columns: int, rows: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * columns, 2.8 * rows), layout="constrained", dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _sensitivity(results: Results) -> Section:
    effects = analysis.sensitivity(results)
    if not effects:
        return Section("Sensitivity", "")
    columns = min(3, len(effects))
    figure, axes = _figure(columns, -(-len(effects) // columns))
    rows = []
    count = 4 if results.goal else 3  # without a goal no cell is the best
    for ax, (key, values) in zip(axes, effects.items(), strict=False):
        for name, of_all, of_best in values:
            rows.append([key, name, _words(of_all), _words(of_best)][:count])
        at = np.arange(len(values))
        for i, (label, shift) in enumerate(
            (("all cells", -0.08), ("best cell", 0.08))[: count - 2]
        ):
            middle, low, high = np.array([value[1 + i] for value in values]).T
            ends = np.nan_to_num(np.stack([middle - low, high - middle])).clip(0)
            ax.errorbar(at + shift, middle, ends, fmt="o-", ms=4, lw=1.2, capsize=3, label=label)
        labels = [escape.label(value[0]) for value in values]
        ax.set_xticks(at, labels, rotation=20 if len(values) > 4 else 0)
        ax.set_title(escape.label(key), fontsize=9)
    axes[0].legend(fontsize=8, frameon=False)
    for ax in axes[len(effects) :]:
        ax.axis("off")
    words = "Each value of each swept key: over all cells that have it (resampled within cells)" + (
        ", and of the best cell that has it." if results.goal else "."
    )
    heads = ["key", "value", "all cells", "best cell"][:count]
    return Section("Sensitivity", words, heads, rows, {"sensitivity": figure})


def _profiles(results: Results, cells: Sequence[analysis.Cell]) -> Section:
    if not cells or results.goal is None:
        return Section("Performance profiles", "")
    values = np.concatenate([cell.finals for cell in cells])
    low, high = np.quantile(values, (0.01, 0.99))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    thresholds = np.linspace(low - margin, high + margin, 101)
    figure, (ax,) = _figure(1)
    figure.set_size_inches(6.5, 3.4)
    labels = curves.apart([cell.name for cell in cells], curves.LABEL)
    for i, cell in enumerate(cells):
        share, lower, upper = analysis.profile(cell.finals, thresholds, results.goal)
        ax.plot(thresholds, share, color=f"C{i}", lw=1.6, label=escape.label(labels[i]))
        ax.fill_between(thresholds, lower, upper, color=f"C{i}", alpha=0.15, lw=0)
    ax.set_xlabel(escape.label(results.metric), fontsize=8)
    ax.set_ylabel("share of seeds that are better", fontsize=8)
    figure.legend(loc="outside lower center", fontsize=7, frameon=False, ncols=2)
    return Section(
        "Performance profiles",
        f"The share of seeds whose {results.metric} is better than a threshold "
        f"({direction(results.goal)}), with 95 % bootstrap intervals: the best "
        f"{_cells(len(cells))}.",
        figures={"performance profiles": figure},
    )


def _improvement(results: Results) -> Section:
    best, *others = [cell for cell in results.cells if cell.finals.size]
    goal = results.goal or "max"
    rows = [
        [cell.name, _words(analysis.improvement(best.finals, cell.finals, goal))]
        for cell in others[:BEST]
    ]
    more = len(others) - len(rows)
    words = (
        f"How likely a seed of the best cell ({best.name}) is better than one of another. ½ means "
        "no difference. If an interval contains ½, these seeds do not show which cell is better."
    )
    words += f" {more} more {'cell is' if more == 1 else 'cells are'} not listed." if more else ""
    return Section("Probability of improvement", words, ["over", "probability"], rows)


def _power(results: Results, cells: Sequence[analysis.Cell]) -> Section:
    best, *others = cells
    figure, (ax,) = _figure(1)
    figure.set_size_inches(6.5, 3.4)
    rows = []
    labels = curves.apart([cell.name for cell in others], curves.LABEL)
    for i, cell in enumerate(others):
        curve = analysis.power(best.finals, cell.finals)
        needed = analysis.seeds_needed(curve)
        rows.append(
            [
                cell.name,
                f"over {analysis.SEEDS[-1]}" if needed is None else str(needed),
                f"{curve[max(n for n in curve if n <= max(2, best.seeds))]:.2f}",
            ]
        )
        label = escape.label(labels[i])
        ax.plot(list(curve), list(curve.values()), "o-", color=f"C{i + 1}", ms=3, label=label)
    ax.axhline(analysis.POWER, color="0.6", lw=0.8, ls="--")
    ax.set_xscale("log", base=2)
    ax.set_xticks(analysis.SEEDS[::3], [str(n) for n in analysis.SEEDS[::3]])
    ax.set_xlabel("seeds per cell", fontsize=8)
    ax.set_ylabel("share of comparisons that find it", fontsize=8)
    figure.legend(loc="outside lower center", fontsize=7, frameon=False, ncols=2)
    words = (
        f"How many seeds per cell a comparison with the best ({best.name}) would have needed to "
        "find the difference measured here in 80 % of cases (Mann-Whitney, two-sided, 5 %; seeds "
        "drawn with replacement from the existing ones, so larger numbers are extrapolations)."
    )
    columns = ["cell", "seeds needed", f"power at {best.seeds}"]
    return Section("How many seeds", words, columns, rows, {"power": figure})


_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#888}
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 .3rem}
p{max-width:48rem;margin:.3rem 0 .8rem}.soft{color:var(--soft);font-size:.9rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600}th:first-child,td:first-child{text-align:left}
img{width:auto;max-width:100%;min-width:34rem;height:auto;background:#fff;border-radius:4px}
img{display:block;margin:.6rem 0}
"""


def _html(text: str) -> str:
    return html.escape(escape.plain(text))


def as_html(results: Results, sections: Sequence[Section]) -> str:
    """The report as one page that refers to no other file."""
    parts = []
    for one in sections:
        parts.append(f"<h2>{_html(one.title)}</h2><p>{_html(one.words)}</p>")
        for name, figure in one.figures.items():
            data = base64.b64encode(png(figure)).decode()
            image = f'<img alt="{_html(name)}" src="data:image/png;base64,{data}">'
            parts.append(f'<div class="wide">{image}</div>')
        if one.rows:
            head = "".join(f"<th>{_html(c)}</th>" for c in one.columns)
            body = "".join(
                "<tr>" + "".join(f"<td>{_html(c)}</td>" for c in row) + "</tr>" for row in one.rows
            )
            parts.append(
                f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
                f"<tbody>{body}</tbody></table></div>"
            )
    title = _html(results.directory.resolve().name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="soft">{_html(_lead(results))}</p>{"".join(parts)}</body></html>\n'
    )


def _lead(results: Results) -> str:
    text = f"{len(results.cells)} cells over {', '.join(results.keys) or 'no key'}."
    if results.missing:
        text += f" Without results: {', '.join(results.missing)}."
    try:
        cost = json.loads((results.directory / "sweep-summary.json").read_text())
    except (OSError, ValueError):
        return text
    text += (
        f" {cost['compilations']} compilations; {cost['compile_seconds']:.0f} s of "
        f"{cost['wall_seconds']:.0f} s were spent on them."
    )
    return " ".join([text, *(f"Note: {note}." for note in cost["notes"])])


def as_markdown(results: Results, sections: Sequence[Section]) -> str:
    """The report as Markdown; its figures are files in the same folder, `report-<name>.png`."""
    row_of = lambda row: " | ".join(map(escape.markdown, row))  # noqa: E731
    name = escape.markdown(results.directory.resolve().name)
    lines = [f"# {name}", "", escape.markdown(_lead(results)), ""]
    for one in sections:
        lines += [f"## {one.title}", "", escape.markdown(one.words), ""]
        for name in one.figures:
            lines += [f"![{name}]({_file(name)})", ""]
        if one.rows:
            lines += [f"| {row_of(one.columns)} |", "|" + " --- |" * len(one.columns)]
            lines += [f"| {row_of(row)} |" for row in one.rows] + [""]
    return "\n".join(lines)


def _file(name: str) -> str:
    return f"report-{name.replace(' ', '-')}.png"


def write(directory: str | Path) -> tuple[Path, Path]:
    """Writes DIR/report.html and DIR/report.md with its figures.

    Raises:
        BadInput: there is nothing to report on.
    """
    results = analysis.read(directory)
    parts = sections(results)
    page, text = results.directory / "report.html", results.directory / "report.md"
    page.write_text(as_html(results, parts), encoding="utf-8")
    for one in parts:
        for name, figure in one.figures.items():
            (results.directory / _file(name)).write_bytes(png(figure))
    text.write_text(as_markdown(results, parts), encoding="utf-8")
    return page, text
