"""How training shows its progress: a bar in a terminal, plain lines elsewhere, and a file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from gacf.lab.escape import plain
from gacf.lab.files import write_atomically
from gacf.lab.statistics import iqm

LINES = 20
WIDE = 100  # columns of a terminal that has room for a bar beside the numbers
PROGRESS = "progress.json"


def latest(values: np.ndarray) -> float | None:
    """The interquartile mean over the seeds in the last window that has the metric.

    Args:
        values: [S, W], NaN where a window has no value.

    Example:
        >>> latest(np.array([[1.0, 2.0, np.nan], [3.0, 4.0, np.nan]]))
        3.0
    """
    present = values[:, np.isfinite(values).any(axis=0)]
    if not present.size:
        return None
    last = present[:, -1]
    value = float(iqm(last[np.isfinite(last)]))
    return value if np.isfinite(value) else None


def label(variant: str, cell: str, cells: int) -> str:
    """The name of a cell of a variant; the cell's own name is left out if there is only one."""
    return variant if cells == 1 else f"{variant} {cell}"


class Record:
    """Records the progress of training in a file, for `gacf watch`.

    Args:
        path: the path of the file.
        cells: the cells, which are trained one after the other.
        steps: the number of steps of each cell.
        variants: the variants that are trained together.
        key_metric: the metric whose latest values are recorded, by `label`.
    """

    def __init__(
        self,
        path: Path,
        cells: Sequence[str],
        steps: int,
        variants: Sequence[str],
        key_metric: str | None,
    ):
        self.path, self.cells, self.steps = path, list(cells), steps
        self.variants, self.key_metric = variants, key_metric
        self.began = self.written = time.time()
        self.first: int | None = None
        self.values: dict[str, float] = {}

    def __call__(self, cell: str, ends: np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
        """Takes the metrics of the windows just trained; writes about once a second.

        Args:
            cell: the name of the cell.
            ends: the steps at which the windows end, [W].
            rows: metric -> [H, S, W], with H variants.
        """
        for name, values in zip(self.variants, rows.get(str(self.key_metric), ()), strict=False):
            if (value := latest(values)) is not None:
                self.values[label(name, cell, len(self.cells))] = value
        step = self.cells.index(cell) * self.steps + int(ends[-1])
        if self.first is None:
            self.first = step - int(ends[-1] - ends[0])
        total = len(self.cells) * self.steps
        if time.time() - self.written < 1.0 and step < total:
            return
        self.written = time.time()
        alone = {k: latest(v[0]) for k, v in rows.items() if len(self.variants) == 1}
        text = {
            "cell": cell,
            "step": step,
            "steps": total,
            "seconds": self.written - self.began,
            "since": self.first,
            "values": self.values,
            "metrics": {k: v for k, v in alone.items() if v is not None and k != "diverged"},
            "diverged": int(rows["diverged"][..., -1].sum()),
        }
        write_atomically(self.path, json.dumps(text).encode())


def _rate(x: float) -> str:
    return f"{x:,.0f}" if x >= 10 else f"{x:.2g}"


class Display:
    """Shows step, seed-steps per second, time left, key metric and number of diverged seeds.

    Args:
        out: where to show it.
        cell: the cell that is being trained.
        steps: the total number of steps per seed.
        seeds: the number of seeds.
        start: the step from which training goes on.
        key_metric: the metric whose interquartile mean is shown.
    """

    def __init__(
        self, out: Console, cell: str, steps: int, seeds: int, start: int, key_metric: str | None
    ):
        self.out, self.cell, self.steps, self.seeds = out, plain(cell), steps, seeds
        self.start, self.key_metric = start, key_metric
        self.printed = start * LINES // steps
        self.value, self.diverged = "", 0
        self.wide = out.width >= WIDE
        drawn = [SpinnerColumn(), BarColumn(bar_width=24)] if self.wide else []
        self.bar = Progress(
            *drawn[:1],
            TextColumn("{task.description}", markup=False),
            *drawn[1:],
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[speed]}", style="cyan"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[news]}", markup=False),
            console=out,
            disable=not out.is_terminal,
        )
        self.task = self.bar.add_task(
            self.cell, total=steps, completed=start, speed="", news="compiling", start=False
        )

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def compiled(self, seconds: float) -> None:
        """Marks the end of compilation, from which the training is timed."""
        self.began = time.perf_counter()
        self.bar.start_task(self.task)
        self.bar.update(self.task, news="")
        if not self.out.is_terminal:
            text = f"{self.cell}: {self.seeds} seeds, {self.steps:,} steps"
            self.out.print(f"{text}, compiled in {seconds:.1f} s", markup=False)

    def update(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Shows the progress.

        Args:
            step: the number of steps made.
            metrics: the metrics of the last windows, [S, W].
        """
        self.diverged = int(metrics["diverged"][:, -1].sum())
        if self.key_metric in metrics:
            self._read(metrics[self.key_metric])
        elapsed = time.perf_counter() - self.began
        speed = self.seeds * (step - self.start) / max(elapsed, 1e-9)
        news = f"diverged {self.diverged}/{self.seeds}" if self.diverged else ""
        news = "  ".join(filter(None, [self.value, news]))
        unit = " seed-steps/s" if self.wide else "/s"
        self.bar.update(self.task, completed=step, speed=f"{_rate(speed)}{unit}", news=news)
        if not self.out.is_terminal and step * LINES // self.steps > self.printed:
            self.printed = step * LINES // self.steps
            left = elapsed * (self.steps - step) / max(step - self.start, 1)
            text = f"{self.cell}: {step:,}/{self.steps:,}  {_rate(speed)} seed-steps/s"
            text += f"  {left:.0f} s left" if step < self.steps else f"  {elapsed:.1f} s"
            self.out.print(f"{text}  {news}".rstrip(), markup=False)

    def _read(self, values: Any) -> None:
        value = latest(values)
        if value is not None:
            self.value = f"{plain(str(self.key_metric).rpartition('/')[2])} {value:.4g}"
