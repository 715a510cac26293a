"""Compatibility: a critic that is linear in the actor's own features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.types import Key, Params, PyTree, World
from gacf.networks import Model, column, model

LogProb = Callable[[Any, Any], jax.Array]


def compatible(actor: Model, baseline: Any, log_prob: LogProb | None = None) -> Model:
    """The critic for which the policy gradient is exact: linear in the actor's own features.

        deterministic   Q_w(s, a) = ⟨a − μ_θ(s), ∇_θ μ_θ(s) w⟩ + V_v(s)
        stochastic      Q_w(s, a) = ⟨∇_θ log π_θ(a|s), w⟩ + V_v(s)

    w has the shape of θ, so the features are never formed: one forward derivative multiplies them
    by w. At the critic's least-squares fit, the actor's gradient is the true policy gradient, and w
    is the natural gradient. For a GAN, a compatible discriminator judges an image by how the
    generator's parameters would have to change to produce it.

    Args:
        actor: the actor's model; θ are its live parameters, or those that the critic's loss sees.
        baseline: network of V, [B, O] -> [B] or [B, 1], on the critic's first input.
        log_prob: `(actor's output, a) -> [B]` for a stochastic actor; None for a deterministic one,
            whose output is the action [B, …].

    Returns:
        A `Model` of the player `critic`: (s, a) -> [B]; its params are `{"weights", "baseline"}`,
        and the weights start at 0.

    Reference:
        Sutton et al. 1999, theorem 2; Silver et al. 2014, theorem 3.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gacf.networks import model
        >>> line = (lambda key: jnp.ones(()), lambda k, s: k * s)
        >>> base = (lambda key: jnp.ones(()), lambda v, s: v * s)
        >>> critic = compatible(model("actor", line), base)
        >>> own = {"weights": jnp.ones(()), "baseline": 0.0}
        >>> bound = critic.given({"actor": jnp.ones(())})
        >>> s, a = jnp.full((1, 1), 2.0), jnp.full((1, 1), 5.0)
        >>> bound.apply(own, {}, s, a)[0].tolist()
        [6.0]
    """
    value = model("critic", baseline)

    def init(key: Key, *inputs: Any) -> tuple[PyTree, World]:
        first, *_ = inputs
        theta = jax.eval_shape(lambda: actor.init(key, first)[0])
        weights = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), theta)
        base, entries = value.init(key, first)
        return {"weights": weights, "baseline": base}, entries

    def unbound(*args: Any, **options: Any) -> tuple[jax.Array, World]:
        raise ValueError(
            "compatible: the critic has to see the actor's parameters; allowed: the model that "
            "`model.given(params)` returns"
        )

    def bind(params: Params) -> Model:
        theta = params["actor"]

        def apply(
            own: PyTree, world: World, *inputs: Any, key: Key | None = None, train: bool = True
        ) -> tuple[jax.Array, World]:
            first, action = inputs

            def outcome(theta: PyTree) -> jax.Array:
                output = actor.apply(theta, world, first, key=key, train=False)[0]
                return output if log_prob is None else log_prob(output, action)

            here, product = jax.jvp(outcome, (theta,), (own["weights"],))
            if log_prob is None:
                product = jnp.sum(((action - here) * product).reshape(len(here), -1), axis=-1)
            base, entries = value.apply(own["baseline"], world, first, key=key, train=train)
            return product + column(base), entries

        return Model("critic", init, apply)

    return Model("critic", init, unbound, bind)
