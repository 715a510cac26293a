"""What a run takes up is known before it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import optax
import pytest

import gacf
from gacf import rules
from gacf.networks import MLP
from gacf.runner import Program, bytes_free

CAPACITY, HIDDEN = 1_000, 16


def ddpg(capacity: int = CAPACITY) -> gacf.Algorithm:
    game = gacf.ddpg(
        "Pendulum-v1", MLP((HIDDEN,), (1,)), MLP((HIDDEN,)), rollout=gacf.Rollout(episodes=2),
        replay=gacf.Replay(capacity, batch_size=8, warmup=8),
    )  # fmt: skip
    optimizers = {p: optax.adam(1e-3) for p in game.losses}
    return gacf.compose(game, rules.alternating(optimizers))


@pytest.mark.long
def test_the_state_of_a_seed_is_what_the_formula_says():
    """Four copies of the parameters (live, slow, two moments), and the buffer's transitions."""
    observed, acted = 3, 1
    actor = (observed + 1) * HIDDEN + (HIDDEN + 1) * acted
    critic = (observed + acted + 1) * HIDDEN + HIDDEN + 1
    transition = 4 * (2 * observed + acted + 1) + 1  # two observations, action, reward; terminated
    formula = 4 * 4 * (actor + critic) + CAPACITY * transition
    found = Program(ddpg(), seeds=2).bytes_a_lane()
    assert formula < found < formula + 500  # counters, key, environment


def test_more_seeds_and_larger_buffers_need_more():
    few, many = (Program(ddpg(), n, map="vmap").bytes_needed() for n in (2, 8))
    assert many == pytest.approx(4 * few, rel=0.01)
    assert many < Program(ddpg(), 8, map="loop").bytes_needed() < 2 * many


def test_free_memory_is_known_here():
    free = bytes_free(jax.local_devices()[0])
    assert free is None or 2**20 < free < 2**50


PROBE = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
from gacf.runner import Program
from tests.runner.test_memory import ddpg

def peak():
    with open("/proc/self/status") as lines:  # getrusage would begin at that of the parent
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def train(capacity):
    program = Program(ddpg(capacity), seeds=8, map=sys.argv[1])
    lanes = program.init(jax.random.key(0))
    lanes, _ = program.advance(lanes, [4], [False])
    jax.block_until_ready(program.state_of(lanes))
    return program

train(100)
before = peak()
program = train(1_000_000)
print(json.dumps({"used": peak() - before, "needed": program.bytes_needed(),
                  "state": 8 * program.bytes_a_lane()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("map", ["sharded-loop", "vmap"])
def test_the_bound_holds_and_is_no_fantasy(map):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, map], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] < found["used"] < 1.1 * found["needed"]
    assert found["needed"] < 2.5 * found["used"]
