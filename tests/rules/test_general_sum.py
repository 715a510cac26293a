"""Games where Nash and Stackelberg points differ: each rule lands where theory says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optax
import pytest

from gacf import Rule, rules
from gacf.games import Quadratic, equilibrium, field_jacobian, quadratic
from gacf.rules import nested, simultaneous
from tests.rules.common import eigenvalue_distance, land, matrix_of, root, sgd

pytestmark = pytest.mark.usefixtures("x64")

RATE, STEPS = 0.2, 400


def symmetric(matrix: Any) -> np.ndarray:
    return 0.5 * (np.asarray(matrix) + np.asarray(matrix).T)


def general_sum(sizes: dict[str, int], seed: int, coupling: float = 0.35) -> Quadratic:
    """Every player is convex in its own part, and feels the others' parts too."""
    random = np.random.default_rng(seed)
    total = sum(sizes.values())
    spec = Quadratic(sizes, {}, {})
    hessians = {}
    for name in sizes:
        h = coupling * symmetric(random.normal(size=(total, total)))
        own = spec.block(name)
        noise = 0.2 * symmetric(random.normal(size=(sizes[name], sizes[name])))
        h[own, own] = np.eye(sizes[name]) + noise
        hessians[name] = h
    return Quadratic(sizes, hessians, {name: random.normal(size=total) for name in sizes})


TWO = general_sum({"actor": 2, "critic": 3}, seed=52)
NASH = equilibrium(TWO, [("actor", "critic")])
LEADS = {
    leader: equilibrium(TWO, [leader, follower])
    for leader, follower in (("actor", "critic"), ("critic", "actor"))
}


def test_the_three_points_are_apart() -> None:
    for a, b in ((NASH, LEADS["actor"]), (NASH, LEADS["critic"]), tuple(LEADS.values())):
        assert np.abs(a["actor"] - b["actor"]).max() > 0.1


KEEPS_NASH: dict[str, Callable[[Any], Rule]] = {
    "simultaneous": simultaneous,
    "alternating": rules.alternating,
    "extragradient": rules.extragradient,
    "optimistic": lambda o: simultaneous(
        {name: optax.optimistic_gradient_descent(RATE) for name in o}
    ),
    "competitive": lambda o: rules.competitive(dict.fromkeys(o, RATE)),
    "follow_the_ridge": lambda o: rules.follow_the_ridge(o, "actor", "critic"),
    "lookahead": lambda o: rules.lookahead(rules.alternating(o), 5, 0.5),
    "consensus": lambda o: simultaneous(o, rules.consensus(0.3)),
    "symplectic": lambda o: simultaneous(o, rules.symplectic(0.3)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", KEEPS_NASH)
def test_lands_on_nash(name: str) -> None:
    end = land(quadratic(TWO), KEEPS_NASH[name](sgd(RATE, RATE)), STEPS)
    for player, expected in NASH.items():
        np.testing.assert_allclose(end[player], expected, atol=1e-8)


LEADING: dict[str, Callable[[str, str], rules.Direction]] = {
    "cg": lambda a, b: rules.implicit(a, b, "cg", 4),
    "gmres": lambda a, b: rules.implicit(a, b, "gmres", 4),
    "normal": lambda a, b: rules.implicit(a, b, "normal", 6),
    "neumann": lambda a, b: rules.implicit(a, b, "neumann", 80, rate=0.8),
    "warm": lambda a, b: rules.implicit(a, b, "cg", 1, warm_start=True),
    "single_loop": lambda a, b: rules.single_loop(a, b, rate=0.4),
    "unrolled": lambda a, b: rules.unrolled(a, b, steps=150),
}


@pytest.mark.long
@pytest.mark.parametrize("leader", ["actor", "critic"])
@pytest.mark.parametrize("name", LEADING)
def test_lands_on_stackelberg_whoever_leads(name: str, leader: str) -> None:
    follower = "critic" if leader == "actor" else "actor"
    rule = simultaneous(sgd(RATE, RATE), LEADING[name](leader, follower))
    end = land(quadratic(TWO), rule, STEPS)
    for player, expected in LEADS[leader].items():
        np.testing.assert_allclose(end[player], expected, atol=1e-7)


def parts(z: np.ndarray) -> dict[str, np.ndarray]:
    """F_x, F_y, f_x, f_y at z, and the blocks of the field's Jacobian."""
    x, y = TWO.block("actor"), TWO.block("critic")
    f, g = (TWO.hessians[name] @ z + TWO.slopes[name] for name in TWO.sizes)
    jacobian = field_jacobian(TWO)
    blocks = {"xy": jacobian[x, y], "yx": jacobian[y, x], "yy": jacobian[y, y]}
    return {"F_x": f[x], "F_y": f[y], "f_x": g[x], "f_y": g[y], **blocks}


def series(terms: int, rate: float) -> np.ndarray:
    inner = np.eye(3) - rate * parts(np.zeros(5))["yy"].T
    return rate * np.sum([np.linalg.matrix_power(inner, j) for j in range(terms)], axis=0)


def truncated(terms: int, rate: float) -> Callable[[np.ndarray], np.ndarray]:
    def of(z: np.ndarray) -> np.ndarray:
        p = parts(z)
        return np.r_[p["F_x"] - p["yx"].T @ series(terms, rate) @ p["F_y"], p["f_y"]]

    return of


def opponent_aware(rate: float, exact: bool) -> Callable[[np.ndarray], np.ndarray]:
    x, y = TWO.block("actor"), TWO.block("critic")

    def of(z: np.ndarray) -> np.ndarray:
        p = parts(z)
        x_ahead, y_ahead = z.copy(), z.copy()
        if exact:
            y_ahead[y] -= rate * p["f_y"]
            x_ahead[x] -= rate * p["F_x"]
        px, py = parts(y_ahead), parts(x_ahead)
        return np.r_[
            px["F_x"] - rate * p["yx"].T @ px["F_y"], py["f_y"] - rate * p["xy"].T @ py["f_x"]
        ]

    return of


BETWEEN: dict[str, tuple[Callable[[Any], Rule], Callable[[np.ndarray], np.ndarray]]] = {
    "unrolled": (
        lambda o: simultaneous(o, rules.unrolled("actor", "critic", 3)),
        truncated(3, RATE),
    ),
    "neumann": (
        lambda o: simultaneous(o, rules.implicit("actor", "critic", "neumann", 3, rate=RATE)),
        truncated(3, RATE),
    ),
    "finite_difference": (
        lambda o: simultaneous(o, rules.finite_difference("actor", "critic", RATE)),
        truncated(1, RATE),
    ),
    "lola": (lambda o: simultaneous(o, rules.lola(0.4)), opponent_aware(0.4, True)),
    "lola-taylor": (
        lambda o: simultaneous(o, rules.lola(0.4, exact=False)),
        opponent_aware(0.4, False),
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_lands_on_its_own_point(name: str) -> None:
    """Truncated and opponent-aware rules keep neither Nash nor Stackelberg points."""
    make, affine = BETWEEN[name]
    expected = root(affine, 5)
    end = land(quadratic(TWO), make(sgd(RATE, RATE)), STEPS)
    np.testing.assert_allclose(np.r_[end["actor"], end["critic"]], expected, atol=1e-7)
    for other in (NASH, LEADS["actor"]):
        assert np.abs(end["actor"] - other["actor"]).max() > 1e-3


THREE = general_sum({"a": 2, "b": 1, "c": 2}, seed=144, coupling=0.25)


@pytest.mark.long
@pytest.mark.parametrize(
    ("order", "direction"),
    [
        (("a", "b", "c"), lambda a, b, c: nested(
            rules.implicit(a, (b, c), "gmres", 3), rules.implicit(b, c, "cg", 2))),
        (("c", "a", "b"), lambda a, b, c: nested(
            rules.implicit(a, (b, c), "normal", 6), rules.implicit(b, c, "gmres", 2))),
        (("a", "b", "c"), lambda a, b, c: nested(
            rules.unrolled(a, (b, c), 120), rules.implicit(b, c, "cg", 2))),
        (("b", "c", "a"), lambda a, b, c: nested(
            rules.implicit(a, (b, c), "gmres", 3), rules.unrolled(b, c, 120))),
    ],
)  # fmt: skip
def test_a_chain_of_three_levels(order: tuple[str, ...], direction: Any) -> None:
    optimizers = sgd(RATE, RATE, RATE, players=order)
    end = land(quadratic(THREE), simultaneous(optimizers, direction(*order)), 250)
    expected = equilibrium(THREE, order)
    flat = [equilibrium(THREE, [order]), equilibrium(THREE, [order[0], order[1:]])]
    for player, point in expected.items():
        np.testing.assert_allclose(end[player], point, atol=1e-4)
    for other in flat:
        assert any(np.abs(other[p] - expected[p]).max() > 1e-2 for p in order), "a weak test"


@pytest.mark.long
def test_several_followers_respond_jointly() -> None:
    optimizers = sgd(RATE, RATE, RATE, players=("a", "b", "c"))
    direction = rules.implicit("a", ("b", "c"), "gmres", 3)
    end = land(quadratic(THREE), simultaneous(optimizers, direction), STEPS)
    for player, point in equilibrium(THREE, ["a", ("b", "c")]).items():
        np.testing.assert_allclose(end[player], point, atol=1e-7)


@pytest.mark.long
def test_competitive_with_three_players_solves_the_joint_system() -> None:
    rates = {"a": 0.1, "b": 0.3, "c": 0.2}
    rule = rules.competitive(rates, iterations=6)
    jacobian = field_jacobian(THREE)
    across = jacobian.copy()
    for name in rates:
        across[THREE.block(name), THREE.block(name)] = 0
    step = np.diag(np.repeat(list(rates.values()), list(THREE.sizes.values())))
    expected = np.eye(5) - np.linalg.solve(np.eye(5) + step @ across, step @ jacobian)
    found = matrix_of(rule, quadratic(THREE))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def saddle(xx: float, yy: float, xy: float) -> Quadratic:
    """Zero-sum F = ½ xx x² + xy·x y + ½ yy y², f = −F."""
    h = np.array([[xx, xy], [xy, yy]])
    return pair(h, -h)


def pair(h: Any, g: Any) -> Quadratic:
    """Two players of one number each, without slopes."""
    return Quadratic(
        {"actor": 1, "critic": 1},
        {"actor": np.asarray(h), "critic": np.asarray(g)},
        {"actor": np.zeros(2), "critic": np.zeros(2)},
    )


def radius(rule: Rule, spec: Quadratic) -> float:
    game = quadratic(spec, start=0.5)
    return float(np.abs(np.linalg.eigvals(matrix_of(rule, game))).max())


@pytest.mark.long
def test_follow_the_ridge_keeps_minimax_points_alone() -> None:
    """Wang et al.'s pair: g1 = −3x² − y² + 4xy, whose 0 is minimax; g2 = 3x² + y² + 4xy, no."""
    minimax, spurious = saddle(-6, -2, 4), saddle(6, 2, 4)
    o = sgd(0.05, 0.05)
    ridge = rules.follow_the_ridge(o, "actor", "critic", solver="gmres", iterations=2)
    assert radius(simultaneous(o), minimax) > 1.05, "gradients leave the minimax point"
    assert radius(ridge, minimax) < 0.95
    assert radius(simultaneous(o), spurious) < 0.99, "gradients settle where nothing is optimal"
    assert radius(ridge, spurious) > 1.05
    # the modes are those of the triangular form: 1 − η (F_xx − F_xy f_yy⁻¹ f_yx), 1 − η f_yy
    found = np.linalg.eigvals(matrix_of(ridge, quadratic(minimax)))
    assert eigenvalue_distance(found, np.array([1 - 0.05 * 2.0, 1 - 0.05 * 2.0])) < 1e-6
    # the implicit direction tells the two apart as well, and CG refuses the concave follower
    leads = simultaneous(o, rules.implicit("actor", "critic", iterations=2))
    assert radius(leads, minimax) < 0.95
    end = land(quadratic(spurious, start=0.5), leads, 1)
    assert np.isnan(end["actor"]).all()
    gmres = simultaneous(o, rules.implicit("actor", "critic", "gmres", 2))
    assert radius(gmres, spurious) > 1.05


@pytest.mark.long
def test_consensus_may_settle_on_a_maximum_and_symplectic_does_not() -> None:
    """F = f = −½(x² + y²): (I + γJᵀ)J = γ − 1, stable for γ > 1; A = 0 leaves the field be."""
    spec = pair(-np.eye(2), -np.eye(2))
    o = sgd(0.1, 0.1)
    assert radius(simultaneous(o, rules.consensus(2.0)), spec) == pytest.approx(0.9)
    assert radius(simultaneous(o, rules.consensus(0.5)), spec) == pytest.approx(1.05)
    assert radius(simultaneous(o, rules.symplectic(2.0)), spec) == pytest.approx(1.1)


@pytest.mark.long
def test_alignment_turns_toward_stable_points_and_away_from_unstable_ones() -> None:
    """J = ((ε, 10), (−10, ε)): stable for ε > 0, unstable for ε < 0 (Balduzzi et al. 2018)."""
    o = sgd(0.001, 0.001)
    for pull in (1.0, -1.0):
        h = np.array([[pull, 10.0], [10.0, 0.0]])
        g = np.array([[0.0, -10.0], [-10.0, pull]])
        spec = pair(h, g)
        jacobian = field_jacobian(spec)
        turn = 0.5 * (jacobian.T - jacobian)
        for align in (True, False):
            # the sign of ⟨v, Jᵀv⟩ ⟨Aᵀv, Jᵀv⟩ is that of ε everywhere
            sign = np.sign(pull) if align else 1.0
            expected = np.eye(2) - 0.001 * (jacobian + sign * turn @ jacobian)
            rule = simultaneous(o, rules.symplectic(1.0, align))
            found = matrix_of(rule, quadratic(spec, start=1.0))
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_two_time_scales_decide_convergence() -> None:
    """J = ((−1, 2), (−2, 3)) from F = −½x² + 2xy, f = ½·3y² − 2xy: stable only if y is faster."""
    spec = pair([[-1.0, 2.0], [2.0, 0.0]], [[0.0, -2.0], [-2.0, 3.0]])
    assert radius(simultaneous(sgd(0.01, 0.05)), spec) < 1
    assert radius(simultaneous(sgd(0.05, 0.01)), spec) > 1
