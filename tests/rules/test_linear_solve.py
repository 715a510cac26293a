"""Every solver on matrices whose answer is known, and on those that it must refuse."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gacf.rules.linear_solve import CG, SOLVERS, Operator, as_solver, relative_residual, solve

pytestmark = pytest.mark.usefixtures("x64")

RANDOM = np.random.default_rng(0)
ROTATION = np.linalg.qr(RANDOM.normal(size=(6, 6)))[0]
MATRICES = {
    "definite": ROTATION @ np.diag([1, 1.2, 1.5, 0.5, 0.8, 1.9]) @ ROTATION.T,
    "indefinite": ROTATION @ np.diag([1, -1.2, 1.5, -0.5, 0.8, 2]) @ ROTATION.T,
    "nonsymmetric": np.eye(6) * 1.5 + 0.5 * RANDOM.normal(size=(6, 6)),
    "skew": np.kron(np.eye(3), np.array([[0.0, 1.3], [-1.3, 0.0]])),
    "negative": -np.eye(6),
}
RIGHT = {"w": RANDOM.normal(size=(2, 2)), "b": RANDOM.normal(size=2)}
# CG refuses what it would solve wrongly; the series diverges, and its residual says so
REFUSES = {"cg": {"indefinite", "nonsymmetric", "skew", "negative"}}
DIVERGES = {"indefinite", "skew", "negative"}


def operator(matrix: Any) -> Operator:
    a = jnp.asarray(matrix)

    def by(a: jax.Array) -> Any:
        def product(tree: Any) -> Any:
            flat = a @ jnp.concatenate([tree["b"], tree["w"].ravel()])
            return {"b": flat[:2], "w": flat[2:].reshape(2, 2)}

        return product

    return Operator(by(a), by(a.T))


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(tree["b"]), np.asarray(tree["w"]).ravel()])


@pytest.mark.long
@pytest.mark.parametrize("solver", SOLVERS)
def test_right_or_refused_never_silently_wrong(solver: str) -> None:
    """All matrices and two dampings in one vmapped program."""
    iterations = 100 if solver == "neumann" else 8

    def one(matrix: jax.Array, damping: jax.Array) -> Any:
        method = as_solver("test", solver, iterations, damping, rate=0.5)
        return solve(method, operator(matrix), RIGHT)

    stacked = jnp.asarray(np.stack(list(MATRICES.values())))
    many = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    dampings = np.array([0.0, 0.3])
    found, residual = many(stacked, jnp.asarray(dampings))
    for i, (name, matrix) in enumerate(MATRICES.items()):
        for j, damping in enumerate(dampings):
            got = flat(jax.tree.map(lambda x, i=i, j=j: x[i, j], found))
            damped = matrix + damping * np.eye(6)
            if name in REFUSES.get(solver, ()):
                assert np.isnan(got).all(), name
                assert np.isnan(residual[i, j]), "a refused system is not solved"
            elif solver == "neumann" and name in DIVERGES:
                assert residual[i, j] > 1, name
            else:
                np.testing.assert_allclose(got, np.linalg.solve(damped, flat(RIGHT)), rtol=1e-7)
                assert residual[i, j] < 1e-8


@pytest.mark.long
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_residual_is_the_residual_and_a_start_counts(solver: str) -> None:
    matrix = MATRICES["definite"]
    right = flat(RIGHT)
    start = {"b": jnp.ones(2), "w": jnp.full((2, 2), -0.5)}
    zero = jax.tree.map(jnp.zeros_like, RIGHT)

    @jax.jit
    def from_there(begin: Any, damping: float) -> Any:
        method = as_solver("test", solver, 2, damping, rate=0.4)
        return solve(method, operator(matrix), RIGHT, start=begin)

    for begin in (zero, start):
        found, residual = from_there(begin, 0.1)
        missing = right - (matrix + 0.1 * np.eye(6)) @ flat(found)
        expected = np.linalg.norm(missing) / np.linalg.norm(right)
        assert 1e-3 < expected < 1, "two iterations do not solve it"
        assert float(residual) == pytest.approx(expected, rel=1e-9)
    exact = np.linalg.solve(matrix, right)
    there = {"b": jnp.asarray(exact[:2]), "w": jnp.asarray(exact[2:].reshape(2, 2))}
    found, residual = from_there(there, 0.0)
    np.testing.assert_allclose(flat(found), exact, rtol=1e-12)
    assert float(residual) < 1e-12


@pytest.mark.parametrize("solver", SOLVERS)
def test_nothing_to_solve_gives_nothing(solver: str) -> None:
    nothing = jax.tree.map(np.zeros_like, RIGHT)
    method = as_solver("test", solver, 3)
    found, residual = jax.jit(lambda b: solve(method, operator(np.eye(6)), b))(nothing)
    assert not flat(found).any()
    assert float(residual) == 0


@pytest.mark.long
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_solution_may_be_differentiated(solver: str) -> None:
    """d/dt (A + tB)⁻¹ b = −A⁻¹BA⁻¹b, forwards and backwards."""
    matrix, change = MATRICES["definite"], 0.1 * MATRICES["nonsymmetric"]
    change = change + change.T if solver == "cg" else change

    def first(t: jax.Array) -> jax.Array:
        method = as_solver("test", solver, 60, rate=0.5)
        found, _ = solve(method, operator(matrix + t * change), RIGHT)
        return found["b"][0]

    inverse = np.linalg.inv(matrix)
    expected = (-inverse @ change @ inverse @ flat(RIGHT))[0]
    both = jax.jit(lambda t: (jax.jvp(first, (t,), (1.0,))[1], jax.grad(first)(t)))
    for derivative in both(0.0):
        assert float(derivative) == pytest.approx(expected, rel=1e-6)


@pytest.mark.long
def test_float32_curvature_of_rounding_size_is_not_refused() -> None:
    """A definite system of condition 100 in float32, far beyond convergence."""
    with jax.enable_x64(False):
        spread = ROTATION @ np.diag(np.geomspace(0.01, 1, 6)) @ ROTATION.T
        a = jnp.asarray(spread, jnp.float32)
        right = jnp.ones(6, jnp.float32)
        symmetric = Operator(lambda u: a @ u, lambda u: a @ u)
        found, residual = solve(CG(iterations=40), symmetric, right)
        assert float(residual) < 1e-5
        np.testing.assert_allclose(found, np.linalg.solve(spread, np.ones(6)), rtol=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_residual_never_says_solved_of_what_is_not(solver: str) -> None:
    """Singular and overflowing systems, and a right-hand side too small for its own square."""
    with jax.enable_x64(False):
        right = jnp.array([1.0, 2.0, -1.0], jnp.float32)
        method = as_solver("test", solver, 4)
        one = jax.jit(lambda a, b: solve(method, Operator(lambda u: a @ u, lambda u: a.T @ u), b))
        cases = {
            "singular": (jnp.diag(jnp.array([1.0, 1.0, 0.0], jnp.float32)), right),
            "zero": (jnp.zeros((3, 3), jnp.float32), right),
            "overflow": (jnp.eye(3, dtype=jnp.float32) * 1e30, right),
            "tiny": (2 * jnp.eye(3, dtype=jnp.float32), right * 1e-30),
            "nan": (jnp.eye(3, dtype=jnp.float32), right * jnp.nan),
            "infinite": (jnp.eye(3, dtype=jnp.float32), right * jnp.inf),
        }
        for name, (a, b) in cases.items():
            found, residual = one(a, b)
            exact, wide = np.asarray(a, float), np.asarray(b, float)
            with np.errstate(all="ignore"):
                missing = np.linalg.norm(wide - exact @ np.asarray(found, float))
                expected = missing / np.linalg.norm(wide)
            if np.isfinite(expected):
                assert float(residual) == pytest.approx(expected, rel=1e-4, abs=1e-6), name
            else:
                assert not np.isfinite(residual), name


@pytest.mark.long
def test_the_residual_of_nothing_to_solve() -> None:
    nothing, something = {"w": jnp.zeros(3)}, {"w": jnp.array([0.0, 3.0, 4.0])}
    assert float(relative_residual(nothing, nothing)) == 0
    assert float(relative_residual(something, nothing)) == np.inf
    assert float(relative_residual(something, {"w": jnp.array([10.0, 0.0, 0.0])})) == 0.5
    unknown = {"w": jnp.array([jnp.nan, 1.0, 1.0])}
    for error, right in ((unknown, nothing), (nothing, unknown), (unknown, something)):
        assert np.isnan(relative_residual(error, right))
