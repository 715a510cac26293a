"""Followers whose optimiser keeps some of their parameters: rules respond with the others alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules, stabilizers
from gacf.rules.trained import trained_by

KEY = jax.random.key(0)

# f = ½ yᵀHy − xᵀVy over y = (w, b),   F = ½ ‖Cy − c‖² + ½ ‖x‖²
DRAW = np.random.default_rng(0)
ROOT = DRAW.normal(size=(5, 5))
H = ROOT @ ROOT.T / 5 + np.eye(5)
V, C, AIM = DRAW.normal(size=(2, 5)), DRAW.normal(size=(3, 5)), DRAW.normal(size=3)
X, Y = DRAW.normal(size=2), DRAW.normal(size=5)
ETA = 0.3


def tree(y: Any) -> dict[str, Any]:
    return {"b": y[3:], "w": y[:3]}


def stacked(y: Any) -> jax.Array:
    return jnp.concatenate([y["w"], y["b"]])


def game() -> gacf.Game:
    def leads(p: Any, batch: Any, key: Any) -> jax.Array:
        miss = C @ stacked(p["y"]) - AIM
        return 0.5 * miss @ miss + 0.5 * p["x"] @ p["x"]

    def follows(p: Any, batch: Any, key: Any) -> jax.Array:
        y = stacked(p["y"])
        return 0.5 * y @ H @ y - p["x"] @ V @ y

    return gacf.from_losses({"x": X, "y": tree(Y)}, {"x": leads, "y": follows})


def elementwise(mask: Any) -> optax.GradientTransformation:
    return optax.stateless(lambda vector, _: jax.tree.map(jnp.multiply, vector, mask))


PLAIN = optax.sgd(ETA)
KEEP_B = {"w": False, "b": True}
ALL, NO_B, PART = np.ones(5, bool), np.arange(5) < 3, np.array([1, 0, 1, 0, 1], bool)
# how the follower's optimiser keeps parameters, and which of the five move
KEEPERS: dict[str, tuple[optax.GradientTransformation, np.ndarray]] = {
    "multi_transform": (
        optax.multi_transform(
            {"moves": PLAIN, "stays": optax.set_to_zero()}, {"w": "moves", "b": "stays"}
        ),
        NO_B,
    ),
    "masked after": (optax.chain(PLAIN, optax.masked(optax.set_to_zero(), KEEP_B)), NO_B),
    "freeze before": (optax.chain(optax.freeze(KEEP_B), PLAIN), NO_B),
    "elements": (optax.chain(elementwise(tree(PART.astype(float))), PLAIN), PART),
    "nothing": (PLAIN, ALL),
}


def partial(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F_x and F_y."""
    return x, C.T @ (C @ y - AIM)


def total(moves: np.ndarray) -> np.ndarray:
    """F_x − f_yxᵀ u over the coordinates that move."""
    own, toward = partial(X, Y)
    u = np.linalg.solve(H[np.ix_(moves, moves)], toward[moves])
    return own + V[:, moves] @ u


def looked_through(moves: np.ndarray, exact: bool = True) -> np.ndarray:
    """d/dx F(x, y − η f_y(x, y)), or its Taylor form, by hand."""
    step = ETA * np.where(moves, H @ Y - V.T @ X, 0)
    own, toward = partial(X, Y - step if exact else Y)
    return own + ETA * V[:, moves] @ toward[moves]


SOLVED = {name: rules.implicit("x", "y", name, 5) for name in ("cg", "gmres", "normal")}
DIRECTIONS: dict[str, tuple[rules.Direction, Any]] = {
    **{name: (made, total) for name, made in SOLVED.items()},
    "neumann": (rules.implicit("x", "y", "neumann", 300, rate=0.2), total),
    "unrolled": (rules.unrolled("x", "y", 1), looked_through),
    "lola": (rules.lola(ETA), looked_through),
    "lola, Taylor": (rules.lola(ETA, exact=False), lambda moves: looked_through(moves, False)),
    "finite_difference": (rules.finite_difference("x", "y", ETA), looked_through),
    "nested": (rules.nested(rules.implicit("x", "y", "gmres", 5), rules.gradient()), total),
}


FAST = (("cg", "elements"), ("cg", "multi_transform"), ("lola", "elements"))


def one_step(rule: Any) -> tuple[Any, Any]:
    """Parameters and metrics after a step, of the second of two seeds in one program."""
    algorithm = gacf.compose(game(), rule)
    params = {"x": jnp.asarray(X), "y": tree(jnp.asarray(Y))}
    start = gacf.State(params, {}, rule.init(params), KEY, jnp.zeros((), jnp.int32))
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)._replace(step=start.step)
    axes = gacf.State(0, 0, 0, 0, None)  # type: ignore[arg-type]
    step = jax.jit(jax.vmap(algorithm.step, (axes,), (axes, 0)))
    state, metrics = step(states)
    return jax.tree.map(lambda leaf: np.asarray(leaf[1]), (state.params, metrics))


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "keeper"),
    [
        pytest.param(name, keeper, marks=[pytest.mark.slow] * ((name, keeper) not in FAST))
        for name in DIRECTIONS
        for keeper in (KEEPERS if name == "cg" else ["elements"])
    ],
)
def test_a_leader_looks_through_what_moves(name: str, keeper: str) -> None:
    direction, expected = DIRECTIONS[name]
    optimizer, moves = KEEPERS[keeper]
    rule = rules.simultaneous({"x": optax.sgd(1.0), "y": optimizer}, {"x": direction})
    params, metrics = one_step(rule)
    np.testing.assert_allclose(X - params["x"], expected(moves), rtol=1e-6)
    if name in ("cg", "gmres", "normal", "neumann"):
        assert metrics["x/residual"] < 1e-8
    if keeper != "nothing":
        assert np.abs(expected(moves) - expected(ALL)).max() > 1e-2, "what is kept matters"


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_steps_that_do_not_know_each_other_see_what_moves_too() -> None:
    """The follower's step is another atom, whose optimiser the leader's is not given."""
    optimizer, moves = KEEPERS["masked after"]
    leads = rules.player_step("x", optax.sgd(1.0), rules.implicit("x", "y", "cg", 5))
    params, _ = one_step(rules.parallel(leads, rules.player_step("y", optimizer)))
    np.testing.assert_allclose(X - params["x"], total(moves), rtol=1e-6)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_single_loop_solves_for_what_moves() -> None:
    optimizer, moves = KEEPERS["elements"]
    still = optax.chain(optimizer, optax.scale_by_schedule(lambda step: 0.0 * step))
    direction = rules.single_loop("x", "y", 0.2)
    rule = rules.simultaneous({"x": optax.sgd(0.0), "y": still}, {"x": direction})
    state, metrics = gacf.run(gacf.compose(game(), rule), KEY, 300, log_every=300)
    memory = state.opt_state["x"].direction["y"]
    u = np.zeros(5)
    u[moves] = np.linalg.solve(H[np.ix_(moves, moves)], partial(X, Y)[1][moves])
    np.testing.assert_allclose(np.concatenate([memory["w"][0], memory["b"][0]]), u, rtol=1e-6)
    assert metrics["x/residual"][0, 0] < 1e-8


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("solver", ["cg", "normal"])
def test_follow_the_ridge_corrects_what_moves(solver: str) -> None:
    """Also with a leader that keeps one of its two parameters: Δx is what it really moves."""
    optimizer, moves = KEEPERS["elements"]
    lead = optax.chain(optax.sgd(1.0), elementwise(jnp.array([1.0, 0.0])))
    params, metrics = one_step(
        rules.follow_the_ridge({"x": lead, "y": optimizer}, "x", "y", solver, 5)
    )
    shift = -V.T @ np.array([-X[0], 0])
    end = Y - ETA * (H @ Y - V.T @ X)
    end[moves] -= np.linalg.solve(H[np.ix_(moves, moves)], shift[moves])
    np.testing.assert_allclose(
        np.concatenate([params["y"]["w"], params["y"]["b"]]), np.where(moves, end, Y), rtol=1e-6
    )
    assert metrics["y/residual"] < 1e-8


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["consensus", "symplectic"])
def test_joint_fields_are_those_of_what_moves(name: str) -> None:
    optimizer, moves = KEEPERS["elements"]
    direction = rules.consensus(0.5) if name == "consensus" else rules.symplectic(0.5, align=False)
    params, _ = one_step(rules.simultaneous({"x": optax.sgd(1.0), "y": optimizer}, direction))
    # J of v = (x, Hy − Vᵀx), with the rows and columns that move
    kept = np.concatenate([np.ones(2, bool), moves])
    jacobian = np.block([[np.eye(2), np.zeros((2, 5))], [-V.T, H]]) * np.outer(kept, kept)
    v = np.concatenate([X, H @ Y - V.T @ X]) * kept
    turned = jacobian.T @ v if name == "consensus" else 0.5 * (jacobian.T @ v - jacobian @ v)
    np.testing.assert_allclose(X - params["x"], (v + 0.5 * turned)[:2], rtol=1e-9)


MASK = {"a": True, "b": False, "s": False}
ZERO = optax.masked(optax.set_to_zero(), MASK)
NUMBERS = {"a": np.array([1.0, 0.0, 1.0]), "b": np.zeros(2), "s": np.ones(())}
BASES = ("sgd", "adam", "adamw", "lion", "rprop", "lamb", "yogi", "radam", "adafactor")


def moved_by(optimizer: optax.GradientTransformation) -> list[Any]:
    params = {"a": jnp.ones(3), "b": jnp.ones(2), "s": jnp.ones(())}
    found = trained_by(optax.with_extra_args_support(optimizer))(params).leaves
    return [x if isinstance(x, bool) else np.frombuffer(x, bool).tolist() for x in found]


@pytest.mark.long
@pytest.mark.parametrize("base", BASES)
def test_what_moves_is_read_off_any_optimiser(base: str) -> None:
    made = optax.adafactor() if base == "adafactor" else getattr(optax, base)(0.1)
    assert moved_by(made) == [True, True, True]
    assert moved_by(optax.chain(ZERO, made)) == [False, True, True]
    assert moved_by(optax.chain(made, ZERO)) == [False, True, True]
    assert moved_by(optax.chain(made, elementwise(NUMBERS))) == [[True, False, True], False, True]


LABELS = {"a": "moves", "b": "stays", "s": "stays"}
SPLIT = optax.multi_transform({"moves": optax.adam(0.1), "stays": optax.set_to_zero()}, LABELS)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (optax.set_to_zero(), [False, False, False]),
        # held still by a rate, which may as well be traced
        (optax.sgd(0.0), [True, True, True]),
        (
            optax.multi_transform({"moves": optax.sgd(0.1), "stays": optax.sgd(0.0)}, LABELS),
            [True, False, False],
        ),
        (optax.MultiSteps(SPLIT, 4), [True, False, False]),
        (optax.apply_if_finite(optax.chain(ZERO, optax.adam(0.1)), 3), [False, True, True]),
        (
            optax.chain(ZERO, optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)),
            [False, True, True],
        ),
        (optax.chain(optax.clip_by_global_norm(1.0), ZERO), [False, True, True]),
        (optax.selective_transform(optax.adam(0.1), freeze_mask=MASK), [False, True, True]),
        (
            stabilizers.freeze(SPLIT, lambda step, metrics: metrics["accuracy"] > 0.9),
            [True, False, False],
        ),
        (optax.inject_hyperparams(optax.adam)(0.1), [True, True, True]),
        # moved by decay alone: it answers to no gradient
        (optax.chain(ZERO, optax.add_decayed_weights(0.1), optax.sgd(0.1)), [False, True, True]),
    ],
)
def test_what_moves_is_read_off_wrappers(optimizer: Any, expected: Any) -> None:
    assert moved_by(optimizer) == expected


def test_a_step_that_comes_later_counts() -> None:
    """An optimiser that moves by the last step's gradient, and keeps one leaf."""

    def init(params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    def update(vector: Any, state: Any, params: Any = None) -> Any:
        return {**state, "b": jnp.zeros_like(state["b"])}, vector

    assert moved_by(optax.GradientTransformation(init, update)) == [True, False, True]


@pytest.mark.parametrize("direction", ["implicit", "single_loop", "unrolled", "finite_difference"])
def test_a_follower_that_keeps_everything_is_refused(direction: str) -> None:
    made = rules.DIRECTIONS[direction]("x", "y")
    rule = rules.simultaneous({"x": optax.sgd(0.1), "y": optax.set_to_zero()}, {"x": made})
    with pytest.raises(ValueError, match=f"{direction}: follower: 'y' .* keeps all") as error:
        one_step(rule)
    assert "\n" not in str(error.value)


def test_two_optimisers_of_one_player_move_what_either_moves() -> None:
    halves = [
        rules.player_step("y", optax.chain(optax.sgd(0.1), elementwise(tree(mask))))
        for mask in (np.eye(5)[0] + np.eye(5)[3], np.eye(5)[1])
    ]
    state = rules.sequence(*halves).init({"y": tree(Y)})
    b, w = (np.frombuffer(x, bool).tolist() for x in state["y"].trained.leaves)
    assert (w, b) == ([True, True, False], [True, False])
