"""The direction of DARTS, whose second-order term is a finite difference."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field, select
from gacf.rules.response import (
    Followers,
    as_followers,
    followers_field,
    leader_gradients,
    led_by,
)


def finite_difference(
    leader: str,
    follower: Followers,
    rate: float | jax.Array = 0.1,
    epsilon: float | jax.Array = 0.01,
) -> Direction:
    """The leader's derivative through one gradient step of the followers, without any HVP.

        vector = F_x(x, y') − ξ (∂_x f(y + εu) − ∂_x f(y − εu)) / 2ε
        y' = y − ξ f_y(x, y),   u = F_y(x, y'),   ε = epsilon / ‖u‖

    f is shifted only in its own slot, so the quotient approximates f_yxᵀ u for the field f_y. Its
    error is O(epsilon²); in float32, rounding adds about 1e-7 / epsilon. Each follower has a step
    and a shift of its own. Cost: one gradient of the leader and three of each follower.

    Args:
        leader: the player that differentiates through the step.
        follower: the player that responds, or several.
        rate: ξ >= 0, the followers' step size; may be traced. 0 is the first-order variant.
        epsilon: the shift's length; may be traced.

    Raises:
        ValueError: the game has no such player, or a number is out of bounds.

    Reference:
        Liu, Simonyan & Yang 2019 (DARTS).

    Example:
        >>> import gacf, optax
        >>> step = gacf.rules.player_step
        >>> step("actor", optax.sgd(0.1), finite_difference("actor", "critic", rate=0.1)).players
        ('actor',)
    """
    followers = as_followers("finite_difference", leader, follower)
    require("finite_difference: rate", rate, lambda n: n >= 0, "a number >= 0")
    require("finite_difference: epsilon", epsilon, lambda n: n > 0, "a number > 0")

    def lead(field: Field, params: Params, memory: PyTree) -> tuple[PyTree, Outcome, PyTree]:
        def shifted(others: Params, by: Params, scale: Any) -> Params:
            return jax.tree.map(lambda y, v: (y + scale * v).astype(y.dtype), others, by)

        here = select(params, followers)
        change = followers_field(field, leader, followers, params)(params[leader], here)
        ahead = {**params, **shifted(here, change, -rate)}
        vector, toward, outcome = leader_gradients(field, leader, followers, ahead)
        size = optax.tree.norm(toward)
        shift = epsilon / jnp.where(size > 0, size, 1)

        def slope(own: PyTree, sign: float) -> Any:
            moved = shifted(here, toward, sign * shift)
            at = {**params, leader: own}
            return sum(field.loss(name, moved[name], at)[0] for name in followers)

        above = jax.grad(slope)(params[leader], 1.0)
        below = jax.grad(slope)(params[leader], -1.0)
        vector = jax.tree.map(
            lambda f, a, b: (f - rate * (a - b) / (2 * shift)).astype(f.dtype), vector, above, below
        )
        return vector, outcome, memory

    return led_by("finite_difference", leader, followers, lead)
