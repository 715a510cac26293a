"""Every rule × every toy game, and every game × two rules, through the same checks."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import gacf
from gacf import Algorithm, Rule, State, rules
from gacf.rules.linear_solve import SOLVERS
from tests.contract_cases import GAMES, RULES, TOYS, GameCase, RuleCase, bilinear

SEEDS, STEPS = 3, 3


def raw(tree: Any) -> Any:
    """Keys as numbers, so that trees can be compared."""

    def plain(leaf: jax.Array) -> Any:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(plain, tree)


def kinds(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def check(algorithm: Algorithm, rtol: float) -> None:
    """What every cell of the grid owes: see the assertions' messages."""
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(algorithm.step, n=1))
    key = jax.random.key(7)
    shape = jax.eval_shape(algorithm.init, key)
    after, metrics = jax.eval_shape(step, shape)
    assert jax.tree.structure(after) == jax.tree.structure(shape), "a step changes the structure"
    assert kinds(after) == kinds(shape), "a step changes shapes, dtypes or weak types"
    assert not any(x.weak_type for x in jax.tree.leaves(shape)), "a leaf's dtype is weak"
    assert kinds(jax.eval_shape(step, after)[1]) == kinds(metrics)
    assert all(isinstance(name, str) for name in metrics)
    jax.eval_shape(algorithm.evaluate, shape)

    def run(seed_key: jax.Array) -> tuple[Any, State, Any]:
        start = algorithm.init(seed_key)
        return start.params, *jax.lax.scan(lambda state, _: step(state), start, length=STEPS)

    keys = jax.random.split(key, SEEDS)
    alone = jax.jit(run)
    singles = [raw(alone(seed_key)) for seed_key in keys]
    start, state, _ = singles[0]
    chex.assert_trees_all_equal(singles[0], raw(alone(keys[0])))
    assert int(state.step) == STEPS
    moved = jax.tree.map(lambda old, new: bool(np.any(old != new)), start, state.params)
    assert any(jax.tree.leaves(moved)), "nobody moves"

    axes = (0, State._make((0, 0, 0, 0, None)), 0)
    many = raw(jax.jit(jax.vmap(run, out_axes=axes))(keys))
    for i, one in enumerate(singles):
        lane = jax.tree.map(lambda x, i=i: x[i], (many[0], tuple(many[1][:4]), many[2]))
        single = (one[0], tuple(one[1][:4]), one[2])
        chex.assert_trees_all_close(lane, single, rtol=rtol, atol=1e-6)
    assert many[1].step == STEPS, "the step counter is batched, or counts wrong"


def test_every_cell_is_enrolled() -> None:
    assert set(TOYS) <= set(GAMES)
    assert set(rules.SCHEDULES) <= set(RULES)
    assert {*rules.DIRECTIONS} - {"gradient"} <= {*RULES}
    assert all(case.rules and {*case.rules} <= {*TWO_RULES} for case in GAMES.values())
    assert {f"implicit-{solver}" for solver in SOLVERS if solver != "cg"} <= {*RULES}


PAIRS = [(name, toy) for name, rule in RULES.items() for toy in rule.games or TOYS]


@pytest.mark.long
@pytest.mark.parametrize(("name", "toy"), PAIRS)
def test_rule_plays_every_toy_game(name: str, toy: str) -> None:
    rule, case = RULES[name], TOYS[toy]
    game = case.make()
    made = rule.make({player: case.optimizer() for player in game.losses})
    still = tuple(player for player in game.losses if player not in made.players)
    check(gacf.compose(game, made, still=still), case.rtol)


TWO_RULES = {
    "simultaneous": lambda o: rules.simultaneous(o),
    "alternating": lambda o: rules.alternating(o, steps={"critic": 2}),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "made_by"), [(name, made_by) for name, case in GAMES.items() for made_by in case.rules]
)
def test_game_under_two_rules(name: str, made_by: str) -> None:
    case: GameCase = GAMES[name]
    game = case.make()
    rule = TWO_RULES[made_by]({player: case.optimizer() for player in game.losses})
    check(gacf.compose(game, rule, updates=2), case.rtol)


def sgd(rate: float) -> dict[str, optax.GradientTransformation]:
    return {player: optax.sgd(rate) for player in ("actor", "critic")}


def spectral_radius(rule: Rule, period: int) -> float:
    """Of one period on the bilinear game, in the parameters and the rule's own memory together."""
    algorithm = gacf.compose(bilinear(), rule)
    start = algorithm.init(jax.random.key(0))
    for _ in range(period):  # some rules open with a different step
        start = algorithm.step(start)[0]
    leaves, structure = jax.tree.flatten((start.params, start.opt_state))
    floating = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    _, unpack = ravel_pytree([leaves[i] for i in floating])

    def after(numbers: jax.Array) -> jax.Array:
        filled = list(leaves)
        for i, leaf in zip(floating, unpack(numbers), strict=True):
            filled[i] = leaf
        params, opt_state = jax.tree.unflatten(structure, filled)
        state = start._replace(params=params, opt_state=opt_state)
        for _ in range(period):
            state = algorithm.step(state)[0]
        ended = jax.tree.leaves((state.params, state.opt_state))
        return ravel_pytree([ended[i] for i in floating])[0]

    size = sum(leaves[i].size for i in floating)
    jacobian = jax.jit(jax.jacfwd(after))(jnp.full(size, 0.7))
    return float(np.max(np.abs(np.linalg.eigvals(np.asarray(jacobian)))))


@pytest.mark.usefixtures("x64")
def test_simultaneous_spirals_out_by_its_exact_factor() -> None:
    rate, steps = 0.1, 200
    algorithm = gacf.compose(bilinear(), rules.simultaneous(sgd(rate)))
    state, _ = gacf.run(algorithm, jax.random.key(0), steps, log_every=steps)
    radius = np.hypot(state.params["actor"][0], state.params["critic"][0])
    assert radius == pytest.approx(2**0.5 * (1 + rate**2) ** (steps / 2), rel=1e-10)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("order", "sign"), [(("actor", "critic"), -1), (("critic", "actor"), 1)])
def test_alternating_conserves_its_invariant(order: tuple[str, ...], sign: int) -> None:
    rate = 0.1
    algorithm = gacf.compose(bilinear(), rules.alternating(sgd(rate), order=order))

    def energy(x: jax.Array, y: jax.Array) -> jax.Array:
        return x**2 + y**2 + sign * rate * x * y

    state, _ = gacf.run(algorithm, jax.random.key(0), 1000, log_every=1000)
    x, y = state.params["actor"][0], state.params["critic"][0]
    assert float(energy(x, y)) == pytest.approx(2 + sign * rate, rel=1e-10)
    assert abs(float(x) - 1) + abs(float(y) - 1) > 0.1, "it has not moved"


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_optimistic_steps_are_optax_transformations(rate: float) -> None:
    moves = {p: optax.optimistic_gradient_descent(rate) for p in ("actor", "critic")}
    factor = ((1 + (1 - 4 * rate**2) ** 0.5) / 2) ** 0.5
    assert spectral_radius(rules.simultaneous(moves), 1) == pytest.approx(factor, rel=1e-8)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rate", [0.1, 0.3])
@pytest.mark.parametrize("name", [name for name, case in RULES.items() if case.factor])
def test_contraction_on_the_bilinear_game(name: str, rate: float) -> None:
    case: RuleCase = RULES[name]
    assert case.factor is not None
    rule = case.make(sgd(rate))
    assert spectral_radius(rule, case.period) == pytest.approx(case.factor(rate), rel=1e-8)
