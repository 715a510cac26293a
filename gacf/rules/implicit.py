"""The implicit direction: a leader that differentiates through the best response."""

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
    """The leader's total derivative (Stackelberg gradient); the followers' own gradients.

        DF = F_x − f_yxᵀ u,   (f_yyᵀ + λI) u = F_y,   so DF = d/dx F(x, y*(x)) where f_y = 0, λ = 0

    The leader's metrics gain `residual`, the relative ‖F_y − (f_yyᵀ + λI) u‖. Products with the
    field's Jacobian are VJPs and JVPs. Cost: 3 gradients and (iterations + 1) VJPs; `normal`
    twice the products, a warm start one more.

    Which solver: `cg` where f_yy is symmetric and positive definite, as the Hessian of a convex
    loss (with enough damping, of any loss that reads its target elsewhere). It answers NaN, and so
    flags the run as diverged, where it meets negative curvature or asymmetry: a wrong solution
    would look like a right one. `gmres` and `normal` are right for every invertible Jacobian: a TD
    critic's is not symmetric, a discriminator's may be indefinite. `neumann` is the truncated
    series u = α Σ_{j<K} (I − α(f_yyᵀ + λI))ʲ F_y, K = `iterations`: at the follower's optimum
    that is K unrolled gradient steps. It diverges where |1 − αμ| > 1 for an eigenvalue μ, and then
    `residual` grows beyond 1.

    Args:
        leader: who differentiates through the response.
        follower: who responds, one player or several that respond jointly.
        solver: `cg`, `gmres`, `neumann` or `normal` (normal equations).
        iterations: of the solver, static.
        damping: λ >= 0; may be traced.
        rate: α of `neumann`; may be traced.
        warm_start: start from the last step's u, kept in the direction's memory.

    Raises:
        ValueError: a player that is none, an unknown solver, or a number out of bounds.

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
