"""The single-loop direction, which solves its linear system while the game is trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field, select, with_metrics
from gacf.rules.linear_solve import relative_residual
from gacf.rules.response import (
    Followers,
    as_followers,
    leader_gradients,
    led_by,
    transposed_products,
)


def single_loop(
    leader: str,
    follower: Followers,
    rate: float | jax.Array = 0.1,
    damping: float | jax.Array = 0.0,
) -> Direction:
    """The implicit direction at the cost of one step on its linear system in each move.

        vector = F_x − f_yxᵀ u,   u ← u − ρ((f_yyᵀ + λI) u − F_y),   both at the same (x, y, u)

    u is kept between the moves. It starts at 0, where the vector is the partial derivative, and
    converges where |1 − ρμ| < 1 for all eigenvalues μ of f_yy + λI. The leader's metrics gain
    `residual`, ‖F_y − (f_yyᵀ + λI) u‖ / ‖F_y‖ for the u in the vector, which is that before the
    step. Cost: 3 gradients and one VJP, which yields both products.

    Args:
        leader: the player that differentiates through the response.
        follower: the player that responds, or several.
        rate: ρ > 0; may be traced.
        damping: λ >= 0; may be traced.

    Raises:
        ValueError: the game has no such player, or a number is out of bounds.

    Reference:
        Dagréou, Ablin, Vaiter & Moreau 2022 (SOBA).

    Example:
        >>> import gacf, optax
        >>> gacf.rules.player_step("x", optax.sgd(0.1), single_loop("x", "y")).players
        ('x',)
    """
    followers = as_followers("single_loop", leader, follower)
    require("single_loop: rate", rate, lambda n: n > 0, "a number > 0")
    require("single_loop: damping", damping, lambda n: n >= 0, "a number >= 0")

    def lead(field: Field, params: Params, memory: PyTree) -> tuple[PyTree, Outcome, PyTree]:
        partial, toward, outcome = leader_gradients(field, leader, followers, params)
        through, product = transposed_products(field, leader, followers, params)(memory)
        error = jax.tree.map(lambda a, u, b: a + damping * u - b, product, memory, toward)
        vector = optax.tree.sub(partial, through)
        moved = jax.tree.map(lambda u, e: (u - rate * e).astype(u.dtype), memory, error)
        residual = relative_residual(error, toward)
        return vector, with_metrics(outcome, residual=residual), moved

    def init(params: Params) -> PyTree:
        return jax.tree.map(jnp.zeros_like, select(params, followers))

    return led_by("single_loop", leader, followers, lead, init)
