"""A game under a rule becomes an `Algorithm`: `init`, `step`, `evaluate` and `propose`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.checks import require, whole
from gacf.core.clock import check_names, with_clock, without_clock
from gacf.core.game import Game, Rule, check_player
from gacf.core.tracing import scan_last, scope
from gacf.core.types import (
    Algorithm,
    Key,
    Metrics,
    PyTree,
    State,
)

# Folded into a state's key for `evaluate`; the key itself moves on by `split`.
EVALUATION = 0x65766C


def _strong(leaf: Any) -> jax.Array:
    """An array of fixed dtype: a weak dtype (of a Python number) could change in an update."""
    return jnp.asarray(leaf, jnp.result_type(leaf))


def _check_learnable(player: str, params: PyTree) -> None:
    """Raises a ValueError if some parameters cannot have a gradient."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            name = player + jax.tree_util.keystr(path)
            raise ValueError(f"params: {name} is {leaf.dtype}; allowed: floating-point numbers")


def compose(game: Game, rule: Rule, updates: int = 1, still: str | Sequence[str] = ()) -> Algorithm:
    """A game under a rule: observe once, then (update, settle) × updates.

    While a step runs the world holds a clock, so that annealing, exploration and freezing can read
    how many steps and updates have been made (`gacf.core.clock`).
    Keys: `key, observe_key, update_key = split(state.key, 3)`; with several updates,
    `split(update_key, updates)`.

    Every player must be moved by the rule or named in `still`. Otherwise a forgotten player, such
    as SAC's temperature, would silently keep its initial parameters.

    Args:
        game: any game.
        rule: any rule over its players.
        updates: the number of updates per step, static.
        still: the player or players that the rule does not move and that keep their parameters.

    Returns:
        The `Algorithm`; its metrics are `player/name` for what a loss reports, and the bare names
        that `observe` and `evaluate` report.

    Raises:
        ValueError: the rule moves a player that the game does not have, or leaves out a player that
            `still` does not name; `still` names an unknown player or one that the rule moves;
            `updates` < 1; or (from `init`) the game's world has an entry of its own with one of the
            clock's names.

    Example:
        >>> import gacf, jax, optax
        >>> game = gacf.from_losses(
        ...     {"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] ** 2})
        >>> algorithm = gacf.compose(game, gacf.rules.simultaneous({"actor": optax.sgd(0.25)}))
        >>> state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
        >>> float(state.params["actor"]), float(metrics["actor/loss"])
        (0.5, 1.0)
    """
    require("game", game, lambda g: isinstance(g, Game), "a Game, as in compose(game, rule)")
    require("rule", rule, lambda r: isinstance(r, Rule), "a Rule, as in compose(game, rule)")
    for player in rule.players:
        check_player(game, player, "compose: the rule")
    still = (still,) if isinstance(still, str) else tuple(still)
    for player in still:
        check_player(game, player, "compose: still")
        if player in rule.players:
            raise ValueError(
                f"compose: still: {player!r} was given, but the rule moves it; allowed: players "
                "that the rule does not move"
            )
    if forgotten := [name for name in game.losses if name not in (*rule.players, *still)]:
        names = ", ".join(map(repr, forgotten))
        raise ValueError(
            f"compose: the rule never moves {names}, which would keep the initial parameters; give "
            f"it an optimiser, or say still=({names},)"
        )
    require("updates", updates, whole, "a whole number >= 1")

    def init(key: Key) -> State:
        state_key, game_key = jax.random.split(key)
        params, world = game.init(game_key)
        check_names(world)
        params, world = jax.tree.map(_strong, (params, world))
        for player in rule.players:
            _check_learnable(player, params.get(player))
        opt_state = jax.tree.map(_strong, rule.init(params))
        return State(params, world, opt_state, state_key, jnp.zeros((), jnp.int32))

    def step(state: State) -> tuple[State, Metrics]:
        key, observe_key, update_key = jax.random.split(state.key, 3)
        world = with_clock(state.world, state.step, state.step * updates)
        with scope("observe"):
            world, metrics = game.observe(state.params, world, observe_key)
        world = without_clock(world)

        def once(carry: PyTree, x: tuple[jax.Array, Key]) -> tuple[PyTree, Metrics]:
            params, world, opt_state = carry
            index, key = x
            world = with_clock(world, state.step, state.step * updates + index)
            params, opt_state, outcomes = rule.update(game, params, world, opt_state, key)
            with scope("settle"):
                world = without_clock(game.settle(params, world, outcomes))
            return (params, world, opt_state), {
                f"{player}/{name}": value
                for player, outcome in outcomes.items()
                for name, value in outcome.metrics.items()
            }

        carry = (state.params, world, state.opt_state)
        if updates == 1:
            carry, learned = once(carry, (jnp.zeros((), jnp.int32), update_key))
        else:
            order = (jnp.arange(updates, dtype=jnp.int32), jax.random.split(update_key, updates))
            carry, learned = scan_last(once, carry, order)
        return State._make((*carry, key, state.step + 1)), {**metrics, **learned}

    def evaluate(state: State) -> Metrics:
        world = with_clock(state.world, state.step, state.step * updates)
        return game.evaluate(state.params, world, jax.random.fold_in(state.key, EVALUATION))

    @functools.wraps(game.propose)  # also hands on its attributes: the environment, the noise
    def propose(state: State, seen: PyTree, key: Key) -> PyTree:
        world = with_clock(state.world, state.step, state.step * updates)
        return game.propose(state.params, world, seen, key)

    return Algorithm(init, step, evaluate, propose)
