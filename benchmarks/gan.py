"""GANs against PyTorch, eager and compiled, in one process.

    python -m benchmarks.gan [--quick] [--only ring dcgan] [--json FILE]

Prints table t: the MLP GAN on the ring at 1, 8 and 64 seeds, DCGAN on images of 28 × 28 at 1 and 4.
PyTorch trains its seeds one after the other on all cores, or in processes with one core each; the
latter is measured on one thread and divided by the cores, which is the best possible case. It needs
the extra `bench` and, for the compiled variants, a C++ compiler.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import gacf
from benchmarks import CORES, pytorch, subjects
from benchmarks.common import Table, interleave, machine, milliseconds, ratio
from benchmarks.subjects import Runner


class Case(NamedTuple):
    """One update in both frameworks.

    Attributes:
        name: the name of the update.
        ours: gacf's algorithm.
        theirs: PyTorch's update, `(steps, compiled=…) -> run`.
        seeds: the numbers of seeds.
        steps: PyTorch's steps per call.
        windows: number of seeds -> gacf's steps per call.
    """

    name: str
    ours: Callable[[], gacf.Algorithm]
    theirs: Callable[..., Callable[[], None]]
    seeds: tuple[int, ...]
    steps: int
    windows: dict[int, int]


CASES = {
    "ring": Case(
        "MLP GAN, ring", lambda: subjects.gan().algorithm, pytorch.gan, (1, 8, 64), 100,
        {1: 200, 8: 100, 64: 25},
    ),
    "dcgan": Case("DCGAN, 28 × 28", subjects.dcgan, pytorch.dcgan, (1, 4), 4, {1: 4, 4: 2}),
}  # fmt: skip


HOWS = ("eager", "compiled")


def measured(case: Case, rounds: int, quick: bool) -> list[list[str]]:
    steps = 2 if quick else case.steps
    theirs = {how: case.theirs(steps, compiled=how == "compiled") for how in HOWS}
    for how in HOWS if CORES > 1 else ():
        # Compiled code is specific to a number of threads, so this is a program of its own.
        run = case.theirs(steps, compiled=how == "compiled")
        theirs[f"{how}, 1 thread"] = pytorch.on_threads(1, run)
    algorithm, rows = case.ours(), []
    for seeds in case.seeds[:2] if quick else case.seeds:
        count = 2 if quick else case.windows[seeds]
        runner = Runner(algorithm, seeds, "auto", [count])
        taken, _ = interleave({**theirs, "gacf": runner}, rounds)
        each = {how: taken[how] / steps for how in theirs}
        ours = taken["gacf"] / (seeds * count)
        times = [milliseconds(each[how], 1) for how in HOWS]
        gains = [ratio(each[how], ours) for how in HOWS]
        if CORES > 1 and seeds > 1:
            how = min(HOWS, key=lambda how: float(np.median(each[f"{how}, 1 thread"])))
            alone = each[f"{how}, 1 thread"] / CORES
            times.append(f"{milliseconds(alone, 1)} ({how})")
            gains.append(ratio(alone, ours))
        else:
            times.append("–")
            gains.append("–")
        map = runner.program.map
        rows.append([case.name, str(seeds), *times, f"{milliseconds(ours, 1)} ({map})", *gains])
    return rows


def table(rows: list[list[str]], only: list[str]) -> Table:
    chosen = "" if set(only) == set(CASES) else f" --only {' '.join(only)}"
    return Table(
        "t",
        "GANs against PyTorch, ms a seed-update",
        f"python -m benchmarks.gan{chosen}",
        [
            "update",
            "seeds",
            f"PyTorch, eager, {pytorch.threads()} threads",
            "compiled",
            "a process a core, at best",
            "gacf",
            "gain on eager",
            "on compiled",
            "on processes",
        ],
        rows,
        [
            "A gain is PyTorch's time over gacf's, a seed-update, [middle half]. PyTorch trains "
            "one seed at a time, so that its time a seed is the same at any number of them; "
            "compiled: `torch.compile` of the losses and of the generator, Adam fused. A process "
            "a core, at best: the better of the two on one thread, divided by the cores."
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test; the figures mean nothing"
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, help="how often the sides take turns; default: 9")
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    args = parser.parse_args()
    where = machine()
    rows: list[list[str]] = []
    print(*(f"{name}: {value}" for name, value in where.items()), "", sep="\n")
    for name in args.only:
        rows += measured(CASES[name], args.rounds or (2 if args.quick else 9), args.quick)
        measured_table = table(rows, args.only)
        print(measured_table.markdown(), flush=True)
        if args.json:
            run = {"machine": where, "tables": [measured_table._asdict()]}
            args.json.write_text(json.dumps(run, indent=1))


if __name__ == "__main__":
    main()
