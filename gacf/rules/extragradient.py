"""Extragradient: look one step ahead, then step from where you stand."""

from __future__ import annotations

import jax

from gacf.core.game import Game, Rule
from gacf.core.types import Key, Params, World
from gacf.rules.algebra import Move, OptState, Updated, extended, states_of, trained_of
from gacf.rules.direction import advance, field
from gacf.rules.schedules import Directions, Optimizers, chosen
from gacf.rules.trained import trained_by


def extragradient(
    optimizers: Optimizers, commit: bool = False, direction: Directions | None = None
) -> Rule:
    """All players look one step ahead and move from where they stand by what they see there.

        z½ = z + opt(v(z)),   z⁺ = z + opt(v(z½))

    Both evaluations share batch and key (as in `simultaneous`: `batch_key, loss_key = split(key)`);
    metrics and world are those of the second one, the look ahead's are discarded.
    Cost: two gradients a player.

    Args:
        optimizers: player -> optax transformation; players left out stay as they are, and have to
            be named in `compose(…, still=…)`.
        commit: whether the look ahead's optimiser states are kept and the second step starts
            from them, as in ExtraAdam; otherwise both steps start from the same states.
        direction: one for all, or player -> direction; own gradients by default.

    Raises:
        ValueError: no optimisers, or a direction for somebody without one.

    Reference:
        Korpelevich 1976; Gidel et al. 2019 (ExtraAdam, `commit=True`).

    Example:
        >>> import gacf, optax
        >>> extragradient({"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}).players
        ('actor', 'critic')
    """
    directions = chosen(optimizers, direction)
    known = extended(optimizers)
    trained = {player: trained_by(optimizer) for player, optimizer in known.items()}

    def init(params: Params) -> OptState:
        return {
            player: Move(
                optimizer.init(params[player]),
                directions[player].init(player, params),
                trained[player](params[player]),
            )
            for player, optimizer in known.items()
        }

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        batch_key, loss_key = jax.random.split(key)
        batch = game.sample(world, batch_key)
        at = field(game, world, batch, loss_key, trained_of(opt_state))

        def move(seen: Params, opt_state: OptState) -> Updated:
            moved, moves, outcomes = dict(params), dict(opt_state), {}
            for player, optimizer in known.items():
                own: Move = opt_state[player]
                vector, outcome, memory = directions[player].follow(
                    at, player, seen, own.direction, known, states_of(known, opt_state)
                )
                moved[player], state = advance(
                    at, player, optimizer, vector, outcome, own.optimizer, params
                )
                moves[player], outcomes[player] = Move(state, memory, own.trained), outcome
            return moved, moves, outcomes

        ahead, looked, _ = move(params, opt_state)
        return move(ahead, looked if commit else opt_state)

    return Rule(tuple(known), init, update)
