"""What every network becomes: the `Model` of one player, around a `Network` without a player."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from gacf.core.types import Params, PyTree, World


class Model(NamedTuple):
    """What one player computes.

    Attributes:
        player: the player to whom it belongs.
        init: `(key, *inputs) -> (params, entries)`; the entries belong in the world.
        apply: `(params, world, *inputs, key=None, train=True) -> (output, entries)`: the output,
            and the entries of the world that this evaluation renews, if there are any.
        bind: `params of all players -> Model`, for a network that uses the parameters of another
            player, as a compatible critic uses the actor's; None for all others.
        members: how many leading axes of every parameter count the members of ensembles.
        single: `apply` of one member, whose parameters and statistics lack these axes; None if it
            is not known.
    """

    player: str
    init: Callable[..., tuple[PyTree, World]]
    apply: Callable[..., tuple[jax.Array, World]]
    bind: Callable[[Params], Model] | None = None
    members: int = 0
    single: Callable[..., tuple[jax.Array, World]] | None = None

    def given(self, params: Params) -> Model:
        """The model bound to the parameters of all players, or itself if it does not use them."""
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

    The leading `members` axes of every parameter count the members of ensembles; `single` is the
    `apply` of one of them.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[jax.Array, PyTree]]
    members: int = 0
    single: Callable[..., tuple[jax.Array, PyTree]] | None = None


Adapt = Callable[[str, Any], Network]
"""`(player, network of any kind) -> Network`."""


@runtime_checkable
class Wrapped(Protocol):
    """A network made of another network, such as an ensemble or one in another precision."""

    def adapted(self, player: str, adapt: Adapt) -> Network:
        """This network as a `Network`; `adapt` turns the one inside into a `Network`."""
        ...


def as_inputs(given: Any) -> tuple[Any, ...]:
    """The inputs of a network: a tuple is several of them, and anything else is one."""
    return given if isinstance(given, tuple) else (given,)


def refuse_model(network: Any) -> None:
    """Raises a ValueError for a `Model`, which is already bound to a player."""
    if isinstance(network, Model):
        raise ValueError("network: a Model was given; allowed: a network that `model` takes")
