"""Timing that a noisy machine disturbs little, and tables."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import CORES


class Table(NamedTuple):
    """One measured table.

    Attributes:
        name: section letter and short name.
        title: what it shows.
        command: the exact command that measured it.
        columns: headings.
        rows: cells, as text.
        notes: what readers need to know, one line each.
    """

    name: str
    title: str
    command: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        lines = [f"## {self.name}. {self.title}", "", f"    {self.command}", ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(lines) + "\n"


def machine() -> dict[str, str]:
    """The machine and the date of the measurements."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        pairs = (line.partition(":") for line in info.read_text().splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        cpu = fields.get("model name", cpu)
        cpu += ", AVX-512" if "avx512f" in fields.get("flags", "") else ""
    packages = ("jax", "jaxlib", "flax", "optax", "gymnax", "torch")
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{cpu}; {CORES} cores, {jax.local_device_count()} JAX devices",
        "platform": jax.default_backend(),
        "python": platform.python_version(),
        **{name: version for name in packages if (version := _version(name))},
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


Timed = dict[str, np.ndarray]


def interleave(sides: Mapping[str, Callable[[], Any]], rounds: int) -> tuple[Timed, Timed]:
    """Seconds of each side's calls, [rounds], after one warm-up call: elapsed time and CPU time.

    The sides take turns, forwards and backwards (ABC CBA …), so that other work on the
    machine, or a drift, slows all of them. CPU time counts all threads, and suffers less from that.
    """
    for call in sides.values():
        jax.block_until_ready(call())
    elapsed: dict[str, list[float]] = {name: [] for name in sides}
    worked: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        for name in list(sides)[:: 1 if i % 2 == 0 else -1]:
            start, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(sides[name]())
            elapsed[name].append(time.perf_counter() - start)
            worked[name].append(time.process_time() - cpu)
    return (
        {name: np.array(taken) for name, taken in elapsed.items()},
        {name: np.array(taken) for name, taken in worked.items()},
    )


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> str:
    """Median over rounds of the ratio within a round, and the middle half of them."""
    low, middle, high = np.quantile(numerator / denominator, (0.25, 0.5, 0.75))
    return f"{middle:.3f} [{low:.2f}, {high:.2f}]"


def milliseconds(seconds: np.ndarray, updates: int) -> str:
    """Median over rounds of the milliseconds that one seed's update takes."""
    value = 1e3 * float(np.median(seconds)) / updates
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"
