"""gacf against all its peers: JAX by hand, PyTorch, rejax.

    python -m benchmarks.peers --torch PYTHON --rejax PYTHON [--repeats N] [--quick] [--json FILE]

PYTHON: the interpreter of an environment with torch and gymnasium, or with rejax (see
`benchmarks.rejax_peer`); `--torch` is this one by default. Each side is a process of its own, which
makes one measurement at a time; the sides take turns, ABC CBA …. Updates by hand and in PyTorch are
those of `benchmarks.foundation`, trainings in rejax those of `benchmarks.rejax_peer`. A peer that
is not installed is left out, with a message. Prints table p, from which `benchmarks.render` writes
the page.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import rejax_peer, subjects
from benchmarks.common import Table, machine, milliseconds, ratio
from benchmarks.foundation import SUBJECTS
from benchmarks.subjects import HandRunner, Runner
from benchmarks.workers import Worker, in_turn, serve

HERE = Path(__file__).parent
SEEDS, TRAININGS = (1, 16, 64), (1, 8, 32)
STEPS = {1: 200, 16: 50, 64: 20}


@functools.cache
def runner(side: str, subject: str, seeds: int, steps: int) -> Callable[[], Any]:
    """A call that makes `steps` updates of each seed, warm."""
    algorithm = SUBJECTS[subject]()
    ours = Runner(algorithm.algorithm, seeds, "auto", [steps])
    if side == "gacf":
        call: Callable[[], Any] = ours
    else:
        start = subjects.initial(algorithm.algorithm, seeds)
        call = HandRunner(algorithm, start, ours.program.map, steps)
    jax.block_until_ready(call())
    return call


@functools.cache
def training(method: str, seeds: int) -> rejax_peer.Ours:
    return rejax_peer.Ours(method, seeds)


def answer(side: str, **request: Any) -> dict[str, float]:
    """One measurement of this process's side."""
    if "method" in request:
        return {"seconds": training(**request)()}
    call = runner(side, **request)
    start = time.perf_counter()
    jax.block_until_ready(call())
    return {"seconds": time.perf_counter() - start}


class Peers:
    """The process of each side."""

    def __init__(self, torch: str | None, rejax: str | None):
        def side(name: str) -> Worker:
            return Worker([sys.executable, "-m", "benchmarks.peers", "--side", name])

        self.sides = {"gacf": side("gacf"), "by hand": side("by hand")}
        if torch:
            self.sides["PyTorch"] = Worker([torch, str(HERE / "torch_worker.py")])
        if rejax:
            self.sides["rejax"] = Worker([rejax, "-W", "ignore", str(HERE / "rejax_worker.py")])
        self.versions = {
            name: version
            for worker in self.sides.values()
            for name, version in worker.answer().items()
        }

    def close(self) -> None:
        for worker in self.sides.values():
            worker.close()


def seconds(worker: Worker, **request: Any) -> float:
    return worker(**request)["seconds"]


def row(
    what: str, seeds: int, peer: str, taken: dict[str, np.ndarray], units: dict[str, int]
) -> list[str]:
    """The row of one comparison, per unit of work."""
    ours, theirs = (taken[name] / units[name] for name in ("gacf", peer))
    return [
        what,
        str(seeds),
        peer,
        milliseconds(ours, 1),
        milliseconds(theirs, 1),
        ratio(ours, theirs),
        f"{(ours / theirs).min():.2f} to {(ours / theirs).max():.2f}",
        str(len(ours)),
    ]


def updates(peers: Peers, repeats: int, quick: bool) -> Iterator[list[str]]:
    """gacf against JAX by hand and PyTorch, per update of a seed."""
    for subject in SUBJECTS:
        for seeds in (1, 2) if quick else SEEDS:
            steps = 5 if quick else STEPS[seeds]
            request: dict[str, Any] = {"subject": subject, "seeds": seeds, "steps": steps}
            sides, units = {}, {}
            for name in ("gacf", "by hand"):
                sides[name] = functools.partial(seconds, peers.sides[name], **request)
                units[name] = seeds * steps
            if "PyTorch" in peers.sides:  # it trains one seed at a time, so a unit is a step
                one = {"subject": subject, "steps": steps}
                sides["PyTorch"] = functools.partial(seconds, peers.sides["PyTorch"], **one)
                units["PyTorch"] = steps
            for side in sides.values():
                side()
            taken = in_turn(sides, repeats)
            for peer in list(sides)[1:]:
                yield row(f"{subject}, update", seeds, peer, taken, units)


def trainings(peers: Peers, repeats: int, quick: bool) -> Iterator[list[str]]:
    """gacf against rejax, per training of a seed; rejax as its users run it, and sharded."""
    if "rejax" not in peers.sides:
        return
    theirs = peers.sides["rejax"]
    methods = ("td3",) if quick else tuple(rejax_peer.SETTINGS)
    for method in methods:
        settings = rejax_peer.SETTINGS[method]
        for seeds in (2,) if quick else TRAININGS:
            sides = {
                "gacf": functools.partial(seconds, peers.sides["gacf"], method=method, seeds=seeds)
            }
            for way in ("vmap",) if seeds == 1 or quick else ("vmap", "sharded-loop"):
                request = {"method": method, "settings": settings, "seeds": seeds, "map": way}
                sides[f"rejax, {way}"] = functools.partial(seconds, theirs, **request)
            for side in sides.values():
                side()
            taken = in_turn(sides, repeats if seeds < 32 else min(repeats, 3))
            units = dict.fromkeys(sides, seeds)
            for peer in list(sides)[1:]:
                yield row(f"{method.upper()}, training", seeds, peer, taken, units)


def table(rows: list[list[str]], versions: dict[str, str], repeats: int) -> Table:
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Table(
        "p",
        "gacf against its peers, each in a process of its own",
        f"python -m benchmarks.peers --torch PYTHON --rejax PYTHON --repeats {repeats}",
        [
            "what",
            "seeds",
            "peer",
            "gacf, ms a seed",
            "peer, ms a seed",
            "gacf / peer [middle half]",
            "least to most",
            "repeats",
        ],
        rows,
        [
            f"PyTorch trains one seed. Their environments: {packages}." if packages else "",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", metavar="PYTHON", help="default: this one, if it has torch")
    parser.add_argument("--rejax", metavar="PYTHON")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    parser.add_argument("--side", choices=("gacf", "by hand"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        serve({}, functools.partial(answer, args.side))
        return
    here = all(importlib.util.find_spec(name) for name in ("torch", "gymnasium"))
    torch = args.torch or (sys.executable if here else None)
    for name, python in (("PyTorch", torch), ("rejax", args.rejax)):
        if not python:
            print(f"{name} is left out, because no environment with it was given; see --help")
    repeats = 2 if args.quick else args.repeats
    where = machine()
    peers = Peers(torch, args.rejax)
    rows: list[list[str]] = []
    for part in (updates, trainings):
        for cells in part(peers, repeats, args.quick):
            rows.append(cells)
            print(" | ".join(cells), flush=True)
            measured = table(rows, peers.versions, repeats)
            if (
                args.json
            ):  # after each row, so that a run that is stopped leaves what it has measured
                run = {"machine": where, "tables": [measured._asdict()]}
                args.json.write_text(json.dumps(run, indent=1))
    peers.close()
    print(table(rows, peers.versions, repeats).markdown())


if __name__ == "__main__":
    main()
