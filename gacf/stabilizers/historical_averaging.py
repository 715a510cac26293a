"""Historical averaging: parameters drawn toward their own past."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require
from gacf.core.types import PyTree


class History(NamedTuple):
    """The running mean of the parameters.

    Attributes:
        count: int32 scalar: the number of values in the mean.
        mean: the mean, with the structure of the parameters.
    """

    count: jax.Array
    mean: PyTree


def historical_averaging(weight: float | jax.Array) -> optax.GradientTransformation:
    """Adds the gradient of weight·‖θ_t − (θ_1 + … + θ_t)/t‖² to the gradient.

        g ← g + 2 weight (θ_t − mean_t)

    The mean includes the present θ_t and is held fixed in the derivative. Fixed points stay where
    they are, and the orbits of two players around them become spirals inwards. Chain it in front of
    an optimiser: `optax.chain(historical_averaging(1.0), optax.adam(1e-3))`.

    Args:
        weight: the weight of the penalty, >= 0; the paper's λ. May be traced.

    Returns:
        An optax transformation whose `update` needs `params`.

    Raises:
        ValueError: the weight is negative, or `update` got no `params`.

    Reference:
        Salimans et al. 2016, section 3.3.

    Example:
        >>> import jax.numpy as jnp
        >>> drawn = historical_averaging(1.0)
        >>> state = drawn.init(jnp.array(0.0))
        >>> zero = jnp.array(0.0)
        >>> _, state = drawn.update(zero, state, jnp.array(0.0))
        >>> float(drawn.update(zero, state, jnp.array(2.0))[0])  # 2 (2 - (0 + 2) / 2)
        2.0
    """
    require("weight", weight, lambda w: w >= 0, "a number >= 0")

    def init(params: PyTree) -> History:
        return History(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: PyTree, state: optax.OptState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.OptState]:
        assert isinstance(state, History)
        if params is None:
            raise ValueError("params: None was given; historical_averaging needs the parameters")
        count = state.count + 1
        mean = jax.tree.map(
            lambda m, p: (m + (p - m) / count.astype(p.dtype)).astype(m.dtype), state.mean, params
        )
        drawn = jax.tree.map(
            lambda g, p, m: (g + 2 * weight * (p - m)).astype(g.dtype), updates, params, mean
        )
        return drawn, History(count, mean)

    return optax.GradientTransformation(init, update)
