"""Freezing: a player that rests while a condition holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import nearest
from gacf.core.types import Metrics, PyTree

When = Callable[[jax.Array, Metrics], jax.Array | bool]


def freeze(
    optimizer: optax.GradientTransformation, when: When
) -> optax.GradientTransformationExtraArgs:
    """The optimiser that leaves parameters and its own state alone while `when` holds.

        (θ, state) ← (θ, state) while `when` holds,   the optimiser's step otherwise

    A gradient of zero is not enough, because Adam's moments, momentum and weight decay would still
    change the parameters. Use it to freeze a GAN's critic while it is too good for its generator to
    learn from, the critic of an actor-critic method while it is accurate, or the actor while the
    critic is wrong.

    Args:
        optimizer: any optax transformation.
        when: `(step, metrics) -> bool scalar`: whether this move is skipped. `metrics` are those
            that the player's loss reports in this very move, including `loss`.

    Returns:
        A transformation whose `update` needs the extra arguments `step` and `metrics`; gacf's
        rules supply them, and `optax.chain` passes them on.

    Raises:
        ValueError: `when` returned something other than a scalar or read a metric that the player
            does not report, or `update` got no `step` or no `metrics`.

    Reference:
        Pfau & Vinyals 2016, table 1; Salimans et al. 2016.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> rests = freeze(optax.adam(0.1), lambda step, metrics: metrics["accuracy"] > 0.9)
        >>> state = rests.init(jnp.array(1.0))
        >>> change, _ = rests.update(
        ...     jnp.array(1.0), state, step=0, metrics={"accuracy": jnp.array(0.95)})
        >>> bool(change == 0)
        True
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: PyTree,
        state: optax.OptState,
        params: PyTree | None = None,
        **extra: Any,
    ) -> tuple[PyTree, optax.OptState]:
        for name in ("step", "metrics"):
            if name not in extra:
                raise ValueError(f"{name}: nothing was given; freeze's update needs it")
        try:
            holds = when(extra["step"], extra["metrics"])
        except KeyError as error:
            (missing,) = error.args
            raise ValueError(
                f"when: metric {missing!r} is not reported; {nearest(missing, extra['metrics'])}"
            ) from error
        rests = jnp.asarray(holds, bool)
        if rests.shape != ():
            raise ValueError(f"when: a result of shape {rests.shape} was given; allowed: a scalar")
        moved, new = inner.update(updates, state, params, **extra)
        # x + -0.0 is x to the bit, whereas -0.0 + 0.0 is 0.0
        moved = jax.tree.map(lambda u: jnp.where(rests, jnp.full_like(u, -0.0), u), moved)
        return moved, jax.tree.map(lambda old, now: jnp.where(rests, old, now), state, new)

    return optax.GradientTransformationExtraArgs(inner.init, update)
