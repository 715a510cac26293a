"""Chains of three levels and more, in which a leader leads another leader."""

from __future__ import annotations

import jax

from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field


def nested(outer: Direction, inner: Direction) -> Direction:
    """The outer direction in a game where the inner direction takes the place of the gradients.

    A three-level problem, a over b over c:

        min_a F(a, b*(a), c*)   where   b* = argmin_b G(a, b, c*(a, b)),   c* = argmin_c H(a, b, c)

    is `nested(implicit("a", ("b", "c"), …), implicit("b", "c", …))`: b follows its total
    derivative, and a differentiates through the joint response of b and c. The response of the
    middle level depends on how c's optimum moves, so the chain needs third derivatives of the
    lowest loss. The outer system is not symmetric: solve it by `gmres` or `normal`. Longer chains
    are nested once more.

    Cost: that of the outer direction, where each gradient of the middle player costs one inner
    direction, and each product with its Jacobian costs a derivative of that. With m iterations on
    both levels that is about m² products with the field's Jacobian.

    Args:
        outer: the direction of the topmost leader, whose followers are all players below it.
        inner: the direction of the middle leader. It must have no memory (no `single_loop`, no warm
            start), since it has to be a function of the parameters alone.

    Raises:
        ValueError: the inner direction has a memory.

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
