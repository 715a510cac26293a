"""The single-loop direction: the linear system is solved along with the game."""

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
    """The implicit direction with one step on its linear system a move, u kept in between.

        vector = F_x − f_yxᵀ u,   u ← u − ρ((f_yyᵀ + λI) u − F_y),   both at the same (x, y, u)

    The leader's metrics gain `residual`, ‖F_y − (f_yyᵀ + λI) u‖ / ‖F_y‖, of the u in the vector,
    which is that before the step.
    Cost: 3 gradients and one VJP that yields both products. u converges where
    |1 − ρμ| < 1 for the eigenvalues μ of f_yy + λI; it starts at 0, as the partial derivative.

    Args:
        leader: who differentiates through the response.
        follower: who responds, one player or several.
        rate: ρ > 0; may be traced.
        damping: λ >= 0; may be traced.

    Raises:
        ValueError: a player that is none, or a number out of bounds.

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
        moved = jax.tree.map(lambda u, e: (u - rate * e).astype(u.dtype), memory, error)
        residual = relative_residual(error, toward)
        vector = optax.tree.sub(partial, through)
        return vector, with_metrics(outcome, residual=residual), moved

    def init(params: Params) -> PyTree:
        return jax.tree.map(jnp.zeros_like, select(params, followers))

    return led_by("single_loop", leader, followers, lead, init)
