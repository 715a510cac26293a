"""Whether two checkouts train to the same numbers, bit for bit.

    python -m benchmarks.same_numbers OTHER            this checkout against OTHER
    python -m benchmarks.same_numbers OTHER --only equivalence ring_gan

Each experiment below runs for a few hundred steps in both checkouts, in processes of their own. All
rows of the two metrics.parquet must be equal, NaN included. A change that only moves or renames
code passes; exit status 1 and the first differing metric otherwise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parents[1]
SHORT = {"seeds": 3, "log_every": 10, "evaluate_every": 100, "checkpoint_every": 100}
EXPERIMENTS: dict[str, tuple[str, dict[str, object]]] = {
    "ring_gan": ("ring_gan", {"steps": 300}),
    "pendulum_ddpg": ("pendulum_ddpg", {"steps": 300}),
    "control_sac": ("control", {"method": "sac", "steps": 300, "warmup": 300}),
    "control_ppo": (
        "control",
        {"method": "ppo", "steps": 20, "log_every": 1, "evaluate_every": 10,
         "checkpoint_every": 10},
    ),
    "equivalence": ("equivalence", {"steps": 200}),
}  # fmt: skip


def train(checkout: Path, name: str, directory: Path) -> pd.DataFrame:
    """The metrics of one short run in one checkout."""
    experiment, settings = EXPERIMENTS[name]
    flags = [f"--config.{key}={value}" for key, value in {**SHORT, **settings}.items()]
    path = str(checkout / "experiments" / f"{experiment}.py")
    command = [sys.executable, "-P", "-m", "gacf", "run", path, "--workdir", str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    result = subprocess.run(
        [*command, *flags], env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise SystemExit(f"{name} in {checkout}: exit {result.returncode}\n{result.stderr}")
    return pd.read_parquet(directory / "metrics.parquet")


def first_difference(one: pd.DataFrame, other: pd.DataFrame) -> str | None:
    """The first difference; None if all rows are equal bit for bit."""
    rows = ["cell", "seed", "step", "metric"]
    if sorted(set(one["metric"])) != sorted(set(other["metric"])):
        unshared = sorted(set(one["metric"]) ^ set(other["metric"]))
        return f"metrics of one side only: {', '.join(unshared)}"
    one, other = (x.sort_values(rows).reset_index(drop=True) for x in (one, other))
    if len(one) != len(other) or not one[rows].equals(other[rows]):
        return f"{len(one)} rows against {len(other)}, or different rows"
    a, b = one["value"].to_numpy(), other["value"].to_numpy()
    apart = np.flatnonzero(~((a == b) | (np.isnan(a) & np.isnan(b))))
    if not apart.size:
        return None
    row = one.iloc[apart[0]]
    where = ", ".join(f"{name} {row[name]}" for name in rows)
    return f"{apart.size} of {a.size} values, first {where}: {a[apart[0]]!r} and {b[apart[0]]!r}"


def main() -> int:
    """Compares the checkouts, one experiment after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("other", type=Path, help="the other checkout's root")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    options = parser.parse_args()
    differ = False
    for name in options.only:
        with tempfile.TemporaryDirectory() as place:
            runs = [
                train(root.resolve(), name, Path(place) / side)
                for side, root in (("here", HERE), ("there", options.other))
            ]
        difference = first_difference(*runs)
        differ |= difference is not None
        print(f"{name}: {difference or f'{len(runs[0]):,} values equal to the bit'}", flush=True)
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
