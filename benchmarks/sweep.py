"""A sweep as one program, against a loop over its cells and against one process per cell.

    python -m benchmarks.sweep [--quick] [--steps N] [--hidden N] [--batch N] [--json FILE]

27 cells × 16 seeds of the ring: 3 actor rates × 3 critic rates × 3 weights of R1. Each side runs in
processes of its own with an empty cache of compiled programs, and leaves the same run directories.
Sides: `sweep` (gacf sweep), `loop` (gacf run of each cell, one process), `processes` (one
gacf run per cell, each on all cores, one after the other), `pinned` (the same, but one on each core
at a time).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import CORES
from benchmarks.common import Table, machine

ROOT = Path(__file__).parents[1]
EXPERIMENT = str(ROOT / "experiments" / "ring_gan.py")
RATES = ("1e-3", "2e-3", "4e-3")
GRID = {"actor.learning_rate": RATES, "critic.learning_rate": RATES, "r1": ("0.03", "0.1", "0.3")}


class Measured(NamedTuple):
    """The costs of one side.

    Attributes:
        wall: seconds from start to end.
        compilations: programs compiled.
        compile: the seconds of all compilations.
        train: the seconds of all trainings.
        peak: the peak memory of the largest process, in bytes.
    """

    wall: float
    compilations: int
    compile: float
    train: float
    peak: int


def cells(quick: bool) -> list[list[tuple[str, str]]]:
    grid = {k: v[: 1 + (k == "r1")] if quick else v for k, v in GRID.items()}
    return [list(zip(grid, row, strict=True)) for row in itertools.product(*grid.values())]


def overrides(args: argparse.Namespace) -> list[str]:
    steps = 20 if args.quick else args.steps
    settings = {
        "seeds": 2 if args.quick else 16,
        "steps": steps,
        "log_every": max(1, steps // 100),
        "evaluate_every": max(1, steps // 100) * 10,
        "checkpoint_every": max(1, steps // 100) * 10,
        "batch_size": args.batch,
        "actor.hidden": f"({args.hidden},{args.hidden})",
        "critic.hidden": f"({args.hidden},{args.hidden})",
    }
    return [f"--config.{key}={value}" for key, value in settings.items()]


def run_of(cell: Sequence[tuple[str, str]], place: Path, more: Sequence[str]) -> list[str]:
    own = [f"--config.{key}={value}" for key, value in cell]
    name = ",".join(f"{key}={value}" for key, value in cell)
    return ["run", EXPERIMENT, "--workdir", str(place / name), *more, *own]


def call(arguments: Sequence[str], place: Path, cores: str | None = None) -> None:
    """Runs one process; prints its output if it fails."""
    pinned = ["taskset", "-c", cores] if cores else []
    result = subprocess.run(
        [*pinned, sys.executable, "-m", *arguments],
        env={**os.environ, "XDG_CACHE_HOME": str(place / "cache"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(result.stdout + result.stderr)


def sweep(place: Path, args: argparse.Namespace) -> None:
    grid = cells(args.quick)
    swept = [
        f"--sweep.{key}={','.join(dict.fromkeys(dict(cell)[key] for cell in grid))}"
        for key, _ in grid[0]
    ]
    where = ["--workdir", str(place / "s")]
    call(["gacf", "sweep", EXPERIMENT, *where, *overrides(args), *swept], place)


def loop(place: Path, args: argparse.Namespace) -> None:
    more = ["--quick"] if args.quick else []
    sizes = [f"--{k}={getattr(args, k)}" for k in ("steps", "hidden", "batch")]
    call(["benchmarks.sweep", "--loop", str(place / "s"), *more, *sizes], place)


def processes(place: Path, args: argparse.Namespace) -> None:
    for cell in cells(args.quick):
        call(["gacf", *run_of(cell, place / "s", overrides(args))], place)


def pinned(place: Path, args: argparse.Namespace) -> None:
    own = sorted(os.sched_getaffinity(0))
    free = list(map(str, own))

    def one(cell: Any) -> None:
        core = free.pop()
        call(["gacf", *run_of(cell, place / "s", overrides(args))], place, core)
        free.append(core)

    with ThreadPoolExecutor(len(own)) as pool:
        list(pool.map(one, cells(args.quick)))


SIDES: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "sweep": sweep, "loop": loop, "processes": processes, "pinned": pinned,
}  # fmt: skip


def measured(side: str, args: argparse.Namespace) -> Measured:
    """Runs one side in a process of its own, whose children determine the peak memory."""
    with tempfile.TemporaryDirectory() as place:
        sizes = [f"--{k}={getattr(args, k)}" for k in ("steps", "hidden", "batch")]
        quick = ["--quick"] if args.quick else []
        command = [sys.executable, "-m", "benchmarks.sweep", "--side", side, place, *sizes, *quick]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        out = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        wall, peak = json.loads(out)
        summaries = [json.loads(p.read_text()) for p in Path(place).glob("s/*/summary.json")]
        if len(summaries) != len(cells(args.quick)):
            raise SystemExit(f"{side}: {len(summaries)} cells finished")
        entries = [cell for one in summaries for cell in one["cells"].values()]
        compiled = sum(cell["compile_seconds"] for cell in entries)
        whole = Path(place) / "s" / "sweep-summary.json"
        many = len(entries)
        if whole.exists():
            many = json.loads(whole.read_text())["compilations"]
        return Measured(wall, many, compiled, sum(c["train_seconds"] for c in entries), peak)


def table(results: dict[str, list[Measured]], args: argparse.Namespace) -> Table:
    names = {
        "sweep": "gacf sweep", "loop": "(a) a loop of gacf run, one process",
        "processes": "(b) a process a cell, one after the other",
        "pinned": "(b) a process a cell, one a core",
    }  # fmt: skip
    middle = {k: sorted(v, key=lambda m: m.wall)[len(v) // 2] for k, v in results.items()}
    rows = []
    for side, one in middle.items():
        rows.append(
            [
                names[side],
                f"{one.wall:.0f}",
                f"{one.wall / middle['sweep'].wall:.2f}",
                str(one.compilations),
                f"{100 * one.compile / (one.wall * (CORES if side == 'pinned' else 1)):.0f} %",
                f"{100 * one.train / (one.wall * (CORES if side == 'pinned' else 1)):.0f} %",
                f"{one.peak / 2**20:.0f}",
            ]
        )
    count = len(cells(args.quick))
    return Table(
        "s",
        f"a sweep of {count} cells × {2 if args.quick else 16} seeds of the ring, seconds",
        f"python -m benchmarks.sweep --steps {args.steps} --hidden {args.hidden} "
        f"--batch {args.batch} --rounds {args.rounds}",
        ["side", "wall", "over gacf sweep", "compilations", "of it compiling", "of it training",
         "peak MiB a process"],
        rows,
        [
            "From an empty cache, start of Python, pictures and tables included; the rest of the "
            "time is theirs. The median round by wall-clock time."
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        from gacf.lab.cli import main as gacf

        for cell in cells(args.quick):
            if gacf(run_of(cell, args.loop, overrides(args))):
                raise SystemExit(1)
        return
    if args.side:
        began = time.perf_counter()
        SIDES[args.side[0]](Path(args.side[1]), args)
        peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(json.dumps([time.perf_counter() - began, peak]))
        return
    where = machine()
    results: dict[str, list[Measured]] = {}
    for i in range(args.rounds):
        for side in args.only[:: 1 if i % 2 == 0 else -1]:
            results.setdefault(side, []).append(measured(side, args))
            print(side, results[side][-1], flush=True)
    measured_table = table({side: results[side] for side in args.only}, args)
    print(measured_table.markdown())
    if args.json:
        args.json.write_text(
            json.dumps({"machine": where, "tables": [measured_table._asdict()]}, indent=1)
        )


if __name__ == "__main__":
    main()
