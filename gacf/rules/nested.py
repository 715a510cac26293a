"""Chains of three levels and more: a leader of a leader."""

from __future__ import annotations

import jax

from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field


def nested(outer: Direction, inner: Direction) -> Direction:
    """The outer direction in the game whose field is the inner direction.

    A three-level problem, a over b over c:

        min_a F(a, b*(a), c*)   where   b* = argmin_b G(a, b, c*(a, b)),   c* = argmin_c H(a, b, c)

    is `nested(implicit("a", ("b", "c"), …), implicit("b", "c", …))`: b follows its total
    derivative, and a differentiates through the joint response of b and c. The middle level's
    response hangs on how c's optimum moves, so the chain needs third derivatives of the lowest
    loss, and the outer system is not symmetric: solve it by `gmres` or `normal`. Longer
    chains nest again.

    Cost: the outer direction's, where each gradient of the middle player is one inner direction
    and each product with its Jacobian a derivative of that: with m iterations at either level
    about m² products with the field's Jacobian.

    Args:
        outer: of the topmost leader; its followers are all players below.
        inner: of the middle leader; without memory (no `single_loop`, no warm start), since it
            has to be a function of the parameters alone.

    Raises:
        ValueError: an inner direction that remembers.

    Example:
        >>> import gacf, optax
        >>> from gacf.rules import implicit, nested
        >>> chain = nested(implicit("a", ("b", "c"), "gmres"), implicit("b", "c"))
        >>> gacf.rules.simultaneous({p: optax.sgd(0.1) for p in "abc"}, chain).players
        ('a', 'b', 'c')
    """

    def follow(
        field: Field, player: str, params: Params, memory: PyTree
    ) -> tuple[PyTree, Outcome, PyTree]:
        for name in field.players:
            if jax.tree.leaves(inner.init(name, params)):
                raise ValueError(
                    f"nested: inner: a direction that remembers was given for {name!r}; allowed: "
                    "one without memory (no warm start, no single_loop)"
                )

        def gradient(name: str, at: Params) -> tuple[PyTree, Outcome]:
            vector, outcome, _ = inner.follow(field, name, at, ())
            return vector, outcome

        return outer.follow(field._replace(gradient=gradient), player, params, memory)

    return Direction(outer.init, follow)
