"""Experience replay: batches come from a buffer of past experience."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gacf.core.checks import require
from gacf.core.clock import with_clock, without_clock
from gacf.core.game import Game
from gacf.core.rows import where_rows
from gacf.core.types import Batch, Key, Metrics, Params, PyTree, World
from gacf.stabilizers import buffer as ring

Record = Callable[[Params, World, Batch, Key], PyTree]
Join = Callable[[Batch, PyTree], Batch]
# Folded into the game's keys where it goes on with them, as if alone.
REPLAY = 0x72706C79


def mixed(share: float | jax.Array) -> Join:
    """A `join` for `replay`: a share of the batch is past experience, the rest is fresh.

    Args:
        share: in [0, 1]; 0 is the game without replay, to the bit. May be traced.

    Returns:
        `(fresh, stored) -> batch`, for two batches of the same structure with leaves [B, …]. The
        first round(share · B) examples of the result are stored ones.

    Raises:
        ValueError: the share is out of bounds.

    Reference:
        Shrivastava et al. 2017, section 2.3 (half of a GAN's batch is history).

    Example:
        >>> import jax.numpy as jnp
        >>> mixed(0.5)(jnp.zeros(4), jnp.ones(4)).tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    require("share", share, lambda s: 0 <= s <= 1, "a number in [0, 1]")

    def pick(fresh: jax.Array, stored: jax.Array) -> jax.Array:
        is_stored = jnp.arange(len(fresh)) < jnp.round(share * len(fresh))
        return where_rows(is_stored, stored, fresh)

    return lambda fresh, stored: jax.tree.map(pick, fresh, stored)


def replay(
    game: Game,
    capacity: int,
    batch_size: int,
    warmup: int = 0,
    record: Record | None = None,
    join: Join | None = None,
) -> Game:
    """The game whose batches are drawn from a ring buffer of past experience.

    After each `observe` of the game, the batch that its `sample` yields, leaves [N, …], is added to
    `world["buffer"]`; the new `sample` draws `batch_size` items from it, uniformly with
    replacement. Initialisation observes and adds `warmup` times with the first parameters. During
    this the clock counts from -warmup to -1, so that exploration can act at random.

    An actor-critic method then learns from each transition many times, in random order. The ages in
    a batch are uniform over those in the buffer. For a GAN, `record` its own samples and `join`
    them as the `action` that its critic judges: the critic then remembers past generators.

        replay(gan, 10_000, B, record=lambda params, world, batch, key: {"action": made},
               join=lambda fresh, stored: {**fresh, **stored})

    Args:
        game: any game whose `observe` puts fresh experience into the world, and whose `sample`
            yields it.
        capacity: the number of items that the buffer holds.
        batch_size: the number of items per batch, B.
        warmup: the number of observations before the first step.
        record: `(params, world, batch, key) -> items [N, …]`: what to store instead of the batch,
            for instance a GAN's own samples.
        join: `(fresh, stored) -> batch`: makes the batch that the losses see from the game's own
            batch and the B items drawn, for instance `mixed(0.5)`; by default the drawn items
            alone. With it the game keeps its own keys, so that its batches are the same as without
            replay.

    Raises:
        ValueError: a number is out of bounds, or the game has a buffer already.

    Reference:
        Lin 1992; Mnih et al. 2015.

    Example:
        >>> import gacf, jax
        >>> game = gacf.from_losses(
        ...     {"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] * batch.mean()},
        ...     sample=lambda key: jax.random.normal(key, (4,)))
        >>> _, world = replay(game, capacity=100, batch_size=8, warmup=5).init(jax.random.key(0))
        >>> int(world["buffer"].size)
        20
    """
    require("capacity", capacity, lambda n: n >= 1 and n == int(n), "a whole number >= 1")
    require("batch_size", batch_size, lambda n: n >= 1 and n == int(n), "a whole number >= 1")
    require("warmup", warmup, lambda n: n >= 0 and n == int(n), "a whole number >= 0")

    def split_key(key: Key) -> tuple[Key, Key]:
        """A key for the game, and one for the buffer."""
        if join is None:
            game_key, own_key = jax.random.split(key)
            return game_key, own_key
        return key, jax.random.fold_in(key, REPLAY)

    def fresh(params: Params, world: World, key: Key) -> PyTree:
        batch_key, record_key = jax.random.split(key)
        batch = game.sample(world, batch_key)
        return batch if record is None else record(params, world, batch, record_key)

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        inner_key, fresh_key = split_key(key)
        world, metrics = game.observe(params, world, inner_key)
        items = fresh(params, world, fresh_key)
        return {**world, "buffer": ring.add(world["buffer"], items)}, metrics

    def init(key: Key) -> tuple[Params, World]:
        game_key, warm_key = split_key(key)
        params, world = game.init(game_key)
        if "buffer" in world:
            raise ValueError(
                "replay: world['buffer'] is taken; the game has a replay buffer already"
            )

        def warm(world: World, x: tuple[jax.Array, Key]) -> tuple[World, None]:
            step, key = x
            world, _ = observe(params, with_clock(world, step), key)
            return without_clock(world), None

        items = jax.eval_shape(fresh, params, with_clock(world), warm_key)
        item = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), items)
        world = {**world, "buffer": ring.init(item, capacity)}
        if warmup:
            steps = jnp.arange(-warmup, 0, dtype=jnp.int32)
            world, _ = jax.lax.scan(warm, world, (steps, jax.random.split(warm_key, warmup)))
        return params, world

    def sample(world: World, key: Key) -> Batch:
        if join is None:
            return ring.sample(world["buffer"], key, batch_size)
        fresh_key, stored_key = split_key(key)
        stored = ring.sample(world["buffer"], stored_key, batch_size)
        return join(game.sample(world, fresh_key), stored)

    return game._replace(init=init, observe=observe, sample=sample)
