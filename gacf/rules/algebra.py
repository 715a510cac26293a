"""The algebra of rules: one atom and four combinators.

The atom is the pure training step of one player; `sequence`, `parallel`, `repeat` and `every` make
rules of rules. A rule's state is one flat dict with an entry for each player (`Move`: the state of
its optimiser and the memory of its direction), so two atoms that move one player share its moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require, shown, whole
from gacf.core.clock import updates_made
from gacf.core.game import Game, Rule
from gacf.core.tracing import scan_last, scope, trace_once
from gacf.core.types import Key, Outcome, Params, PyTree, World
from gacf.rules.direction import Direction, Field, advance, field, gradient
from gacf.rules.trained import Trained, trained_by

OptState = dict[str, Any]
Updated = tuple[Params, OptState, dict[str, Outcome]]


class Move(NamedTuple):
    """The state that the moves of one player keep.

    Attributes:
        optimizer: the optimiser's state.
        direction: the direction's memory.
        trained: which of the player's parameters the optimiser moves; no arrays.
    """

    optimizer: optax.OptState
    direction: PyTree
    trained: Trained


class Slow(NamedTuple):
    """The state that a `lookahead` keeps: the weights to which it steps back, one entry per player.

    It is a type of its own so that a `lookahead` around others can find their slow weights wherever
    the combinators put them.
    """

    params: Params


def extended(
    optimizers: Mapping[str, optax.GradientTransformation],
) -> dict[str, optax.GradientTransformationExtraArgs]:
    """The optimisers, each wrapped so that it accepts optax extra arguments.

    Raises:
        ValueError: one of them is not an optax transformation.
    """
    for name, each in optimizers.items():
        if not (hasattr(each, "init") and hasattr(each, "update")):
            raise ValueError(
                f"optimizers: {shown(each)} was given for {name!r}; allowed: an optax "
                "transformation, such as optax.adam(1e-3)"
            )
    return {name: optax.with_extra_args_support(each) for name, each in optimizers.items()}


def states_of(players: Iterable[str], opt_state: OptState) -> dict[str, optax.OptState]:
    """The live optimiser states of those players whose moves `opt_state` remembers."""
    return {name: opt_state[name].optimizer for name in players if name in opt_state}


def sample_field(
    game: Game,
    world: World,
    key: Key,
    opt_state: OptState,
    optimizers: Mapping[str, optax.GradientTransformationExtraArgs] | None = None,
) -> Field:
    """The game's field at a newly sampled batch: `batch_key, loss_key = split(key)`.

    Args:
        game: any game.
        world: the game's world.
        key: the key of this move.
        opt_state: the rule's state, from which the field learns what is trained.
        optimizers: the optimisers that the rule knows; the field also carries their live states.
    """
    batch_key, loss_key = jax.random.split(key)
    with scope("sample"):
        batch = game.sample(world, batch_key)
    known = optimizers or {}
    trained = {name: each.trained for name, each in opt_state.items() if isinstance(each, Move)}
    return field(game, world, batch, loss_key, known, states_of(known, opt_state), trained)


def make_move(
    at: Field,
    player: str,
    direction: Direction,
    params: Params,
    move: Move,
    point: Params | None = None,
) -> tuple[PyTree, Move, Outcome]:
    """One player steps from `params` along its direction at `point` (`params` by default).

    Returns:
        The player's new parameters, the new state of its moves, and the outcome.
    """
    with scope(player):
        vector, outcome, memory = direction.follow(
            at, player, params if point is None else point, move.direction
        )
    with scope("optimizer"):
        moved, state = advance(at, player, vector, outcome, params)
    return moved, Move(state, memory, move.trained), outcome


def player_step(
    player: str,
    optimizer: optax.GradientTransformation,
    direction: Direction | None = None,
    optimizers: Mapping[str, optax.GradientTransformation] | None = None,
) -> Rule:
    """The atom: one player moves one step along its direction.

        θ_i ← θ_i + optimizer(vector_i)

    Keys: `batch_key, loss_key = split(key)`. The optimiser receives optax extra arguments; see
    `gacf.rules.direction.advance`.

    Args:
        player: the player that moves.
        optimizer: any optax transformation.
        direction: which vector the player follows; its own gradient by default.
        optimizers: the transformations of all players, for directions that look through the steps
            of others (`unrolled`); the named schedules pass them on.

    Raises:
        ValueError: the game has no such player; raised by `compose` or `update`.

    Example:
        >>> import gacf, optax
        >>> rule = gacf.rules.sequence(
        ...     gacf.rules.repeat(gacf.rules.player_step("critic", optax.adam(1e-3)), 5),
        ...     gacf.rules.player_step("actor", optax.adam(1e-4)))
        >>> rule.players
        ('critic', 'actor')
    """
    direction = gradient() if direction is None else direction
    known = extended({**(optimizers or {}), player: optimizer})
    trained = trained_by(known[player])

    def init(params: Params) -> OptState:
        if player not in params:
            raise ValueError(
                f"player_step: {player!r} has no params; there are {', '.join(params)}"
            )
        own = params[player]
        memory = direction.init(player, params)
        return {player: Move(known[player].init(own), memory, trained(own))}

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        at = sample_field(game, world, key, opt_state, known)
        own, move, outcome = make_move(at, player, direction, params, opt_state[player])
        return {**params, player: own}, {**opt_state, player: move}, {player: outcome}

    return Rule((player,), init, update)


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name, numbered if it is taken."""
    names = [name, *(f"{name} {count}" for count in range(2, len(tuple(taken)) + 2))]
    return next(each for each in names if each not in taken)


def _places(rules: tuple[Rule, ...], params: Params) -> list[dict[str, str]]:
    """For each rule, where the entries of its state stand in the state of all of them.

    All moves of one player share its entry. Slow weights belong to a single `lookahead`, so another
    one with the same players and period gets a place of its own. The same rule given twice is one
    rule that is applied twice, as in `repeat`.
    """
    places: list[dict[str, str]] = []
    taken: set[str] = set()
    for i, rule in enumerate(rules):
        earlier = next((j for j in range(i) if rules[j] is rule), None)
        if earlier is not None:
            places.append(places[earlier])
            continue
        own: dict[str, str] = {}
        for name, entry in jax.eval_shape(rule.init, params).items():
            taken_here = taken.union(own.values())
            own[name] = free_name(name, taken_here) if isinstance(entry, Slow) else name
        places.append(own)
        taken.update(own.values())
    return places


def _update_at(
    places: dict[str, str],
    rule: Rule,
    game: Game,
    params: Params,
    world: World,
    opt_state: OptState,
    key: Key,
) -> Updated:
    """The rule's update, where its entries stand at these places of the state."""
    renamed = {name: place for name, place in places.items() if name != place}
    own_state = {**opt_state, **{name: opt_state[place] for name, place in renamed.items()}}
    params, own_state, outcomes = rule.update(game, params, world, own_state, key)
    return (
        params,
        {**opt_state, **{place: own_state[name] for name, place in places.items()}},
        outcomes,
    )


def _merge_states(rules: tuple[Rule, ...], params: Params) -> OptState:
    merged: OptState = {}
    for rule, places in zip(rules, _places(rules, params), strict=True):
        for own_name, entry in rule.init(params).items():
            name = places[own_name]
            if isinstance(entry, Move) and isinstance(merged.get(name), Move):
                both = merged[name].trained.joined(entry.trained)
                merged[name] = merged[name]._replace(trained=both)
                entry = entry._replace(trained=both)
            if name in merged and jax.tree.structure(merged[name]) != jax.tree.structure(entry):
                raise ValueError(
                    f"rule: {name!r} is moved by two optimisers or directions whose states differ; "
                    "give all steps of one player the same ones"
                )
            merged.setdefault(name, entry)
    return merged


def _check_rules(where: str, rules: Sequence[Rule]) -> None:
    """Raises a ValueError unless these are rules, and at least one."""
    require(where, rules, len, "at least one rule")
    for rule in rules:
        allowed = "rules, as player_step(player, optimizer) makes them"
        require(where, rule, lambda r: isinstance(r, Rule), allowed)


def sequence(*rules: Rule) -> Rule:
    """Applies one rule after the other, each on a fresh batch and to what the last one left.

    If a player moves several times, the outcome of its last move is kept.
    Keys: `split(key, len(rules))`.

    Example:
        >>> import gacf, optax
        >>> step = gacf.rules.player_step
        >>> sequence(step("critic", optax.sgd(0.1)), step("actor", optax.sgd(0.1))).players
        ('critic', 'actor')
    """
    _check_rules("sequence", rules)

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        outcomes: dict[str, Outcome] = {}
        keys = jax.random.split(key, len(rules))
        for rule, places, rule_key in zip(rules, _places(rules, params), keys, strict=True):
            params, opt_state, new = _update_at(
                places, rule, game, params, world, opt_state, rule_key
            )
            outcomes = {**outcomes, **new}
        return params, opt_state, outcomes

    players = tuple(dict.fromkeys(player for rule in rules for player in rule.players))
    return Rule(players, lambda params: _merge_states(rules, params), update)


def parallel(*rules: Rule) -> Rule:
    """Applies all rules from the same point, on the same batch and key; all moves count at once.

    Raises:
        ValueError: two of the rules move one player.

    Example:
        >>> import gacf, optax
        >>> step = gacf.rules.player_step
        >>> parallel(step("actor", optax.sgd(0.1)), step("critic", optax.sgd(0.1))).players
        ('actor', 'critic')
    """
    _check_rules("parallel", rules)
    players = tuple(player for rule in rules for player in rule.players)
    for player in players:
        if players.count(player) > 1:
            raise ValueError(f"parallel: two rules move {player!r}; put them in a `sequence`")

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        new_params, new_state = dict(params), dict(opt_state)
        outcomes: dict[str, Outcome] = {}
        for rule, places in zip(rules, _places(rules, params), strict=True):
            moved, state, new = _update_at(places, rule, game, params, world, opt_state, key)
            new_params |= {player: moved[player] for player in rule.players}
            new_state |= {place: state[place] for place in places.values()}
            outcomes |= new
        return new_params, new_state, outcomes

    return Rule(players, lambda params: _merge_states(rules, params), update)


def repeat(rule: Rule, n: int) -> Rule:
    """Applies the rule n times in a row, each time on a fresh batch, and keeps the last outcome.

    Keys: `split(key, n)`; `repeat(rule, 1)` is the rule itself.

    Raises:
        ValueError: n is not a whole number >= 1.

    Example:
        >>> import gacf, optax
        >>> repeat(gacf.rules.player_step("critic", optax.sgd(0.1)), 5).players
        ('critic',)
    """
    _check_rules("repeat", (rule,))
    require("repeat: n", n, whole, "a whole number >= 1")
    if n == 1:
        return rule

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        def once(carry: tuple[Params, OptState], key: Key) -> tuple[PyTree, dict[str, Outcome]]:
            params, opt_state = carry
            params, opt_state, outcomes = rule.update(game, params, world, opt_state, key)
            return (params, opt_state), outcomes

        keys = jax.random.split(key, n)
        (params, opt_state), outcomes = scan_last(once, (params, opt_state), keys)
        return params, opt_state, outcomes

    return Rule(rule.players, rule.init, update)


def every(n: int, rule: Rule) -> Rule:
    """Applies the rule at every n-th update: the n-th, the 2n-th, … (TD3's delay).

    In between, parameters, optimiser states and the world's entries stay as they are, nothing is
    computed, and the metrics of the rule's players are NaN (integers: 0).

    Raises:
        ValueError: n is not a whole number >= 1.

    Reference:
        Fujimoto, van Hoof & Meger 2018 (TD3).

    Example:
        >>> import gacf, optax
        >>> every(2, gacf.rules.player_step("actor", optax.sgd(0.1))).players
        ('actor',)
    """
    _check_rules("every", (rule,))
    require("every: n", n, whole, "a whole number >= 1")
    if n == 1:
        return rule

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        def move(params: Params, opt_state: OptState) -> Updated:
            return rule.update(game, params, world, opt_state, key)

        move, (_, _, shapes) = trace_once(move, params, opt_state)

        def unknown(metric: jax.ShapeDtypeStruct) -> jax.Array:
            value = jnp.nan if jnp.issubdtype(metric.dtype, jnp.inexact) else 0
            return jnp.full(metric.shape, value, metric.dtype)

        def rest(params: Params, opt_state: OptState) -> Updated:
            outcomes = {
                player: Outcome(
                    jax.tree.map(unknown, outcome.metrics),
                    {name: world[name] for name in outcome.world},
                )
                for player, outcome in shapes.items()
            }
            return params, opt_state, outcomes

        due = (updates_made(world) + 1) % n == 0
        return jax.lax.cond(due, move, rest, params, opt_state)

    return Rule(rule.players, rule.init, update)
