"""Target networks: losses that read slow copies of some players' parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from gacf.core.checks import nearest, require
from gacf.core.clock import updates_made
from gacf.core.game import Game, check_player
from gacf.core.types import Batch, Key, Loss, Outcome, Params, PyTree, World

READS = {"critic": ("actor", "critic")}


@jax.custom_jvp
def _slow_value(slow: jax.Array, live: jax.Array) -> jax.Array:
    del live
    return slow


@_slow_value.defjvp
def _live_tangent(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    slow, _ = primals
    return slow, tangents[0] + tangents[1].astype(slow.dtype)


def with_live_tangent(slow: PyTree, live: PyTree) -> PyTree:
    """The slow value with the live one's derivative: slow + (live − stop_gradient(live)).

    Implicit directions differentiate a field through the parameters that its target reads. Through
    a stopped copy the total derivative would collapse to the partial one. If nothing differentiates
    it, the difference is not computed, which saves a pass over all parameters in every loss.
    """
    return jax.tree.map(_slow_value, slow, live)


def target_networks(
    game: Game,
    rate: float | jax.Array = 0.005,
    period: int | jax.Array | None = None,
    reads: Mapping[str, Sequence[str]] = READS,
) -> Game:
    """The game whose losses read slow copies θ̄ in their `params` slot; `own` stays live.

        θ̄ ← θ̄ + rate (θ − θ̄) after each update,   or   θ̄ ← θ every `period` updates

    A TD target bootstraps from a slow critic and a slow actor; a GAN's critic, whose target is a
    label, learns from a slow generator's images. The copies are in `world["slow"]`; the losses see
    their values, with the derivatives of the live parameters. Evaluation does not change.

    Args:
        game: any game, also a GAN.
        rate: the rate of the moving average; not used if `period` is given. 1 is off, to the bit,
            for readers that move together with or before the players that they read. May be traced.
        period: the number of updates between two hard copies, counted from 1. May be traced.
        reads: player -> the players whose slow copies its loss sees.

    Raises:
        ValueError: a reader is not a player of the game, a player that is read has no params, or a
            number is out of bounds.

    Reference:
        Mnih et al. 2015 (periodic); Lillicrap et al. 2016, eq. 7 in the supplement (average).

    Example:
        >>> import gacf, jax
        >>> game = gacf.from_losses(
        ...     {"actor": 1.0, "critic": 2.0},
        ...     {"actor": lambda p, batch, key: p["actor"] * p["critic"],
        ...      "critic": lambda p, batch, key: -p["actor"] * p["critic"]})
        >>> params, world = target_networks(game, rate=0.1).init(jax.random.key(0))
        >>> {player: float(slow) for player, slow in world["slow"].items()}
        {'actor': 1.0, 'critic': 2.0}
    """
    for reader in reads:
        check_player(game, reader, "target_networks: reads")
    require("rate", rate, lambda r: 0 <= r <= 1, "a number in [0, 1]")
    if period is not None:
        require("period", period, lambda n: n >= 1 and n == int(n), "a whole number >= 1")
    copied = tuple(dict.fromkeys(name for names in reads.values() for name in names))

    def init(key: Key) -> tuple[Params, World]:
        params, world = game.init(key)
        for name in copied:
            if name not in params:
                raise ValueError(
                    f"target_networks: reads: {name!r} has no params; {nearest(name, params)}"
                )
        if "slow" in world:
            raise ValueError("target_networks: world['slow'] is taken; one call serves all readers")
        # a copy: two names for one buffer could not both be donated
        slow = {name: jax.tree.map(jnp.copy, params[name]) for name in copied}
        return params, {**world, "slow": slow}

    def reading(reader: str, loss: Loss) -> Loss:
        def slow_loss(
            own: PyTree, params: Params, world: World, batch: Batch, key: Key
        ) -> tuple[jax.Array, Outcome]:
            slow = {
                name: with_live_tangent(world["slow"][name], params[name]) for name in reads[reader]
            }
            return loss(own, {**params, **slow}, world, batch, key)

        return slow_loss

    def settle(params: Params, world: World, outcomes: Mapping[str, Outcome]) -> World:
        world = game.settle(params, world, outcomes)

        def average(slow: jax.Array, live: jax.Array) -> jax.Array:
            moved = (slow + rate * (live - slow)).astype(slow.dtype)
            return jnp.where(rate == 1, live, moved)

        def copy(slow: jax.Array, live: jax.Array) -> jax.Array:
            assert period is not None
            return jnp.where((updates_made(world) + 1) % period == 0, live, slow)

        live = {name: params[name] for name in copied}
        move = average if period is None else copy
        return {**world, "slow": jax.tree.map(move, world["slow"], live)}

    losses = {
        player: reading(player, loss) if player in reads else loss
        for player, loss in game.losses.items()
    }
    return game._replace(losses=losses, init=init, settle=settle)
