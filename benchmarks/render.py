"""`python -m benchmarks.render [FILE …]`: writes docs/benchmarks.md from the JSON of runs.

Without arguments: from all of benchmarks/results, in the order of their names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Table
from gacf.runner.program import LOOP_FROM

RESULTS = Path(__file__).parent / "results"

INTRODUCTION = f"""\
# Benchmarks

Speeds are given as ratios. Both sides of a comparison run in one process and take turns (ABBA …), so
that other work on the machine slows both of them. A ratio is the median of the ratios within each
round, and the brackets hold the middle half of these. Times are medians, after a warm-up call.

    python -m benchmarks.foundation --json FILE            tables a to f; `--only` a section
    python -m benchmarks.rejax_peer PYTHON --json FILE     table g; PYTHON has rejax, see its --help
    python -m benchmarks.share --json FILE                 table h
    python -m benchmarks.conv --json FILE                  table k
    python -m benchmarks.sweep --json FILE                 table s
    python -m benchmarks.gan --json FILE                   table t
    python -m benchmarks.feed --json FILE                  table u
    python -m benchmarks.scaling --json FILE               table n
    python -m benchmarks.peers --rejax PYTHON --json FILE  table p, all peers side by side
    python -m benchmarks.render                            this page, from benchmarks/results

The MLP GAN has a generator and a discriminator of 2 × 128, batch 256 and 16-d noise, learns a ring of 8
Gaussians that is sampled afresh, and uses the non-saturating loss, alternating steps and Adam. DDPG has two
networks of 2 × 256, batch 256, Pendulum-v1 of gymnax, one environment step and one update per step, a replay
buffer of 100,000, slow copies and Adam. The DCGAN's networks have two layers of 64 and 128 channels each, with
batch normalisation, batch 64 and 64-d noise. The hand-written side (benchmarks/handwritten.py) imports nothing
from gacf. On CPUs `map="auto"` is a loop over the seeds if a step has at least {LOOP_FROM:.0e} floating-point operations,
and `vmap` otherwise (tables b and f), spread over all devices. Nothing here was measured on a GPU or TPU,
because none was available.
"""  # noqa: E501


def merged(tables: list[Table]) -> Table:
    """One table of several runs: rows of later runs replace rows with the same first two cells."""
    rows: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for table in tables:
        fresh: dict[tuple[str, ...], list[Sequence[str]]] = {}
        for row in table.rows:
            fresh.setdefault(tuple(row[:2]), []).append(row)
        rows |= fresh
    commands = dict.fromkeys(table.command for table in tables)
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    return tables[-1]._replace(
        command="\n    ".join(commands),
        rows=[row for group in rows.values() for row in group],
        notes=list(notes),
    )


def spread(values: dict[str, list[str]]) -> str:
    """The value, or each of several values with the tables that were measured with it."""
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{v} ({', '.join(sorted(set(t)))})" for v, t in values.items())


def main() -> None:
    files = [Path(name) for name in sys.argv[1:]] or sorted(RESULTS.glob("*.json"))
    runs = [json.loads(path.read_text()) for path in files]
    where: dict[str, dict[str, list[str]]] = {}
    named: dict[str, list[Table]] = {}
    for run in runs:
        names = [table["name"] for table in run["tables"]]
        for name, value in run["machine"].items():
            where.setdefault(name, {}).setdefault(value, []).extend(names)
        for table in run["tables"]:
            named.setdefault(table["name"], []).append(Table(**table))
    rows = "\n".join(f"| {name} | {spread(values)} |" for name, values in where.items())
    pages = [merged(named[name]).markdown() for name in sorted(named)]
    target = Path(__file__).parent.parent / "docs" / "benchmarks.md"
    target.write_text("\n".join([INTRODUCTION, f"| measured | |\n|---|---|\n{rows}\n", *pages]))
    print(f"wrote {target.name} from {', '.join(path.name for path in files)}")


if __name__ == "__main__":
    main()
