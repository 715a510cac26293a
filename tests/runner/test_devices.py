"""Devices and processes: the same numbers however many there are, and nobody waits in a step."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import optax
import pandas as pd
import pytest
from jax.sharding import Mesh

import gacf
from gacf import rules
from gacf.lab.cli import main
from gacf.lab.processes import without_logs
from gacf.networks import MLP
from gacf.networks.images import DCGANCritic, DCGANGenerator
from gacf.runner import Program
from tests.contract_cases import worldly
from tests.lab.common import metrics
from tests.test_contract import raw

KEY = jax.random.key(3)
COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|collective|reduce-scatter|send\(|recv\("
)


def algorithm() -> gacf.Algorithm:
    moves = {player: optax.adam(0.1) for player in ("actor", "critic")}
    return gacf.compose(worldly(), rules.alternating(moves), still="model")


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_mesh_of_any_devices_gives_the_same_numbers(count: int) -> None:
    devices = np.array(jax.devices()[4 - count :])
    assert len(devices) == count
    mesh = Mesh(devices, ("whatever",))
    ours, metrics = gacf.run(algorithm(), KEY, 4, seeds=5, mesh=mesh)
    state, expected = gacf.run(algorithm(), KEY, 4, seeds=5, map="vmap")
    chex.assert_trees_all_close(raw(ours), raw(state), rtol=1e-6)
    chex.assert_trees_all_close(raw(metrics), raw(expected), rtol=1e-6)


@pytest.mark.long
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
    return gacf.compose(leant, rules.alternating(moves), still="model")


@pytest.mark.long
@pytest.mark.parametrize("how", ["vmap", "sharded-vmap"])
def test_what_one_run_returns_another_may_use_on_more_devices(how: str) -> None:
    expert, _ = gacf.run(algorithm(), KEY, 1, seeds=4, map=how)
    taught = leaning(expert.params["critic"][0])
    ours, _ = gacf.run(taught, KEY, 3, seeds=4, map="sharded-vmap")
    expected, _ = gacf.run(taught, KEY, 3, seeds=4, map="vmap")
    chex.assert_trees_all_close(raw(ours), raw(expected), rtol=1e-6)

    program = Program(algorithm(), 4, map="sharded-vmap")
    spread = program.init(KEY).body[0]["critic"][0]
    with pytest.raises(ValueError, match=r"on a mesh of 4 devices; allowed where .*asarray"):
        gacf.run(leaning(spread), KEY, 1, seeds=4, map="sharded-vmap")
    mended = jax.numpy.asarray(np.asarray(spread))
    gacf.run(leaning(mended), KEY, 1, seeds=4, map="sharded-vmap")


@pytest.mark.long
@pytest.mark.parametrize("way", ["sharded-vmap", "sharded-loop"])
def test_no_device_waits_for_another(way: str) -> None:
    program = Program(algorithm(), 7, map=way, evaluate=True)
    assert program.mesh.size == 4
    text = program.compile(program.init(KEY), 2).as_text()
    assert not COLLECTIVES.search(text), COLLECTIVES.search(text)


@pytest.mark.long
@pytest.mark.parametrize("hyper", [None, jax.numpy.array([0.1, 0.2, 0.3])])
def test_nor_does_it_between_two_calls(hyper: Any, caplog: Any) -> None:
    """Whatever else is compiled is for one device: a collective could wait for a busy one."""
    build = (lambda hyper: algorithm()) if hyper is not None else algorithm()
    program = Program(build, 7, hyper, map="sharded-vmap", evaluate=True)
    lanes = program.init(KEY)
    program.compile(lanes, 2)
    caplog.clear()
    with jax.log_compiles():
        lanes, metrics = program.advance(lanes, [1, 1], [False, True])
        state = program.state_of(lanes)
        gacf.take_seed(state, 3 if hyper is None else (1, 3))
        float(metrics["diverged"].sum())
    assert "Compiling" in caplog.text
    assert "NamedSharding" not in caplog.text
    assert {len(x.devices()) for x in jax.tree.leaves((state, metrics))} == {1}


SHARED = [
    ((4,), ("batch",), "auto", "loop"),
    pytest.param((4,), ("batch",), "vmap", "vmap", marks=pytest.mark.slow),
    pytest.param((2, 2), ("lane", "batch"), "auto", "sharded-loop", marks=pytest.mark.slow),
    ((2, 2), ("batch", "x"), "sharded-vmap", "sharded-vmap"),
]
moves = {player: optax.sgd(0.1) for player in ("actor", "critic")}


def spread(actor: Any, critic: Any, data: Any, batch: int = 16) -> gacf.Algorithm:
    game = gacf.gan(actor, critic, data, batch_size=batch, noise=4)
    return gacf.compose(gacf.data_parallel(game), rules.alternating(moves))


@pytest.mark.long
@pytest.mark.parametrize(("shape", "axes", "given", "way"), SHARED)
def test_devices_may_share_a_batch(shape: Any, axes: Any, given: str, way: str) -> None:
    ring = spread(MLP((8,), (2,)), MLP((8,)), gacf.data.ring())
    mesh = Mesh(np.array(jax.devices()).reshape(shape), axes)
    assert Program(ring, 3, map=given, mesh=mesh).map == way
    ours, ours_metrics = gacf.run(ring, KEY, 4, seeds=3, map=given, mesh=mesh)
    expected, metrics = gacf.run(ring, KEY, 4, seeds=3, map="vmap")
    chex.assert_trees_all_close(raw(ours), raw(expected), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(raw(ours_metrics), raw(metrics), rtol=1e-5, atol=1e-6)


def reductions(text: str) -> list[int]:
    """Numbers that each all-reduce of a compiled program sums; there are no other collectives."""
    found = []
    for line in text.splitlines():
        if made := re.search(r"= (.*?) ([\w-]+)\(", line):
            if made[2] == "all-reduce":
                shapes = re.findall(r"f32\[([\d,]*)\]", made[1])
                found.append(sum(math.prod(map(int, filter(None, s.split(",")))) for s in shapes))
            else:
                assert not COLLECTIVES.match(made[2]), line
    return sorted(found)


@pytest.mark.parametrize("norm", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_shared_batch_costs_a_sum_of_gradients_a_move(norm: bool) -> None:
    """Convolutions on digits: the critic's gradients of real and fake, then the actor's."""
    images = gacf.data.digits("train")[0]
    networks = DCGANGenerator((8, 8, 1), 4, 1, norm=norm), DCGANCritic(4, 1 + norm, norm=norm)
    digits = spread(*networks, images, batch=8)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    program = Program(digits, mesh=mesh)
    start = program.init(KEY)
    actor, critic = (
        sum(x.size for x in jax.tree.leaves(start.body[0][p])) for p in ("actor", "critic")
    )
    found = reductions(program.compile(start, 1).as_text())
    if norm:  # mean and variance of each layer, forwards and backwards, are sums over the batch too
        assert len(found) > 2 and sum(found) >= actor + 2 * critic
    else:
        assert len(found) == 2
        assert 0 <= sum(found) - (actor + 2 * critic) <= 8, (found, actor, critic)
    lanes, _ = program.advance(start, [3], [False])
    expected, _ = gacf.run(digits, KEY, 3)
    chex.assert_trees_all_close(raw(program.state_of(lanes)), raw(expected), rtol=1e-3, atol=1e-5)


@pytest.mark.long
def test_a_batch_that_cannot_be_shared() -> None:
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    with pytest.raises(ValueError, match="mesh: an axis 'batch' of 4 devices was given for a"):
        gacf.run(algorithm(), KEY, 1, mesh=mesh)
    six = spread(MLP((8,), (2,)), MLP((8,)), gacf.data.ring(), batch=6)
    with pytest.raises(
        ValueError, match=r"mesh: 4 devices share a batch whose leaf .* has shape \[6, "
    ):
        gacf.run(six, KEY, 1, mesh=mesh)
    gacf.run(six, KEY, 1)


ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "lab" / "toy.py"
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
from tests.runner.test_devices import KEY, algorithm, raw

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


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.long
def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    """5 seeds on 2 × 2 devices: not all lanes are real ones."""
    address = free_address()

    def start(processes: int, process: int, name: str) -> subprocess.Popen[str]:
        arguments = [address, str(processes), str(process), "5", str(tmp_path / name)]
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], cwd=ROOT, text=True, env=ENVIRONMENT,
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


def commands(processes: int, *arguments: Any, devices: int = 2) -> list[subprocess.Popen[str]]:
    """`gacf` in so many processes."""
    address = free_address()
    flags = [
        ["--coordinator", address, "--processes", str(processes), "--process", str(i)]
        for i in range(processes)
    ]
    environment = {
        **ENVIRONMENT,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-m", "gacf", *map(str, arguments), *(own if processes > 1 else [])],
            cwd=ROOT, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for own in flags
    ]  # fmt: skip


def ended(started: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and error of each."""
    said = [process.communicate(timeout=240) for process in started]
    return [(p.returncode, *texts) for p, texts in zip(started, said, strict=True)]


@pytest.mark.long
def test_the_command_over_two_processes_and_on_with_one(tmp_path: Path) -> None:
    """5 seeds on 2 × 2 devices, 40 steps; then the last 16 again, by one process of 3 devices."""
    two, one = tmp_path / "two", tmp_path / "one"
    runs = commands(1, "run", TOY, "--workdir", one, devices=1)
    runs += commands(2, "run", TOY, "--workdir", two)
    (alone, *both) = ended(runs)
    assert [code for code, _, _ in (alone, *both)] == [0, 0, 0], both
    assert "toy: 40/40" in both[0][1] and "toy" not in both[1][1]
    expected = metrics(one)
    pd.testing.assert_frame_equal(metrics(two), expected)
    assert json.loads((two / "config.json").read_text())["devices"] == {
        "platform": "cpu", "count": 4, "processes": 2,
    }  # fmt: skip

    for name in ("metrics.parquet", "summary.json"):
        (two / name).unlink()
    for step in (32, 40):
        shutil.rmtree(two / "checkpoints" / "toy" / f"{step:010d}")
    ((code, out, err),) = ended(commands(1, "resume", two, devices=3))
    assert code == 0 and "26/40" in out and "24/40" not in out, (out, err)
    assert "devices are not those that the run began with" in err
    pd.testing.assert_frame_equal(metrics(two), expected)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_and_the_run_resumes(tmp_path: Path, lost: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    more = ["--config.steps=400"]
    assert ended(commands(1, "run", TOY, "--workdir", whole, *more))[0][0] == 0
    started = commands(2, "run", TOY, "--workdir", broken, *more)
    deadline = time.monotonic() + 120
    while not (broken / "checkpoints" / "toy" / f"{24:010d}").exists():
        assert time.monotonic() < deadline and started[0].poll() is None, started[0].communicate()
        time.sleep(0.1)
    started[lost].kill()
    code, out, err = ended(started)[1 - lost]
    assert code == 1 and "400/400" not in out
    assert err == (
        "gacf: another process of the run was lost, or never joined; once all are available, go on "
        f"from the last checkpoint with: gacf resume {broken} {flags_of(started[0])}\n"
    )
    resumed = ended(commands(2, "resume", broken))
    assert [code for code, _, _ in resumed] == [0, 0], resumed
    assert "toy: 400/400" in resumed[0][1] and "toy: 8/400" not in resumed[0][1]
    pd.testing.assert_frame_equal(metrics(broken), metrics(whole))


def flags_of(process: subprocess.Popen[str]) -> str:
    *_, coordinator, address, processes, count, flag, _ = map(str, process.args)
    return f"{coordinator} {address} {processes} {count} {flag} I"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--processes 2", "--processes: 2 was given; allowed: with --coordinator HOST:PORT"),
        ("--coordinator here", "--coordinator: 'here' was given; allowed: HOST:PORT"),
        ("--coordinator a:1 --processes 0", "--processes: 0 was given; allowed: a whole number"),
        ("--coordinator a:1 --processes 2 --process 2", "--process: 2 was given; allowed: 0 to 1"),
        ("--distributed --profile", "--profile: was given for several processes; allowed: for"),
    ],
)
def test_flags_that_do_not_go_together(flags: str, message: str, capsys: Any) -> None:
    assert main(["run", str(TOY), *flags.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_no_cluster_to_be_found(tmp_path: Path) -> None:
    place = tmp_path / "run"
    command = [sys.executable, "-m", "gacf", "run", str(TOY), "--distributed", "--workdir", place]
    made = subprocess.run(
        command, cwd=ROOT, text=True, env=ENVIRONMENT, capture_output=True, timeout=120, check=False
    )
    assert made.returncode == 2 and not place.exists()
    assert made.stderr.startswith("gacf: --distributed: no job of SLURM, Open MPI or Kubernetes")
    assert made.stderr.count("\n") == 1


def test_logs_of_the_runtime_are_left_out() -> None:
    lines = ["W0101 10:00:00.1 a] x", "Additional GRPC", "ours", "F0101 10:00:00.1 b] y", "@ 0x1"]
    assert list(without_logs(lines)) == ["ours"]
