"""Consensus: every player also descends the size of the whole field."""

from __future__ import annotations

import jax

from gacf.core.checks import require
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field, joint


def consensus(weight: float | jax.Array = 0.5) -> Direction:
    """The field plus the gradient of half its squared norm: v + γ Jᵀv = v + γ ∇ ½‖v‖².

    The second term damps rotation, at the price that unstable points may attract too if γ is large.
    v and J are those of all players of the game, also of players that the rule does not move, but
    leave out parameters that a player's optimiser keeps as they are. Cost of one joint move: a
    gradient and a VJP of each player; under `simultaneous` the compiler merges the copies.

    Args:
        weight: γ >= 0; may be traced.

    Raises:
        ValueError: the weight is negative.

    Reference:
        Mescheder, Nowozin & Geiger 2017 (The numerics of GANs).

    Example:
        >>> import gacf, optax
        >>> optimizers = {"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}
        >>> gacf.rules.simultaneous(optimizers, consensus(0.5)).players
        ('actor', 'critic')
    """
    require("consensus: weight", weight, lambda n: n >= 0, "a number >= 0")

    def follow(
        field: Field, player: str, params: Params, memory: PyTree
    ) -> tuple[PyTree, Outcome, PyTree]:
        at, everyone = joint(field, params)
        vector, pull, outcomes = jax.vjp(at, everyone, has_aux=True)
        (pulled,) = pull(field.movable(vector))
        own = jax.tree.map(
            lambda v, c: (v + weight * c).astype(v.dtype), vector[player], pulled[player]
        )
        return own, outcomes[player], memory

    return Direction(lambda player, params: (), follow)
