"""The share of the machine's arithmetic that a step reaches, for several methods and seeds.

    python -m benchmarks.share [--quick] [--only NAME …] [--seeds N …] [--json FILE]

Prints table h. Arithmetic: the matrix products and convolutions of a step. Achieved: the arithmetic
over the time of a step, as a share of what one large float32 matrix product (1,024 × 1,024) reaches
on all devices. Networks are 2 × 256 and batches 256, except for the GANs (see docs/benchmarks.md)
and PPO (64 environments × 64 steps, 10 epochs of 32 pieces of 128 examples, all in one step).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import optax

import gacf
from benchmarks import subjects
from benchmarks.common import Table, machine
from gacf.lab.inspect import profile
from gacf.networks import MLP
from gacf.runner import Program

WIDE = (256, 256)


def sac() -> gacf.Algorithm:
    replay = gacf.Replay(capacity=100_000, batch_size=256)
    game = gacf.sac("Pendulum-v1", MLP(WIDE, (2,)), MLP(WIDE), replay=replay)
    return gacf.compose(game, gacf.rules.alternating({p: optax.adam(1e-3) for p in game.losses}))


def ppo() -> gacf.Algorithm:
    rollout = gacf.Rollout(num_envs=64, length=64)
    game = gacf.ppo("Pendulum-v1", MLP(WIDE, (1,)), MLP(WIDE), rollout=rollout)
    joint = gacf.rules.simultaneous({p: optax.adam(3e-4) for p in game.losses})
    return gacf.compose(game, gacf.rules.minibatches(joint, epochs=10, count=32))


CASES: dict[str, Callable[[], gacf.Algorithm]] = {
    "ring": lambda: subjects.gan().algorithm,
    "ddpg": lambda: subjects.ddpg().algorithm,
    "sac": sac,
    "ppo": ppo,
    "dcgan": subjects.dcgan,
}
NAMES = {"ring": "MLP GAN, ring", "ddpg": "DDPG", "sac": "SAC", "ppo": "PPO", "dcgan": "DCGAN"}


def measured(name: str, seeds: int) -> list[str]:
    program = Program(CASES[name](), seeds)
    with tempfile.TemporaryDirectory() as place:
        # As many steps of each lane as a run makes before it continues with the next lane.
        result = profile.profile(program, subjects.KEY, Path(place), max(0.5, 0.08 * seeds))
    largest = result.costs[0]
    return [
        NAMES[name],
        str(seeds),
        program.map,
        f"{1e-6 * result.flops:.4g}",
        f"{1e3 * result.step_seconds / seeds:.3g}",
        f"{1e-9 * result.achieved:.0f}",
        f"{result.achieved / result.peak:.0%}",
        profile.share(result.idle),
        f"{largest.scope} {largest.operation}, {largest.share:.0%}".strip(),
    ]


def table(rows: list[list[str]], args: argparse.Namespace) -> Table:
    chosen = f" --only {' '.join(args.only)}" if args.only != list(CASES) else ""
    chosen += f" --seeds {' '.join(map(str, args.seeds))}" if args.seeds != SEEDS else ""
    return Table(
        "h",
        "share of the machine's arithmetic",
        f"python -m benchmarks.share{chosen}",
        ["method", "seeds", "map", "MFLOP a step and seed", "ms a step and seed", "GFLOP/s",
         "of one large product", "idle", "largest cost, of operations"],
        rows,
        [
            "Idle: share of the devices' time in which no operation ran. A large product keeps all "
            "its operands in the cache's favour; those of a step are of 256 rows and less. "
            "Unknown: a step holds more operations than a trace does."
        ],
    )  # fmt: skip


SEEDS = [1, 16, 64]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    args = parser.parse_args()
    where, rows = machine(), []
    for name in args.only[:1] if args.quick else args.only:
        for seeds in [1] if args.quick else args.seeds:
            rows.append(measured(name, seeds))
            print(*rows[-1], sep=" | ", flush=True)
            if (
                args.json
            ):  # after each row, so that a run that is stopped leaves what it has measured
                run = {"machine": where, "tables": [table(rows, args)._asdict()]}
                args.json.write_text(json.dumps(run, indent=1))
    print(table(rows, args).markdown())


if __name__ == "__main__":
    main()
