"""Averaged parameters: evaluation by a slow copy of a player."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from gacf.core.checks import nearest, require
from gacf.core.clock import updates_made
from gacf.core.game import Game
from gacf.core.types import Key, Metrics, Outcome, Params, PyTree, World


def averaged(params: Params, world: World) -> Params:
    """The params with `world["ema"]` in place of the players that `ema` averages.

    Example:
        >>> averaged({"actor": 1.0, "critic": 2.0}, {"ema": {"actor": 0.5}})
        {'actor': 0.5, 'critic': 2.0}
    """
    return {**params, **world["ema"]}


def ema(
    game: Game,
    decay: float | jax.Array = 0.999,
    players: Sequence[str] = ("actor",),
    start: int | jax.Array = 0,
) -> Game:
    """The game that is evaluated with moving averages of some players' parameters.

        θ̄ ← decay θ̄ + (1 − decay) θ      after each update

    The generator or actor that is evaluated, and that `gacf.propose` asks, is then a slow copy,
    which swings less around an equilibrium. Training does not change: no loss sees the averages,
    which are in `world["ema"]`.
    Running statistics stay those of the live network.

    Args:
        game: any game.
        decay: in [0, 1]; 0 evaluates the live parameters. May be traced.
        players: the players whose parameters are averaged.
        start: the update, counted from 0, before which θ̄ is θ. May be traced.

    Raises:
        ValueError: a number is out of bounds, a player has no params, or `ema` was applied before.

    Reference:
        Yazıcı et al. 2019; Karras et al. 2018.

    Example:
        >>> import gacf, jax
        >>> game = gacf.from_losses(
        ...     {"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] ** 2})
        >>> _, world = ema(game).init(jax.random.key(0))
        >>> float(world["ema"]["actor"])
        1.0
    """
    require("decay", decay, lambda d: 0 <= d <= 1, "a number in [0, 1]")
    require("start", start, lambda n: n >= 0 and n == int(n), "a whole number >= 0")

    def init(key: Key) -> tuple[Params, World]:
        params, world = game.init(key)
        if "ema" in world:
            raise ValueError("ema: world['ema'] is taken; one call serves all players")
        for player in players:
            if player not in params:
                raise ValueError(
                    f"ema: players: {player!r} has no params; {nearest(player, params)}"
                )
        # a copy: two names for one buffer could not both be donated
        slow = {player: jax.tree.map(jnp.copy, params[player]) for player in players}
        return params, {**world, "ema": slow}

    def settle(params: Params, world: World, outcomes: Mapping[str, Outcome]) -> World:
        world = game.settle(params, world, outcomes)
        share = jnp.where(updates_made(world) < start, 0.0, decay)

        def average(slow: jax.Array, live: jax.Array) -> jax.Array:
            return (live + share * (slow - live)).astype(slow.dtype)

        live = {player: params[player] for player in players}
        return {**world, "ema": jax.tree.map(average, world["ema"], live)}

    def evaluate(params: Params, world: World, key: Key) -> Metrics:
        return game.evaluate(averaged(params, world), world, key)

    @functools.wraps(game.propose)
    def propose(params: Params, world: World, seen: PyTree, key: Key) -> PyTree:
        return game.propose(averaged(params, world), world, seen, key)

    return game._replace(init=init, settle=settle, evaluate=evaluate, propose=propose)
