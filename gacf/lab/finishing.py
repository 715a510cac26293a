"""Writes what a trained run leaves behind: table, summary and pictures."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Console

from gacf.core.checks import nearest
from gacf.core.types import State
from gacf.lab import files, results
from gacf.lab.errors import BadInput, Failed
from gacf.lab.failure import failing
from gacf.lab.painter import Painter
from gacf.lab.report import table
from gacf.lab.results import Cell, History
from gacf.lab.run_directory import Run, same_name, versions
from gacf.lab.schedule import plan


def write_results(
    run: Run, trained: Mapping[str, tuple[State, History, dict[str, float]]], painter: Painter
) -> Callable[[], dict[str, Any]]:
    """Writes the table, and starts drawing the pictures.

    Returns:
        A function that writes the pictures and then the summary, which marks the run as complete,
        and returns the summary. If the experiment's own `finish` or `pictures` failed, the function
        raises a `Failed` instead of writing the summary; table and learning curves exist by then.
    """
    states = {cell: state for cell, (state, _, _) in trained.items()}
    with files.writing():
        files.clean(run.directory)
    failed: list[str] = []

    def attempt(name: str, call: Callable[[], Any], otherwise: Any) -> Any:
        try:
            with failing(run.experiment.path, lambda: f"{name}(config, finals)", again=False):
                return call()
        except (BadInput, Failed) as error:
            failed.append(str(error))
            return otherwise

    finals = attempt("finish", lambda: _finish(run, states), {cell: {} for cell in states})
    cells = {c: Cell(history, finals[c], s) for c, (_, history, s) in trained.items()}
    grid = plan(run.config).grid
    buffer = io.BytesIO()
    results.tidy(grid, cells).to_parquet(buffer, index=False)
    files.write_atomically(run.directory / "metrics.parquet", buffer.getvalue())
    curves = results.learning_curves(grid, cells)
    curve_files = painter.draw(curves)
    figures = attempt("pictures", lambda: named_pictures(_pictures(run, states), curves), {})
    own = attempt("pictures", lambda: painter.draw(figures), None)
    summary = _summary(run, results.summary(grid, cells))

    def complete() -> dict[str, Any]:
        pictures = curve_files.result()
        if own is not None:
            pictures |= attempt("pictures", own.result, {})
        for stem, picture in pictures.items():
            files.write_atomically(run.directory / f"{stem}.png", picture)
        if failed:
            raise Failed("; ".join(failed), again=False)
        text = json.dumps(summary, indent=2, allow_nan=False).encode()
        files.write_atomically(run.directory / "summary.json", text)
        return summary

    return complete


def _summary(run: Run, cells: dict[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys(name for entry in cells.values() for name in entry["metrics"])
    default = [n for n in names if n.startswith(("evaluate/", "final/"))]
    key = run.experiment.key_metric
    metrics = [*filter(None, [key]), *(run.experiment.metrics or default)]
    return {
        "experiment": run.experiment.name,
        "key_metric": key,
        "goal": run.experiment.goal,
        "metrics": list(dict.fromkeys(metrics)),
        "cells": cells,
        "versions": versions(),
        "code": run.stored.get("code"),
        "devices": run.stored["devices"],
    }


def _finish(run: Run, finals: dict[str, State]) -> dict[str, dict[str, np.ndarray]]:
    finish = getattr(run.experiment.module, "finish", None)
    returned = finish(run.config, finals) if finish else {}
    if not (
        isinstance(returned, Mapping)
        and all(isinstance(metrics, Mapping) for metrics in returned.values())
    ):
        raise ValueError(
            f"finish: {returned!r:.60} was returned; allowed: {{cell: {{metric: array [seeds]}}}}"
        )
    extra: dict[str, dict[str, np.ndarray]] = {cell: {} for cell in finals}
    for cell, metrics in returned.items():
        if cell not in extra:
            raise ValueError(f"finish: {cell!r} is not a cell; {nearest(cell, extra)}")
        for name, values in metrics.items():
            values = np.asarray(values)
            if values.shape != (run.config.seeds,):
                raise ValueError(
                    f"finish: {name!r} of {cell!r} has shape {values.shape}; "
                    f"allowed: one number per seed, ({run.config['seeds']},)"
                )
            if values.dtype.kind not in "biuf":
                raise ValueError(
                    f"finish: {name!r} of {cell!r} has dtype {values.dtype}; allowed: real numbers"
                )
            extra[cell][f"final/{name}"] = values
    reported = dict.fromkeys(name for metrics in extra.values() for name in metrics)
    for name in [run.experiment.key_metric, *(run.experiment.metrics or [])]:
        if name and name.startswith("final/") and name not in reported:
            raise ValueError(f"finish: {name!r} is reported by no cell; {nearest(name, reported)}")
    return extra


def _pictures(run: Run, finals: dict[str, State]) -> dict[str, Any]:
    """File stem -> figure, for the pictures that the experiment itself draws."""
    pictures = getattr(run.experiment.module, "pictures", None)
    own = pictures(run.config, finals) if pictures else {}
    if own:
        import matplotlib.pyplot as plt
        from matplotlib.figure import Figure

        if not (isinstance(own, Mapping) and all(isinstance(f, Figure) for f in own.values())):
            raise ValueError(
                f"pictures: {own!r:.60} was returned; allowed: {{file stem: matplotlib Figure}}"
            )
        for figure in own.values():
            plt.close(figure)
    return dict(own or {})


_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%\ud800-\udfff]|^\.|[. ]$')


def named_pictures(own: Mapping[Any, Any], taken: Iterable[str] = ()) -> dict[str, Any]:
    """Gives an experiment's pictures names that files may have, all of them different.

    Args:
        own: name -> figure.
        taken: names that other pictures have already.

    Example:
        >>> list(named_pictures({"gap": 1, "../gap": 2, "Gap": 3, "": 4, "curves": 5}, ["curves"]))
        ['gap', '%2E.%2Fgap', 'Gap-2', 'picture', 'curves-2']
    """
    used = set(map(same_name, taken))
    figures = {}
    for name, figure in own.items():
        safe = _UNSAFE.sub(lambda c: f"%{ord(c[0]):02X}", str(name)) or "picture"
        stem, number = files.shortened(safe), 2
        while same_name(stem) in used:
            stem, number = f"{files.shortened(safe)}-{number}", number + 1
        used.add(same_name(stem))
        figures[stem] = figure
    return figures


def show(run: Run, summary: dict[str, Any], out: Console) -> None:
    """Prints the final table, and where everything is."""
    out.print(table.terminal(table.compare([(run.directory.name, summary)])))
    pictures = ", ".join(sorted(p.name for p in run.directory.glob("*.png")))
    left = f"metrics.parquet, summary.json, {pictures}"
    out.print(f"{run.directory}: {left}", markup=False, soft_wrap=True)
