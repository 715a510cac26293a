"""The parts of a sweep's report: tables, figures and texts, for a page of HTML and for Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np

from gacf.lab import curves, escape, provenance, records
from gacf.lab.report import analysis, plot
from gacf.lab.report.analysis import Interval, Results
from gacf.lab.report.table import direction, interval_text
from gacf.lab.statistics import caution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEST = 20  # cells listed
DRAWN = 6  # cells drawn together
PANELS = 3  # side by side; on a telephone one
NARROW, WIDE = 3.6, 6.5  # inches of a figure with one panel, on a telephone and elsewhere
CROWDED = 36  # letters of labels that have no room side by side below a panel
FOLDED = 20  # rows from which on a table of details is closed at first


class Link(NamedTuple):
    """A link to a file in the sweep's directory.

    Attributes:
        text: what is shown.
        path: the file, relative to the directory.
    """

    text: str
    path: str

    @property
    def target(self) -> str:
        """The path as an address."""
        return quote(f"./{self.path}", safe="/=,+~")


Entry = str | Sequence[Link]
"""A cell of a table."""


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        title: heading.
        words: a text about what it shows.
        columns: the columns of its table.
        rows: the rows of its table.
        figures: alternative text -> figure.
        narrow: alternative text -> the same figure for a narrow screen.
        first: the column that a page shows first, so that a telephone shows it without scrolling.
        texts: whether the table holds texts rather than numbers to compare.
        folded: whether a page shows the table only when it is opened.
        plot: the data of an interactive plot, which takes the place of the figures in a page.
    """

    title: str
    words: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Entry]] = ()
    figures: Mapping[str, Figure] = {}
    narrow: Mapping[str, Figure] = {}
    first: str = ""
    texts: bool = False
    folded: bool = False
    plot: plot.Data | None = None


def _words(value: Interval) -> str:
    clean = [float(x) if np.isfinite(x) else None for x in value]
    return interval_text(dict(zip(("iqm", "low", "high"), clean, strict=True)))


def sections(results: Results) -> list[Section]:
    """All parts of the report; those that rank cells only if the experiment states a goal."""
    trained = [cell for cell in results.cells if cell.finals.size]
    whole = trained[:DRAWN]
    tracks = analysis.tracks(results, trained[: plot.MOST])
    parts = [_best(results), _overlay(results, trained, tracks), _sensitivity(results)]
    parts.append(_curves(results, whole, tracks[:DRAWN]))
    if results.goal:
        parts.append(_profiles(results, whole))
    if results.goal and len(whole) > 1:
        parts += [_improvement(results), _power(results, whole)]
    stored = records.read_sweep(results.directory)
    parts += [_runs(results, stored), _origin(results, stored), _config(results, stored)]
    return [one for one in parts if one.rows or one.figures]


def _both(draw: Callable[[int, float], Figure]) -> tuple[Figure, Figure]:
    """A figure for any screen and one for a narrow screen.

    Args:
        draw: takes the number of panels side by side and the width of a single panel in inches.
    """
    return draw(PANELS, WIDE), draw(1, NARROW)


def _which(results: Results, n: int) -> str:
    """Which cells are shown, in words, and how many there are."""
    more = f" of {len(results.cells)}" if len(results.cells) > n else ""
    if results.goal:
        return f"the best {_cells(n)}{more}, the best first"
    return f"{_cells(n)}{more}, in the order of the sweep"


def _overlay(
    results: Results, cells: Sequence[analysis.Cell], tracks: Sequence[curves.Curve]
) -> Section:
    title = "Curves overlaid"
    if len(tracks) < 2:
        return Section(title, "")
    names = [cell.name for cell in cells]
    few = dict(zip(names[:DRAWN], tracks, strict=False))
    wide, narrow = _both(
        lambda columns, width: curves.draw({results.metric: few}, seeds=False, width=width)
    )
    words = f"{results.metric}: interquartile mean and 95 % bootstrap interval. "
    words += f"Shown: {_which(results, len(few))}."
    if len(cells) > plot.MOST:
        words += f" More than {plot.MOST} cells cannot be told apart, so the others are left out."
    alt = "overlaid curves"
    data = plot.data(results.metric, names, tracks, DRAWN)
    return Section(title, words, figures={alt: wide}, narrow={alt: narrow}, plot=data)


def _curves(
    results: Results, cells: Sequence[analysis.Cell], tracks: Sequence[curves.Curve]
) -> Section:
    if not tracks:
        return Section("Learning curves", "")
    titles = curves.apart([cell.name for cell in cells], curves.TITLE)
    panels = {title: {"": curve} for title, curve in zip(titles, tracks, strict=True)}

    def drawn(columns: int, width: float) -> Figure:
        del width
        figure = curves.draw(panels, columns=columns)
        panel_axes = figure.axes[: len(panels)]
        low, high = zip(*(ax.get_ylim() for ax in panel_axes), strict=True)
        for ax in panel_axes:
            ax.set_ylim(min(low), max(high))
        return figure

    wide, narrow = _both(drawn)
    words = (
        f"{results.metric} of {_which(results, len(panels))}: interquartile mean, 95 % bootstrap "
        "interval, single seeds faint."
    )
    alt = "learning curves"
    return Section("Learning curves", words, figures={alt: wide}, narrow={alt: narrow})


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
    columns = [*heads, *results.keys, *several, "value", "n"]
    return Section(title, words, columns, rows, first="value")


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


def _figure(size: tuple[float, float], columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _sensitivity(results: Results) -> Section:
    effects = analysis.sensitivity(results)
    if not effects:
        return Section("Sensitivity", "")
    count = 4 if results.goal else 3  # without a goal no cell is the best
    rows = [
        [key, name, _words(of_all), _words(of_best)][:count]
        for key, values in effects.items()
        for name, of_all, of_best in values
    ]
    wide, narrow = _both(
        lambda columns, width: _draw_sensitivity(effects, count - 2, min(columns, len(effects)))
    )
    words = "Each value of each swept key: over all cells that have it (resampled within cells)" + (
        ", and of the best cell that has it." if results.goal else "."
    )
    heads = ["key", "value", "all cells", "best cell"][:count]
    alt = "sensitivity"
    return Section("Sensitivity", words, heads, rows, {alt: wide}, {alt: narrow})


def _draw_sensitivity(effects: Mapping[str, Any], lines: int, columns: int) -> Figure:
    rows = -(-len(effects) // columns)
    figure, axes = _figure((3.6 * columns, 2.8 * rows), columns, rows)
    for ax, (key, values) in zip(axes, effects.items(), strict=False):
        at = np.arange(len(values))
        for i, (label, shift) in enumerate((("all cells", -0.08), ("best cell", 0.08))[:lines]):
            middle, low, high = np.array([value[1 + i] for value in values]).T
            ends = np.nan_to_num(np.stack([middle - low, high - middle])).clip(0)
            ax.errorbar(at + shift, middle, ends, fmt="o-", ms=4, lw=1.2, capsize=3, label=label)
        labels = [escape.label(value[0]) for value in values]
        crowded = sum(map(len, labels)) > CROWDED
        ax.set_xticks(at, labels, rotation=90 if crowded else 0, fontsize=7 if crowded else 8)
        ax.set_title(escape.label(key), fontsize=9)
    axes[0].legend(fontsize=8, frameon=False)
    for ax in axes[len(effects) :]:
        ax.axis("off")
    return figure


def _profiles(results: Results, cells: Sequence[analysis.Cell]) -> Section:
    if not cells or results.goal is None:
        return Section("Performance profiles", "")
    values = np.concatenate([cell.finals for cell in cells])
    low, high = np.quantile(values, (0.01, 0.99))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    thresholds = np.linspace(low - margin, high + margin, 101)
    shares = [analysis.profile(cell.finals, thresholds, results.goal) for cell in cells]
    labels = curves.apart([cell.name for cell in cells], curves.LABEL)

    def drawn(columns: int, width: float) -> Figure:
        figure, (ax,) = _single(width, len(labels))
        for i, (share, lower, upper) in enumerate(shares):
            ax.plot(thresholds, share, color=f"C{i}", lw=1.6, label=escape.label(labels[i]))
            ax.fill_between(thresholds, lower, upper, color=f"C{i}", alpha=0.15, lw=0)
        ax.set_xlabel(escape.label(results.metric), fontsize=8)
        ax.set_ylabel("share of seeds that are better", fontsize=8)
        _add_legend(figure, columns)
        return figure

    wide, narrow = _both(drawn)
    words = (
        f"The share of seeds whose {results.metric} is better than a threshold "
        f"({direction(results.goal)}), with 95 % bootstrap intervals: "
        f"{_which(results, len(cells))}."
    )
    alt = "performance profiles"
    return Section("Performance profiles", words, figures={alt: wide}, narrow={alt: narrow})


def _single(width: float, lines: int) -> tuple[Figure, Any]:
    """A figure with one panel, and room for a legend of so many lines below it."""
    return _figure((width, 3.0 + 0.15 * (lines if width < WIDE else -(-lines // 2))))


def _add_legend(figure: Figure, columns: int) -> None:
    columns = min(2, columns)
    figure.legend(loc="outside lower center", fontsize=7, frameon=False, ncols=columns)


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
    powers = [analysis.power(best.finals, cell.finals) for cell in others]
    rows = []
    for cell, power in zip(others, powers, strict=True):
        needed = analysis.seeds_needed(power)
        rows.append(
            [
                cell.name,
                f"over {analysis.SEEDS[-1]}" if needed is None else str(needed),
                f"{power[max(n for n in power if n <= max(2, best.seeds))]:.2f}",
            ]
        )
    labels = curves.apart([cell.name for cell in others], curves.LABEL)

    def drawn(columns: int, width: float) -> Figure:
        figure, (ax,) = _single(width, len(labels))
        for i, (label, power) in enumerate(zip(labels, powers, strict=True), 1):
            shown = escape.label(label)
            ax.plot(list(power), list(power.values()), "o-", color=f"C{i}", ms=3, label=shown)
        ax.axhline(analysis.POWER, color="0.6", lw=0.8, ls="--")
        ax.set_xscale("log", base=2)
        ax.set_xticks(analysis.SEEDS[::3], [str(n) for n in analysis.SEEDS[::3]])
        ax.set_xlabel("seeds per cell", fontsize=8)
        ax.set_ylabel("share of comparisons that find it", fontsize=8)
        _add_legend(figure, columns)
        return figure

    wide, narrow = _both(drawn)
    more = len([cell for cell in results.cells if cell.finals.size]) - len(cells)
    words = (
        f"How many seeds per cell a comparison with the best ({best.name}) would have needed to "
        "find the difference measured here in 80 % of cases (Mann-Whitney, two-sided, 5 %; seeds "
        "drawn with replacement from the existing ones, so larger numbers are extrapolations)."
    )
    words += f" {more} more {'cell is' if more == 1 else 'cells are'} not compared." if more else ""
    columns = ["cell", "seeds needed", f"power at {best.seeds}"]
    return Section("How many seeds", words, columns, rows, {"power": wide}, {"power": narrow})


def _runs(results: Results, stored: Mapping[str, Any]) -> Section:
    """Every variant, with links to its files and pictures."""
    rows: list[list[Entry]] = []
    for name in stored["variants"]:
        place = results.directory / name
        pictures = sorted(path.name for path in place.glob("*.png"))
        files = [n for n in ("summary.json", "config.json", "metrics.parquet")
                 if (place / n).exists()]  # fmt: skip
        rows.append(
            [
                [Link(name, f"{name}/")] if place.is_dir() else name,
                "no results" if name in results.missing else _effort(place / "summary.json"),
                [Link(picture.removesuffix(".png"), f"{name}/{picture}") for picture in pictures],
                [Link(file, f"{name}/{file}") for file in files],
            ]
        )
    words = (
        f"All {len(rows)} runs, with their pictures (curves, and samples where the experiment "
        "draws them) and files. The links lead to the directory in which this report lies."
    )
    columns = ["run", "training", "pictures", "files"]
    return Section("Runs", words, columns, rows, texts=True, folded=len(rows) > FOLDED)


def _effort(path: Path) -> str:
    """How much a run trained, and how long."""
    cells = json.loads(path.read_text())["cells"].values()
    parts = [f"{entry['seeds']} seeds" for entry in list(cells)[:1]]
    parts += [f"{entry['steps']:,} steps" for entry in list(cells)[:1] if "steps" in entry]
    return ", ".join([*parts, f"{sum(entry.get('wall_seconds', 0) for entry in cells):.0f} s"])


def _origin(results: Results, stored: Mapping[str, Any]) -> Section:
    """What is recorded about how the sweep came about."""
    source = results.directory / "experiment.py"
    name = stored["experiment"]
    experiment: Entry = [Link(name, source.name)] if source.exists() else name
    rows: list[list[Entry]] = [["experiment", experiment]]
    rows.extend(["command", command] for command in stored.get("commands", []))
    code = stored.get("code")
    for name, one in code.items() if isinstance(code, dict) else ():
        commit = provenance.words(one) if "commit" in one else "in no repository"
        rows.append([f"commit of {name}", commit])
    if versions := ", ".join(f"{k} {v}" for k, v in (stored.get("versions") or {}).items()):
        rows.append(["versions", versions])
    if devices := stored["devices"]:
        rows.append(["devices", f"{devices.get('count')} × {devices.get('platform')}"])
    words = "What the sweep recorded when it began, and the commands that added to it."
    return Section("How it was made", words, ["what", "recorded"], rows, texts=True)


def _config(results: Results, stored: Mapping[str, Any]) -> Section:
    """The values of all keys that were not swept."""
    flat = analysis.leaves(next(iter(stored["variants"].values())))
    rows = [[key, _value(x)] for key, x in flat.items() if key not in results.keys]
    words = "The keys that all runs share; those that differ are in the first table."
    return Section("Config", words, ["key", "value"], rows, texts=True, folded=True)
