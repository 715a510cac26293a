"""A term of variable strength in one player's loss, as entropy and feature matching need it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gacf.core.game import Game, check_player
from gacf.core.types import Batch, Key, Metrics, Outcome, Params, PyTree, World

Term = Callable[[PyTree, Params, World, Batch, Key], tuple[jax.Array, Metrics]]
# Folded into the loss's key for the term; the loss goes on with its own key, as if alone.
TERM = 0x7465726D


def with_term(
    game: Game,
    player: str,
    name: str,
    strength: float | jax.Array,
    term: Term,
    mix: Callable[[jax.Array, jax.Array], jax.Array],
) -> Game:
    """The game in which one player minimises `mix(loss, term)`; the loss alone at strength 0.

    Args:
        game: any game.
        player: the player whose loss gets the term.
        name: the name of the stabiliser, for errors.
        strength: 0 is off, to the bit: the loss gets the same key as before.
        term: `(own, params, world, batch, key) -> (scalar, metrics)`.
        mix: `(loss, term) -> scalar`.

    Raises:
        ValueError: there is no such player, or the loss reports a metric of that name already.
    """
    check_player(game, player, name)
    base = game.losses[player]

    def loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        value, outcome = base(own, params, world, batch, key)
        added, metrics = term(own, params, world, batch, jax.random.fold_in(key, TERM))
        if both := sorted(set(outcome.metrics) & set(metrics)):
            raise ValueError(
                f"{name}: metric {both[0]!r} of {player!r} is reported already; allowed: one call "
                "per player"
            )
        mixed = mix(value, added.astype(value.dtype))
        off = jnp.asarray(strength) == 0
        return jnp.where(off, value, mixed), outcome._replace(
            metrics={**outcome.metrics, **metrics}
        )

    return game._replace(losses={**game.losses, player: loss})
