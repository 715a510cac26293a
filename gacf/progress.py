"""What a running training shows: a bar in a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from gacf.report.statistics import iqm

LINES = 20


def _rate(x: float) -> str:
    return f"{x:,.0f}" if x >= 10 else f"{x:.2g}"


class Display:
    """Step, seed-steps a second, time left, the key metric over the seeds, diverged seeds.

    Args:
        out: where to show it.
        cell: what is being trained.
        steps: steps a seed in all.
        seeds: seeds.
        start: step from which training goes on.
        key_metric: whose interquartile mean is shown.
    """

    def __init__(
        self, out: Console, cell: str, steps: int, seeds: int, start: int, key_metric: str | None
    ):
        self.out, self.cell, self.steps, self.seeds = out, cell, steps, seeds
        self.start, self.key_metric = start, key_metric
        self.shown = start * LINES // steps
        self.value, self.diverged = "", 0
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[speed]}", style="cyan"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[news]}"),
            console=out,
            disable=not out.is_terminal,
        )
        self.task = self.bar.add_task(
            cell, total=steps, completed=start, speed="", news="compiling", start=False
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
        """Training begins."""
        self.began = time.perf_counter()
        self.bar.start_task(self.task)
        self.bar.update(self.task, news="")
        if not self.out.is_terminal:
            text = f"{self.cell}: {self.seeds} seeds, {self.steps:,} steps"
            self.out.print(f"{text}, compiled in {seconds:.1f} s", markup=False)

    def update(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Shows where training is.

        Args:
            step: steps made.
            metrics: those of the last windows, [S, W].
        """
        self.diverged = int(metrics["diverged"][:, -1].sum())
        if self.key_metric in metrics:
            self._read(metrics[self.key_metric])
        elapsed = time.perf_counter() - self.began
        speed = self.seeds * (step - self.start) / max(elapsed, 1e-9)
        news = f"diverged {self.diverged}/{self.seeds}" if self.diverged else ""
        news = "  ".join(filter(None, [self.value, news]))
        self.bar.update(self.task, completed=step, speed=f"{_rate(speed)} seed-steps/s", news=news)
        if not self.out.is_terminal and step * LINES // self.steps > self.shown:
            self.shown = step * LINES // self.steps
            left = elapsed * (self.steps - step) / max(step - self.start, 1)
            text = f"{self.cell}: {step:,}/{self.steps:,}  {_rate(speed)} seed-steps/s"
            text += f"  {left:.0f} s left" if step < self.steps else f"  {elapsed:.1f} s"
            self.out.print(f"{text}  {news}".rstrip(), markup=False)

    def _read(self, values: Any) -> None:
        known = values[:, np.isfinite(values).any(axis=0)]
        if known.size:
            last = known[:, -1]
            name = str(self.key_metric).rpartition("/")[2]
            self.value = f"{name} {iqm(last[np.isfinite(last)]):.4g}"
