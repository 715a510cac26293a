from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf.core.types import State
from gacf.lab import checkpoint, experiment_file, overrides, states
from gacf.lab.cli import main

from .common import ROOT, TOY, edited, process, run

CELL = "checkpoints/toy"


def bits(tree: object) -> list[bytes]:
    leaves = jax.tree.leaves(tree)
    plain = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in leaves
    ]
    return [np.asarray(x).tobytes() for x in plain]


def odd_state() -> State:
    nan = np.array([0x7FC00001, 0xFFC00000, 0x7F800001], np.uint32).view(np.float32)
    params = {
        "actor": {
            "minus zero": jnp.asarray(np.full((3, 4), -0.0, np.float32)),
            "nan": jnp.asarray(nan),
            "empty": jnp.zeros((3, 0)),
            "half": jnp.ones((3, 2), jnp.bfloat16),
        }
    }
    opt_state = {"actor": (optax.EmptyState(), None, optax.adam(0.1).init(params["actor"]))}
    keys = jax.random.split(jax.random.key(0), 3)
    return State(params, {"on": jnp.array([True, False, True])}, opt_state, keys, jnp.int32(7))


def same_results(one: Path, other: Path) -> None:
    assert (one / "metrics.parquet").read_bytes() == (other / "metrics.parquet").read_bytes()
    assert bits(states.load_cells(one)) == bits(states.load_cells(other))


def unfinished(whole: Path, directory: Path) -> Path:
    """The same run as if it had been killed after its last checkpoint but for the results."""
    shutil.copytree(whole, directory)
    for path in [*directory.glob("*.png"), *directory.glob("*.parquet")]:
        path.unlink()
    (directory / "summary.json").unlink()
    return directory


def test_every_bit_of_a_state_comes_back(tmp_path: Path):
    state = odd_state()
    history = {"file": np.ones((3, 2), np.float32), "a/b": np.array([[True], [False], [True]])}
    path = checkpoint.save(tmp_path, state, history, {"config": {}})
    back, found = checkpoint.restore(checkpoint.verify(path), jax.eval_shape(lambda: state))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert [x.dtype for x in jax.tree.leaves(back)] == [x.dtype for x in jax.tree.leaves(state)]
    assert bits(back) == bits(state)
    assert found.keys() == history.keys()
    assert all(np.array_equal(found[k], history[k]) for k in history)


def test_the_last_three_are_kept(tmp_path: Path):
    state = State({"a": jnp.ones(2)}, {}, {}, jax.random.split(jax.random.key(0)), jnp.int32(0))
    for step in (9, 10, 100, 1000):
        checkpoint.save(tmp_path, state._replace(step=jnp.int32(step)), {}, {})
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [10, 100, 1000]


def cut(data: bytes) -> bytes:
    return data[:-1]


def flip(data: bytes) -> bytes:
    return bytes([*data[: len(data) // 2], data[len(data) // 2] ^ 1, *data[len(data) // 2 + 1 :]])


@pytest.mark.parametrize("harm", [cut, flip, None])
def test_damage_to_any_file_is_noticed(tmp_path: Path, harm: Callable[[bytes], bytes] | None):
    path = checkpoint.save(tmp_path, odd_state(), {"x": np.ones((3, 2))}, {"config": {}})
    files = [p for p in path.rglob("*") if p.is_file() and (p.stat().st_size or not harm)]
    assert len(files) > 8
    for file in files:
        data = file.read_bytes()
        if harm:
            file.write_bytes(harm(data))
        else:
            file.unlink()
        with pytest.raises(checkpoint.Damaged):
            checkpoint.verify(path)
        file.write_bytes(data)
        checkpoint.verify(path)


@pytest.mark.long
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    directory = unfinished(whole, tmp_path / "run")
    largest = max((directory / CELL / "0000000040").rglob("*"), key=lambda p: p.stat().st_size)
    largest.write_bytes(flip(largest.read_bytes()))
    (directory / CELL / "0000000032" / "metrics.npz").write_bytes(b"")
    assert main(["resume", str(directory)]) == 0
    said = capsys.readouterr().err
    assert "toy/0000000040 is damaged" in said and "checksum differs" in said
    assert "toy/0000000032 is damaged (metrics.npz: checksum differs)" in said
    assert "going on from step 24" in said
    same_results(whole, directory)


@pytest.mark.long
def test_with_no_whole_checkpoint_training_starts_again(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    directory = unfinished(whole, tmp_path / "run")
    for path in (directory / CELL).glob("*/manifest.json"):
        path.unlink()
    with pytest.raises(ValueError, match="no undamaged checkpoint of 'toy' yet"):
        states.load_cells(directory)
    assert main(["resume", str(directory)]) == 0
    assert "no undamaged checkpoint is left; starting again from step 0" in capsys.readouterr().err
    same_results(whole, directory)


@pytest.mark.long
def test_a_checkpoint_of_another_config_is_refused_with_the_keys(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    directory = unfinished(whole, tmp_path / "run")
    stored = json.loads((directory / "config.json").read_text())
    stored["config"]["actor"]["learning_rate"] = 0.2
    stored["config"]["steps"] = 48
    (directory / "config.json").write_text(json.dumps(stored))
    assert main(["resume", str(directory)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "differing: actor.learning_rate (0.1, here 0.2), steps (40, here 48)" in said[0]
    assert not (directory / "summary.json").exists()


@pytest.mark.long
def test_a_changed_experiment_is_told_and_one_that_does_not_fit_is_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    directory = unfinished(whole, tmp_path / "run")
    changed = edited(tmp_path, "import os\n", "import os\n\n# A comment.\n")
    shutil.copyfile(changed, directory / "experiment.py")
    assert main(["resume", str(directory)]) == 0
    assert "experiment.py has changed since the checkpoint" in capsys.readouterr().err
    same_results(whole, directory)

    directory = unfinished(whole, tmp_path / "other")
    changed = edited(tmp_path, '{"w": start, "mark": mark}', '{"w": start, "mark": mark, "v": 0.0}')
    shutil.copyfile(changed, directory / "experiment.py")
    assert main(["resume", str(directory)]) == 2
    assert "is not this experiment's" in capsys.readouterr().err


@pytest.mark.long
def test_the_final_states_load_and_are_those_of_run(whole: Path):
    (state,) = states.load_cells(whole).values()
    loaded = experiment_file.load(TOY)
    (algorithm,) = experiment_file.build(loaded, overrides.resolve(loaded)).values()
    again, _ = gacf.run(algorithm, jax.random.key(0), 40, seeds=5)
    assert jax.tree.structure(state) == jax.tree.structure(again)
    for one, other in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(again.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert int(gacf.take_seed(state, 4).step) == 40


@pytest.mark.long
def test_double_precision_loads_as_such_whatever_is_on(tmp_path: Path):
    path = edited(tmp_path, "start = 2.0 +", "start = jnp.asarray(2.0, float) +")
    try:
        short = ("--config.x64=true", "--config.steps=8", "--config.seeds=2")
        assert run(tmp_path / "run", *short, experiment=path) == 0
    finally:
        jax.config.update("jax_enable_x64", False)
    (state,) = states.load_cells(tmp_path / "run").values()
    assert state.params["actor"]["w"].dtype == np.float64


# Each is a process that kills itself (SIGKILL) at that moment; the run is then resumed here.
MOMENTS = {
    "before the first checkpoint": ("write save #1", []),
    "in the middle of the second checkpoint": ("write _digest -0000000016", [8]),
    "in the middle of writing the metrics": ("write write_atomically metrics", [24, 32, 40]),
    "before the pictures": ("pictures", [24, 32, 40]),
    "in the middle of writing the summary": ("write write_atomically summary", [24, 32, 40]),
}
SLOW = [moment for moment in MOMENTS if "second" not in moment]


@pytest.mark.long
@pytest.mark.parametrize(
    "moment", [m if m not in SLOW else pytest.param(m, marks=pytest.mark.slow) for m in MOMENTS]
)
def test_a_killed_run_resumes_bit_for_bit(whole: Path, tmp_path: Path, moment: str):
    directory = tmp_path / "run"
    kill, left = MOMENTS[moment]
    killed = process("run", TOY, "--workdir", directory, TOY_KILL=kill)
    assert killed.returncode == -9, killed.stderr
    assert directory.exists() and not (directory / "summary.json").exists()
    assert sorted(int(p.name) for p in (directory / CELL).glob("[0-9]*")) == left
    assert main(["resume", str(directory)]) == 0
    same_results(whole, directory)


@pytest.mark.slow
def test_a_run_killed_again_and_again_at_any_moment_ends_bit_for_bit(whole: Path, tmp_path: Path):
    directory = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for pause in (0.0, 0.7, 1.3, 1.6, 1.9, 2.2, 2.5):
        command = (
            ["resume", directory] if directory.exists() else ["run", TOY, "--workdir", directory]
        )
        child = subprocess.Popen(
            [sys.executable, "-m", "gacf", *map(str, command)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not directory.exists() and child.poll() is None:
            time.sleep(0.01)
        time.sleep(pause)
        child.kill()
        child.wait()
    assert main(["resume", str(directory)]) == 0
    same_results(whole, directory)
