"""An interactive plot of many curves, as markup that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gacf.lab import escape
from gacf.lab.curves import Curve, band

MOST = 60  # curves of a plot; a page stays small, and more cannot be told apart
POINTS = 100  # of a curve
DIGITS = 5  # of a number


class Data(NamedTuple):
    """What a plot shows.

    Attributes:
        metric: the name of the vertical axis.
        curves: one dict for each curve, with its name, steps, middle, low and high.
        shown: how many of them are shown at first.
    """

    metric: str
    curves: list[dict[str, Any]]
    shown: int


def data(metric: str, names: Sequence[str], tracks: Sequence[Curve], shown: int) -> Data:
    """The data of a plot.

    Args:
        metric: the name of the vertical axis.
        names: the names of the curves, the best first; there may be more names than curves.
        tracks: the curves.
        shown: how many of them are shown at first.
    """
    parts = []
    for name, track in zip(names, tracks, strict=False):
        if one := band(track, POINTS):
            lines = {end: _rounded(getattr(one, end)) for end in ("middle", "low", "high")}
            parts.append({"name": escape.plain(name), "steps": one.steps.tolist(), **lines})
    return Data(escape.plain(metric), parts, shown)


def _rounded(values: np.ndarray) -> list[float | None]:
    return [float(f"{x:.{DIGITS}g}") if np.isfinite(x) else None for x in values]


def markup(content: Data) -> str:
    """The plot as HTML, with its data and its script."""
    # Within a script element a browser looks for "</script", whatever the text means.
    text = json.dumps(content._asdict(), separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div class="plot" hidden><script type="application/json">{text}</script></div>'
        f"<script>{_SCRIPT}</script>"
    )


_SCRIPT = r"""
(() => {
  const root = document.currentScript.previousElementSibling;
  const {metric, curves, shown} = JSON.parse(root.firstChild.textContent);
  const colours = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd",
                   "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];
  const colour = i => i < 10 ? colours[i] : `hsl(${(i * 137) % 360} 60% 50%)`;
  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  root.hidden = false;
  const chart = make("div", "", root), at = make("p", "", root);
  at.className = "soft";
  const bar = make("p", "", root), list = make("div", "", root);
  list.className = "keys";
  const keys = curves.map((curve, i) => {
    const label = make("label", "", list), box = make("input", "", label);
    box.type = "checkbox";
    box.checked = i < shown;
    box.onchange = draw;
    const dot = make("i", "", label);
    dot.style.background = colour(i);
    make("span", curve.name, label);
    const value = make("b", "", label);
    label.onpointerenter = () => { strong = i; draw(); };
    label.onpointerleave = () => { strong = -1; draw(); };
    return {box, value};
  });
  const choose = (text, test) => {
    const button = make("button", text, bar);
    button.type = "button";
    button.onclick = () => { keys.forEach((key, i) => key.box.checked = test(i)); draw(); };
  };
  if (curves.length > shown) choose(`first ${shown}`, i => i < shown);
  choose("all", () => true);
  choose("none", () => false);
  let strong = -1, here = null, scale = null;
  const short = x => x === null ? "–" : String(Number(x.toPrecision(4)));
  function ticks(low, high, count) {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find(k => k * power >= rough), values = [];
    for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; i++) values.push(i * step);
    return values;
  }
  function draw() {
    const width = root.clientWidth, height = Math.max(220, Math.min(400, width * .6));
    const on = curves.map((_, i) => i).filter(i => keys[i].box.checked);
    const all = on.flatMap(i => ["middle", "low", "high"].flatMap(k => curves[i][k]))
      .filter(y => y !== null);
    const xs = on.flatMap(i => curves[i].steps);
    let [low, high] = all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
    if (low === high) { low -= Math.abs(low) * .05 || .05; high += Math.abs(high) * .05 || .05; }
    let [from, to] = xs.length ? [Math.min(...xs), Math.max(...xs)] : [0, 1];
    if (from === to) { from -= 1; to += 1; }
    const left = 58, right = 24, top = 8, bottom = 30;
    const x = s => left + (s - from) / (to - from) * (width - left - right);
    const y = v => height - bottom - (v - low) / (high - low) * (height - top - bottom);
    scale = {x, on};
    let out = `<svg width="${width}" height="${height}" role="img" aria-label="curves">`;
    for (const v of ticks(low, high, 5))
      out += `<line class="grid" x1="${left}" x2="${width - right}" y1="${y(v)}" y2="${y(v)}"/>` +
             `<text x="${left - 6}" y="${y(v) + 4}" text-anchor="end">${short(v)}</text>`;
    for (const s of ticks(from, to, width < 600 ? 3 : 6))
      out += `<text x="${x(s)}" y="${height - 12}" text-anchor="middle">${short(s)}</text>`;
    const path = (steps, values) => steps.map((s, j) =>
      values[j] === null ? "" : `${x(s).toFixed(1)},${y(values[j]).toFixed(1)}`).filter(Boolean);
    for (const i of on) {
      const {steps, middle, low, high} = curves[i], pale = strong >= 0 && strong !== i;
      const around = [...path(steps, low), ...path(steps, high).reverse()].join(" ");
      out += `<polygon points="${around}" fill="${colour(i)}" opacity="${pale ? .04 : .13}"/>` +
             `<polyline points="${path(steps, middle).join(" ")}" fill="none" ` +
             `stroke="${colour(i)}" stroke-width="2" opacity="${pale ? .25 : 1}"/>`;
      if (steps.length === 1 && middle[0] !== null)
        out += `<circle cx="${x(steps[0])}" cy="${y(middle[0])}" r="4" fill="${colour(i)}"/>`;
    }
    if (here !== null)
      out += `<line class="here" x1="${x(here)}" x2="${x(here)}" y1="${top}" ` +
             `y2="${height - bottom}"/>`;
    chart.innerHTML = out + "</svg>";
    at.textContent = here === null
      ? `${metric} over steps; touch the plot or point at it to read values`
      : `${metric} at step ${here.toLocaleString("en")}`;
    keys.forEach((key, i) => {
      const j = here === null ? -1 : curves[i].steps.indexOf(here);
      key.value.textContent = j < 0 || !key.box.checked ? ""
        : `${short(curves[i].middle[j])} [${short(curves[i].low[j])}, ${short(curves[i].high[j])}]`;
    });
  }
  chart.onpointermove = chart.onpointerdown = event => {
    const mouse = event.clientX - chart.getBoundingClientRect().left;
    let best = Infinity;
    for (const i of scale.on) for (const s of curves[i].steps) {
      const far = Math.abs(scale.x(s) - mouse);
      if (far < best) { best = far; here = s; }
    }
    draw();
  };
  addEventListener("resize", draw);
  draw();
})();
"""
