"""`python -m benchmarks.render FILE`: writes docs/benchmarks.md from the JSON of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.common import Table

INTRODUCTION = """\
# Benchmarks

Speed as ratios: both sides of a comparison run in one process and take turns (ABBA …), so that what
else the machine does falls on both. A ratio is the median over the rounds of the ratio within a
round; in brackets the middle half of them. Times are medians, after a warm-up call.

    python -m benchmarks.foundation --json FILE     measures all of it; `--only` a section
    python -m benchmarks.render FILE                writes this page

The MLP GAN: generator and discriminator 2 × 128, batch 256, 16-d noise, ring of 8 Gaussians sampled
afresh, non-saturating, alternating, Adam. DDPG: 2 × 256 both, batch 256, Pendulum-v1 of gymnax, one
environment step and one update a step, replay of 100,000, slow copies, Adam. The hand-written side
(benchmarks/handwritten.py) imports nothing of gacf.
"""


def main() -> None:
    measured = json.loads(Path(sys.argv[1]).read_text())
    where = "\n".join(f"| {name} | {value} |" for name, value in measured["machine"].items())
    pages = [Table(**table).markdown() for table in measured["tables"]]
    target = Path(__file__).parent.parent / "docs" / "benchmarks.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join([INTRODUCTION, f"| measured | |\n|---|---|\n{where}\n", *pages]))
    print(f"wrote {target.name} from {sys.argv[1]}")


if __name__ == "__main__":
    main()
