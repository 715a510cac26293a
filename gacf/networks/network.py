"""Networks: Flax Linen modules, Flax NNX modules and bare (init, apply) pairs, made alike (L1).

Every network becomes a `Model`: what one player computes. What it learns by gradient are params;
what it only keeps (batch statistics, a power iteration's vector, a dropout stream) are statistics,
and live in the world under `stats/<player>`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gacf.core.types import Params, PyTree, World


class Model(NamedTuple):
    """What one player computes.

    Attributes:
        player: whose it is.
        init: `(key, *inputs) -> (params, entries)`; `entries` belong into the world.
        apply: `(params, world, *inputs, key=None, train=True) -> (output, entries)`: the output,
            and the world's entries that this evaluation renews (none where there are none).
        bind: `all players' params -> Model`, for a network that looks at another player's
            parameters (a compatible critic at the actor's); None for all others.
        members: how many leading axes of every parameter count the members of an ensemble.
    """

    player: str
    init: Callable[..., tuple[PyTree, World]]
    apply: Callable[..., tuple[jax.Array, World]]
    bind: Callable[[Params], Model] | None = None
    members: int = 0

    def given(self, params: Params) -> Model:
        """The model that has seen all players' parameters; itself, if it need not see them."""
        return self if self.bind is None else self.bind(params)

    def then(self, function: Callable[[jax.Array], jax.Array]) -> Model:
        """The model with its output passed on to `function`."""

        def apply(*args: Any, **options: Any) -> tuple[jax.Array, World]:
            output, entries = self.apply(*args, **options)
            return function(output), entries

        bind = self.bind
        if bind is None:
            return self._replace(apply=apply)

        def given_others(params: Params) -> Model:
            return bind(params).then(function)

        return self._replace(apply=apply, bind=given_others)


class Network(NamedTuple):
    """`init(key, *inputs) -> (params, stats)`, `apply(params, stats, key, train, *inputs)`.

    The leading `members` axes of every parameter count the members of ensembles.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[jax.Array, PyTree]]
    members: int = 0
