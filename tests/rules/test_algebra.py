"""The algebra of rules against updates written out by hand."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Game, Outcome, Rule, rules

KEY = jax.random.key(23)
STEPS = 6
ADAM = {"actor": optax.adam(0.05), "critic": optax.adam(0.1)}


def losses() -> dict[str, Any]:
    def actor(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return jnp.sum(own * params["critic"] * batch) + jnp.sum(own**4), Outcome({"b": batch}, {})

    def critic(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return jnp.sum((own - params["actor"] + batch) ** 2), Outcome({"b": batch}, {})

    return {"actor": actor, "critic": critic}


def game() -> Game:
    def init(key: Any) -> Any:
        return {"actor": jnp.array([0.4, -0.3]), "critic": jnp.array([1.0, 0.5])}, {}

    return Game(losses(), init, sample=lambda world, key: jax.random.normal(key, (2,)))


class ByHand:
    """Plain Adam steps in the order told, on the batches told; no part of the algebra."""

    def __init__(self) -> None:
        self.params = game().init(KEY)[0]
        self.state = {name: ADAM[name].init(self.params[name]) for name in ADAM}

    def gradient(self, player: str, batch: jax.Array, at: Any) -> jax.Array:
        def own_loss(own: Any) -> jax.Array:
            return losses()[player](own, at, {}, batch, None)[0]

        return jax.grad(own_loss)(at[player])

    def move(self, player: str, batch: jax.Array, at: Any = None) -> None:
        gradient = self.gradient(player, batch, self.params if at is None else at)
        change, self.state[player] = ADAM[player].update(gradient, self.state[player])
        self.params = {**self.params, player: self.params[player] + change}


def step(player: str) -> Rule:
    return rules.player_step(player, ADAM[player])


def drawn(key: jax.Array) -> jax.Array:
    """The batch of an atom that is handed this key."""
    return jax.random.normal(jax.random.split(key)[0], (2,))


def hand_sequence(hand: ByHand, key: jax.Array, count: int) -> None:
    keys = jax.random.split(key, 2)
    hand.move("critic", drawn(keys[0]))
    hand.move("actor", drawn(keys[1]))


def hand_parallel(hand: ByHand, key: jax.Array, count: int) -> None:
    before, batch = hand.params, drawn(key)
    hand.move("actor", batch, before)
    hand.move("critic", batch, before)


def hand_repeat(hand: ByHand, key: jax.Array, count: int) -> None:
    keys = jax.random.split(key, 2)
    for inner in jax.random.split(keys[0], 3):
        hand.move("critic", drawn(inner))
    hand.move("actor", drawn(keys[1]))


def hand_every(hand: ByHand, key: jax.Array, count: int) -> None:
    keys = jax.random.split(key, 2)
    hand.move("critic", drawn(keys[0]))
    if count % 3 == 0:
        hand.move("actor", drawn(keys[1]))


def hand_nested(hand: ByHand, key: jax.Array, count: int) -> None:
    for inner in jax.random.split(key, 2):
        hand_parallel(hand, inner, count)


CASES: dict[str, tuple[Rule, Any]] = {
    "sequence": (rules.sequence(step("critic"), step("actor")), hand_sequence),
    "alternating": (rules.alternating(ADAM), hand_sequence),
    "parallel": (rules.parallel(step("actor"), step("critic")), hand_parallel),
    "simultaneous": (rules.simultaneous(ADAM), hand_parallel),
    "repeat": (rules.sequence(rules.repeat(step("critic"), 3), step("actor")), hand_repeat),
    "alternating-3-1": (rules.alternating(ADAM, steps={"critic": 3}), hand_repeat),
    "every": (rules.sequence(step("critic"), rules.every(3, step("actor"))), hand_every),
    "nested": (rules.repeat(rules.parallel(step("actor"), step("critic")), 2), hand_nested),
}


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_combinators_match_updates_by_hand(name: str, updates: int) -> None:
    rule, by_hand = CASES[name]
    algorithm = gacf.compose(game(), rule, updates=updates)
    state = jax.jit(algorithm.init)(KEY)
    advance = jax.jit(algorithm.step)

    @jax.jit
    def keys_of(key: jax.Array) -> jax.Array:
        update_key = jax.random.split(key, 3)[2]
        return jax.random.split(update_key, updates) if updates > 1 else update_key[None]

    hand, count = ByHand(), 0
    for _ in range(STEPS // updates):
        keys = keys_of(state.key)
        state, _ = advance(state)
        for key in keys:
            count += 1
            by_hand(hand, key, count)
    assert count == STEPS
    chex.assert_trees_all_close(state.params, hand.params, rtol=1e-10)
    for player in ADAM:
        chex.assert_trees_all_close(
            state.opt_state[player].optimizer, hand.state[player], rtol=1e-9
        )


@pytest.mark.long
def test_batches_are_fresh_in_sequence_and_shared_in_parallel() -> None:
    _, metrics = gacf.run(gacf.compose(game(), rules.alternating(ADAM)), KEY, 2)
    assert np.all(metrics["actor/b"] != metrics["critic/b"])
    _, metrics = gacf.run(gacf.compose(game(), rules.simultaneous(ADAM)), KEY, 2)
    np.testing.assert_array_equal(metrics["actor/b"], metrics["critic/b"])

    drawn_keys: list[Any] = []

    def sample(world: Any, key: jax.Array) -> jax.Array:
        jax.debug.callback(lambda k: drawn_keys.append(tuple(k.tolist())), jax.random.key_data(key))
        return jnp.ones(2)

    played = game()._replace(sample=sample)
    algorithm = gacf.compose(played, rules.repeat(step("critic"), 4), still="actor")
    jax.jit(algorithm.step)(algorithm.init(KEY))
    jax.effects_barrier()
    assert len(drawn_keys) == len(set(drawn_keys)) == 4


def test_delayed_rules_rest_without_a_trace() -> None:
    """In between: same params, same optimiser state, unknown metrics, the world as it was."""

    def actor(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        metrics = {"x": own[0], "n": jnp.int32(7)}
        return losses()["actor"](own, params, world, batch, key)[0], Outcome(
            metrics, {"seen": world["seen"] + 1}
        )

    base = game()
    played = base._replace(
        losses={**base.losses, "actor": actor}, init=lambda key: (base.init(key)[0], {"seen": 0})
    )
    algorithm = gacf.compose(played, rules.every(3, step("actor")), still="critic")
    advance = jax.jit(algorithm.step)
    state = algorithm.init(KEY)
    for count in range(1, 7):
        before = state
        state, metrics = advance(state)
        due = count % 3 == 0
        assert int(state.world["seen"]) == count // 3
        assert bool(jnp.isnan(metrics["actor/loss"])) is not due
        assert bool(jnp.isnan(metrics["actor/x"])) is not due
        assert int(metrics["actor/n"]) == (7 if due else 0)
        if not due:
            chex.assert_trees_all_equal(state.params, before.params)
            chex.assert_trees_all_equal(state.opt_state, before.opt_state)
        else:
            assert bool(jnp.all(state.params["actor"] != before.params["actor"]))


@pytest.mark.long
def test_two_optimisers_of_one_player() -> None:
    """Of one structure they share the moments; of two structures they are refused."""
    fast = rules.player_step("critic", optax.adam(0.1))
    slow = rules.player_step("critic", optax.adam(0.01))
    state, _ = gacf.run(gacf.compose(game(), rules.sequence(fast, slow), still="actor"), KEY, 2)
    assert state.opt_state["critic"].optimizer[0].count[0] == 4
    mixed = rules.sequence(fast, rules.player_step("critic", optax.sgd(0.1)))
    with pytest.raises(ValueError, match="'critic' is moved by two optimisers"):
        gacf.compose(game(), mixed, still="actor").init(KEY)


@pytest.mark.long
def test_optimisers_receive_step_metrics_value_and_gradient() -> None:
    def spy() -> optax.GradientTransformationExtraArgs:
        def init(params: Any) -> Any:
            return {"step": jnp.int32(-1), "value": jnp.float32(0), "b": jnp.zeros(2), "same": True}

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            assert params is not None
            value, gradient = jax.value_and_grad(extra["value_fn"])(params)
            same = jnp.allclose(gradient, extra["grad"]) & jnp.allclose(value, extra["value"])
            seen = {"step": extra["step"], "value": extra["value"], "b": extra["metrics"]["b"]}
            return jax.tree.map(lambda g: -0.1 * g, updates), {**seen, "same": state["same"] & same}

        return optax.GradientTransformationExtraArgs(init, update)

    rule = rules.player_step("critic", optax.chain(optax.clip(1e6), spy()))
    state, metrics = gacf.run(gacf.compose(game(), rule, still="actor"), KEY, 3)
    seen = state.opt_state["critic"].optimizer[1]
    assert seen["step"][0] == 2
    assert seen["same"][0]
    assert seen["value"][0] == metrics["critic/loss"][0, -1]
    np.testing.assert_array_equal(seen["b"][0], metrics["critic/b"][0, -1])


@pytest.mark.long
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=2)),
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(8)),
        optax.inject_hyperparams(optax.adamw)(learning_rate=0.1),
        optax.MultiSteps(optax.adam(0.1), every_k_schedule=2),
        optax.apply_if_finite(optax.adam(0.1), 3),
        optax.adam(optax.linear_schedule(0.1, 0.0, 5)),
    ],
    ids=["plateau", "linesearch", "inject", "multisteps", "finite", "schedule"],
)
def test_optax_transformations_of_every_kind_run_over_seeds(optimizer: Any) -> None:
    rule = rules.alternating({"critic": optimizer, "actor": optax.sgd(0.01)})
    state, metrics = gacf.run(gacf.compose(game(), rule), KEY, 5, seeds=3, map="vmap")
    assert bool(jnp.all(jnp.isfinite(metrics["critic/loss"])))
    assert bool(jnp.all(state.params["critic"] != jnp.array([[1.0, 0.5]])))


def test_players_and_states_of_a_composition() -> None:
    rule = rules.sequence(rules.repeat(step("critic"), 2), rules.every(2, step("actor")))
    assert rule.players == ("critic", "actor")
    assert set(rule.init(game().init(KEY)[0])) == {"critic", "actor"}
    assert rules.repeat(rule, 1) is rule
    assert rules.every(1, rule) is rule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.repeat(step("critic"), 0), r"repeat: n: 0 was given"),
        (lambda: rules.repeat(step("critic"), 1.5), r"repeat: n: 1\.5 was given"),
        (lambda: rules.every(0, step("critic")), r"every: n: 0 was given"),
        (lambda: rules.parallel(step("critic"), step("critic")), "two rules move 'critic'"),
        (rules.sequence, "sequence: .* at least one rule"),
        (rules.parallel, "parallel: .* at least one rule"),
        (lambda: rules.simultaneous({}), "optimizers: .* at least one player"),
        (lambda: rules.alternating(ADAM, order=["actor"]), "order: .* a permutation of"),
        (
            lambda: rules.alternating(ADAM, steps={"critik": 2}),
            r"steps: .* did you mean 'critic'\?",
        ),
        (lambda: rules.alternating(ADAM, steps={"critic": 0}), "steps: critic: 0 was given"),
        (
            lambda: rules.simultaneous(ADAM, direction={"actr": rules.gradient()}),
            r"direction: no player 'actr'; did you mean 'actor'\?",
        ),
        (
            lambda: step("actor").init({"critic": 1.0}),
            "player_step: 'actor' has no params; there are critic",
        ),
    ],
)
def test_messages_name_the_argument(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
