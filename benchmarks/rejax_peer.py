"""gacf against rejax: TD3, SAC and PPO on Pendulum-v1, seconds per seed of a whole training.

    python -m venv rejax-env && rejax-env/bin/pip install rejax==0.1.3 gymnax==0.0.9
    python -m benchmarks.rejax_peer rejax-env/bin/python [--quick] [--json FILE]

Both sides have the same networks, batches, buffers and numbers of environment steps and updates.
Neither evaluates, and both include initialisation. rejax runs as its users run it,
`jax.vmap(train)`, and in the best of the strategies that gacf has; gacf with `map="auto"`. The two
sides, each in a process of its own, take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen

import gacf
from benchmarks.common import Table, machine, ratio
from gacf import rules
from gacf.networks import MLP
from gacf.runner import Program

KEY = jax.random.key(0)
HIDDEN, UPDATES, WARMUP = (64, 64), 1_024, 256
LONG = 100  # from this number of seeds on, the first call is the one that is timed
OFF = {
    "total_timesteps": WARMUP + UPDATES,
    "eval_freq": WARMUP + UPDATES,
    "fill_buffer": WARMUP,
    "buffer_size": 10_000,
    "batch_size": 256,
    "num_envs": 1,
}
ROUND = 64 * 64
PPO = {
    "total_timesteps": 16 * ROUND,
    "eval_freq": 16 * ROUND,
    "num_envs": 64,
    "num_steps": 64,
    "num_epochs": 8,
    "num_minibatches": 16,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "td3": {**OFF, "policy_delay": 2},
    "sac": {**OFF, "agent_kwargs": {"activation": "swish"}},
    "ppo": PPO,
}


def network(*shape: int) -> MLP:
    return MLP(HIDDEN, shape, linen.swish)


def adam(game: gacf.Game) -> dict[str, optax.GradientTransformation]:
    return {player: optax.adam(3e-4) for player in game.losses}


def ours(method: str) -> tuple[gacf.Algorithm, int]:
    """The same method in gacf, and its steps."""
    off = gacf.Replay(OFF["buffer_size"], OFF["batch_size"], WARMUP)
    step = rules.player_step
    if method == "td3":
        game = gacf.td3("Pendulum-v1", network(1), network(), replay=off)
        moves = adam(game)
        delayed = rules.every(2, step("actor", moves["actor"]))
        rule = rules.sequence(step("critic", moves["critic"]), delayed)
        return gacf.compose(game, rule), UPDATES
    if method == "sac":
        game = gacf.sac("Pendulum-v1", network(2), network(), replay=off)
        return gacf.compose(game, rules.alternating(adam(game))), UPDATES
    rollout = gacf.Rollout(num_envs=64, length=64)
    game = gacf.ppo("Pendulum-v1", network(1), network(), entropy=0.01, rollout=rollout)
    joint = rules.simultaneous(adam(game))
    return gacf.compose(game, rules.minibatches(joint, epochs=8, count=16)), 16


class Ours:
    """One whole training in gacf as a call without arguments."""

    def __init__(self, method: str, seeds: int):
        algorithm, steps = ours(method)
        start = time.perf_counter()
        self.program, self.steps = Program(algorithm, seeds), steps
        self.program.compile(self.program.init(KEY), 1)
        self.compiled = time.perf_counter() - start
        if seeds < LONG:
            self()

    def __call__(self) -> float:
        start = time.perf_counter()
        lanes, _ = self.program.advance(self.program.init(KEY), [self.steps], [False])
        jax.block_until_ready(lanes.body[0])
        return time.perf_counter() - start


class Theirs:
    """The worker, which makes one whole training per call."""

    def __init__(self, python: str):
        worker = Path(__file__).with_name("rejax_worker.py")
        self.process = subprocess.Popen(
            [python, "-W", "ignore", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                "benchmarks.rejax_peer: the rejax process ended; see its message above"
            )
        return json.loads(line)

    def __call__(self, **request: Any) -> dict[str, float]:
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer()


def compared(theirs: Theirs, method: str, seeds: int, rounds: int) -> list[str]:
    """The row of one method and number of seeds."""
    settings = SETTINGS[method]
    maps = ["vmap"] if seeds == 1 else ["vmap", "sharded-vmap", "sharded-loop"]
    mine = Ours(method, seeds)
    same = {"method": method, "settings": settings, "seeds": seeds, "warm": seeds < LONG}
    requests = {m: {**same, "map": m} for m in maps}
    compile_seconds = {m: theirs(**request)["compile"] for m, request in requests.items()}
    taken: dict[str, list[float]] = {name: [] for name in ("gacf", *maps)}
    for _ in range(rounds):
        taken["gacf"].append(mine())
        for m, request in requests.items():
            taken[m].append(theirs(**request)["seconds"])
    times = {name: np.array(t) / seeds for name, t in taken.items()}
    best = min(maps, key=lambda m: float(np.median(times[m])))
    return [
        method.upper(),
        str(seeds),
        f"{np.median(times['gacf']):.3f}",
        f"{np.median(times['vmap']):.3f}",
        ratio(times["gacf"], times["vmap"]),
        f"{np.median(times[best]):.3f} ({best})",
        ratio(times["gacf"], times[best]),
        f"{mine.compiled:.1f} / {compile_seconds['vmap']:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", help="the interpreter of an environment with rejax")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--methods", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    args = parser.parse_args()
    where = machine()
    theirs = Theirs(args.python)
    rows = []
    for seeds in [1, 2] if args.quick else args.seeds:
        for method in args.methods:
            rows.append(compared(theirs, method, seeds, 1 if args.quick or seeds > 8 else 3))
            print(" | ".join(rows[-1]), flush=True)
            measured = table(sorted(rows), theirs.versions, args)
            if args.json:
                run = {"machine": where, "tables": [measured._asdict()]}
                args.json.write_text(json.dumps(run, indent=1))
    print(measured.markdown())


def table(rows: list[list[str]], versions: dict[str, str], args: argparse.Namespace) -> Table:
    chosen = "" if args.methods == list(SETTINGS) else f" --methods {' '.join(args.methods)}"
    return Table(
        "g",
        f"rejax {versions['rejax']} (jax {versions['jax']}): whole trainings on Pendulum-v1, "
        "seconds a seed",
        f"python -m benchmarks.rejax_peer PYTHON --seeds {' '.join(map(str, args.seeds))}{chosen}",
        [
            "method",
            "seeds",
            "gacf",
            "rejax, vmap",
            "ratio [middle half]",
            "rejax, its best",
            "ratio [middle half]",
            "compile, gacf / rejax",
        ],
        rows,
        [
            f"TD3, SAC: 2 × 64 swish, batch 256, buffer 10,000, {WARMUP} random steps, then "
            f"{UPDATES:,} steps with an update each. PPO: 65,536 steps, 64 × 64 a round, 8 epochs "
            "of 16 minibatches. One round above 8 seeds; "
            f"from {LONG} seeds on without a call beforehand."
        ],
    )


if __name__ == "__main__":
    main()
