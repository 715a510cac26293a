"""Weight clipping: parameters kept in a box."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require
from gacf.core.types import PyTree


def weight_clip(bound: float | jax.Array = 0.01) -> optax.GradientTransformation:
    """Parameters clipped to [−bound, bound] after each step.

        θ ← min(max(θ + step, −bound), bound)

    The slope of a critic, of images or of states and actions, is then limited by its widths and the
    bound. Chain it behind an optimiser: `optax.chain(optax.rmsprop(5e-5), weight_clip(0.01))`.

    Args:
        bound: c > 0; infinity is off, to the bit. May be traced.

    Returns:
        An optax transformation whose `update` needs `params`.

    Raises:
        ValueError: the bound is not positive, or `update` got no `params`.

    Reference:
        Arjovsky, Chintala & Bottou 2017, algorithm 1.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> clipped = optax.chain(optax.sgd(1.0), weight_clip(0.5))
        >>> params = jnp.array([0.0, 0.25])
        >>> change, _ = clipped.update(jnp.array([-3.0, 0.125]), clipped.init(params), params)
        >>> (params + change).tolist()
        [0.5, 0.125]
    """
    require("bound", bound, lambda c: c > 0, "a number > 0")

    def update(
        updates: PyTree, state: optax.OptState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.OptState]:
        if params is None:
            raise ValueError("params: None was given; weight_clip needs the parameters")

        def back(change: jax.Array, param: jax.Array) -> jax.Array:
            after = param + change
            # the part beyond the bound is subtracted; inside, x - 0 is x to the bit
            return (change - (after - jnp.clip(after, -bound, bound))).astype(change.dtype)

        return jax.tree.map(back, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
