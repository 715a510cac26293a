"""Directions: which vector a player follows.

A direction never sees a loss, only a field: v_i(params) = ∇_own loss_i(own = params[i], params).
All evaluations inside one move share the batch and the keys, so a field is one function of the
parameters and may be differentiated again. The worlds that these evaluations return are discarded,
except for the one that the move reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from gacf.core.clock import steps_made
from gacf.core.game import Game, check_player
from gacf.core.types import Batch, Key, Outcome, Params, PyTree, World
from gacf.rules.trained import Trained

# `fold_in(key, i)` and `split(key)[i]` are the same key. The offset keeps the keys of the losses
# apart from the batch keys of a rule that runs in parallel and splits the same key.
LOSS = 0x6C6F73


class Field(NamedTuple):
    """The vector field of a game at one batch, one world and one key, and the state of its rule.

    A direction takes from it what it needs: most need only `gradient`, `unrolled` also needs the
    optimisers and their states.

    Attributes:
        players: all players of the game, in order.
        loss: `(player, own, params) -> (scalar, Outcome)`.
        gradient: `(player, params) -> (v_player, Outcome)`; the outcome's metrics include `loss`.
        step: the number of steps made so far, for optimisers that ask.
        optimizers: player -> optimiser, for the players whose optimiser the rule knows.
        states: player -> live state of that optimiser.
        trained: player -> which of its parameters its optimiser moves, for the players whose
            moves the rule remembers.
    """

    players: tuple[str, ...]
    loss: Callable[[str, PyTree, Params], tuple[jax.Array, Outcome]]
    gradient: Callable[[str, Params], tuple[PyTree, Outcome]]
    step: jax.Array
    optimizers: Mapping[str, optax.GradientTransformationExtraArgs]
    states: Mapping[str, optax.OptState]
    trained: Mapping[str, Trained]

    def movable(self, vectors: Params) -> Params:
        """Vectors of some players, with zeros where their optimisers keep the parameters."""
        return {
            player: self.trained[player].movable(vector) if player in self.trained else vector
            for player, vector in vectors.items()
        }


def field(
    game: Game,
    world: World,
    batch: Batch,
    key: Key,
    optimizers: Mapping[str, optax.GradientTransformationExtraArgs] | None = None,
    states: Mapping[str, optax.OptState] | None = None,
    trained: Mapping[str, Trained] | None = None,
) -> Field:
    """The game's field where `world`, `batch` and `key` are held fixed.

    Each player's loss gets a key of its own, `fold_in(key, LOSS + i)` for the i-th player of the
    game. The last three arguments become the attributes of the same names.
    """
    players = tuple(game.losses)

    def loss(player: str, own: PyTree, params: Params) -> tuple[jax.Array, Outcome]:
        check_player(game, player, "rule")
        own_key = jax.random.fold_in(key, LOSS + players.index(player))
        return game.losses[player](own, params, world, batch, own_key)

    def gradient(player: str, params: Params) -> tuple[PyTree, Outcome]:
        return differentiate(lambda own: loss(player, own, params), params[player])

    clock = steps_made(world)
    return Field(players, loss, gradient, clock, optimizers or {}, states or {}, trained or {})


def differentiate(
    loss: Callable[[PyTree], tuple[jax.Array, Outcome]], at: PyTree
) -> tuple[PyTree, Outcome]:
    """The gradient of a loss, and its outcome with the loss's value among the metrics."""
    (value, outcome), gradient = jax.value_and_grad(loss, has_aux=True)(at)
    return gradient, with_metrics(outcome, loss=value)


def with_metrics(outcome: Outcome, **metrics: jax.Array) -> Outcome:
    """The outcome with further metrics."""
    return outcome._replace(metrics={**outcome.metrics, **metrics})


def select(params: Params, players: Iterable[str]) -> Params:
    """The entries of those players."""
    return {player: params[player] for player in players}


def joint(
    field: Field, params: Params
) -> tuple[Callable[[Params], tuple[Params, dict[str, Outcome]]], Params]:
    """The field of all players as one function of all their parameters, v = (v_1, …, v_n).

    Returns:
        `params of the players -> (v, outcomes)`, and those parameters.
    """

    def at(everyone: Params) -> tuple[Params, dict[str, Outcome]]:
        here = {**params, **everyone}
        gradients = {player: field.gradient(player, here) for player in field.players}
        vectors = {player: vector for player, (vector, _) in gradients.items()}
        return vectors, {player: outcome for player, (_, outcome) in gradients.items()}

    return at, select(params, field.players)


def advance(
    field: Field, player: str, vector: PyTree, outcome: Outcome, params: Params
) -> tuple[PyTree, optax.OptState]:
    """One step of a player's optimiser along a vector: θ_i + optimizer(vector).

    The optimiser receives, as optax extra arguments, `step`, `metrics` (of this move's loss),
    `value`, `grad` and `value_fn`.

    Returns:
        The player's new parameters and optimiser state.
    """

    def value_fn(own: PyTree, *, step: Any = None, metrics: Any = None) -> jax.Array:
        del step, metrics  # optax's line searches refuse extra arguments that this does not take
        return field.loss(player, own, params)[0]

    change, state = field.optimizers[player].update(
        vector,
        field.states[player],
        params[player],
        step=field.step,
        metrics=outcome.metrics,
        value=outcome.metrics["loss"],
        grad=vector,
        value_fn=value_fn,
    )
    return optax.apply_updates(params[player], change), state


class Direction(NamedTuple):
    """Which vector a player follows.

    Attributes:
        init: `(player, params) -> memory`; `()` for a direction without memory.
        follow: `(field, player, params, memory) -> (vector, Outcome, memory)`, the vector for one
            player at these parameters.
    """

    init: Callable[[str, Params], PyTree]
    follow: Callable[[Field, str, Params, PyTree], tuple[PyTree, Outcome, PyTree]]


def gradient() -> Direction:
    """Each player's own gradient: v_i = ∇_own loss_i. Cost: one gradient.

    Example:
        >>> import gacf, optax
        >>> rule = gacf.rules.player_step("actor", optax.sgd(0.1), direction=gradient())
        >>> rule.players
        ('actor',)
    """

    def follow(
        field: Field, player: str, params: Params, memory: PyTree
    ) -> tuple[PyTree, Outcome, PyTree]:
        vector, outcome = field.gradient(player, params)
        return vector, outcome, memory

    return Direction(lambda player, params: (), follow)
