"""Opponent-learning awareness: every player differentiates through the others' next step."""

from __future__ import annotations

import jax

from gacf.core.checks import require
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field, differentiate, select
from gacf.rules.response import followers_field, leader_gradients


def lola(rate: float | jax.Array = 1.0, exact: bool = True) -> Direction:
    """Each player's gradient through one naive step of all others.

        exact    d/dx F(x, y − α f_y(x, y))
        Taylor   F_x − α f_yxᵀ F_y                     (`exact=False`)

    The exact form differentiates through the step itself, so F_x too is taken at the point that the
    step reaches. The Taylor form is that of the first paper, which takes F_x at y. Cost for each
    player: a gradient of its own, one of each other player, and one VJP through the steps.

    Args:
        rate: α, the others' step size as each player imagines it; may be traced.
        exact: whether to use the exact form or the Taylor form.

    Raises:
        ValueError: the rate is negative.

    Reference:
        Foerster et al. 2018 (Taylor); the exact form is what Letcher et al. 2019 expand.

    Example:
        >>> import gacf, optax
        >>> optimizers = {"x": optax.sgd(0.1), "y": optax.sgd(0.1)}
        >>> gacf.rules.simultaneous(optimizers, lola(0.4)).players
        ('x', 'y')
    """
    require("lola: rate", rate, lambda n: n >= 0, "a number >= 0")

    def follow(
        field: Field, player: str, params: Params, memory: PyTree
    ) -> tuple[PyTree, Outcome, PyTree]:
        others = tuple(name for name in field.players if name != player)
        response = followers_field(field, player, others, params)
        here = select(params, others)

        def stepped(own: PyTree) -> Params:
            change = response(own, here)
            return jax.tree.map(lambda y, v: (y - rate * v).astype(y.dtype), here, change)

        if exact:

            def ahead(own: PyTree) -> tuple[jax.Array, Outcome]:
                return field.loss(player, own, {**params, **stepped(own)})

            vector, outcome = differentiate(ahead, params[player])
            return vector, outcome, memory
        partial, toward, outcome = leader_gradients(field, player, others, params)
        _, pull = jax.vjp(stepped, params[player])
        through = pull(toward)[0]
        return jax.tree.map(lambda f, g: f + g, partial, through), outcome, memory

    return Direction(lambda player, params: (), follow)
