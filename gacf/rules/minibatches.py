"""Minibatches: several passes over one batch, in pieces."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from gacf.core.checks import require, whole
from gacf.core.game import Game, Rule
from gacf.core.tracing import scan_last, scope
from gacf.core.types import Key, Outcome, Params, PyTree, World


def minibatches(rule: Rule, epochs: int, count: int) -> Rule:
    """Applies the rule to `count` pieces of one batch, in random order, `epochs` times over.

    The game is sampled once. Each pass orders the B examples of the batch, along the leading axis,
    anew and cuts them into pieces of B / count. When the rule samples the game, it gets the piece.
    Keys: `batch_key, order_key, update_key = split(key, 3)`.

    Args:
        rule: any rule.
        epochs: passes over the batch.
        count: pieces in a pass; it must divide B.

    Returns:
        A `Rule` that makes epochs · count updates and keeps the outcomes of the last one.

    Raises:
        ValueError: a number is below 1, or, while tracing, `count` does not divide the batch.

    Reference:
        Schulman et al. 2017, algorithm 1.

    Example:
        >>> import gacf, optax
        >>> step = gacf.rules.player_step("actor", optax.adam(1e-3))
        >>> minibatches(step, epochs=4, count=8).players
        ('actor',)
    """
    require("minibatches: epochs", epochs, whole, "a whole number >= 1")
    require("minibatches: count", count, whole, "a whole number >= 1")

    def update(
        game: Game, params: Params, world: World, opt_state: dict[str, PyTree], key: Key
    ) -> tuple[Params, dict[str, PyTree], dict[str, Outcome]]:
        batch_key, order_key, update_key = jax.random.split(key, 3)
        with scope("sample"):
            batch = game.sample(world, batch_key)
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(batch)}
        if len(sizes) != 1 or sizes == {()}:
            raise ValueError(f"minibatches: the batch has leading axes {sorted(sizes)}, not one")
        ((size,),) = sizes
        if size % count:
            raise ValueError(f"minibatches: count: {count} does not divide the batch of {size}")

        with scope("sample"):
            order = _orders(order_key, epochs, size).reshape(epochs * count, size // count)

        def once(carry: PyTree, x: tuple[jax.Array, Key]) -> tuple[PyTree, dict[str, Outcome]]:
            rows, key = x
            with scope("sample"):
                piece = jax.tree.map(lambda leaf: leaf[rows], batch)
            within = game._replace(sample=lambda world, key: piece)
            params, opt_state, outcomes = rule.update(within, carry[0], world, carry[1], key)
            return (params, opt_state), outcomes

        keys = jax.random.split(update_key, epochs * count)
        (params, opt_state), outcomes = scan_last(once, (params, opt_state), (order, keys))
        return params, opt_state, outcomes

    return Rule(rule.players, rule.init, update)


def _orders(key: Key, rows: int, size: int) -> jax.Array:
    """Uniformly random orders of 0 … size − 1, int32 [rows, size].

    A place and the random number by which it is sorted share one word: sorting words takes a
    twentieth of the time of `jax.random.permutation`, which took two fifths of PPO's time on a CPU.
    Places with equal numbers keep their order, and the bits that a word has left for the number (20
    for 4,096 places) may be too few to make that rare. Several rounds therefore shuffle one after
    the other, so many that two places tie in all of them with a probability of 1 / size at most.
    """
    width = (size - 1).bit_length()
    rounds = max(1, math.ceil(3 * width / (32 - width)))
    place = jnp.arange(size, dtype=jnp.uint32)[None]
    low = jnp.uint32(2**width - 1)
    orders = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (rows, size))
    for drawn in jax.random.bits(key, (rounds, rows, size), jnp.uint32):
        shuffled = jnp.sort((drawn & ~low) | place, axis=-1) & low
        orders = jnp.take_along_axis(orders, shuffled.astype(jnp.int32), axis=-1)
    return orders
