"""Learning curves: interquartile mean with its interval, single seeds faint."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gacf.lab import escape
from gacf.lab.statistics import interval, iqm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 200  # of a band: more would not be visible, and each needs a bootstrap of its own
RESAMPLES = 400  # for a band: the error of its ends is then below the width of a line


class Curve(NamedTuple):
    """One metric of one cell.

    Attributes:
        steps: [T].
        values: [S, T], NaN where a seed has no value.
        diverged: the seeds to leave out of the mean and the band.
    """

    steps: np.ndarray
    values: np.ndarray
    diverged: Sequence[int]


TITLE = 44  # characters of a line above a panel
LABEL = 40  # characters of a line in a legend
LEGEND = 0.2  # inches of a row of the legend


def apart(names: Sequence[str], width: int) -> list[str]:
    """Titles that distinguish long names: wrapped, and without the parts that all names share.

    Args:
        names: any texts.
        width: characters per line.

    Returns:
        One text for each name, all of them different.

    Example:
        >>> apart(["the_rate_of_the_critic=0.1", "the_rate_of_the_critic=0.2"], 20)
        ['…critic=0.1', '…critic=0.2']
    """
    titles = list(names)
    if len(set(names)) > 1 and max(map(len, names)) > width:
        # Only whole words are removed, so that 0.12 and 0.1 do not become 2 and nothing.
        words = [re.split(r"(?<=[^\w.])|(?<=_)|(?=[^\w.])|(?=_)", name) for name in names]
        alike = _alike(words)
        first = max(0, alike - 2)  # the part before the difference is often the key: "rate="
        last = max(0, _alike([w[alike:][::-1] for w in words]) - 1)
        parts = ["".join(w[first : len(w) - last]) for w in words]
        titles = [f"{'…' if first else ''}{p}{'…' if last else ''}" for p in parts]
    folded = [_folded(text, width) for text in titles]
    return [
        text if folded.count(text) == 1 else f"{text} ({folded[: i + 1].count(text)})"
        for i, text in enumerate(folded)
    ]


def _alike(lists: Sequence[Sequence[str]]) -> int:
    """How many elements at the start are the same in all lists.

    Example:
        >>> _alike(["abc", "abd", "ab"])
        2
    """
    alike = itertools.takewhile(lambda row: len(set(row)) == 1, zip(*lists, strict=False))
    return sum(1 for _ in alike)


def _folded(text: str, width: int) -> str:
    """Lines of at most `width` characters, broken between words if possible."""
    lines = [""]
    for word in re.split(r"(?<=[^\w.])|(?<=_)", text):
        if lines[-1] and len(lines[-1]) + len(word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.strip() for line in lines if line.strip())


def draw(
    curves: Mapping[str, Mapping[str, Curve]],
    seeds: bool = True,
    width: float = 3.6,
    columns: int = 3,
) -> Figure:
    """Draws one panel per metric and one colour per cell, with a legend of both.

    Args:
        curves: metric -> cell -> curve.
        seeds: whether single seeds are drawn too; of many cells in one panel they hide the means.
        width: inches of a panel.
        columns: the largest number of panels side by side.
    """
    from matplotlib.figure import Figure

    columns = min(columns, len(curves))
    rows = -(-len(curves) // columns)
    names = list(dict.fromkeys(cell for cells in curves.values() for cell in cells))
    colours = {name: f"C{i % 10}" for i, name in enumerate(names)}
    key = _key(colours, width * columns, seeds)
    titles = apart(list(curves), TITLE)
    most = max(title.count("\n") for title in titles)
    size = width * columns, (0.75 * width + 0.15 * most) * rows + 0.3 + LEGEND * key.rows
    if len(names) > 1:
        figure, room = Figure(size, layout="constrained", dpi=150), {}
    else:
        # Fixed margins are as good where the legend has one line, and faster to draw.
        figure, room = Figure(size, dpi=150), _room(size, rows, columns, 0.3 + 0.15 * most)
    panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw=room).ravel()
    for ax, title, cells in zip(panels, titles, curves.values(), strict=False):
        for name, curve in cells.items():
            _draw_one(ax, curve, colours[name], seeds)
        _limit(ax, list(cells.values()))
        ax.set_title(escape.label(title), fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel("step", fontsize=8)
        ax.locator_params(axis="x", nbins=5)
        ax.ticklabel_format(axis="y", scilimits=(-3, 5))
        ax.yaxis.get_offset_text().set_fontsize(8)
    for ax in panels[len(curves) :]:
        ax.axis("off")
    figure.legend(
        key.handles, key.labels, loc="outside lower center" if len(names) > 1 else "lower center",
        ncols=key.columns, fontsize=8 if len(curves) > 1 else 7, frameon=False, handlelength=1.4,
        columnspacing=1.2,
    )  # fmt: skip
    return figure


class _Key(NamedTuple):
    """The entries of a legend, and in how many rows and columns they are arranged."""

    handles: list[Any]
    labels: list[str]
    rows: int
    columns: int


def _key(colours: Mapping[str, str], width: float, seeds: bool) -> _Key:
    """Which colour is which cell, if there are several, and what lines and bands are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    several = len(colours) > 1
    colour = "0.4" if several else "C0"
    handles: list[Any] = [Line2D([], [], color=c, linewidth=2) for c in colours.values()] * several
    labels = list(map(escape.label, apart(list(colours), LABEL))) * several
    handles += [
        Line2D([], [], color=colour, linewidth=1.8),
        Patch(color=colour, alpha=0.25, linewidth=0),
        Line2D([], [], color=colour, linewidth=0.6, alpha=0.6),
    ][: 2 + seeds]
    labels += ["interquartile mean", "95 % interval", "single seeds"][: 2 + seeds]
    lines = [label.splitlines() for label in labels]
    widest = 0.07 * max(len(line) for label in lines for line in label) + 0.4  # inches
    columns = max(1, min(len(labels), int(width / widest))) if several else len(labels)
    rows = -(-len(labels) // columns) * max(map(len, lines))
    return _Key(handles, labels, rows, columns)


def _room(size: tuple[float, float], rows: int, columns: int, top: float) -> dict[str, float]:
    """The margins of panels, for tick labels, titles, names of axes and the legend."""
    left, right, bottom = 0.65, 0.12, 0.45  # inches
    width, height = size
    return {
        "left": left / width,
        "right": 1 - right / width,
        "bottom": (bottom + LEGEND) / height,
        "top": 1 - top / height,
        "wspace": (left + right) / (width / columns - left - right),
        "hspace": (top + bottom) / ((height - LEGEND) / rows - top - bottom),
    }


def _draw_one(ax: Axes, curve: Curve, colour: str, seeds: bool) -> None:
    marker = "o" if len(curve.steps) == 1 else None
    if seeds:
        _draw_seeds(ax, curve, colour, marker)
    if (shown := band(curve)) is None:
        return
    ax.plot(shown.steps, shown.middle, color=colour, linewidth=1.8, marker=marker, ms=4)
    ax.fill_between(shown.steps, shown.low, shown.high, color=colour, alpha=0.25, linewidth=0)


class Band(NamedTuple):
    """What is drawn of a curve, at some of its steps.

    Attributes:
        steps: [T].
        middle: the interquartile mean over the seeds that did not diverge, [T].
        low: the lower end of its 95 % bootstrap interval, [T]; of one seed the mean.
        high: the upper end.
    """

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def band(curve: Curve, points: int = POINTS) -> Band | None:
    """Mean and interval of a curve at so many of its steps; None if every seed diverged."""
    values = np.delete(curve.values, list(curve.diverged), axis=0)
    if not values.size:
        return None
    stride = max(1, math.ceil(len(curve.steps) / points))
    at = slice((len(curve.steps) - 1) % stride, None, stride)
    steps, values = curve.steps[at], values[:, at]
    middle = iqm(values, axis=0)
    if len(values) == 1:
        return Band(steps, middle, middle, middle)
    with warnings.catch_warnings():  # a metric may have no value at first
        warnings.simplefilter("ignore")
        low, high = interval(values, axis=0, resamples=RESAMPLES)
    return Band(steps, middle, low, high)


def _draw_seeds(ax: Axes, curve: Curve, colour: str, marker: str | None) -> None:
    """Draws all seeds faintly, as one artist: a line for each would take far longer."""
    from matplotlib.collections import LineCollection

    style = {"color": colour, "alpha": 0.3}
    if marker is not None:
        ax.plot(curve.steps, curve.values.T, marker=marker, ms=2, linestyle="none", **style)
        return
    lines = np.stack(np.broadcast_arrays(curve.steps, curve.values), axis=-1)
    ax.add_collection(LineCollection(list(lines), linewidths=0.6, **style))
    ax.autoscale_view()


def _limit(ax: Axes, curves: Sequence[Curve]) -> None:
    """Limits the axis, so that one runaway seed does not flatten all others."""
    parts = [np.delete(c.values, list(c.diverged), axis=0).ravel() for c in curves]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = np.quantile(values, [0.005, 0.995])
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    ax.set_ylim(low - margin, high + margin)
