"""Solving A u = b over pytrees where A is a product with a game's Jacobian.

Every solver makes a fixed number of iterations, so that a step costs the same at every point and
one program serves all seeds. `relative_residual`, ‖b − A u‖ / ‖b‖, says how well the system was
solved. It is measured by one more product at the u that is returned, because the recurrences of a
solver could report 0 for a solution that it replaces by NaN. No solver calls LAPACK, which can hang
inside programs that run on several host devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gacf.core.checks import lookup, require, shown, whole
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
    """Quotient a / b, and 0 where b is 0, so that an iteration that has converged stands still."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _unfinished(rr: jax.Array, bb: jax.Array) -> jax.Array:
    return rr > jnp.square(jnp.finfo(bb.dtype).eps) * bb


_ALLOWED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "iterations": (whole, "a whole number >= 1"),
    "damping": (lambda n: n >= 0, "a number >= 0"),
    "rate": (lambda n: n > 0, "a number > 0"),
}


def check_settings(where: str, settings: Mapping[str, Any]) -> None:
    """Raises a ValueError if a solver's setting is out of bounds."""
    for name, value in settings.items():
        if name in _ALLOWED:
            require(f"{where}: {name}", value, *_ALLOWED[name])


@dataclasses.dataclass(frozen=True, eq=False)
class Solver:
    """How a system (A + λI) u = b is solved: the base of `CG`, `GMRES`, `Normal` and `Neumann`.

    To add a solver of your own, write a subclass with its own `approximate`.

    Attributes:
        iterations: the number of iterations, static.
        damping: λ >= 0; may be traced.
        symmetric: whether it is right only for symmetric A.

    Raises:
        ValueError: a number is out of bounds.
    """

    iterations: int = 10
    damping: float | jax.Array = 0.0
    symmetric: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settings = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        check_settings(type(self).__name__, settings)

    def approximate(self, a: Operator, b: jax.Array) -> jax.Array:
        """An approximate solution of A u = b from u = 0, where b is a vector."""
        raise NotImplementedError

    def differentiable(self, a: Operator, b: jax.Array) -> jax.Array:
        """The same, whose derivative is another solve by the same method."""

        def by(a: Operator) -> Callable[[Any, jax.Array], jax.Array]:
            return lambda _, b: self.approximate(a, b)

        return jax.lax.custom_linear_solve(
            a.forward, b, solve=by(a), transpose_solve=by(Operator(a.transposed, a.forward))
        )


class CG(Solver):
    """Conjugate gradients from 0, for symmetric positive definite A + λI.

    Where it meets a direction of curvature pᵀAp ≤ 0, or two in which pᵀAq ≠ qᵀAp, the answer is
    NaN: its iterates would solve nothing and would look like a solution. Cost: one product an
    iteration.

    Example:
        >>> import gacf
        >>> gacf.rules.implicit("x", "y", CG(iterations=5, damping=0.1)).init("x", {})
        ()
    """

    symmetric = True

    def approximate(self, a: Operator, b: jax.Array) -> jax.Array:
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
        (x, _, _, _, _, sound), _ = jax.lax.scan(step, carry, length=self.iterations)
        return jnp.where(sound, x, jnp.nan)


class Normal(Solver):
    """Conjugate gradients on the normal equations AᵀA u = Aᵀb, for every invertible A + λI.

    Cost: two products an iteration, and the condition number is squared.
    """

    def approximate(self, a: Operator, b: jax.Array) -> jax.Array:
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

        (x, _, _, _), _ = jax.lax.scan(step, (jnp.zeros_like(b), b, s, s), length=self.iterations)
        return x


class GMRES(Solver):
    """Generalised minimal residuals, for every invertible A + λI.

    Arnoldi's basis by modified Gram-Schmidt, the small least-squares problem by Givens rotations.
    Cost: one product an iteration, and memory for iterations × d numbers.

    Reference:
        Saad & Schultz 1986.
    """

    def approximate(self, a: Operator, b: jax.Array) -> jax.Array:
        m = self.iterations
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


@dataclasses.dataclass(frozen=True, eq=False)
class Neumann(Solver):
    """The Neumann series with K = `iterations` terms, u = α Σ_{j<K} (I − α(A + λI))ʲ b.

    It is summed by Richardson's iteration u ← u + α(b − (A + λI) u) from 0, and converges where the
    eigenvalues of I − α(A + λI) lie inside the unit circle. Its derivative is that of the truncated
    series. Cost: one product a term.

    Attributes:
        rate: α > 0; may be traced.
    """

    rate: float | jax.Array = 1.0

    def approximate(self, a: Operator, b: jax.Array) -> jax.Array:
        def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return x + self.rate * (b - a.forward(x)), None

        x, _ = jax.lax.scan(step, self.rate * b, length=self.iterations - 1)
        return x

    def differentiable(self, a: Operator, b: jax.Array) -> jax.Array:
        return self.approximate(a, b)


def relative_residual(error: PyTree, right: PyTree) -> jax.Array:
    """‖error‖ / ‖right‖ of a linear system's error b − A u and its right-hand side b.

    It is 0 where both are 0, infinite where b alone is 0, and NaN or infinite where the error is.
    It neither overflows nor vanishes with the size of b, and carries no derivative.
    """
    error, right = (ravel_pytree(jax.lax.stop_gradient(tree))[0] for tree in (error, right))
    size = jnp.max(jnp.abs(right), initial=0)
    unit = jnp.where(size == 0, 1, size)
    missing = jnp.linalg.norm(error / unit)
    ratio = missing / jnp.where(size == 0, 1, jnp.linalg.norm(right / unit))
    return jnp.where((size == 0) & (missing != 0) & ~jnp.isnan(missing), jnp.inf, ratio)


SOLVERS: dict[str, type[Solver]] = {"cg": CG, "gmres": GMRES, "neumann": Neumann, "normal": Normal}


def as_solver(
    where: str,
    solver: Solver | str,
    iterations: int | None = None,
    damping: float | jax.Array | None = None,
    rate: float | jax.Array | None = None,
) -> Solver:
    """The solver that a rule's arguments describe.

    Args:
        where: the rule's name, for error messages.
        solver: a solver object, or one of the names in `SOLVERS`.
        iterations: the named solver's iterations; None for its own default.
        damping: the named solver's damping; None for its own default.
        rate: the rate of `neumann`; the other solvers have none.

    Raises:
        ValueError: the solver is unknown, a number is out of bounds, or settings are given with a
            solver object, which holds its own.
    """
    settings = {"iterations": iterations, "damping": damping, "rate": rate}
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(solver, Solver):
        for name, value in given.items():
            raise ValueError(
                f"{where}: {name}: {shown(value)} was given with a solver object; allowed: "
                f"settings of its own, as in {type(solver).__name__}({name}=…)"
            )
        return solver
    if not isinstance(solver, str):
        raise ValueError(
            f"{where}: solver: {shown(solver)} was given; allowed: {', '.join(SOLVERS)}, or a "
            "solver object, such as gacf.rules.CG(iterations=10)"
        )
    kind = lookup(f"{where}: solver", solver, SOLVERS)
    check_settings(where, given)
    fields = {each.name for each in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in given.items() if name in fields})


def solve(
    solver: Solver, operator: Operator, b: PyTree, start: PyTree = None
) -> tuple[PyTree, jax.Array]:
    """Solves (A + λI) u = b.

    The solution may be differentiated: its derivative is another solve by the same method
    (`Neumann`: the derivative of the truncated series).

    Args:
        solver: the method and its settings, λ among them.
        operator: A and its transpose.
        b: right-hand side.
        start: where to start; 0 by default.

    Returns:
        u, and its `relative_residual` ‖b − (A + λI) u‖ / ‖b‖.
    """
    flat, unravel = ravel_pytree(b)
    damping = solver.damping

    def damped(linear: Map) -> Callable[[jax.Array], jax.Array]:
        return lambda u: ravel_pytree(linear(unravel(u)))[0].astype(u.dtype) + damping * u

    maps = Operator(damped(operator.forward), damped(operator.transposed))
    first = jnp.zeros_like(flat)
    missing = flat
    if start is not None:
        first = ravel_pytree(start)[0].astype(flat.dtype)
        missing = flat - maps.forward(first)
    u = unravel(first + solver.differentiable(maps, missing))
    product = operator.forward(u)  # the compiler merges it with the caller's own product with u
    error = jax.tree.map(lambda b, a, u: b - a - damping * u, b, product, u)
    return u, relative_residual(error, b)
