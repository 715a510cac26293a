"""gacf against all its peers in one go: JAX by hand, PyTorch, rejax.

    python -m benchmarks.peers --torch PYTHON --rejax PYTHON [--repeats N] [--quick] [--json FILE]

PYTHON: the interpreter of an environment with torch and gymnasium, or with rejax (see
`benchmarks.rejax_peer`); `--torch` is this one by default. Each side is a process of its own, asked
for one measurement at a time; the sides take turns, ABC CBA …. Updates by hand and in PyTorch are
those of `benchmarks.foundation`, trainings in rejax those of `benchmarks.rejax_peer`. A peer that
is not installed is left out, and told. Prints table p; `benchmarks.render` makes the page of it.
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
        made: Callable[[], Any] = ours
    else:
        start = subjects.initial(algorithm.algorithm, seeds)
        made = HandRunner(algorithm, start, ours.program.map, steps)
    jax.block_until_ready(made())
    return made


@functools.cache
def training(method: str, seeds: int) -> rejax_peer.Ours:
    return rejax_peer.Ours(method, seeds)


def answer(side: str, **asked: Any) -> dict[str, float]:
    """One measurement of this process's side."""
    if "method" in asked:
        return {"seconds": training(**asked)()}
    call = runner(side, **asked)
    start = time.perf_counter()
    jax.block_until_ready(call())
    return {"seconds": time.perf_counter() - start}


class Peers:
    """The processes."""

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


def seconds(worker: Worker, **asked: Any) -> float:
    return worker(**asked)["seconds"]


def row(
    what: str, seeds: int, peer: str, taken: dict[str, np.ndarray], units: dict[str, int]
) -> list[str]:
    """One comparison, a unit of each side's work."""
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
    """gacf against JAX by hand and PyTorch, an update of a seed."""
    for subject in SUBJECTS:
        for seeds in (1, 2) if quick else SEEDS:
            steps = 5 if quick else STEPS[seeds]
            asked: dict[str, Any] = {"subject": subject, "seeds": seeds, "steps": steps}
            sides, units = {}, {}
            for name in ("gacf", "by hand"):
                sides[name] = functools.partial(seconds, peers.sides[name], **asked)
                units[name] = seeds * steps
            if "PyTorch" in peers.sides:  # one seed at a time, so as many steps take seeds times
                one = {"subject": subject, "steps": steps}
                sides["PyTorch"] = functools.partial(seconds, peers.sides["PyTorch"], **one)
                units["PyTorch"] = steps
            for side in sides.values():
                side()
            taken = in_turn(sides, repeats)
            for peer in list(sides)[1:]:
                yield row(f"{subject}, update", seeds, peer, taken, units)


def trainings(peers: Peers, repeats: int, quick: bool) -> Iterator[list[str]]:
    """gacf against rejax, a whole training of a seed; rejax as its users run it, and spread."""
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
                asked = {"method": method, "settings": settings, "seeds": seeds, "map": way}
                sides[f"rejax, {way}"] = functools.partial(seconds, theirs, **asked)
            for side in sides.values():
                side()
            taken = in_turn(sides, repeats if seeds < 32 else min(repeats, 3))
            units = dict.fromkeys(sides, seeds)
            for peer in list(sides)[1:]:
                yield row(f"{method.upper()}, training", seeds, peer, taken, units)


def table(rows: list[list[str]], versions: dict[str, str], repeats: int) -> Table:
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
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
            f"PyTorch trains one seed. Their environments: {known}." if known else "",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", metavar="PYTHON", help="default: this one, if torch is there")
    parser.add_argument("--rejax", metavar="PYTHON")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    parser.add_argument("--side", choices=("gacf", "by hand"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        serve({}, functools.partial(answer, given.side))
        return
    here = all(importlib.util.find_spec(name) for name in ("torch", "gymnasium"))
    torch = given.torch or (sys.executable if here else None)
    for name, found in (("PyTorch", torch), ("rejax", given.rejax)):
        if not found:
            print(f"{name} is left out: no environment with it was given; see --help")
    repeats = 2 if given.quick else given.repeats
    where = machine()
    peers = Peers(torch, given.rejax)
    rows: list[list[str]] = []
    for part in (updates, trainings):
        for cells in part(peers, repeats, given.quick):
            rows.append(cells)
            print(" | ".join(cells), flush=True)
            made = table(rows, peers.versions, repeats)
            if given.json:  # after each row: a long run that is stopped leaves what it measured
                written = {"machine": where, "tables": [made._asdict()]}
                given.json.write_text(json.dumps(written, indent=1))
    peers.close()
    print(table(rows, peers.versions, repeats).markdown())


if __name__ == "__main__":
    main()
