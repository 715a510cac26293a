"""The runner: strategies agree, seeds are themselves, logging, one bad seed, messages."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Algorithm, Game, Outcome, rules
from gacf.runner import MAPS, Program, plan_windows
from tests.contract_cases import bilinear, worldly
from tests.test_contract import raw

KEY = jax.random.key(5)


def sgd(rate: Any = 0.1) -> dict[str, Any]:
    return {player: optax.sgd(rate) for player in ("actor", "critic")}


@pytest.fixture(scope="module")
def algorithm() -> Algorithm:
    return gacf.compose(worldly(), rules.alternating(sgd()), still="model")


@pytest.fixture(scope="module")
def reference(algorithm: Algorithm) -> tuple[Any, Any]:
    """Seven seeds by a Python loop, five steps each."""
    step, out = jax.jit(algorithm.step), []
    for i in range(7):
        state, log = jax.jit(algorithm.init)(jax.random.fold_in(KEY, i)), []
        for _ in range(5):
            state, metrics = step(state)
            log.append(raw(metrics))
        out.append((raw(tuple(state[:4])), jax.tree.map(lambda *x: np.stack(x), *log)))
    return jax.tree.map(lambda *x: np.stack(x), *out)


@pytest.mark.long
@pytest.mark.parametrize("seeds", [3, 7])
@pytest.mark.parametrize("way", MAPS)
def test_all_maps_give_the_loops_numbers(
    algorithm: Algorithm, reference: tuple[Any, Any], way: str, seeds: int
) -> None:
    """Neither 3 nor 7 divides the four devices; seed i is the same among 3 and among 7."""
    assert jax.local_device_count() == 4
    state, metrics = gacf.run(algorithm, KEY, 5, seeds=seeds, map=way)
    assert int(state.step) == 5
    assert not np.any(metrics.pop("diverged"))
    body, log = jax.tree.map(lambda x: x[:seeds], reference)
    chex.assert_trees_all_close(raw(tuple(state[:4])), body, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(raw(metrics), log, rtol=1e-5, atol=1e-6)


def test_the_lanes_are_spread_over_all_devices(algorithm: Algorithm) -> None:
    program = Program(algorithm, 7, map="sharded-vmap")
    lanes = program.init(KEY)
    assert (program.mesh.size, program.padded) == (4, 8)
    assert len(lanes.body[0]["actor"].sharding.device_set) == 4
    assert Program(algorithm, 3, map="sharded-loop").mesh.size == 3
    assert Program(algorithm, 7, map="loop").mesh.size == 1


@pytest.mark.long
def test_logs_are_of_every_nth_step(algorithm: Algorithm) -> None:
    full_state, full = gacf.run(algorithm, KEY, 7, seeds=2, map="vmap")
    state, metrics = gacf.run(algorithm, KEY, 7, seeds=2, log_every=3, map="vmap")
    assert {x.shape for x in metrics.values()} == {(2, 2)}
    for name, x in metrics.items():
        np.testing.assert_allclose(x, full[name][:, [2, 5]], rtol=1e-6, err_msg=name)
    assert int(state.step) == 7, "the steps after the last log are made too"
    chex.assert_trees_all_close(raw(state), raw(full_state), rtol=1e-6)


@pytest.mark.long
def test_evaluations_run_inside_at_their_steps(algorithm: Algorithm) -> None:
    _, metrics = gacf.run(
        algorithm, KEY, 9, seeds=2, log_every=2, evaluate_every=4, map="sharded-loop"
    )
    assert metrics["evaluate/return"].shape == (2, 4)
    assert metrics["evaluate/rows"].shape == (2, 4, 3)
    ran = ~np.isnan(metrics["evaluate/return"])
    assert ran.tolist() == [[False, True, False, True]] * 2
    at_eight, _ = gacf.run(algorithm, KEY, 8, seeds=2, log_every=2, map="vmap")
    for i in range(2):
        expected = algorithm.evaluate(gacf.take_seed(at_eight, i))["return"]
        assert metrics["evaluate/return"][i, 3] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.long
def test_hyperparameters_lead_the_seeds() -> None:
    def build(hyper: Any) -> Algorithm:
        game = worldly()
        rule = rules.alternating({"actor": optax.sgd(hyper), "critic": optax.adam(hyper)})
        return gacf.compose(game, rule, still="model")

    rates = jnp.array([0.01, 0.1])
    state, metrics = gacf.run(
        build, KEY, 4, seeds=3, log_every=2, evaluate_every=4, hyper=rates, map="sharded-vmap"
    )
    assert {x.shape[:2] for x in jax.tree.leaves(tuple(state[:4]))} == {(2, 3)}
    assert metrics["evaluate/rows"].shape == (2, 3, 2, 3)
    assert metrics["actor/gap"].shape == (2, 3, 2)
    assert state.step.shape == ()
    for h in range(2):
        alone, _ = gacf.run(build(float(rates[h])), KEY, 4, seeds=3, log_every=2, map="vmap")
        here = jax.tree.map(lambda x, h=h: x[h], raw(tuple(state[:4])))
        chex.assert_trees_all_close(here, raw(tuple(alone[:4])), rtol=1e-5, atol=1e-6)
    assert bool(jnp.all(state.params["actor"][0] != state.params["actor"][1]))
    one = gacf.take_seed(state, (1, 2))
    assert one.params["actor"] == state.params["actor"][1, 2]


@pytest.mark.long
def test_a_seed_taken_out_goes_on_like_the_batch(algorithm: Algorithm) -> None:
    early, _ = gacf.run(algorithm, KEY, 3, seeds=3, map="vmap")
    late, metrics = gacf.run(algorithm, KEY, 5, seeds=3, map="vmap")
    step = jax.jit(algorithm.step)
    for i in (1, -1):
        state, log = gacf.take_seed(early, i), []
        for _ in range(2):
            state, seen = step(state)
            log.append(seen)
        chex.assert_trees_all_close(raw(state), raw(gacf.take_seed(late, i)), rtol=1e-6)
        for name, values in metrics.items():
            if name != "diverged":
                got = np.stack([seen[name] for seen in log])
                np.testing.assert_allclose(got, values[i, 3:], rtol=1e-6, err_msg=name)


@pytest.mark.long
def test_a_run_goes_on_from_a_batched_state(algorithm: Algorithm) -> None:
    whole, _ = gacf.run(algorithm, KEY, 5, seeds=3, map="sharded-vmap")
    program = Program(algorithm, 3, map="sharded-vmap")
    lanes, _ = program.advance(program.init(KEY), [3], [False])
    again, _ = program.advance(program.lanes_of(program.state_of(lanes)), [2], [False])
    chex.assert_trees_all_equal(raw(program.state_of(again)), raw(whole))
    shape = jax.tree.map(lambda x: (x.shape, x.dtype), program.state_shape())
    assert shape == jax.tree.map(lambda x: (x.shape, x.dtype), whole)


def fragile(bad: int | None) -> Algorithm:
    """The quantity that tells the seeds apart is drawn at the start; one seed's may be NaN."""

    def init(key: Any) -> Any:
        mine = jax.random.key_data(jax.random.fold_in(KEY, bad or 0))
        is_bad = jnp.all(jax.random.key_data(key) == key_of(mine)) & (bad is not None)
        poison = jnp.where(is_bad, jnp.nan, 0.0)
        return {"actor": jax.random.normal(key, (4,)), "critic": jnp.ones(4)}, {"poison": poison}

    def key_of(data: jax.Array) -> jax.Array:
        return jax.random.key_data(jax.random.split(jax.random.wrap_key_data(data))[1])

    def actor(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        value = jnp.sum(jnp.tanh(own) * params["critic"]) + jnp.sum(own * batch)
        sick = jnp.where(world["step"] >= 2, world["poison"], 0.0)
        return value + sick * own[0], Outcome({}, {})

    def critic(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return jnp.sum((own - params["actor"]) ** 2), Outcome({}, {})

    game = Game(
        {"actor": actor, "critic": critic}, init, sample=lambda w, key: jax.random.normal(key, (4,))
    )
    return gacf.compose(game, rules.simultaneous({p: optax.adam(0.1) for p in game.losses}))


@pytest.mark.long
@pytest.mark.parametrize("way", ["vmap", "sharded-loop"])
def test_one_diverged_seed_leaves_the_others_bit_identical(way: str) -> None:
    bad = 2
    state, metrics = gacf.run(fragile(bad), KEY, 5, seeds=5, map=way)
    clean, clean_metrics = gacf.run(fragile(None), KEY, 5, seeds=5, map=way)
    flags = np.zeros((5, 5), bool)
    flags[bad, 2:] = True
    np.testing.assert_array_equal(metrics["diverged"], flags)
    assert np.isnan(state.params["actor"][bad, 0])
    others = np.array([i for i in range(5) if i != bad])
    for name in ("actor/loss", "critic/loss"):
        np.testing.assert_array_equal(metrics[name][others], clean_metrics[name][others])
    np.testing.assert_array_equal(state.params["critic"][others], clean.params["critic"][others])
    assert not np.any(clean_metrics["diverged"])


@pytest.mark.long
@pytest.mark.parametrize("way", ["vmap", "sharded-loop"])
def test_what_counts_as_diverged_lane_by_lane(way: str) -> None:
    """A critic's loss or an actor's parameter of a given size, which no update changes."""

    def build(hyper: Any) -> Algorithm:
        game = gacf.from_losses(
            {"actor": hyper["actor"], "critic": jnp.float32(1.0)},
            {
                "actor": lambda params, batch, key: jnp.tanh(params["critic"]),
                "critic": lambda params, batch, key: hyper["critic"] + params["critic"],
            },
        )
        step = rules.player_step
        slow = rules.every(2, step("actor", optax.sgd(0.1)))
        return gacf.compose(game, rules.sequence(step("critic", optax.sgd(0.1)), slow))

    inf = np.inf
    sizes = np.float32([[1, 1], [1, 1e18], [1, -inf], [1e18, 1], [inf, 1], [1e12, -1e12]])
    hyper = {"actor": jnp.asarray(sizes[:, 0]), "critic": jnp.asarray(sizes[:, 1])}
    _, metrics = gacf.run(build, KEY, 4, seeds=2, hyper=hyper, map=way)
    # a move that `every` leaves out reports NaN, and that is nothing bad
    assert np.isnan(metrics["actor/loss"][0]).any(axis=-1).all()
    expected = np.array([False, True, True, True, True, False])
    np.testing.assert_array_equal(
        metrics["diverged"], np.broadcast_to(expected[:, None, None], (6, 2, 4))
    )


def test_windows() -> None:
    assert plan_windows(7, 3, None) == ([3, 3, 1], [False, False, False])
    assert plan_windows(6, 2, 4) == ([2, 2, 2], [False, True, False])
    assert plan_windows(4, 2, 4, start=2) == ([2, 2], [True, False])
    assert plan_windows(2, 5, None) == ([2], [False])


@pytest.mark.long
def test_fewer_steps_than_a_window_log_nothing(algorithm: Algorithm) -> None:
    state, metrics = gacf.run(algorithm, KEY, 2, seeds=2, log_every=5, map="vmap")
    assert int(state.step) == 2
    assert {x.shape for x in metrics.values()} == {(2, 0)}


@pytest.mark.long
def test_two_runs_of_one_algorithm_compile_once() -> None:
    traces = []

    def actor(p: Any, batch: Any, key: Any) -> jax.Array:
        traces.append(1)
        return p["actor"] ** 2

    game = gacf.from_losses({"actor": 1.0}, {"actor": actor})
    made = gacf.compose(game, rules.simultaneous({"actor": optax.sgd(0.1)}))
    first, _ = gacf.run(made, KEY, 3)
    again, _ = gacf.run(made, KEY, 3)
    assert len(traces) == 1
    chex.assert_trees_all_equal(raw(first), raw(again))
    with jax.enable_x64(True):
        double, _ = gacf.run(made, KEY, 3)
    assert double.params["actor"].dtype == jnp.float64, "a program of another precision was reused"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, r"steps: 0 was given; allowed: a whole number >= 1"),
        ({"steps": 2.5}, r"steps: 2\.5 was given"),
        ({"seeds": 0}, r"seeds: 0 was given; allowed: a whole number >= 1"),
        ({"seeds": 2.0}, r"seeds: 2\.0 was given"),
        ({"log_every": -1}, r"log_every: -1 was given"),
        ({"evaluate_every": 3, "log_every": 2}, r"evaluate_every: 3 .* a multiple of log_every, 2"),
        ({"map": "vmapp"}, r"map: 'vmapp' is unknown; did you mean 'vmap'\?"),
        ({"hyper": jnp.ones(2)}, r"hyper: needs a function"),
        ({"algorithm": lambda hyper: None}, r"hyper: None was given for a function"),
        ({"algorithm": lambda hyper: None, "hyper": 1.0}, r"hyper: leaves need one leading axis"),
        (
            {"algorithm": lambda hyper: None, "hyper": {"a": jnp.ones(2), "b": jnp.ones(3)}},
            r"hyper: leaves need one leading axis",
        ),
        ({"key": jax.random.PRNGKey(0)}, r"key: uint32 was given; allowed: a typed key"),
    ],
)
def test_messages_name_the_argument(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "algorithm": gacf.compose(bilinear(), rules.simultaneous(sgd())),
        "key": KEY,
        "steps": 2,
        **change,
    }
    with pytest.raises(ValueError, match=message) as raised:
        gacf.run(**arguments)
    assert "\n" not in str(raised.value)


def test_no_seed_is_taken_that_is_not_there(algorithm: Algorithm) -> None:
    state, _ = gacf.run(algorithm, KEY, 5, seeds=3, map="vmap")
    for wrong in (3, -4, (0, 0)):
        with pytest.raises(IndexError, match="the state's leading axes are"):
            gacf.take_seed(state, wrong)
    with pytest.raises(IndexError):
        gacf.take_seed(gacf.take_seed(state, 0), 0)
