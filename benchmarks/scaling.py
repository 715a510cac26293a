"""Seeds over 1, 2, 4, 8 devices of this machine, and over 2 processes: time, memory, exchange.

    python -m benchmarks.scaling [--quick] [--rounds N] [--json FILE]

DDPG of `benchmarks.foundation`, 16 seeds, `sharded-loop`. The devices are JAX's host devices,
which share the machine's cores, so more devices than cores save no time. The model of
docs/scaling.md is compared in memory, exchange, and the cost of one more device. Each row has
processes of its own, and all rows take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workers import Worker, in_turn, serve

ROWS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 4))  # processes, devices of each
COLLECTIVES = re.compile(r"= .* (all-reduce|all-gather|all-to-all|collective-permute)\(")


def memory(name: str) -> int:
    """A line of /proc/self/status in bytes; the peak memory if there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(x.split()[1]) for x in lines if x.startswith(name))
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def work(devices: int, processes: int, process: int, address: str, quick: bool) -> None:
    """One process of a row."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    if processes > 1:
        jax.distributed.initialize(address, processes, process)
    from benchmarks import subjects
    from gacf.runner import Program

    seeds, steps = (4, 2) if quick else (16, 20)
    algorithm = subjects.ddpg(1_000 if quick else 100_000).algorithm
    way = "sharded-loop" if devices * processes > 1 else "loop"
    program = Program(algorithm, seeds, map=way)
    lanes = program.init(subjects.KEY)
    text = program.compile(lanes, 1).as_text()
    share = int(program.placement.own.sum()) / program.padded
    whole = program.bytes_a_lane() * program.lanes
    with contextlib.suppress(OSError):  # the peak must not include compilation
        Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS") - whole * share
    held: list[Any] = [lanes]

    def answer(gather: bool = False) -> dict[str, float]:
        start = time.perf_counter()
        if gather:
            state = program.state_of(held[0])
            jax.block_until_ready(state.params)
        else:
            held[0], metrics = program.advance(held[0], [steps], [False])
            jax.block_until_ready((held[0].body[0], metrics))
        return {
            "seconds": time.perf_counter() - start,
            "grown": memory("VmHWM") - before,
        }

    answer()
    greeting = {
        "needed": program.bytes_needed(),
        "state": whole,
        "share": share,
        "sent": 4 * len(program.metrics_shape()) * program.lanes,
        "collectives": len(COLLECTIVES.findall(text)),
        "compile": program.compile_seconds,
        "updates": seeds * steps,
    }
    serve(greeting, answer)
    os._exit(0)  # the row's other process may be gone already


class Row:
    """The processes of one row."""

    def __init__(self, processes: int, devices: int, quick: bool):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.workers = []
        for process in range(processes):
            numbers = map(str, (devices, processes, process))
            command = [sys.executable, "-m", "benchmarks.scaling", "--work", *numbers, address]
            self.workers.append(Worker([*command, *(["--quick"] if quick else [])]))

    def greet(self) -> None:
        self.greetings = [worker.answer() for worker in self.workers]

    def __call__(self, **request: Any) -> list[dict[str, float]]:
        """The answers of all processes, which work at the same time."""
        for worker in self.workers:
            worker.send(**request)
        return [worker.answer() for worker in self.workers]


def by_model(greeting: dict[str, Any]) -> float:
    """Bytes of one process: its lanes, and the complete state that it saves."""
    whole = greeting["state"] if greeting["share"] < 1 else 0
    return greeting["needed"] * greeting["share"] + whole


def table(rows: tuple[tuple[int, int], ...], rounds: int, quick: bool) -> Any:
    from benchmarks.common import Table, milliseconds, ratio

    rows_of = {f"{p} × {d}": Row(p, d, quick) for p, d in rows}
    for row in rows_of.values():
        row.greet()
    sides = {
        name: lambda row=row: max(a["seconds"] for a in row()) for name, row in rows_of.items()
    }
    taken = in_turn(sides, rounds)
    gathered = in_turn(
        {
            name: lambda row=row: max(a["seconds"] for a in row(gather=True))
            for name, row in rows_of.items()
        },
        min(rounds, 3),
    )
    first = next(iter(rows_of))
    cells = []
    mib = 2**20
    for name, row in rows_of.items():
        greeting = row.greetings[0]
        grown = [answer["grown"] for answer in row()]
        cells.append(
            [
                name,
                milliseconds(taken[name], greeting["updates"]),
                ratio(taken[name], taken[first]),
                f"{greeting['compile']:.1f}",
                str(greeting["collectives"]),
                f"{greeting['sent'] / 1024:.1f}" if len(row.workers) > 1 else "0",
                f"{1e3 * np.median(gathered[name]):.0f}",
                f"{by_model(greeting) / mib:.0f}",
                " + ".join(f"{g / mib:.0f}" for g in grown),
            ]
        )
        for worker in reversed(row.workers):  # the first one coordinates, so it ends last
            worker.close()
    return Table(
        "n",
        "16 seeds of DDPG over host devices and processes",
        "python -m benchmarks.scaling" + (f" --rounds {rounds}" if rounds != 9 else ""),
        [
            "processes × devices",
            "ms a seed-update",
            "to one device [middle half]",
            "compile, s",
            "collectives in a call",
            "KiB of metrics gathered a call",
            "ms to have the state whole",
            "MiB by the model, a process",
            "MiB grown at the peak, each",
        ],
        cells,
        ["All devices are of the same cores. A call is 20 steps of each seed."],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        devices, processes, process, address = args.work
        work(int(devices), int(processes), int(process), address, args.quick)
        return
    from benchmarks.common import machine

    rows = ((1, 1), (1, 2), (2, 1)) if args.quick else ROWS
    where = machine()
    measured = table(rows, 1 if args.quick else args.rounds, args.quick)
    print(measured.markdown())
    if args.json:
        args.json.write_text(
            json.dumps({"machine": where, "tables": [measured._asdict()]}, indent=1)
        )


if __name__ == "__main__":
    main()
