"""Speed of the foundation, as ratios in one process.

    python -m benchmarks.foundation [--quick] [--only adef] [--seeds N …] [--json FILE]

Prints markdown tables: (a) gacf against a hand-written scan, (b) strategies of the seed axis,
(c) compile time, (d) PyTorch, (e) the replay buffer's capacity. `--quick` is a smoke test.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import CORES, subjects
from benchmarks.common import Table, Timed, interleave, machine, milliseconds, ratio
from benchmarks.subjects import HandRunner, Runner, Subject
from gacf.runner import MAPS, Program

SUBJECTS: dict[str, Callable[[], Subject]] = {"MLP GAN": subjects.gan, "DDPG": subjects.ddpg}


def command(sections: str, seeds: Sequence[int] = ()) -> str:
    chosen = f" --seeds {' '.join(map(str, seeds))}" if seeds else ""
    return f"python -m benchmarks.foundation --only {sections}{chosen}"


def windows(seeds: int, quick: bool) -> list[int]:
    """The steps of each window of one call, which is short so that the sides take turns often."""
    if quick:
        return [10]
    return {1: [100] * 5, 16: [100]}.get(seeds, [25])


def timed_maps(seeds: int) -> list[str]:
    """The strategies that differ from one another with this number of seeds."""
    several = seeds > 1 and CORES > 1
    return [name for name in MAPS[1:] if several or not name.startswith("sharded")]


def strategies(quick: bool, chosen: Sequence[int] = (1, 16, 64)) -> Iterator[Table]:
    """Tables a to c, from the same measurements."""
    rounds = {1: 15, 16: 9, 64: 7}
    same, speed, compiled, agreement = [], [], [], []
    for name, make in SUBJECTS.items():
        subject = make()
        steps = 10 if quick else 30  # later a swinging pendulum has amplified rounding errors
        agreement.append(
            f"Check, {name}: after {steps} steps on the same draws no parameter differs by more "
            f"than {subjects.disagreement(subject, steps):.1e} of the largest change of any."
        )
        for seeds in (1, 4) if quick else chosen:
            counts = windows(seeds, quick)
            start = subjects.initial(subject.algorithm, seeds)
            first = Runner(subject.algorithm, seeds, "auto", counts, start)
            auto = first.program.map
            compared = dict.fromkeys((auto, "vmap"))
            maps = ("vmap", auto) if quick else timed_maps(seeds)
            ours = {
                m: first if m == auto else Runner(subject.algorithm, seeds, m, counts, start)
                for m in maps
            }
            theirs = {m: HandRunner(subject, start, m, sum(counts)) for m in compared}
            sides: dict[str, Any] = {}
            for m, run in ours.items():
                sides[m] = run
                if m in theirs:
                    sides[f"hand {m}"] = theirs[m]
            taken, worked = interleave(sides, 3 if quick else rounds[seeds])
            updates = seeds * sum(counts)
            for m in compared:
                same.append(
                    [
                        name,
                        str(seeds),
                        m + (" (auto)" if m == auto else ""),
                        milliseconds(taken[f"hand {m}"], updates),
                        milliseconds(taken[m], updates),
                        ratio(taken[m], taken[f"hand {m}"]),
                        ratio(worked[m], worked[f"hand {m}"]),
                    ]
                )
            speed.append(row_of_maps(name, seeds, taken, updates, auto))
            compiled.append(
                [
                    name,
                    str(seeds),
                    auto,
                    f"{theirs[auto].compile_seconds:.2f}",
                    f"{ours[auto].compile_seconds:.2f}",
                    f"{ours[auto].compile_seconds / theirs[auto].compile_seconds:.2f}",
                ]
            )
    yield Table(
        "a",
        "gacf against the same update written by hand as one jitted scan",
        command("a", chosen),
        [
            "update",
            "seeds",
            "strategy",
            "by hand, ms a seed-update",
            "gacf",
            "ratio [middle half]",
            "of CPU time",
        ],
        same,
        agreement,
    )
    seeds = 4 if quick else max(chosen)
    counts = [100 if quick else 10_000]
    tiny = {m: Runner(subjects.bilinear(), seeds, m, counts) for m in timed_maps(seeds)}
    taken, _ = interleave(tiny, 3 if quick else 15)
    auto = Program(subjects.bilinear(), seeds).map
    speed.append(row_of_maps("bilinear game", seeds, taken, seeds * sum(counts), auto))
    yield Table(
        "b",
        "strategies of the seed axis, ms a seed-update",
        command("a", chosen),
        ["update", "seeds", *MAPS[1:], "auto is", "auto / vmap [middle half]"],
        speed,
    )
    yield Table(
        "c",
        "seconds to trace and compile",
        command("a", chosen),
        ["update", "seeds", "strategy", "by hand", "gacf", "ratio"],
        compiled,
        ["gacf also traces `init` here; by hand the initial state is given."],
    )


def row_of_maps(name: str, seeds: int, taken: Timed, updates: int, auto: str) -> list[str]:
    cells = [milliseconds(taken[m], updates) if m in taken else "–" for m in MAPS[1:]]
    return [name, str(seeds), *cells, auto, ratio(taken[auto], taken["vmap"])]


def crossover(quick: bool) -> Iterator[Table]:
    """Table f: the size of a step from which a loop over seeds beats vmap."""
    sizes = (
        ((8, 8), (16, 64))
        if quick
        else tuple((h, b) for h in (8, 16, 32, 64, 128) for b in (16, 64, 256))
    )
    prefix = "sharded-" if CORES > 1 else ""
    rows = []
    for hidden, batch in sizes:
        subject = subjects.gan(hidden, batch, noise=8)
        work = subjects.flops(subject.algorithm)
        for seeds in (4,) if quick else (16, 64):
            steps = int(np.clip(1e9 / (work + 1e5) / seeds * 8, 10, 1000))
            kinds = ("vmap", "loop", "loop2", "loop4")
            start = subjects.initial(subject.algorithm, seeds)
            sides = {k: HandRunner(subject, start, prefix + k, steps) for k in kinds}
            taken, _ = interleave(sides, 3 if quick else 11)
            rows.append(
                [
                    f"{hidden}",
                    f"{batch}",
                    f"{work:.1e}",
                    f"{seeds}",
                    milliseconds(taken["vmap"], seeds * steps),
                    *(ratio(taken[k], taken["vmap"]) for k in kinds[1:]),
                ]
            )
    rows.sort(key=lambda row: (int(row[3]), float(row[2])))
    yield Table(
        "f",
        f"when a loop over seeds beats vmap ({prefix or 'one device'}…, hand-written GAN)",
        command("f"),
        [
            "hidden",
            "batch",
            "FLOP a step",
            "seeds",
            "vmap, ms a seed-update",
            "loop / vmap",
            "loop of 2 / vmap",
            "loop of 4 / vmap",
        ],
        rows,
    )


def against_torch(quick: bool) -> Iterator[Table]:
    """Table d: gacf against PyTorch."""
    try:
        from benchmarks import pytorch
    except ImportError as missing:
        print(f"d. skipped: {missing.name} is not installed; the extra `bench` brings it\n")
        return
    rows = []
    steps, seeds = (5, 4) if quick else (100, 16)
    for name, make in SUBJECTS.items():
        algorithm = make().algorithm
        theirs = pytorch.SUBJECTS[name](steps)
        one = Runner(algorithm, 1, "auto", [steps])
        many = Runner(algorithm, seeds, "auto", [steps])
        taken, _ = interleave({"torch": theirs, "one": one, "many": many}, 3 if quick else 15)
        each = taken["many"] / seeds
        rows.append(
            [
                name,
                *(
                    f"{steps / float(np.median(t)):.0f}"
                    for t in (taken["torch"], taken["one"], each)
                ),
                ratio(taken["torch"], taken["one"]),
                ratio(taken["torch"], each),
            ]
        )
    yield Table(
        "d",
        "PyTorch eager, updates a second and seed",
        command("d"),
        [
            "update",
            f"PyTorch, 1 seed, {pytorch.threads()} threads",
            "gacf, 1 seed",
            f"gacf, {seeds} seeds",
            "gain at 1 seed",
            f"gain at {seeds} seeds",
        ],
        rows,
        [
            "A gain is PyTorch's time over gacf's, a seed-update, [middle half]. PyTorch's DDPG "
            "steps gymnasium's Pendulum-v1, gacf's that of gymnax."
        ],
    )


def capacities(quick: bool) -> Iterator[Table]:
    """Table e: DDPG with a small and a large replay buffer."""
    small, large = (1_000, 10_000) if quick else (10_000, 1_000_000)
    seeds, steps = (2, 10) if quick else (4, 200)
    rows = []
    for m in ("sharded-loop" if CORES > 1 else "loop", "vmap"):
        sides = {}
        for capacity in (small, large):
            algorithm = subjects.ddpg(capacity).algorithm
            for n in (steps, 2 * steps):
                sides[f"{capacity}, {n}"] = Runner(algorithm, seeds, m, [n])
        taken, _ = interleave(sides, 3 if quick else 15)
        step, call = {}, {}
        for c in (small, large):
            once, twice = taken[f"{c}, {steps}"], taken[f"{c}, {2 * steps}"]
            step[c], call[c] = twice - once, np.median(2 * once - twice)
        rows.append(
            [
                m,
                *(milliseconds(step[c], seeds * steps) for c in (small, large)),
                ratio(step[large], step[small]),
                *(f"{1e3 * float(call[c]):.1f}" for c in (small, large)),
            ]
        )
    yield Table(
        "e",
        f"DDPG against the replay buffer's capacity, {seeds} seeds",
        command("e"),
        [
            "strategy",
            f"ms a seed-update at {small:,}",
            f"at {large:,}",
            "ratio [middle half]",
            f"ms a call at {small:,}",
            f"at {large:,}",
        ],
        rows,
        [
            f"The step time is what {steps} more steps in one call add; the rest is paid once a "
            "call of the compiled program, however many steps it makes."
        ],
    )


SECTIONS: dict[str, Callable[..., Iterator[Table]]] = {
    "a": strategies,
    "d": against_torch,
    "e": capacities,
    "f": crossover,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test; the figures mean nothing"
    )
    parser.add_argument(
        "--only", default="adef", help="the letters of the sections: a (with b and c), d, e, f"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="numbers of seeds in tables a to c; default: 1 16 64"
    )
    parser.add_argument("--json", type=Path, help="write the tables there, for benchmarks.render")
    args = parser.parse_args()
    where = machine()
    tables = []
    print(*(f"{name}: {value}" for name, value in where.items()), "", sep="\n")
    for letter in args.only:
        chosen = (args.seeds,) if letter == "a" and args.seeds else ()
        for table in SECTIONS[letter](args.quick, *chosen):
            print(table.markdown(), flush=True)
            tables.append(table._asdict())
            if args.json:
                args.json.write_text(json.dumps({"machine": where, "tables": tables}, indent=1))


if __name__ == "__main__":
    main()
