"""Lookahead-minimax: every so often all players step back toward where they were (L1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gacf.game import Game, Rule
from gacf.rules.algebra import OptState, Updated
from gacf.rules.response import only
from gacf.types import Key, Params, World, require, whole


def lookahead(rule: Rule, period: int = 5, rate: float | jax.Array = 0.5) -> Rule:
    """The rule, and after each k-th update all its players step back together.

        every k updates:   slow ← slow + α (fast − slow),   fast ← slow

    All players are averaged jointly, after a whole update of the rule: `optax.lookahead` on each
    player's optimiser is something else where the players alternate. Optimiser states go on as
    they are. Updates are counted by `world["update"]`, so it belongs outside of `repeat`.
    No gradients of its own; memory is one copy of the params.

    Args:
        rule: any rule.
        period: k >= 1, static.
        rate: α, 0 to 1; may be traced.

    Raises:
        ValueError: a number out of bounds.

    Reference:
        Chavdarova et al. 2021 (lookahead-minmax).

    Example:
        >>> import gacf, optax
        >>> optimizers = {"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}
        >>> lookahead(gacf.rules.simultaneous(optimizers), period=6, rate=0.5).players
        ('actor', 'critic')
    """
    require("lookahead: period", period, whole, "a whole number >= 1")
    require("lookahead: rate", rate, lambda n: 0 <= n <= 1, "a number in [0, 1]")
    # lookaheads may be nested, or stand side by side: each needs an entry of its own
    entry = f"lookahead({', '.join(rule.players)}; {period})"

    def init(params: Params) -> OptState:
        # a copy: two names for one buffer could not both be donated
        return {**rule.init(params), entry: jax.tree.map(jnp.copy, only(params, rule.players))}

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        params, opt_state, outcomes = rule.update(game, params, world, opt_state, key)

        def back(fast: Params, slow: Params) -> tuple[Params, Params]:
            slow = jax.tree.map(lambda s, f: (s + rate * (f - s)).astype(s.dtype), slow, fast)
            return slow, slow

        due = (world["update"] + 1) % period == 0
        fast, slow = jax.lax.cond(
            due, back, lambda fast, slow: (fast, slow), only(params, rule.players), opt_state[entry]
        )
        return {**params, **fast}, {**opt_state, entry: slow}, outcomes

    return Rule(rule.players, init, update)
