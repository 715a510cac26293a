"""Penalties on the slope of any critic, Q-functions included (L4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gacf.actor_critic.constructor import Groups, Penalty
from gacf.types import Key, lookup


def slopes(judge: Callable[..., jax.Array], inputs: Any) -> jax.Array:
    """‖∇ of the critic‖² per example, [B], over all its inputs together.

    One backward pass serves the whole batch, since an example's verdict depends on that example
    alone (a critic with batch statistics is differentiated through them too).
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)

    def total(inputs: tuple[Any, ...]) -> jax.Array:
        return jnp.sum(judge(*inputs))

    gradients = jax.tree.leaves(jax.grad(total)(inputs))
    return sum(jnp.sum(jnp.square(g), axis=range(1, g.ndim)) for g in gradients)  # type: ignore


def zero_centred(weight: float | jax.Array, of: Sequence[str] | None = None) -> Penalty:
    """(weight / 2) Σ_groups mean_B ‖∇_x D(x)‖², norm per example.

    `of=("real",)` is R1, `of=("fake",)` is R2; all groups by default.

    Reference:
        Mescheder et al. 2018, eqs. 9 and 10.
    """

    def penalty(judge: Callable[..., jax.Array], groups: Groups, key: Key) -> jax.Array:
        del key
        chosen = [lookup("penalty: group", group, groups) for group in of or groups]
        means = [jnp.mean(slopes(judge, inputs)) for inputs in chosen]
        return weight / 2 * jnp.sum(jnp.stack(means))

    return penalty


def r1(weight: float | jax.Array = 10.0) -> Penalty:
    """R1: (γ/2) E_real ‖∇D‖² (Mescheder et al. 2018, eq. 9).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> penalty = r1(2.0)
        >>> float(penalty(lambda x: 3 * x[:, 0], {"real": jnp.ones((4, 1))}, jax.random.key(0)))
        9.0
    """
    return zero_centred(weight, of=("real",))


PENALTIES = {"r1": r1}
