"""The single-loop direction: the linear system is solved along with the game."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field
from gacf.rules.linear_solve import relative_residual
from gacf.rules.response import (
    Followers,
    directed,
    followers_field,
    leader_gradients,
    noted,
    only,
    pair,
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
    followers = pair("single_loop", leader, follower)
    require("single_loop: rate", rate, lambda n: n > 0, "a number > 0")
    require("single_loop: damping", damping, lambda n: n >= 0, "a number >= 0")

    def lead(
        field: Field,
        params: Params,
        memory: PyTree,
        optimizers: Mapping[str, optax.GradientTransformationExtraArgs],
        opt_state: Mapping[str, Any],
    ) -> tuple[PyTree, Outcome, PyTree]:
        del optimizers, opt_state
        partial, toward, outcome = leader_gradients(field, leader, followers, params)
        response = followers_field(field, leader, followers, params)
        _, pull = jax.vjp(response, params[leader], only(params, followers))
        through, product = pull(memory)
        product = field.kept(product)
        error = jax.tree.map(lambda a, u, b: a + damping * u - b, product, memory, toward)
        total = jax.tree.map(lambda f, g: f - g, partial, through)
        moved = jax.tree.map(lambda u, e: (u - rate * e).astype(u.dtype), memory, error)
        residual = relative_residual(error, toward)
        return total, noted(outcome, residual=residual), moved

    def init(params: Params) -> PyTree:
        return jax.tree.map(jnp.zeros_like, only(params, followers))

    return directed("single_loop", leader, followers, lead, init)
