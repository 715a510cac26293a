"""The implicit direction: a leader that differentiates through its followers' best response."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field, select, with_metrics
from gacf.rules.linear_solve import Operator, Solver, as_solver, solve
from gacf.rules.response import (
    Followers,
    as_followers,
    followers_field,
    leader_gradients,
    led_by,
    transposed_products,
)


def implicit(
    leader: str,
    follower: Followers,
    solver: Solver | str = "cg",
    iterations: int | None = None,
    damping: float | jax.Array | None = None,
    rate: float | jax.Array | None = None,
    warm_start: bool = False,
) -> Direction:
    """The leader's total derivative (Stackelberg gradient); followers take their own gradients.

        DF = F_x − f_yxᵀ u,   (f_yyᵀ + λI) u = F_y,   so DF = d/dx F(x, y*(x)) where f_y = 0, λ = 0

    The leader's metrics gain `residual`, the relative size of F_y − (f_yyᵀ + λI) u. Products with
    the field's Jacobian are VJPs and JVPs. Cost: 3 gradients and (iterations + 1) VJPs; `normal`
    needs twice the products, and a warm start one more.

    Which solver to take: `cg` is right where f_yy is symmetric and positive definite, as the
    Hessian of a convex loss is (and, with enough damping, that of any loss whose target does not
    depend on the follower). Where it meets negative curvature or asymmetry it answers NaN, which
    flags the run as diverged, because a wrong solution would look like a right one. `gmres` and
    `normal` are right for every invertible Jacobian: that of a TD critic is not symmetric, and that
    of a discriminator may be indefinite. `neumann` is the truncated series
    u = α Σ_{j<K} (I − α(f_yyᵀ + λI))ʲ F_y with K = `iterations`, which at the follower's optimum
    equals K unrolled gradient steps. It diverges where |1 − αμ| > 1 for an eigenvalue μ; then
    `residual` grows beyond 1.

    Args:
        leader: the player that differentiates through the response.
        follower: the player that responds, or several, which respond jointly.
        solver: `cg`, `gmres`, `neumann`, `normal` (normal equations), or a solver object such as
            `GMRES(iterations=5, damping=1.0)`, which holds the next three settings itself.
        iterations: the number of the named solver's iterations, static; 10 by default.
        damping: λ >= 0 of the named solver, 0 by default; may be traced.
        rate: α of `neumann`, 1 by default; may be traced.
        warm_start: whether to start from the u of the last step, kept in the direction's memory.

    Raises:
        ValueError: the game has no such player, the solver is unknown, a number is out of bounds,
            or settings are given with a solver object.

    Reference:
        Fiez, Chasnov & Ratliff 2020 (Stackelberg gradient); Lorraine, Vicol & Duvenaud 2020
        (Neumann); Pfau & Vinyals 2016, section 2 (the bilevel problem).

    Example:
        >>> import gacf, jax, optax
        >>> game = gacf.from_losses(
        ...     {"x": 1.0, "y": 0.0},
        ...     {"x": lambda p, batch, key: (p["y"] - 2) ** 2,
        ...      "y": lambda p, batch, key: (p["y"] - p["x"]) ** 2})
        >>> rule = gacf.rules.simultaneous(
        ...     {"x": optax.sgd(0.1), "y": optax.sgd(0.4)}, implicit("x", "y"))
        >>> state, _ = gacf.run(gacf.compose(game, rule), jax.random.key(0), 100)
        >>> round(float(state.params["x"][0]), 3)
        2.0
    """
    followers = as_followers("implicit", leader, follower)
    method = as_solver("implicit", solver, iterations, damping, rate)

    def lead(field: Field, params: Params, memory: PyTree) -> tuple[PyTree, Outcome, PyTree]:
        partial, toward, outcome = leader_gradients(field, leader, followers, params)
        products = transposed_products(field, leader, followers, params)
        response = followers_field(field, leader, followers, params)
        own, others = params[leader], select(params, followers)
        _, push = jax.linearize(lambda others: response(own, others), others)
        operator = Operator(lambda u: products(u)[1], push)
        u, residual = solve(method, operator, toward, memory if warm_start else None)
        vector = optax.tree.sub(partial, products(u)[0])
        return vector, with_metrics(outcome, residual=residual), u if warm_start else memory

    def init(params: Params) -> PyTree:
        return jax.tree.map(jnp.zeros_like, select(params, followers)) if warm_start else ()

    return led_by("implicit", leader, followers, lead, init)
