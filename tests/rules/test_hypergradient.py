"""Total derivatives against closed forms: ridge regression's penalty, unrolling, live states."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Game, rules
from tests.rules.common import vector

RANDOM = np.random.default_rng(2)
TRAIN, VALID = RANDOM.normal(size=(20, 4)), RANDOM.normal(size=(15, 4))
TRUTH = np.array([1.0, -2.0, 0.5, 0.0])
LABELS = TRAIN @ TRUTH + 0.5 * RANDOM.normal(size=20)
HELD_OUT = VALID @ TRUTH + 0.5 * RANDOM.normal(size=15)
PENALTY = -1.0  # logarithm


def ridge() -> Game:
    """Leader: log penalty on the validation loss; follower: weights on the training loss."""

    def train(p: Any, batch: Any, key: Any) -> jax.Array:
        error = jnp.mean((TRAIN @ p["weights"] - LABELS) ** 2)
        return 0.5 * error + 0.5 * jnp.exp(p["penalty"]) * jnp.sum(p["weights"] ** 2)

    def valid(p: Any, batch: Any, key: Any) -> jax.Array:
        return 0.5 * jnp.mean((VALID @ p["weights"] - HELD_OUT) ** 2)

    start = {"penalty": jnp.asarray(PENALTY), "weights": jnp.zeros(4)}
    return gacf.from_losses(start, {"penalty": valid, "weights": train})


def solution(penalty: float) -> np.ndarray:
    gram = TRAIN.T @ TRAIN / 20 + np.exp(penalty) * np.eye(4)
    return np.linalg.solve(gram, TRAIN.T @ LABELS / 20)


def hypergradient() -> float:
    """d/dλ of the validation loss: −e^λ rᵀX (XᵀX/n + e^λ I)⁻¹ w / m."""
    weights = solution(PENALTY)
    gram = TRAIN.T @ TRAIN / 20 + np.exp(PENALTY) * np.eye(4)
    toward = VALID.T @ (VALID @ weights - HELD_OUT) / 15
    return float(-np.exp(PENALTY) * toward @ np.linalg.solve(gram, weights))


def at_optimum() -> dict[str, jax.Array]:
    return {"penalty": jnp.asarray(PENALTY), "weights": jnp.asarray(solution(PENALTY))}


OPTIMIZERS = {"penalty": optax.sgd(0.1), "weights": optax.sgd(0.3)}
PAIR = ("penalty", "weights")
DIRECTIONS = {
    "cg": rules.implicit(*PAIR, "cg", 4),
    "gmres": rules.implicit(*PAIR, "gmres", 4),
    "normal": rules.implicit(*PAIR, "normal", 6),
    "neumann": rules.implicit(*PAIR, "neumann", 300, rate=0.3),
    "unrolled": rules.unrolled(*PAIR, steps=300),
}


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", DIRECTIONS)
def test_hypergradient_of_the_penalty(name: str) -> None:
    found, metrics = vector(ridge(), DIRECTIONS[name], "penalty", at_optimum(), OPTIMIZERS)
    assert float(found) == pytest.approx(hypergradient(), rel=1e-6)
    assert abs(hypergradient()) > 1e-2
    assert metrics.get("residual", 0) < 1e-6
    expected = 0.5 * np.mean((VALID @ solution(PENALTY) - HELD_OUT) ** 2)
    assert float(metrics["loss"]) == pytest.approx(expected)


@pytest.mark.usefixtures("x64")
def test_the_closed_form_itself_against_a_difference() -> None:
    def loss(penalty: float) -> float:
        return 0.5 * float(np.mean((VALID @ solution(penalty) - HELD_OUT) ** 2))

    slope = (loss(PENALTY + 1e-5) - loss(PENALTY - 1e-5)) / 2e-5
    assert hypergradient() == pytest.approx(slope, rel=1e-7)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("terms", [1, 4])
def test_k_neumann_terms_are_k_unrolled_steps_at_the_optimum(terms: int) -> None:
    """And away from it they are not: the steps move the point where F is differentiated."""
    series = rules.implicit(*PAIR, "neumann", terms, rate=0.3)
    steps = rules.unrolled(*PAIR, steps=terms)
    for point, same in ((at_optimum(), True), ({**at_optimum(), "weights": jnp.ones(4)}, False)):
        a, _ = vector(ridge(), series, "penalty", point)
        b, _ = vector(ridge(), steps, "penalty", point, OPTIMIZERS)
        assert (abs(float(a) - float(b)) < 1e-12) == same
    assert abs(float(a)) > 1e-3


@pytest.mark.usefixtures("x64")
def test_finite_difference_is_one_unrolled_step_to_second_order() -> None:
    point = {**at_optimum(), "weights": jnp.ones(4)}
    exact, _ = vector(ridge(), rules.unrolled(*PAIR, steps=1), "penalty", point, OPTIMIZERS)
    for epsilon in (1e-2, 1e-4):
        darts = rules.finite_difference(*PAIR, rate=0.3, epsilon=epsilon)
        found, _ = vector(ridge(), darts, "penalty", point)
        # the training loss is quadratic in the weights, so only rounding is left
        assert float(found) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.usefixtures("x64")
def test_unrolled_is_not_detached() -> None:
    """The validation loss does not name the penalty: a detached unroll would give 0."""
    found, _ = vector(ridge(), rules.unrolled(*PAIR, 3), "penalty", at_optimum(), OPTIMIZERS)
    own, _ = vector(ridge(), rules.gradient(), "penalty", at_optimum())
    assert float(own) == 0
    assert abs(float(found)) > 1e-3


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_unrolling_starts_from_the_live_optimiser_state_and_leaves_it_alone() -> None:
    """Adam's moments after some steps, a loop by hand, and jax.grad through it."""
    game = ridge()
    adam = optax.adam(0.05)
    optimizers = {"penalty": optax.sgd(0.1), "weights": adam}
    algorithm = gacf.compose(game, rules.simultaneous(optimizers, rules.unrolled(*PAIR, 3)))
    before = algorithm.init(jax.random.key(0))
    for _ in range(2):
        before = jax.jit(algorithm.step)(before)[0]
    after, metrics = jax.jit(algorithm.step)(before)
    loss = game.losses["weights"]

    def ahead(penalty: jax.Array, state: Any) -> jax.Array:
        weights = before.params["weights"]
        for _ in range(3):
            here = {"penalty": penalty, "weights": weights}
            slope = jax.grad(lambda own, here=here: loss(own, here, {}, (), None)[0])(weights)
            change, state = adam.update(slope, state)
            weights = optax.apply_updates(weights, change)
        return 0.5 * jnp.mean((VALID @ weights - HELD_OUT) ** 2)

    live = before.opt_state["weights"].optimizer
    value, slope = jax.jit(jax.value_and_grad(ahead))(before.params["penalty"], live)
    expected = before.params["penalty"] - 0.1 * slope
    assert float(after.params["penalty"]) == pytest.approx(float(expected), rel=1e-12)
    assert float(metrics["penalty/loss"]) == pytest.approx(float(value), rel=1e-12)
    fresh = jax.grad(ahead)(before.params["penalty"], adam.init(before.params["weights"]))
    assert abs(float(fresh - slope)) > 1e-4, "the live state makes no difference here"
    # the follower made one step of its own, not four
    here = before.params
    own = jax.grad(lambda own: loss(own, here, {}, (), None)[0])(here["weights"])
    change, state = adam.update(own, live)
    np.testing.assert_allclose(after.params["weights"], here["weights"] + change, rtol=1e-12)
    assert int(after.opt_state["weights"].optimizer[0].count) == 3
    np.testing.assert_allclose(after.opt_state["weights"].optimizer[0].mu, state[0].mu, rtol=1e-12)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_a_gradient_that_has_been_zero_passes_nothing_through_adam() -> None:
    """Beside a parameter that never moves the vector is that of the other one, by differences."""
    game = gacf.from_losses(
        {"x": 1.0, "y": jnp.ones(2)},
        {
            "x": lambda p, batch, key: jnp.sum(p["y"] ** 2),
            "y": lambda p, batch, key: (p["y"] @ jnp.array([1.0, 0.0]) - p["x"]) ** 3,
        },
    )
    params = {"x": jnp.asarray(2.0), "y": jnp.ones(2)}
    optimizers = {"x": optax.sgd(0.1), "y": optax.adam(0.1)}
    found, _ = vector(game, rules.unrolled("x", "y", 2), "x", params, optimizers)

    def after(x: float) -> float:
        y, m, v = 1.0, 0.0, 0.0
        for t in (1, 2):
            slope = 3 * (y - x) ** 2
            m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
            y -= 0.1 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return y**2

    expected = (after(2 + 1e-5) - after(2 - 1e-5)) / 2e-5
    assert abs(expected) > 1e-4
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_single_loop_tracks_the_linear_system() -> None:
    """With the weights at their optimum u converges, and with it the vector and its residual."""
    game = ridge()
    direction = rules.single_loop(*PAIR, rate=0.3)
    still = {"penalty": optax.sgd(0.0), "weights": optax.sgd(0.3)}
    algorithm = gacf.compose(game, rules.simultaneous(still, direction))
    start = algorithm.init(jax.random.key(0))._replace(params=at_optimum())
    run = jax.jit(lambda s: jax.lax.fori_loop(0, 400, lambda i, s: algorithm.step(s)[0], s))
    state = run(start)
    weights = state.params["weights"]
    gram = TRAIN.T @ TRAIN / 20 + np.exp(PENALTY) * np.eye(4)
    toward = VALID.T @ (VALID @ np.asarray(weights) - HELD_OUT) / 15
    memory = state.opt_state["penalty"].direction["weights"]
    np.testing.assert_allclose(memory, np.linalg.solve(gram, toward), rtol=1e-9)
    _, metrics = jax.jit(algorithm.step)(state)
    assert float(metrics["penalty/residual"]) < 1e-9
    _, metrics = jax.jit(algorithm.step)(start)
    assert float(metrics["penalty/residual"]) == pytest.approx(1.0)


REFUSED = {
    "implicit": lambda o: rules.simultaneous(o, {"x": rules.implicit("x", "y", "cg", 3)}),
    "implicit, warm": lambda o: rules.simultaneous(
        o, {"x": rules.implicit("x", "y", "cg", 3, warm_start=True)}
    ),
    "follow_the_ridge": lambda o: rules.follow_the_ridge(o, "x", "y", "cg", 3),
    "competitive": lambda o: rules.competitive({"x": 2.0, "y": 2.0}, "cg", 3),
    "neumann": lambda o: rules.simultaneous(o, {"x": rules.implicit("x", "y", "neumann", 400)}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_system_is_not_reported_as_solved(name: str) -> None:
    """The follower stands on a maximum, f_yy = −2: cg refuses, and the series overflows."""
    losses = {
        "x": lambda p, batch, key: (p["y"] - 1) ** 2 + p["x"] ** 2 + 2 * p["x"] * p["y"],
        "y": lambda p, batch, key: -((p["y"] - p["x"]) ** 2),
    }
    rule = REFUSED[name]({player: optax.sgd(0.1) for player in losses})
    algorithm = gacf.compose(gacf.from_losses({"x": 1.0, "y": 0.5}, losses), rule)
    state, metrics = jax.jit(lambda key: algorithm.step(algorithm.init(key)))(jax.random.key(0))
    assert not all(bool(jnp.isfinite(x)) for x in state.params.values())
    residuals = [float(x) for key, x in metrics.items() if key.endswith("/residual")]
    assert residuals and not any(np.isfinite(residuals))


def test_single_loop_reports_no_solution_from_nan() -> None:
    """An F_y that is NaN has no solution, whatever the kept u is."""
    losses = {
        "x": lambda p, batch, key: jnp.sqrt(p["y"] - 1) + p["x"] ** 2,
        "y": lambda p, batch, key: (p["y"] - p["x"]) ** 2,
    }
    moves = {player: optax.sgd(0.1) for player in losses}
    rule = rules.simultaneous(moves, {"x": rules.single_loop("x", "y")})
    algorithm = gacf.compose(gacf.from_losses({"x": 1.0, "y": 0.5}, losses), rule)
    _, metrics = jax.jit(lambda key: algorithm.step(algorithm.init(key)))(jax.random.key(0))
    assert np.isnan(metrics["x/residual"])
