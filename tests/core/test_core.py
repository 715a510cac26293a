"""The core: two-slot losses, what a step commits, what may be differentiated, keys, dtypes."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import gacf
from gacf import Game, Outcome, rules
from gacf.core.checks import nearest, require, whole
from gacf.runner import Program
from tests.contract_cases import bilinear, quadratic, worldly

KEY = jax.random.key(11)


def sgd(*players: str, rate: float = 0.1) -> dict[str, Any]:
    return {player: optax.sgd(rate) for player in players or ("actor", "critic")}


# --- gradients are per player -------------------------------------------------------------------


def test_a_loss_moves_its_own_player_alone() -> None:
    """Both losses read everything; the critic's reports statistics, the actor's move has none."""
    game = worldly()
    rule = rules.player_step("actor", optax.sgd(0.1))
    algorithm = gacf.compose(game, rule, still=("critic", "model"))
    start = jax.jit(algorithm.init)(KEY)
    state, _ = jax.jit(algorithm.step)(start)
    assert state.params["actor"] != start.params["actor"]
    chex.assert_trees_all_equal(state.params["critic"], start.params["critic"])
    chex.assert_trees_all_equal(state.params["model"], start.params["model"])
    chex.assert_trees_all_equal(state.world["stats"], start.world["stats"])


def test_the_second_slot_is_held_fixed() -> None:
    """loss(own, params) = own · params[self]: the gradient is params[self], not 2·params[self]."""

    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return own * params["actor"], Outcome({}, {})

    game = Game({"actor": loss}, lambda key: ({"actor": jnp.float32(3.0)}, {}))
    at = rules.field(game, {}, (), KEY)
    assert at.gradient("actor", game.init(KEY)[0])[0] == 3.0


# --- what a step commits ------------------------------------------------------------------------


def counting() -> Game:
    """Counts what is committed: observations, statistics, settlements."""

    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return own**2, Outcome({"update": world["update"]}, {"stats": world["stats"] + 1})

    def settle(params: Any, world: Any, outcomes: Any) -> Any:
        world = gacf.commit(params, world, outcomes)
        return {**world, "settled": world["settled"] + 1}

    def observe(params: Any, world: Any, key: Any) -> Any:
        return {**world, "observed": world["observed"] + 1}, {"at": world["step"]}

    return Game(
        {"actor": loss, "critic": loss},
        lambda key: ({"actor": 1.0, "critic": 1.0}, {"observed": 0, "stats": 0, "settled": 0}),
        observe,
        settle=settle,
    )


@pytest.mark.long
@pytest.mark.parametrize("updates", [1, 3])
def test_the_world_commits_once_an_update(updates: int) -> None:
    """However many inner steps and probes a rule makes, its statistics move once an update."""
    lead = rules.unrolled("actor", "critic", 2)
    rule = rules.alternating(sgd(), steps={"critic": 4}, direction={"actor": lead})
    algorithm = gacf.compose(counting(), rule, updates=updates)
    state, metrics = gacf.run(algorithm, KEY, 5)
    assert {name: int(x[0]) for name, x in state.world.items()} == {
        "observed": 5,
        "stats": 5 * updates,
        "settled": 5 * updates,
    }
    assert metrics["at"][0].tolist() == [0, 1, 2, 3, 4]
    assert metrics["actor/update"][0].tolist() == [(i + 1) * updates - 1 for i in range(5)]
    assert set(state.world) == {"observed", "stats", "settled"}


def test_of_several_moves_the_last_commits() -> None:
    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return own**2, Outcome({}, {"seen": own})

    game = Game({"actor": loss}, lambda key: ({"actor": 1.0}, {"seen": 0.0}))
    step = rules.player_step("actor", optax.sgd(0.25))
    for rule in (rules.sequence(step, step), rules.repeat(step, 2)):
        state, _ = gacf.run(gacf.compose(game, rule), KEY, 1)
        assert state.world["seen"][0] == 0.5
        assert state.params["actor"][0] == 0.25


# --- one batch and key inside a step ------------------------------------------------------------


def stochastic() -> Game:
    """Every evaluation reports the batch and the key that it saw."""

    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        saw = {"batch": batch, "key": jax.random.key_data(key)}
        value = own * params["critic"] * jnp.sum(batch) * jax.random.normal(key)
        return value + own**2 * params["actor"], Outcome(saw, {})

    return Game(
        {"actor": loss, "critic": loss},
        lambda key: ({"actor": jnp.float32(1.0), "critic": jnp.float32(0.5)}, {}),
        sample=lambda world, key: jax.random.normal(key, (2,)),
    )


def test_every_evaluation_of_a_field_sees_one_batch_and_key() -> None:
    game = stochastic()
    params, _ = game.init(KEY)
    at = rules.field(game, {}, game.sample({}, KEY), KEY)
    first, outcome = at.gradient("actor", params)
    second, again = at.gradient("actor", params)
    chex.assert_trees_all_equal((first, outcome), (second, again))
    other = at.gradient("critic", params)[1]
    chex.assert_trees_all_equal(outcome.metrics["batch"], other.metrics["batch"])
    assert bool(jnp.any(outcome.metrics["key"] != other.metrics["key"])), "losses share a key"


@pytest.mark.long
def test_simultaneous_players_share_the_batch_and_a_step_draws_a_new_one() -> None:
    algorithm = gacf.compose(stochastic(), rules.simultaneous(sgd()))
    _, metrics = gacf.run(algorithm, KEY, 2)
    batches = metrics["actor/batch"][0]
    chex.assert_trees_all_equal(batches, metrics["critic/batch"][0])
    assert bool(jnp.all(batches[0] != batches[1]))


# --- fields can be differentiated ---------------------------------------------------------------


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_products_with_the_field_match_its_dense_jacobian() -> None:
    game = quadratic()
    params, world = game.init(KEY)
    params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
    at = rules.field(game, world, game.sample(world, KEY), KEY)
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def vector(numbers: jax.Array) -> jax.Array:
        where = unravel(numbers)
        return ravel_pytree({p: at.gradient(p, where)[0] for p in at.players})[0]

    dense = np.stack(
        [(vector(flat + e) - vector(flat - e)) / 2e-5 for e in 1e-5 * np.eye(flat.size)], axis=1
    )
    probe = jnp.linspace(-1.0, 1.0, flat.size)
    forward = jax.jvp(vector, (flat,), (probe,))[1]
    backward = jax.vjp(vector, flat)[1](probe)[0]
    np.testing.assert_allclose(forward, dense @ probe, atol=1e-8)
    np.testing.assert_allclose(backward, dense.T @ probe, atol=1e-8)
    assert np.abs(dense - dense.T).max() > 0.1, "a symmetric field would not tell the two apart"


def td_game(stop: bool) -> Game:
    """Critic: (own·s - [r + γ·params·s′ + actor])²; with `stop` the target is cut off."""

    def critic(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        target = 1.0 + 0.9 * params["critic"] * 2.0 + params["actor"]
        target = jax.lax.stop_gradient(target) if stop else target
        return 0.5 * (own * 3.0 - target) ** 2, Outcome({}, {})

    def actor(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return own * params["critic"], Outcome({}, {})

    return Game({"actor": actor, "critic": critic}, lambda key: ({"actor": 0.5, "critic": 2.0}, {}))


@pytest.mark.long
def test_semi_gradients_keep_their_cross_derivatives() -> None:
    params = {"actor": jnp.float32(0.5), "critic": jnp.float32(2.0)}
    error = 3.0 * 2.0 - (1.0 + 0.9 * 2.0 * 2.0 + 0.5)
    found = {}
    for stop in (False, True):
        at = rules.field(td_game(stop), {}, (), KEY)
        vector = at.gradient("critic", params)[0]
        assert vector == pytest.approx(3.0 * error), "the own gradient is the semi-gradient"
        found[stop] = jax.jacfwd(lambda p, at=at: at.gradient("critic", p)[0])(params)
    # v = 3(3w - 1 - 1.8w - x): dv/dw = 3(3 - 1.8), dv/dx = -3.
    assert found[False]["critic"] == pytest.approx(3.6)
    assert found[False]["actor"] == pytest.approx(-3.0)
    assert found[True]["critic"] == pytest.approx(9.0), "stopping loses the target's part"
    assert found[True]["actor"] == 0.0, "stopping loses the cross derivative"


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ratio", [True, False])
def test_score_functions_are_right_in_ratio_form(ratio: bool) -> None:
    """A bandit of three arms with critic values q: enumeration against the sampled estimator.

    The batch holds each arm, weighted by its probability under the behaviour policy (params), so
    the estimator's expectation is exact. J(x, q) = -Σ π_x(a) q(a).
    """
    behaviour = jnp.array([0.3, -0.2, 0.5])
    q = jnp.array([1.0, -2.0, 0.7])
    weights = jax.nn.softmax(behaviour)

    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        log_own, log_held = jax.nn.log_softmax(own), jax.nn.log_softmax(params["actor"])
        form = jnp.exp(log_own - log_held) if ratio else log_own
        return -jnp.sum(weights * form * params["critic"]), Outcome({}, {})

    game = Game({"actor": loss}, lambda key: ({"actor": behaviour, "critic": q}, {}))
    at = rules.field(game, {}, (), KEY)
    params = {"actor": behaviour, "critic": q}

    def exact(x: jax.Array, q: jax.Array) -> jax.Array:
        return -jnp.sum(jax.nn.softmax(x) * q)

    @jax.jit
    def estimated(params: Any) -> Any:
        value = at.loss("actor", params["actor"], params)[0]
        of_value = jax.grad(lambda p: at.loss("actor", behaviour, p)[0])(params)["critic"]
        cross = jax.jacfwd(lambda p: at.gradient("actor", p)[0])(params)["critic"]
        return at.gradient("actor", params)[0], cross, value, of_value

    @jax.jit
    def enumerated(x: jax.Array, q: jax.Array) -> Any:
        cross = jax.jacfwd(jax.grad(exact), 1)(x, q)
        return jax.grad(exact)(x, q), cross, exact(x, q), jax.grad(exact, 1)(x, q)

    pairs = zip(estimated(params), enumerated(behaviour, q), strict=True)
    right = [np.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in pairs]
    assert right == [True, True, ratio, ratio], "own, cross, value, the value's slope in q"


# --- the step counter ---------------------------------------------------------------------------


@pytest.mark.long
def test_the_step_counter_is_unbatched_and_delays_are_real_branches() -> None:
    slow = rules.every(2, rules.player_step("actor", optax.sgd(0.1)))
    rule = rules.sequence(rules.player_step("critic", optax.sgd(0.1)), slow)
    program = Program(gacf.compose(bilinear(), rule), seeds=4, map="vmap")
    lanes = program.init(KEY)
    assert lanes.step.shape == ()
    assert program.state_shape().step.shape == ()
    text = program.compile(lanes, 1).as_text()
    assert re.search(r"= .* conditional\(", text), "`every` runs both branches under vmap"
    assert program.state_of(lanes).params["actor"].shape == (4,)

    batched = jax.vmap(gacf.compose(bilinear(), rule).step)
    one = gacf.take_seed(program.state_of(lanes), 0)
    four = jax.tree.map(lambda x: jnp.stack([x] * 4), one)
    both = jax.jit(batched).lower(four).compile().as_text()
    assert both is not None
    assert not re.search(r"= .* conditional\(", both), "a batched counter no longer shows"


# --- a data set is held once --------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_a_data_set_is_held_once_however_many_seeds(kind: Any, way: str) -> None:
    data = kind(np.random.default_rng(0).normal(size=(50_000, 4)).astype(np.float32))

    def sample(key: jax.Array) -> jax.Array:
        return jnp.asarray(data)[jax.random.randint(key, (8,), 0, len(data))]

    game = gacf.from_losses(
        {"actor": jnp.zeros(4)}, {"actor": lambda p, batch, key: jnp.sum((batch @ p["actor"]) ** 2)}
    )._replace(sample=lambda world, key: sample(key))
    algorithm = gacf.compose(game, rules.simultaneous(sgd("actor")))
    sizes = {}
    for seeds in (2, 16):
        program = Program(algorithm, seeds, map=way)
        compiled = program.compile(program.init(KEY), 1)
        memory = compiled.memory_analysis()
        assert memory is not None
        sizes[seeds] = memory.argument_size_in_bytes
        assert memory.temp_size_in_bytes < data.nbytes / 2, "the program copies the data"
        assert memory.generated_code_size_in_bytes < data.nbytes / 2
        assert len(compiled.as_text()) < data.nbytes / 2, "the data are written into the program"
    assert data.nbytes <= sizes[2] < 1.1 * data.nbytes
    assert sizes[16] - sizes[2] < 0.01 * data.nbytes


# --- initialisers that call LAPACK --------------------------------------------------------------

ORTHOGONAL = """
    import jax, jax.numpy as jnp, optax, gacf
    from gacf.runner import MAPS
    make = jax.nn.initializers.orthogonal()
    def init(key):
        a, b = jax.random.split(key)
        return {"actor": make(a, (24, 24)), "critic": make(b, (24, 24))}
    def actor(p, batch, key):
        return jnp.mean((batch @ p["actor"] @ p["critic"]) ** 2)
    game = gacf.from_losses(init, {"actor": actor, "critic": actor},
                            lambda key: jax.random.normal(key, (8, 24)))
    rule = gacf.rules.simultaneous({p: optax.adam(1e-3) for p in game.losses})
    for way in MAPS:
        state, metrics = gacf.run(gacf.compose(game, rule), jax.random.key(0), 5, seeds=8, map=way)
        assert bool(jnp.all(jnp.isfinite(metrics["actor/loss"]))), way
    print("trained on", jax.device_count())
"""


@pytest.mark.long
def test_orthogonal_networks_train_on_all_devices_without_hanging() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ORTHOGONAL)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout == "trained on 4\n", done.stderr[-2000:]


# --- hyperparameters may be tracers -------------------------------------------------------------


@pytest.mark.long
def test_one_trace_serves_a_batch_of_hyperparameters() -> None:
    traces = []

    def build(hyper: Any) -> gacf.Algorithm:
        def actor(p: Any, batch: Any, key: Any) -> jax.Array:
            traces.append("actor")
            return (p["actor"] - hyper["aim"]) ** 2

        game = gacf.from_losses({"actor": 0.0}, {"actor": actor})
        rule = rules.simultaneous({"actor": optax.sgd(hyper["rate"])})
        return gacf.compose(game, rule)

    hyper = {"rate": jnp.array([0.1, 0.2, 0.4]), "aim": jnp.array([1.0, 2.0, 3.0])}
    state, metrics = gacf.run(build, KEY, 4, seeds=2, hyper=hyper, map="vmap")
    assert len(traces) == 1
    assert metrics["actor/loss"].shape == (3, 2, 4)
    expected = hyper["aim"] * (1 - (1 - 2 * hyper["rate"]) ** 4)
    for seed in range(2):
        np.testing.assert_allclose(state.params["actor"][:, seed], expected, rtol=1e-5)


def test_builders_refuse_bad_numbers_and_let_tracers_pass() -> None:
    with pytest.raises(ValueError, match=r"rate: -1 was given; allowed: a number > 0"):
        require("rate", -1, lambda r: r > 0, "a number > 0")
    with pytest.raises(ValueError, match="rate: nan"):
        require("rate", float("nan"), lambda r: r > 0, "a number > 0")
    with pytest.raises(ValueError, match="rate: 'fast'"):
        require("rate", "fast", lambda r: r > 0, "a number > 0")
    with pytest.raises(ValueError, match=r"n: 2\.0"):
        require("n", 2.0, whole, "a whole number >= 1")
    jax.eval_shape(lambda r: require("rate", r, lambda r: r > 0, "a number > 0"), -1.0)


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_no_key_is_used_twice() -> None:
    """Every key that a game is handed, over steps, updates, inner steps and evaluations."""
    handed: list[tuple[str, Any]] = []

    def note(kind: str, key: jax.Array) -> None:
        handed.append((kind, tuple(np.asarray(jax.random.key_data(key)).tolist())))

    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        jax.debug.callback(lambda k: note("loss", k), key)
        return own**2, Outcome({}, {})

    def init(key: Any) -> Any:
        note("init", key)
        return {"actor": 1.0, "critic": 1.0}, {}

    def observe(params: Any, world: Any, key: Any) -> Any:
        note("observe", key)
        return world, {}

    def sample(world: Any, key: Any) -> Any:
        jax.debug.callback(lambda k: note("sample", k), key)
        # What a sampler does first with its key must not be what another is handed.
        for part in jax.random.split(key, 3):
            jax.debug.callback(lambda k: note("part of sample", k), part)
        return ()

    def evaluate(params: Any, world: Any, key: Any) -> Any:
        note("evaluate", key)
        return {}

    game = Game({"actor": loss, "critic": loss}, init, observe, sample, evaluate=evaluate)
    game = gacf.add_loss(game, "critic", lambda own, params, world, batch, key: note_and_zero(key))

    def note_and_zero(key: jax.Array) -> float:
        jax.debug.callback(lambda k: note("term", k), key)
        return 0.0

    step = {p: rules.player_step(p, optax.sgd(0.1)) for p in ("actor", "critic")}
    rule = rules.sequence(rules.repeat(step["critic"], 3), step["actor"])
    algorithm = gacf.compose(game, rule, updates=2)
    for seed in range(2):
        state = algorithm.init(jax.random.fold_in(KEY, seed))
        for _ in range(2):
            algorithm.evaluate(state)
            note("state", state.key)
            state, _ = algorithm.step(state)
    jax.effects_barrier()
    keys = [key for _, key in handed]
    twice = {pair for pair in handed if keys.count(pair[1]) > 1}
    assert not twice
    assert {kind for kind, _ in handed} == {
        *("init", "observe", "sample", "part of sample", "loss", "term", "evaluate", "state")
    }


def test_parallel_rules_keep_their_losses_keys_apart_from_others_batches() -> None:
    """`split(k)[i]` equals `fold_in(k, i)`: a rule beside a `repeat` must not meet its keys."""
    handed: list[Any] = []

    def note(kind: str, key: jax.Array) -> None:
        jax.debug.callback(lambda k: handed.append((kind, tuple(np.asarray(k).tolist()))), key)

    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        note("loss", jax.random.key_data(key))
        return own**2, Outcome({}, {})

    def sample(world: Any, key: Any) -> Any:
        note("sample", jax.random.key_data(key))
        return ()

    game = Game(
        {"actor": loss, "critic": loss},
        lambda k: ({"actor": 1.0, "critic": 1.0}, {}),
        sample=sample,
    )
    step = {p: rules.player_step(p, optax.sgd(0.1)) for p in ("actor", "critic")}
    algorithm = gacf.compose(game, rules.parallel(rules.repeat(step["critic"], 3), step["actor"]))
    algorithm.step(algorithm.init(KEY))
    jax.effects_barrier()
    losses = {key for kind, key in handed if kind == "loss"}
    samples = {key for kind, key in handed if kind == "sample"}
    assert len(losses) == 4
    assert not losses & samples


# --- dtypes, small games, messages --------------------------------------------------------------


@pytest.mark.long
def test_weak_types_and_python_numbers_become_fixed_dtypes() -> None:
    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return own**2, Outcome({}, {"count": world["count"] + 1})

    game = Game({"actor": loss}, lambda key: ({"actor": 1.0}, {"count": 0, "rate": 0.5}))
    algorithm = gacf.compose(game, rules.simultaneous(sgd("actor")))
    state = algorithm.init(KEY)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state.params, state.world)))
    assert state.world["count"].dtype == jnp.int32
    done, _ = gacf.run(algorithm, KEY, 3, seeds=2)
    assert done.world["count"].tolist() == [3, 3]


@pytest.mark.long
@pytest.mark.parametrize("start", [1, True, np.array(1), jnp.array(1), np.int8(1)])
def test_integer_parameters_become_floats(start: Any) -> None:
    game = gacf.from_losses({"actor": start}, {"actor": lambda p, batch, key: p["actor"] ** 2})
    params, _ = game.init(KEY)
    assert params["actor"].dtype == jnp.float32
    state, _ = gacf.run(gacf.compose(game, rules.simultaneous(sgd("actor"))), KEY, 1)
    assert state.params["actor"][0] == pytest.approx(0.8)


@pytest.mark.usefixtures("x64")
def test_double_precision_is_kept() -> None:
    game = gacf.from_losses(
        {"actor": 1, "critic": 1.0, "model": np.float32(1)},
        {"actor": lambda p, batch, key: p["actor"] * p["critic"]},
    )
    dtypes = {player: x.dtype.name for player, x in game.init(KEY)[0].items()}
    assert dtypes == {"actor": "float64", "critic": "float64", "model": "float32"}


@pytest.mark.long
def test_metrics_evaluations_and_optimisers_may_be_missing() -> None:
    """The smallest game: no metrics but the loss, no evaluation, a player whom nobody moves."""
    algorithm = gacf.compose(bilinear(), rules.simultaneous(sgd("actor")), still="critic")
    assert set(algorithm.init(KEY).opt_state) == {"actor"}
    state, metrics = gacf.run(algorithm, KEY, 4, log_every=2, evaluate_every=2)
    assert set(metrics) == {"actor/loss", "diverged"}
    assert state.params["critic"][0] == 1.0
    assert algorithm.evaluate(gacf.take_seed(state, 0)) == {}


def test_the_loss_metric_is_the_loss_even_if_a_game_reports_another() -> None:
    def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return own**2, Outcome({"loss": own * 100}, {})

    game = Game({"actor": loss}, lambda key: ({"actor": 3.0}, {}))
    _, metrics = gacf.run(gacf.compose(game, rules.simultaneous(sgd("actor"))), KEY, 1)
    assert metrics["actor/loss"][0, 0] == 9.0


def test_added_losses_and_players() -> None:
    def penalty(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return 0.5 * own**2, Outcome({"penalty": own}, {})

    game = gacf.add_loss(bilinear(), "actor", penalty)
    game = gacf.add_loss(game, "actor", lambda own, params, world, batch, key: own)
    game = gacf.add_player(
        game, "model", lambda key: jnp.zeros(2), lambda own, *_: (jnp.sum(own), Outcome({}, {}))
    )
    params, _ = game.init(KEY)
    vector, outcome = rules.field(game, {}, (), KEY).gradient("actor", params)
    assert vector == 1.0 + 1.0 + 1.0
    assert outcome.metrics == {"loss": 2.5, "penalty": 1.0}
    assert list(game.losses) == ["actor", "critic", "model"]
    with pytest.raises(ValueError, match="metric 'penalty' of 'actor' is reported already"):
        gacf.add_loss(game, "actor", penalty).losses["actor"](params["actor"], params, {}, (), KEY)
    with pytest.raises(ValueError, match="add_player: 'model' is a player already"):
        gacf.add_player(game, "model", lambda key: 0.0, penalty)


def three_players() -> Game:
    losses = {p: lambda params, batch, key, p=p: params[p] ** 2 for p in "abc"}
    return gacf.from_losses(dict.fromkeys("abc", 1.0), losses)


@pytest.mark.parametrize(
    ("make", "still", "message"),
    [
        (rules.simultaneous, (), r"never moves 'b', 'c', .* still=\('b', 'c',\)"),
        (rules.alternating, ("b",), r"never moves 'c'"),
        (rules.extragradient, "c", r"never moves 'b'"),
        (rules.simultaneous, ("b", "c", "d"), r"still: 'd' is not a player; .*allowed: a, b, c"),
        (rules.simultaneous, ("a", "b", "c"), r"still: 'a' was given, but the rule moves it"),
        (
            lambda o: rules.lookahead(rules.every(2, rules.repeat(rules.simultaneous(o), 3))),
            "b",
            "'c'",
        ),
    ],
)
def test_a_player_that_nobody_moves_has_to_be_named(make: Any, still: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        gacf.compose(three_players(), make(sgd("a")), still=still)
    assert str(error.value).startswith("compose: ") and "\n" not in str(error.value)


def test_a_player_named_still_keeps_its_parameters() -> None:
    rule = rules.simultaneous(sgd("a", "b"))
    state, _ = gacf.run(gacf.compose(three_players(), rule, still=("c",)), KEY, 3)
    assert state.params["c"][0] == 1.0
    assert state.params["a"][0] == state.params["b"][0] == pytest.approx(0.8**3)


@pytest.mark.parametrize(
    ("method", "forgotten"), [("sac", "temperature"), ("svg", "model"), ("infogan", "posterior")]
)
def test_players_that_methods_add_are_not_forgotten(method: str, forgotten: str) -> None:
    if method == "infogan":
        game = gacf.add_player(bilinear(), forgotten, lambda key: 1.0, bilinear().losses["actor"])
    else:
        small = {"replay": gacf.Replay(warmup=8, capacity=64)}
        sizes: Any = {"horizon": 2} if method == "svg" else small
        game = getattr(gacf, method)("Pendulum-v1", **sizes)
    with pytest.raises(ValueError, match=f"compose: the rule never moves '{forgotten}'"):
        gacf.compose(game, rules.alternating(sgd()))


def test_messages_name_the_argument_and_the_nearest_value() -> None:
    game = bilinear()
    step = rules.player_step("actro", optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"'actro' is not a player; did you mean 'actor'\?"):
        gacf.compose(game, step)
    with pytest.raises(
        ValueError, match=r"add_loss: 'critics' is not a player; did you mean 'critic'"
    ):
        gacf.add_loss(game, "critics", lambda *_: 0.0)
    with pytest.raises(ValueError, match="updates: 0 was given; allowed: a whole number >= 1"):
        gacf.compose(game, rules.simultaneous(sgd()), updates=0)
    with pytest.raises(ValueError, match=r"losses: \{\} was given"):
        gacf.from_losses({"actor": 1.0}, {})
    with pytest.raises(ValueError, match="init: no parameters for 'actor'; allowed: critic"):
        gacf.from_losses({"critic": 1.0}, {"actor": lambda p, b, k: jnp.zeros(())}).init(KEY)
    with pytest.raises(ValueError, match=r"losses: the loss of 'actor' has shape \(2,\)"):
        vectors = gacf.from_losses({"actor": jnp.ones(2)}, {"actor": lambda p, b, k: p["actor"]})
        gacf.run(gacf.compose(vectors, rules.simultaneous(sgd("actor"))), KEY, 1)
    with pytest.raises(ValueError, match="world: an entry 'step' was given"):
        clashing = game._replace(init=lambda key: (game.init(key)[0], {"step": 0}))
        gacf.compose(clashing, rules.simultaneous(sgd())).init(KEY)
    assert nearest("x", ["hinge"]) == "allowed: hinge"
