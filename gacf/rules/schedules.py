"""Schedules: who moves when. Each is a composition of the algebra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optax

from gacf.core.checks import nearest, require, shown, whole
from gacf.core.game import Rule
from gacf.rules.algebra import parallel, player_step, repeat, sequence
from gacf.rules.direction import Direction, gradient

Optimizers = Mapping[str, optax.GradientTransformation]
Directions = Direction | Mapping[str, Direction]


def chosen(optimizers: Optimizers, direction: Directions | None) -> dict[str, Direction]:
    """The direction of each player that has an optimiser; its own gradient by default.

    Raises:
        ValueError: no optimisers, or a direction for a player without one.
    """
    require(
        "optimizers",
        optimizers,
        lambda given: isinstance(given, Mapping) and given,
        "a dict with at least one player, {player: optax transformation}",
    )
    known = isinstance(direction, Direction) or direction is None
    if not known and not isinstance(direction, Mapping):
        raise ValueError(
            f"direction: {shown(direction)} was given; allowed: a direction, such as "
            "gacf.rules.unrolled(…), or a dict {player: direction}"
        )
    if isinstance(direction, Direction):
        return dict.fromkeys(optimizers, direction)
    for player in direction or {}:
        if player not in optimizers:
            raise ValueError(f"direction: no player {player!r}; {nearest(player, optimizers)}")
    return {player: (direction or {}).get(player, gradient()) for player in optimizers}


def _steps(optimizers: Optimizers, direction: Directions | None) -> dict[str, Rule]:
    """One `player_step` for each player, all of which know all optimisers."""
    directions = chosen(optimizers, direction)
    return {
        player: player_step(player, optimizer, directions[player], optimizers)
        for player, optimizer in optimizers.items()
    }


def simultaneous(optimizers: Optimizers, direction: Directions | None = None) -> Rule:
    """All players move at once from the same point, on the same batch: z ← z − η v(z).

    Args:
        optimizers: player -> optax transformation; players left out stay as they are, and have to
            be named in `compose(…, still=…)`.
        direction: one for all, or player -> direction; own gradients by default.

    Raises:
        ValueError: no optimisers, or a direction for a player without one.

    Reference:
        Mescheder, Nowozin & Geiger 2017: gradient steps on a bilinear game spiral outwards.

    Example:
        >>> import gacf, optax
        >>> simultaneous({"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}).players
        ('actor', 'critic')
    """
    return parallel(*_steps(optimizers, direction).values())


def alternating(
    optimizers: Optimizers,
    order: Sequence[str] | None = None,
    steps: Mapping[str, int] | None = None,
    direction: Directions | None = None,
) -> Rule:
    """The players move in turn, each on a fresh batch and from what the moves before it left.

        n × y ← y − η f_y(x, y),   then   x ← x − η F_x(x, y⁺)

    Args:
        optimizers: player -> optax transformation; players left out stay as they are, and have to
            be named in `compose(…, still=…)`.
        order: the players in the order in which they move; by default that of `optimizers` with
            `actor` last, as is usual for GANs and for actor-critic methods.
        steps: player -> number of its steps, each on a fresh batch; 1 for players left out.
        direction: one for all, or player -> direction; own gradients by default.

    Raises:
        ValueError: `order` is not a permutation of the players, or `steps` names another player or
            holds something other than whole numbers >= 1.

    Reference:
        Goodfellow et al. 2014, algorithm 1.

    Example:
        >>> import gacf, optax
        >>> alternating({"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}).players
        ('critic', 'actor')
    """
    moves = _steps(optimizers, direction)
    last = [player for player in ("actor",) if player in moves]
    turns = list(order or [player for player in moves if player not in last] + last)
    if sorted(turns) != sorted(moves):
        raise ValueError(f"order: {turns} was given; allowed: a permutation of {sorted(moves)}")
    if steps is not None:
        require("steps", steps, lambda s: isinstance(s, Mapping), "a dict {player: whole number}")
    for player, n in (steps or {}).items():
        if player not in moves:
            raise ValueError(f"steps: no player {player!r}; {nearest(player, moves)}")
        require(f"steps: {player}", n, whole, "a whole number >= 1")
    return sequence(*(repeat(moves[player], (steps or {}).get(player, 1)) for player in turns))
