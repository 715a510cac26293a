"""Lookahead-minimax: once in every period all players step back toward where they were."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gacf.core.checks import require, whole
from gacf.core.clock import updates_made
from gacf.core.game import Game, Rule
from gacf.core.tracing import scope
from gacf.core.types import Key, Params, World
from gacf.rules.algebra import OptState, Slow, Updated, free_name
from gacf.rules.direction import select


def lookahead(rule: Rule, period: int = 5, rate: float | jax.Array = 0.5) -> Rule:
    """Applies the rule, and after every k-th update all its players step back together.

        every k updates:   slow ← slow + α (fast − slow),   fast ← slow

    All players are averaged jointly, after a whole update of the rule; `optax.lookahead` on each
    player's optimiser does something else where the players alternate. Optimiser states stay as
    they are. Lookaheads inside the rule, at any depth, step back too: their slow weights become the
    new fast ones (nested lookahead-minmax). Updates are counted by the clock, so this belongs
    outside of `repeat`. It needs no gradients, and memory for one copy of the parameters.

    Args:
        rule: any rule.
        period: k >= 1, static.
        rate: α, 0 to 1; may be traced.

    Raises:
        ValueError: a number is out of bounds.

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

    def inner(params: Params) -> OptState:
        """The shapes of the inner rule's state, which may hold slow weights of its own."""
        return jax.eval_shape(rule.init, params)

    def entry(within: OptState) -> str:
        return free_name(f"lookahead({', '.join(rule.players)}; {period})", within)

    def init(params: Params) -> OptState:
        within = rule.init(params)
        # a copy: two names for one buffer could not both be donated
        slow = Slow(jax.tree.map(jnp.copy, select(params, rule.players)))
        return {**within, entry(within): slow}

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        within = inner(params)
        own = entry(within)
        params, opt_state, outcomes = rule.update(game, params, world, opt_state, key)
        slows = {
            name: opt_state[name]
            for name in (own, *(name for name, each in within.items() if isinstance(each, Slow)))
        }

        def back(fast: Params, slows: dict[str, Slow]) -> tuple[Params, dict[str, Slow]]:
            slow = jax.tree.map(
                lambda s, f: (s + rate * (f - s)).astype(s.dtype), slows[own].params, fast
            )
            # the inner levels start anew from there, or they would pull away from it at once
            return slow, {
                name: Slow(select(slow, tuple(each.params))) for name, each in slows.items()
            }

        due = (updates_made(world) + 1) % period == 0
        with scope("lookahead"):
            fast, slows = jax.lax.cond(
                due, back, lambda fast, slows: (fast, slows), select(params, rule.players), slows
            )
        return {**params, **fast}, {**opt_state, **slows}, outcomes

    return Rule(rule.players, init, update)
