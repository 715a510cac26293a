"""The unrolled direction: a leader that differentiates through its follower's next steps."""

from __future__ import annotations

import jax

from gacf.core.checks import nearest, require, whole
from gacf.core.tracing import scope
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.differentiable import differentiable
from gacf.rules.direction import Direction, Field, advance, differentiate, select
from gacf.rules.response import Followers, as_followers, led_by


def unrolled(leader: str, follower: Followers, steps: int = 5) -> Direction:
    """The leader's total derivative through k optimiser steps of the followers.

        vector = d/dx F(x, y_k(x)),   y_{j+1} = y_j + opt(f_y(x, y_j)),   y_0 = y

    The steps are those of the followers' own optax transformations, starting from their live
    states; several followers step at once. Batch and key are those of the move, and what the steps
    do to optimiser states and world is discarded. The followers themselves move along their own
    gradients. The leader's `loss` is its loss at (x, y_k). Cost: k steps, each of which takes one
    gradient, one more when the backward pass computes it anew (`jax.checkpoint`, so that memory is
    k copies of the followers' parameters and states), and one VJP; and one gradient of the leader.

    Adam's square root has no derivative at a second moment of zero, but its step has one: through
    parameters whose gradients have been exactly zero so far (dead units), the derivative is that of
    m / (√v + ε) at m = v = 0, which is dm / ε. The same holds for every optimiser that takes roots
    of squares; see `gacf.rules.differentiable`. Since ε is small, 1 / ε is large: where such a
    gradient changes with the leader, `optax.adam(…, eps_root=1e-8)` keeps the derivative small.

    Args:
        leader: the player that differentiates through the steps.
        follower: the player that is unrolled, or several.
        steps: k >= 1, static.

    Raises:
        ValueError: the game has no such player, steps < 1, or the rule does not know a follower's
            optimiser (the named schedules pass all optimisers on).

    Reference:
        Metz, Poole, Pfau & Sohl-Dickstein 2017 (Unrolled GANs).

    Example:
        >>> import gacf, optax
        >>> optimizers = {"actor": optax.sgd(0.1), "critic": optax.adam(0.1)}
        >>> rule = gacf.rules.simultaneous(optimizers, unrolled("actor", "critic", steps=3))
        >>> rule.players
        ('actor', 'critic')
    """
    followers = as_followers("unrolled", leader, follower)
    require("unrolled: steps", steps, whole, "a whole number >= 1")

    def lead(field: Field, params: Params, memory: PyTree) -> tuple[PyTree, Outcome, PyTree]:
        for name in followers:
            if name not in field.optimizers or name not in field.states:
                raise ValueError(
                    f"unrolled: no optimiser of {name!r} is known; give player_step `optimizers`; "
                    f"{nearest(name, field.states)}"
                )

        known = {name: differentiable(field.optimizers[name]) for name in followers}

        def total(own: PyTree) -> tuple[jax.Array, Outcome]:
            @jax.checkpoint
            def step(carry: tuple[Params, Params], _: None) -> tuple[tuple[Params, Params], None]:
                others, states = carry
                at = field._replace(optimizers=known, states=states)
                here = {**params, leader: own, **others}
                new_others, new_states = {}, {}
                # what the loop's derivative hoists out of its body keeps labels of the body alone
                with scope(leader):
                    for name in followers:
                        vector, outcome = at.gradient(name, here)
                        new_others[name], new_states[name] = advance(
                            at, name, vector, outcome, here
                        )
                return (new_others, new_states), None

            start = select(params, followers), select(dict(field.states), followers)
            (others, _), _ = jax.lax.scan(step, start, length=steps)
            return field.loss(leader, own, {**params, **others})

        vector, outcome = differentiate(total, params[leader])
        return vector, outcome, memory

    return led_by("unrolled", leader, followers, lead)
