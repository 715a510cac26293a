"""Solving A u = b over pytrees where A is a product with a game's Jacobian.

Every solver makes a fixed number of iterations, so that a step costs the same whatever the point
and one program serves all seeds. How far it came is `relative_residual`, ‖b − A u‖ / ‖b‖, measured
by one more product at the very u that is returned: what a solver's recurrences say of it would be 0
for an answer that was refused. None calls LAPACK, which can hang inside programs that run on
several host devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gacf.core.checks import lookup, require, whole
from gacf.core.types import PyTree

Map = Callable[[PyTree], PyTree]


class Operator(NamedTuple):
    """A linear map and its transpose, pytree -> pytree of the same structure.

    Attributes:
        forward: u -> A u.
        transposed: u -> Aᵀu; only the normal equations call it.
    """

    forward: Map
    transposed: Map


ASYMMETRY = 1e-2  # relative; far above the rounding of a float32 Jacobian product


def _over(a: jax.Array, b: jax.Array) -> jax.Array:
    """Quotient a / b, and 0 where b is 0: an iteration that has converged stands still."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _unfinished(rr: jax.Array, bb: jax.Array) -> jax.Array:
    return rr > jnp.square(jnp.finfo(bb.dtype).eps) * bb


def conjugate_gradient(a: Operator, b: jax.Array, iterations: int) -> jax.Array:
    """Conjugate gradients from 0; cost: one product an iteration.

    For symmetric positive definite A. Where it meets a direction of curvature pᵀAp ≤ 0, or two in
    which pᵀAq ≠ qᵀAp, the answer is NaN: its iterates would be no solution of anything.
    """
    bb = b @ b

    def step(carry: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        x, r, p, last_p, last_ap, sound = carry
        rr = r @ r
        active = _unfinished(rr, bb)
        ap = a.forward(p)
        curvature = p @ ap
        skew = jnp.abs(p @ last_ap - last_p @ ap)
        size = jnp.sqrt((p @ p) * (last_ap @ last_ap)) + jnp.sqrt((last_p @ last_p) * (ap @ ap))
        sound &= ~active | ((curvature > 0) & (skew <= ASYMMETRY * size))
        alpha = jnp.where(active, _over(rr, curvature), 0)
        x, r = x + alpha * p, r - alpha * ap
        beta = jnp.where(active, _over(r @ r, rr), 0)
        return (x, r, r + beta * p, p, ap, sound), None

    nothing = jnp.zeros_like(b)
    carry = (nothing, b, b, nothing, nothing, jnp.bool_(True))
    (x, _, _, _, _, sound), _ = jax.lax.scan(step, carry, length=iterations)
    return jnp.where(sound, x, jnp.nan)


def normal_equations(a: Operator, b: jax.Array, iterations: int) -> jax.Array:
    """Conjugate gradients on AᵀA u = Aᵀb; cost: two products an iteration.

    For any invertible A; the condition number is squared.
    """
    s = a.transposed(b)
    first = s @ s

    def step(carry: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        x, r, s, p = carry
        ss = s @ s
        active = _unfinished(ss, first)
        q = a.forward(p)
        alpha = jnp.where(active, _over(ss, q @ q), 0)
        x, r = x + alpha * p, r - alpha * q
        s = a.transposed(r)
        return (x, r, s, s + jnp.where(active, _over(s @ s, ss), 0) * p), None

    (x, _, _, _), _ = jax.lax.scan(step, (jnp.zeros_like(b), b, s, s), length=iterations)
    return x


def gmres(a: Operator, b: jax.Array, iterations: int) -> jax.Array:
    """Generalised minimal residuals; cost: one product an iteration, memory iterations × d.

    For any invertible A. Arnoldi's basis by modified Gram-Schmidt, the small least-squares
    problem by Givens rotations.

    Reference:
        Saad & Schultz 1986.
    """
    m = iterations
    eps = jnp.finfo(b.dtype).eps
    size = jnp.linalg.norm(b)
    basis = jnp.zeros((m + 1, b.size), b.dtype).at[0].set(_over(b, size))

    def arnoldi(basis: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        w = a.forward(basis[k])
        before = jnp.linalg.norm(w)

        def orthogonal(w: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = v @ w
            return w - h * v, h

        w, column = jax.lax.scan(orthogonal, w, basis)
        w, again = jax.lax.scan(orthogonal, w, basis)
        after = jnp.linalg.norm(w)
        # the Krylov space is exhausted: a normalised rounding error is no direction
        after = jnp.where(after > 10 * eps * before, after, 0)
        column = (column + again).at[k + 1].set(after)
        return basis.at[k + 1].set(_over(w, after)), column

    basis, columns = jax.lax.scan(arnoldi, basis, jnp.arange(m))

    def rotate(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        h, g = carry
        radius = jnp.hypot(h[k, k], h[k + 1, k])
        c = jnp.where(radius == 0, 1, _over(h[k, k], radius))
        s = _over(h[k + 1, k], radius)
        h = h.at[k].set(c * h[k] + s * h[k + 1]).at[k + 1].set(c * h[k + 1] - s * h[k])
        return h, g.at[k].set(c * g[k] + s * g[k + 1]).at[k + 1].set(c * g[k + 1] - s * g[k])

    g = jnp.zeros(m + 1, b.dtype).at[0].set(size)
    h, g = jax.lax.fori_loop(0, m, rotate, (columns.T, g))
    smallest = 10 * eps * jnp.max(jnp.abs(h))

    def substitute(j: jax.Array, y: jax.Array) -> jax.Array:
        k = m - 1 - j
        pivot = jnp.where(jnp.abs(h[k, k]) > smallest, h[k, k], 0)
        return y.at[k].set(_over(g[k] - h[k] @ y, pivot))

    y = jax.lax.fori_loop(0, m, substitute, jnp.zeros(m, b.dtype))
    return y @ basis[:-1]


def neumann(a: Operator, b: jax.Array, iterations: int, rate: float | jax.Array) -> jax.Array:
    """The Neumann series with K terms, u = α Σ_{j<K} (I − αA)ʲ b; cost: one product a term.

    By Richardson's iteration u ← u + α(b − A u) from 0; it converges where the eigenvalues of
    I − αA are inside the unit circle.
    """

    def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x + rate * (b - a.forward(x)), None

    x, _ = jax.lax.scan(step, rate * b, length=iterations - 1)
    return x


def relative_residual(error: PyTree, right: PyTree) -> jax.Array:
    """‖error‖ / ‖right‖ of a linear system's error b − A u and its right-hand side b.

    It is 0 where both are, and infinite where b alone is 0; NaN or infinite where the error is. It
    neither overflows nor vanishes with the size of b, and carries no derivative.
    """
    error, right = (ravel_pytree(jax.lax.stop_gradient(tree))[0] for tree in (error, right))
    size = jnp.max(jnp.abs(right), initial=0)
    unit = jnp.where(size == 0, 1, size)
    missing = jnp.linalg.norm(error / unit)
    ratio = missing / jnp.where(size == 0, 1, jnp.linalg.norm(right / unit))
    return jnp.where((size == 0) & (missing != 0) & ~jnp.isnan(missing), jnp.inf, ratio)


SOLVERS = {"cg": conjugate_gradient, "gmres": gmres, "neumann": neumann, "normal": normal_equations}


def check_solver(where: str, solver: str, iterations: int) -> None:
    """Raises a ValueError unless the solver exists and `iterations` is a whole number >= 1."""
    lookup(f"{where}: solver", solver, SOLVERS)
    require(f"{where}: iterations", iterations, whole, "a whole number >= 1")


def solve(
    operator: Operator,
    b: PyTree,
    solver: str,
    iterations: int,
    damping: float | jax.Array = 0.0,
    rate: float | jax.Array = 1.0,
    start: PyTree = None,
) -> tuple[PyTree, jax.Array]:
    """Solves (A + λI) u = b.

    The solution may be differentiated: its derivative is another solve by the same method
    (`neumann`: the derivative of the truncated series).

    Args:
        operator: A and its transpose.
        b: right-hand side.
        solver: one of `SOLVERS`.
        iterations: how many, static.
        damping: λ >= 0; may be traced.
        rate: α of `neumann`.
        start: where to start; 0 by default.

    Returns:
        u, and its `relative_residual` ‖b − (A + λI) u‖ / ‖b‖.
    """
    flat, unravel = ravel_pytree(b)

    def damped(linear: Map) -> Callable[[jax.Array], jax.Array]:
        return lambda u: ravel_pytree(linear(unravel(u)))[0].astype(u.dtype) + damping * u

    maps = Operator(damped(operator.forward), damped(operator.transposed))
    first = jnp.zeros_like(flat)
    missing = flat
    if start is not None:
        first = ravel_pytree(start)[0].astype(flat.dtype)
        missing = flat - maps.forward(first)

    def by(a: Operator) -> Callable[[Callable[[jax.Array], jax.Array], jax.Array], jax.Array]:
        return lambda _, b: SOLVERS[solver](a, b, iterations)

    if solver == "neumann":
        more = neumann(maps, missing, iterations, rate)
    else:
        more = jax.lax.custom_linear_solve(
            maps.forward,
            missing,
            solve=by(maps),
            transpose_solve=by(Operator(maps.transposed, maps.forward)),
        )
    u = unravel(first + more)
    product = operator.forward(u)  # the compiler merges it with the caller's own product with u
    error = jax.tree.map(lambda b, a, u: b - a - damping * u, b, product, u)
    return u, relative_residual(error, b)
