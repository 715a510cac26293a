"""Directions: which vector a player follows.

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

from gacf.core.clock import steps_made
from gacf.core.game import Game, check_player
from gacf.core.types import Batch, Key, Outcome, Params, PyTree, World
from gacf.rules.trained import Trained

# `fold_in(key, i)` and `split(key)[i]` are the same key: the offset keeps the losses' keys apart
# from the batch keys of a rule that runs in parallel and splits the same key.
LOSS = 0x6C6F73


class Field(NamedTuple):
    """The vector field of a game at one batch, one world and one key.

    Attributes:
        players: all players of the game, in order.
        loss: `(player, own, params) -> (scalar, Outcome)`.
        gradient: `(player, params) -> (v_player, Outcome)`; the outcome's metrics include `loss`.
        step: the step that the world is at, for optimisers that ask.
        trained: player -> which of its parameters its optimiser moves, for the players whose
            moves the rule remembers.
    """

    players: tuple[str, ...]
    loss: Callable[[str, PyTree, Params], tuple[jax.Array, Outcome]]
    gradient: Callable[[str, Params], tuple[PyTree, Outcome]]
    step: jax.Array
    trained: Mapping[str, Trained]

    def kept(self, vectors: Params) -> Params:
        """Vectors of some players with zeros at the parameters that their optimisers keep."""
        return {
            player: self.trained[player].keep(vector) if player in self.trained else vector
            for player, vector in vectors.items()
        }


def field(
    game: Game,
    world: World,
    batch: Batch,
    key: Key,
    trained: Mapping[str, Trained] | None = None,
) -> Field:
    """The game's field where `world`, `batch` and `key` are held fixed.

    Each player's loss gets a key of its own, `fold_in(key, LOSS + i)` for the i-th player of the
    game.
    """
    players = tuple(game.losses)

    def loss(player: str, own: PyTree, params: Params) -> tuple[jax.Array, Outcome]:
        check_player(game, player, "rule")
        own_key = jax.random.fold_in(key, LOSS + players.index(player))
        return game.losses[player](own, params, world, batch, own_key)

    def gradient(player: str, params: Params) -> tuple[PyTree, Outcome]:
        def of_own(own: PyTree) -> tuple[jax.Array, Outcome]:
            return loss(player, own, params)

        (value, outcome), vector = jax.value_and_grad(of_own, has_aux=True)(params[player])
        return vector, outcome._replace(metrics={**outcome.metrics, "loss": value})

    return Field(players, loss, gradient, steps_made(world), trained or {})


def joint(
    field: Field, params: Params
) -> tuple[Callable[[Params], tuple[Params, dict[str, Outcome]]], Params]:
    """The field of all players as one function of all their parameters, v = (v_1, …, v_n).

    Returns:
        `params of the players -> (v, outcomes)`, and those parameters.
    """

    def at(everyone: Params) -> tuple[Params, dict[str, Outcome]]:
        here = {**params, **everyone}
        found = {player: field.gradient(player, here) for player in field.players}
        vectors = {player: vector for player, (vector, _) in found.items()}
        return vectors, {player: outcome for player, (_, outcome) in found.items()}

    return at, {player: params[player] for player in field.players}


def advance(
    field: Field,
    player: str,
    optimizer: optax.GradientTransformationExtraArgs,
    vector: PyTree,
    outcome: Outcome,
    optimizer_state: optax.OptState,
    params: Params,
) -> tuple[PyTree, optax.OptState]:
    """One optimiser step of one player along a vector: θ_i + optimizer(vector).

    The optimiser receives, as optax extra arguments, `step`, `metrics` (of this move's loss),
    `value`, `grad` and `value_fn`.

    Returns:
        The player's new parameters and optimiser state.
    """

    def value_fn(own: PyTree, *, step: Any = None, metrics: Any = None) -> jax.Array:
        del step, metrics  # optax's line searches refuse extra arguments that this does not take
        return field.loss(player, own, params)[0]

    change, optimizer_state = optimizer.update(
        vector,
        optimizer_state,
        params[player],
        step=field.step,
        metrics=outcome.metrics,
        value=outcome.metrics["loss"],
        grad=vector,
        value_fn=value_fn,
    )
    return optax.apply_updates(params[player], change), optimizer_state


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
