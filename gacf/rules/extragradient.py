"""Extragradient: look one step ahead, then step from the starting point."""

from __future__ import annotations

from gacf.core.game import Game, Rule
from gacf.core.types import Key, Params, World
from gacf.rules.algebra import OptState, Updated, extended, make_move, sample_field, states_of
from gacf.rules.schedules import Directions, Optimizers, chosen, simultaneous


def extragradient(
    optimizers: Optimizers, commit: bool = False, direction: Directions | None = None
) -> Rule:
    """All players look one step ahead, and move from where they are by the gradients found there.

        z½ = z + opt(v(z)),   z⁺ = z + opt(v(z½))

    Both evaluations share batch and key (as in `simultaneous`: `batch_key, loss_key = split(key)`).
    Metrics and world are those of the second evaluation; those of the first are discarded.
    Cost: two gradients of each player.

    Args:
        optimizers: player -> optax transformation; players left out stay as they are, and have to
            be named in `compose(…, still=…)`.
        commit: whether the second step starts from the optimiser states that the first one left,
            as in ExtraAdam; otherwise both steps start from the same states.
        direction: one for all, or player -> direction; own gradients by default.

    Raises:
        ValueError: no optimisers, or a direction for a player without one.

    Reference:
        Korpelevich 1976; Gidel et al. 2019 (ExtraAdam, `commit=True`).

    Example:
        >>> import gacf, optax
        >>> extragradient({"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}).players
        ('actor', 'critic')
    """
    directions = chosen(optimizers, direction)
    known = extended(optimizers)
    moves = simultaneous(optimizers, direction)

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        at = sample_field(game, world, key, opt_state, known)

        def step(point: Params, opt_state: OptState) -> Updated:
            here = at._replace(states=states_of(known, opt_state))
            moved, new_state, outcomes = dict(params), dict(opt_state), {}
            for player in known:
                moved[player], new_state[player], outcomes[player] = make_move(
                    here, player, directions[player], params, opt_state[player], point
                )
            return moved, new_state, outcomes

        ahead, ahead_state, _ = step(params, opt_state)
        return step(ahead, ahead_state if commit else opt_state)

    return Rule(moves.players, moves.init, update)
