"""Directions: which vector a player follows (L1).

A direction never sees a loss, only FIELDS: v_i(params) = ∇_own loss_i(own = params[i], params).
All evaluations inside one move share the batch and the keys, so that a field is one function of
the parameters and may be differentiated again; the worlds that they return are discarded, but for
the one that the move reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import optax

from gacf.game import Game, check_player
from gacf.types import Batch, Key, Outcome, Params, PyTree, World


class Field(NamedTuple):
    """The vector field of a game at one batch, one world and one key.

    Attributes:
        players: all players of the game, in order.
        loss: `(player, own, params) -> (scalar, Outcome)`.
        gradient: `(player, params) -> (v_player, Outcome)`; the outcome's metrics include `loss`.
    """

    players: tuple[str, ...]
    loss: Callable[[str, PyTree, Params], tuple[jax.Array, Outcome]]
    gradient: Callable[[str, Params], tuple[PyTree, Outcome]]


def field(game: Game, world: World, batch: Batch, key: Key) -> Field:
    """The game's field where `world`, `batch` and `key` are held fixed.

    Each player's loss gets a key of its own, `fold_in(key, i)` for the i-th player of the game.
    """
    players = tuple(game.losses)

    def loss(player: str, own: PyTree, params: Params) -> tuple[jax.Array, Outcome]:
        check_player(game, player, "rule")
        own_key = jax.random.fold_in(key, players.index(player))
        return game.losses[player](own, params, world, batch, own_key)

    def gradient(player: str, params: Params) -> tuple[PyTree, Outcome]:
        def of_own(own: PyTree) -> tuple[jax.Array, Outcome]:
            return loss(player, own, params)

        (value, outcome), vector = jax.value_and_grad(of_own, has_aux=True)(params[player])
        return vector, outcome._replace(metrics={"loss": value, **outcome.metrics})

    return Field(players, loss, gradient)


class Follow(Protocol):
    """`(field, player, params, memory, optimizers, opt_state) -> (vector, Outcome, memory)`."""

    def __call__(
        self,
        field: Field,
        player: str,
        params: Params,
        memory: PyTree,
        optimizers: Mapping[str, optax.GradientTransformationExtraArgs],
        opt_state: Mapping[str, Any],
    ) -> tuple[PyTree, Outcome, PyTree]: ...


class Direction(NamedTuple):
    """Which vector a player follows.

    Attributes:
        init: `(player, params) -> memory`; `()` for a direction without memory.
        follow: the vector for one player. `optimizers` and `opt_state` are those of all players
            that the rule knows, so that unrolling can start from a follower's live state.
    """

    init: Callable[[str, Params], PyTree]
    follow: Follow


def gradient() -> Direction:
    """Each player's own gradient: v_i = ∇_own loss_i. Cost: one gradient.

    Example:
        >>> import gacf, optax
        >>> rule = gacf.rules.player_step("actor", optax.sgd(0.1), direction=gradient())
        >>> rule.players
        ('actor',)
    """

    def follow(
        field: Field,
        player: str,
        params: Params,
        memory: PyTree,
        optimizers: Mapping[str, optax.GradientTransformationExtraArgs],
        opt_state: Mapping[str, Any],
    ) -> tuple[PyTree, Outcome, PyTree]:
        del optimizers, opt_state
        vector, outcome = field.gradient(player, params)
        return vector, outcome, memory

    return Direction(lambda player, params: (), follow)
