"""Devices and processes: the same numbers however many there are, and nobody waits in a step."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import gacf
from gacf import rules
from gacf.runner import Program
from tests.contract_cases import worldly
from tests.test_contract import raw

KEY = jax.random.key(3)
COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|collective|reduce-scatter|send\(|recv\("
)


def algorithm() -> gacf.Algorithm:
    moves = {player: optax.adam(0.1) for player in ("actor", "critic")}
    return gacf.compose(worldly(), rules.alternating(moves))


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_mesh_of_any_devices_gives_the_same_numbers(count: int) -> None:
    devices = np.array(jax.devices()[4 - count :])
    assert len(devices) == count
    mesh = Mesh(devices, ("whatever",))
    ours, metrics = gacf.run(algorithm(), KEY, 4, seeds=5, mesh=mesh)
    state, expected = gacf.run(algorithm(), KEY, 4, seeds=5, map="vmap")
    chex.assert_trees_all_close(raw(ours), raw(state), rtol=1e-6)
    chex.assert_trees_all_close(raw(metrics), raw(expected), rtol=1e-6)


def test_a_mesh_may_have_several_axes_and_is_the_one_used() -> None:
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("x", "y"))
    program = Program(algorithm(), 8, mesh=mesh)
    assert program.map.startswith("sharded") and program.mesh.size == 4
    last = Mesh(np.array(jax.devices()[3:]), ("x",))
    body = Program(algorithm(), 8, mesh=last).init(KEY).body
    assert body[0]["actor"].devices() == {jax.devices()[3]}


def test_a_map_of_one_device_is_refused_for_more() -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
    with pytest.raises(ValueError, match="map: 'vmap' was given, for 2 devices; allowed: auto, "):
        gacf.run(algorithm(), KEY, 1, seeds=2, map="vmap", mesh=mesh)


def leaning(on: jax.Array) -> gacf.Algorithm:
    """An algorithm whose critic is drawn to an array that it closes over."""
    game = worldly()

    def critic(own: Any, *rest: Any) -> Any:
        loss, outcome = game.losses["critic"](own, *rest)
        return loss + jax.numpy.sum((own - on) ** 2), outcome

    moves = {player: optax.adam(0.1) for player in ("actor", "critic")}
    leant = game._replace(losses={**game.losses, "critic": critic})
    return gacf.compose(leant, rules.alternating(moves))


@pytest.mark.parametrize("how", ["vmap", "sharded-vmap"])
def test_what_one_run_returns_another_may_use_on_more_devices(how: str) -> None:
    expert, _ = gacf.run(algorithm(), KEY, 1, seeds=4, map=how)
    taught = leaning(expert.params["critic"][0])
    ours, _ = gacf.run(taught, KEY, 3, seeds=4, map="sharded-vmap")
    expected, _ = gacf.run(taught, KEY, 3, seeds=4, map="vmap")
    chex.assert_trees_all_close(raw(ours), raw(expected), rtol=1e-6)

    program = Program(algorithm(), 4, map="sharded-vmap")
    spread = program.init(KEY).body[0]["critic"][0]
    with pytest.raises(ValueError, match=r"on 4 devices of a mesh; allowed where .*device_put"):
        gacf.run(leaning(spread), KEY, 1, seeds=4, map="sharded-vmap")
    mended = jax.device_put(spread, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    gacf.run(leaning(mended), KEY, 1, seeds=4, map="sharded-vmap")


@pytest.mark.parametrize("way", ["sharded-vmap", "sharded-loop"])
def test_no_device_waits_for_another(way: str) -> None:
    program = Program(algorithm(), 7, map=way, evaluate=True)
    assert program.mesh.size == 4
    text = program.compile(program.init(KEY), 2).as_text()
    assert not COLLECTIVES.search(text), COLLECTIVES.search(text)


ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
WORKER = """
import sys
import jax
import numpy as np

jax.config.update("jax_num_cpu_devices", 2)
address, processes, process, seeds, out = sys.argv[1:]
if int(processes) > 1:
    jax.distributed.initialize(address, int(processes), int(process), initialization_timeout=60)
import gacf
from gacf.runner import Program
from tests.test_devices import KEY, algorithm, raw

assert jax.device_count() == 2 * int(processes)
program = Program(algorithm(), int(seeds))
assert program.mesh.size == (4 if int(processes) > 1 else 2), program.mesh
lanes, first = program.advance(program.init(KEY), [2], [False])
held = lanes.body[0]["actor"].addressable_shards
assert len(held) == 2
# through a batched state, as a resumed run goes
lanes = program.lanes_of(program.state_of(lanes))
lanes, metrics = program.advance(lanes, [2], [False])
state = program.state_of(lanes)
again, _ = gacf.run(algorithm(), KEY, 4, seeds=int(seeds))
leaves = jax.tree.leaves(raw((state, first, metrics, again)))
np.savez(f"{out}-{process}.npz", *leaves)
"""


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    """5 seeds on 2 × 2 devices: not all lanes are real ones."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    root = Path(__file__).parents[1]

    def start(processes: int, process: int, name: str) -> subprocess.Popen[str]:
        arguments = [address, str(processes), str(process), "5", str(tmp_path / name)]
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], cwd=root, text=True, env=ENVIRONMENT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    workers = [start(2, 0, "two"), start(2, 1, "two"), start(1, 0, "one")]
    said = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], "\n".join(said)
    loaded = [np.load(tmp_path / f"{name}.npz") for name in ("one-0", "two-0", "two-1")]
    one, *both = [[file[key] for key in file.files] for file in loaded]
    assert len(one) > 10
    for two in both:
        for left, right in zip(one, two, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-6)
