"""States on disk: `gacf.save`, `gacf.load`, `gacf.load_algorithm`, and runs that are extended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

import gacf
from gacf.lab.cli import main
from gacf.lab.structure import Indescribable, build, describe
from gacf.networks import MLP

from .common import ROOT, TOY
from .test_checkpoint import bits

KEY = jax.random.key(7)


def same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert bits(one) == bits(other)


def algorithm(optimizer: optax.GradientTransformation) -> gacf.Algorithm:
    game = gacf.from_losses(
        lambda key: {"actor": jax.random.normal(key, (2, 3)), "critic": {"w": jnp.ones(3)}},
        {
            "actor": lambda p, batch, key: jnp.sum(p["actor"] ** 2) + jnp.sum(p["critic"]["w"]),
            "critic": lambda p, batch, key: jnp.sum((p["critic"]["w"] - p["actor"][0]) ** 2),
        },
    )
    return gacf.compose(game, gacf.rules.simultaneous(dict.fromkeys(game.losses, optimizer)))


OPTIMIZERS = {
    "adam": optax.adam(0.1),
    "schedule and clip": optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(0.1, 0.0, 9))
    ),
    "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9),
    "masked": optax.masked(optax.adam(0.1), lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_is_loaded_to_the_bit_and_goes_on(tmp_path: Path, name: str):
    made = algorithm(OPTIMIZERS[name])
    state, _ = gacf.run(made, KEY, 3, seeds=2)
    assert gacf.save(tmp_path / "model", state) == tmp_path / "model"
    loaded = gacf.load(tmp_path / "model")
    same(state, loaded)
    rest, _ = gacf.run(made, KEY, 2, state=loaded)
    whole, _ = gacf.run(made, KEY, 5, seeds=2)
    same(rest, whole)


def test_one_seed_and_a_second_save_in_the_same_place(tmp_path: Path):
    made = algorithm(OPTIMIZERS["adam"])
    later, _ = gacf.run(made, KEY, 4, seeds=2)
    earlier = gacf.take_seed(gacf.run(made, KEY, 1, seeds=2)[0], 1)
    gacf.save(tmp_path / "model", later)
    gacf.save(str(tmp_path / "model"), earlier)  # fewer steps than what is there
    same(gacf.load(str(tmp_path / "model")), earlier)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_double_precision_stays(tmp_path: Path):
    with jax.enable_x64(True):
        made = algorithm(OPTIMIZERS["adam"])
        state, _ = gacf.run(made, KEY, 1)
        assert state.params["actor"].dtype == jnp.float64
        gacf.save(tmp_path / "model", state)
    same(gacf.load(tmp_path / "model"), state)


@pytest.mark.long
def test_another_process_loads_it_with_another_number_of_devices(tmp_path: Path):
    state, _ = gacf.run(algorithm(OPTIMIZERS["adam"]), KEY, 2, seeds=3)
    gacf.save(tmp_path / "model", state)
    code = (
        "import gacf, jax; s = gacf.load('model'); assert jax.device_count() == 2\n"
        "print(s.params['actor'].shape, int(s.step), s.params['actor'].sum().item().hex())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout  # fmt: skip
    assert printed.startswith("(3, 2, 3) 2 ")
    np.testing.assert_allclose(
        float.fromhex(printed.split()[-1]), float(state.params["actor"].sum()), rtol=1e-5
    )


@pytest.mark.long
@pytest.mark.parametrize("method", ["sac", "ppo"])
def test_states_of_methods_and_environments_are_described(tmp_path: Path, method: str):
    settings: dict[str, Any] = {
        "sac": {"env": "Pendulum-v1", "replay": gacf.Replay(32, 4, 4)},
        "ppo": {"env": "CartPole-v1", "rollout": gacf.Rollout(2, 3, normalize_observations=True)},
    }
    game = getattr(gacf, method)(**settings[method])
    rule = gacf.rules.simultaneous(dict.fromkeys(game.losses, optax.adam(0.1)))
    state = gacf.compose(game, rule).init(KEY)
    gacf.save(tmp_path / "model", state)
    same(gacf.load(tmp_path / "model"), state)


@struct.dataclass
class Flax:
    x: jax.Array
    name: str = struct.field(pytree_node=False, default="a")


@chex.dataclass(frozen=True)
class Chex:
    y: jax.Array
    x: jax.Array


class Named(NamedTuple):
    b: Any
    a: Any


TREES = {
    "dict in any order": {"b": 1.0, "a": {"d": 2.0, "c": None}},
    "lists and tuples": [1.0, (2.0, [], ()), {}],
    "named": Named(1.0, {"x": 2.0}),
    "flax": Flax(jnp.ones(2), "other"),
    "chex": Chex(y=jnp.zeros(1), x=jnp.ones(2)),
    "nested": {"env": Flax((1.0, Named(2.0, None)))},
    "optax": optax.adam(0.1).init({"w": jnp.ones(2)}),
}


@pytest.mark.parametrize("name", TREES)
def test_structures_are_described_and_built_again(name: str):
    tree = TREES[name]
    described = json.loads(json.dumps(describe(tree)))
    built = build(described, iter(jax.tree.leaves(tree)))
    assert jax.tree.structure(built) == jax.tree.structure(tree)
    for one, other in zip(jax.tree.leaves(built), jax.tree.leaves(tree), strict=True):
        assert one is other


@jax.tree_util.register_pytree_node_class
class Own:
    def tree_flatten(self) -> Any:
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> Own:
        return cls()


def test_what_cannot_be_described_is_refused_and_nothing_is_written(tmp_path: Path):
    class Local(NamedTuple):
        x: Any

    state, _ = gacf.run(algorithm(OPTIMIZERS["adam"]), KEY, 1)
    for node, says in (
        (Own(), r"it holds a .*Own; allowed: dicts"),
        (Local(1.0), "it holds a Local, a class that is defined inside a function"),
        ({3: 1.0}, "keys that are not text"),
    ):
        with pytest.raises(ValueError, match=says):
            gacf.save(tmp_path / "model", state._replace(world={"env": node}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("structure", "says"),
    [
        (["named", "os:system", {"x": "*"}], "has other fields|no such class"),
        (["named", "antigravity:x", {"x": "*"}], "import antigravity first"),
        (["named", "optax._src.transform:ScaleByAdamState", {"x": "*"}], "has other fields"),
        (["data", "gacf.core.types:State", {"x": "*"}, {}], "has other fields"),
        (["object", {}], "'object' is no kind of node"),
    ],
)
def test_a_made_up_structure_runs_nothing(structure: Any, says: str):
    with pytest.raises(Indescribable, match=says):
        build(structure, iter([1.0]))
    assert "antigravity" not in sys.modules


def test_places_and_states_that_do_not_fit_are_refused(tmp_path: Path):
    state, _ = gacf.run(algorithm(OPTIMIZERS["adam"]), KEY, 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match=r"directory: '.*full' holds something else"):
        gacf.save(tmp_path / "full", state)
    with pytest.raises(ValueError, match=r"thesis.tex' holds something else"):
        gacf.save(tmp_path / "full" / "thesis.tex", state)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="state: 3 was given; allowed: a State"):
        gacf.save(tmp_path / "x", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not the directory of a run"):
        gacf.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="directory: '' was given"):
        gacf.load("")
    gacf.save(tmp_path / "model", state)
    with pytest.raises(ValueError, match="cell: 'toy' was given; allowed for a saved state: none"):
        gacf.load(tmp_path / "model", "toy")
    (file,) = (tmp_path / "model").rglob("manifest.json")
    file.write_bytes(file.read_bytes().replace(b"float32", b"float16"))
    with pytest.raises(ValueError, match="is damaged"):
        gacf.load(tmp_path / "model")


SHORT = ("--config.log_every=2", "--config.evaluate_every=8", "--config.checkpoint_every=8")


def run(directory: Path, *more: str, experiment: Path = TOY) -> Path:
    assert main(["run", str(experiment), "--workdir", str(directory), *SHORT, *more]) == 0
    return directory


def table(directory: Path) -> bytes:
    return (directory / "metrics.parquet").read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("first", [8, 16, 21, 25])
def test_an_extended_run_is_one_that_was_as_long_from_the_start(tmp_path: Path, first: int):
    """Also where it had ended within a window (21, 25), or before an evaluation was due."""
    whole = run(tmp_path / "whole", "--config.steps=32")
    part = run(tmp_path / "part", f"--config.steps={first}")
    assert table(whole) != table(part)
    assert main(["resume", str(part), "--config.steps=32"]) == 0
    assert table(whole) == table(part)
    same(gacf.load(whole), gacf.load(part))
    stored = json.loads((part / "config.json").read_text())
    assert (stored["config"]["steps"], stored["extended_from"]) == (32, [first])


@pytest.mark.long
def test_extending_says_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    directory = run(tmp_path / "run", "--config.steps=16")
    before = table(directory)
    for override, says in (
        ("--config.steps=8", "steps: 8 was given; allowed: at least 16"),
        ("--config.seeds=2", "seeds: was given for a run that has begun; allowed: --config.steps"),
        ("--config.steps=x", "steps: 'x' was given; allowed: a whole number"),
        ("--config.step=20", "step: was given for a run that has begun"),
    ):
        assert main(["resume", str(directory), override]) == 2
        assert says in capsys.readouterr().err
    assert main(["resume", str(directory), "--config.steps=16"]) == 0
    assert table(directory) == before
    text = TOY.read_text().replace("0.1 * jax.random", "(0.1 / config.steps) * jax.random")
    assert "config.steps) *" in text
    (tmp_path / "annealed.py").write_text(text)
    annealed = run(tmp_path / "annealed", "--config.steps=8", experiment=tmp_path / "annealed.py")
    capsys.readouterr()
    assert main(["resume", str(annealed), "--config.steps=16"]) == 0
    said = capsys.readouterr().err
    assert "depends on the number of steps" in said and "its first 8 steps stay those" in said


@pytest.mark.long
def test_a_run_is_loaded_and_asked_in_three_lines(tmp_path: Path):
    assert main(["new", str(tmp_path / "mine")]) == 0
    tiny = ("--config.seeds=2", "--config.steps=4", "--config.log_every=2")
    place = tmp_path / "run"
    assert main(["run", str(tmp_path / "mine.py"), "--workdir", str(place), *tiny]) == 0
    made = gacf.load_algorithm(place)
    states = gacf.load(place)
    samples = gacf.propose(made, gacf.take_seed(states, 1), 5, KEY)
    network = gacf.networks.model("actor", MLP((32, 32), (2,)))
    params = jax.tree.map(lambda x: x[1], states.params["actor"])
    noise = jax.random.normal(KEY, (5, 2))
    np.testing.assert_allclose(samples, network.apply(params, {}, noise)[0], rtol=1e-5, atol=1e-6)
    more, _ = gacf.run(made, KEY, 2, state=states)
    assert int(more.step) == 6
    with pytest.raises(ValueError, match="cell: 'x' is unknown; allowed: mine"):
        gacf.load(place, "x")
