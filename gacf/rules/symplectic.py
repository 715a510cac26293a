"""Symplectic adjustment: the field turned by the rotational part of its Jacobian."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field, joint

ALIGNMENT = 0.1  # the paper's ε, which decides where the alignment is near 0


def symplectic(weight: float | jax.Array = 0.5, align: bool = True) -> Direction:
    """Symplectic gradient adjustment: v + λ Aᵀv, where Aᵀv = ½ (Jᵀv − Jv).

    With `align`, λ takes the sign of ⟨v, Jᵀv⟩ ⟨Aᵀv, Jᵀv⟩ / d + 0.1, where d is the number of all
    parameters: the adjustment then turns toward stable fixed points and away from unstable ones.
    v and J are those of all players of the game, but leave out parameters that a player's optimiser
    keeps as they are. Cost of one joint move: a gradient, a VJP and a JVP of each player; under
    `simultaneous` the compiler merges the copies.

    Args:
        weight: λ >= 0; may be traced.
        align: whether the sign of λ is chosen that way.

    Raises:
        ValueError: the weight is negative.

    Reference:
        Balduzzi et al. 2018; Letcher et al. 2019 (JMLR).

    Example:
        >>> import gacf, optax
        >>> optimizers = {"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}
        >>> gacf.rules.simultaneous(optimizers, symplectic(0.5)).players
        ('actor', 'critic')
    """
    require("symplectic: weight", weight, lambda n: n >= 0, "a number >= 0")

    def follow(
        field: Field, player: str, params: Params, memory: PyTree
    ) -> tuple[PyTree, Outcome, PyTree]:
        at, everyone = joint(field, params)
        vector, pull, outcomes = jax.vjp(at, everyone, has_aux=True)
        moving = field.movable(vector)
        pulled = field.movable(pull(moving)[0])
        _, pushed, _ = jax.jvp(at, (everyone,), (moving,), has_aux=True)
        turn = jax.tree.map(lambda t, f: 0.5 * (t - f), pulled, field.movable(pushed))
        sign = jnp.ones(())
        if align:
            inner = optax.tree.vdot(moving, pulled) * optax.tree.vdot(turn, pulled)
            sign = jnp.sign(jnp.asarray(inner) / optax.tree.size(everyone) + ALIGNMENT)
        own = jax.tree.map(
            lambda v, t: (v + weight * sign * t).astype(v.dtype), vector[player], turn[player]
        )
        return own, outcomes[player], memory

    return Direction(lambda player, params: (), follow)
