"""Games: who plays, what each player minimises, where evidence comes from (L0).

A multilevel problem is a dict of private losses, not one objective (Pfau & Vinyals 2016):

    outer   x* = argmin_x F(x, y*(x))        inner   y*(x) = argmin_y f(x, y)

Every loss has two slots for its own player's parameters: `own`, in which it is differentiated, and
`params[player]`, the same value held fixed. So

    field_i(params) = ∇_own loss_i(own=params[i], params)

is a function of all parameters that can be differentiated again, and nothing need be stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gacf.types import (
    MARK,
    Algorithm,
    Batch,
    Key,
    Loss,
    Metrics,
    Outcome,
    Params,
    PyTree,
    State,
    World,
    nearest,
    require,
    scan_last,
    shown,
    whole,
)

# Folded into a state's key for `evaluate`; the key itself moves on by `split`.
EVALUATION = 0x65766C


def commit(params: Params, world: World, outcomes: Mapping[str, Outcome]) -> World:
    """The default `settle`: the world with the entries that the step's outcomes renew."""
    del params
    for outcome in outcomes.values():
        world = {**world, **outcome.world}
    return world


def _observe_nothing(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
    del params, key
    return world, {}


def _sample_nothing(world: World, key: Key) -> Batch:
    del world, key
    return ()


def _evaluate_nothing(params: Params, world: World, key: Key) -> Metrics:
    del params, world, key
    return {}


class Game(NamedTuple):
    """A multilevel problem as a tuple of pure functions.

    Attributes:
        losses: player -> loss `(own, params, world, batch, key) -> (scalar, Outcome)`, in order.
        init: `key -> (params, world)`.
        observe: `(params, world, key) -> (world, metrics)`: act in the environment, once a step.
        sample: `(world, key) -> batch`: one batch serves all players, and the noise is in it.
        settle: `(params, world, outcomes) -> world`: commit what the step learned of the world.
        evaluate: `(params, world, key) -> metrics`: what a paper's table would report.
    """

    losses: dict[str, Loss]
    init: Callable[[Key], tuple[Params, World]]
    observe: Callable[[Params, World, Key], tuple[World, Metrics]] = _observe_nothing
    sample: Callable[[World, Key], Batch] = _sample_nothing
    settle: Callable[[Params, World, Mapping[str, Outcome]], World] = commit
    evaluate: Callable[[Params, World, Key], Metrics] = _evaluate_nothing


class Update(Protocol):
    """`(game, params, world, opt_state, key) -> (params, opt_state, outcomes)`."""

    def __call__(
        self, game: Game, params: Params, world: World, opt_state: dict[str, PyTree], key: Key
    ) -> tuple[Params, dict[str, PyTree], dict[str, Outcome]]: ...


class Rule(NamedTuple):
    """Who moves when, along which direction.

    Attributes:
        players: the players that the rule moves.
        init: `params -> opt_state`, a flat dict: an entry a player, more where a rule needs it.
        update: one move of each; reads the whole `opt_state`, changes the entries of its `init`.
    """

    players: tuple[str, ...]
    init: Callable[[Params], dict[str, PyTree]]
    update: Update


def check_player(game: Game, player: str, where: str) -> None:
    """Raises a ValueError with the nearest name if `player` has no loss in `game`."""
    if player not in game.losses:
        raise ValueError(f"{where}: {player!r} is no player; {nearest(player, game.losses)}")


def _strong(leaf: Any) -> jax.Array:
    """An array of fixed dtype: a weak one (a Python number's) could change on the first update."""
    return jnp.asarray(leaf, jnp.result_type(leaf))


def _learnable(leaf: Any) -> jax.Array:
    """A parameter: integers become floats, as gradients are."""
    try:
        kind = jnp.result_type(leaf)
    except TypeError:
        given = shown(leaf)
        raise ValueError(f"init: {given} was given as a parameter; allowed: arrays") from None
    number = jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.bool_)
    return jnp.asarray(leaf, jnp.result_type(float) if number else kind)


def _check_learnable(player: str, params: PyTree) -> None:
    """Raises a ValueError for parameters that have no gradient."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            name = player + jax.tree_util.keystr(path)
            raise ValueError(f"params: {name} is {leaf.dtype}; allowed: floating-point numbers")


def from_losses(
    init: Params | Callable[[Key], Params],
    losses: Mapping[str, Callable[[Params, Batch, Key], jax.Array]],
    sample: Callable[[Key], Batch] | None = None,
) -> Game:
    """A game from a dict of losses: one call, any number of players.

    Args:
        init: the params dict, or `key -> params`.
        losses: player -> `(params, batch, key) -> scalar`. Each is differentiated in its own
            player's entry alone; all other entries are held fixed.
        sample: `key -> batch`; without it the batch is the empty tuple.

    Returns:
        A `Game` with an empty world.

    Raises:
        ValueError: a player without parameters, or a loss that is not a scalar.

    Example:
        >>> import gacf, jax.numpy as jnp
        >>> game = gacf.from_losses(
        ...     {"actor": jnp.array(1.0), "critic": jnp.array(1.0)},
        ...     {"actor": lambda p, batch, key: p["actor"] * p["critic"],
        ...      "critic": lambda p, batch, key: -p["actor"] * p["critic"]})
        >>> sorted(game.losses)
        ['actor', 'critic']
    """

    def make(key: Key) -> tuple[Params, World]:
        made = init(key) if callable(init) else init
        params = {name: jax.tree.map(_learnable, entry) for name, entry in made.items()}
        for player in losses:
            if player not in params:
                raise ValueError(f"init: no parameters for {player!r}; {nearest(player, params)}")
        return params, {}

    def two_slots(player: str, loss: Callable[[Params, Batch, Key], jax.Array]) -> Loss:
        def two_slot_loss(
            own: PyTree, params: Params, world: World, batch: Batch, key: Key
        ) -> tuple[jax.Array, Outcome]:
            del world
            value = loss({**params, player: own}, batch, key)
            if jnp.shape(value) != ():
                raise ValueError(f"losses: that of {player!r} has shape {jnp.shape(value)}, not ()")
            return value, Outcome({}, {})

        return two_slot_loss

    if not callable(init):
        require("init", init, lambda given: given.items() and True, "a dict {player: parameters}")
    require(
        "losses", losses, lambda given: len(given.items()) > 0, "a dict with at least one player"
    )
    for player, loss in losses.items():
        require(f"losses: {player}", loss, callable, "a function (params, batch, key) -> scalar")
    require("sample", sample, lambda s: s is None or callable(s), "a function key -> batch")
    return Game(
        losses={player: two_slots(player, loss) for player, loss in losses.items()},
        init=make,
        sample=_sample_nothing if sample is None else lambda world, key: sample(key),
    )


def add_loss(game: Game, player: str, term: Callable[..., Any]) -> Game:
    """The game with `term` added to one player's loss: loss_i + term.

    Penalties, entropy, mutual information and feature matching are added so. The term sees the
    batch that the loss sees, and a key of its own.

    Args:
        game: any game.
        player: whose loss.
        term: a loss `(own, params, world, batch, key) -> (scalar, Outcome)`, or one that
            returns the scalar alone.

    Raises:
        ValueError: no such player, or a metric of the term's that the loss reports already.

    Example:
        >>> import gacf
        >>> game = gacf.from_losses(
        ...     {"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] ** 2})
        >>> def decay(own, params, world, batch, key):
        ...     return 0.5 * own ** 2
        >>> sorted(gacf.add_loss(game, "actor", decay).losses)
        ['actor']
    """
    check_player(game, player, "add_loss")
    base = game.losses[player]

    def loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        base_key, term_key = jax.random.split(key)
        value, outcome = base(own, params, world, batch, base_key)
        added = term(own, params, world, batch, term_key)
        extra, news = added if isinstance(added, tuple) else (added, Outcome({}, {}))
        for kind, old, new in (
            ("metric", outcome.metrics, news.metrics),
            ("world entry", outcome.world, news.world),
        ):
            if both := sorted(set(old) & set(new)):
                raise ValueError(f"add_loss: {kind} {both[0]!r} of {player!r} is reported already")
        merged = Outcome({**outcome.metrics, **news.metrics}, {**outcome.world, **news.world})
        return value + extra, merged

    return game._replace(losses={**game.losses, player: loss})


def add_player(game: Game, name: str, init: Callable[[Key], PyTree], loss: Loss) -> Game:
    """The game with one more player.

    Args:
        game: any game; its losses go on as they are.
        name: the new player's name.
        init: `key -> params` of the new player.
        loss: the new player's loss `(own, params, world, batch, key) -> (scalar, Outcome)`.

    Raises:
        ValueError: the name is taken.

    Example:
        >>> import gacf
        >>> game = gacf.from_losses(
        ...     {"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] ** 2})
        >>> def follow(own, params, world, batch, key):
        ...     return (own - params["actor"]) ** 2, gacf.Outcome({}, {})
        >>> sorted(gacf.add_player(game, "model", lambda key: 0.0, follow).losses)
        ['actor', 'model']
    """
    if name in game.losses:
        raise ValueError(f"add_player: {name!r} plays already; players: {', '.join(game.losses)}")

    def make(key: Key) -> tuple[Params, World]:
        base_key, own_key = jax.random.split(key)
        params, world = game.init(base_key)
        return {**params, name: init(own_key)}, world

    return game._replace(losses={**game.losses, name: loss}, init=make)


def compose(game: Game, rule: Rule, updates: int = 1, still: str | Sequence[str] = ()) -> Algorithm:
    """A game under a rule: observe once, then (update, settle) × updates.

    While a step runs the world holds two more entries, so that annealing, exploration and
    freezing can read them: `world["step"]`, steps made, and `world["update"]`, updates made.
    Keys: `key, observe_key, update_key = split(state.key, 3)`; with several updates,
    `split(update_key, updates)`.

    Every player has to be moved by the rule or named in `still`: one that was forgotten, such as
    SAC's temperature, would otherwise keep its initial parameters without a word.

    Args:
        game: any game.
        rule: any rule over its players.
        updates: updates a step, static.
        still: the player or players that the rule does not move and that shall keep their
            parameters.

    Returns:
        The `Algorithm`; its metrics are `player/name` for what a loss reports, and the bare names
        that `observe` and `evaluate` report.

    Raises:
        ValueError: the rule moves somebody who is no player of the game, or leaves a player where
            it is that `still` does not name; `still` names somebody who is no player or whom the
            rule moves; `updates` < 1; or (from `init`) the game's world has an entry of its own
            named "step" or "update".

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
        if taken := sorted(set(world) & {"step", "update"}):
            raise ValueError(f"world: {taken[0]!r} is the step counter's name; take another")
        params, world = jax.tree.map(_strong, (params, world))
        for player in rule.players:
            _check_learnable(player, params.get(player))
        opt_state = jax.tree.map(_strong, rule.init(params))
        return State(params, world, opt_state, state_key, jnp.zeros((), jnp.int32))

    def clocked(world: World, step: jax.Array, update: jax.Array | int) -> World:
        return {**world, "step": step, "update": step * updates + update}

    def unclocked(world: World) -> World:
        return {name: entry for name, entry in world.items() if name not in ("step", "update")}

    def step(state: State) -> tuple[State, Metrics]:
        key, observe_key, update_key = jax.random.split(state.key, 3)
        world = clocked(state.world, state.step, 0)
        with jax.named_scope(MARK + "observe"):
            world, metrics = game.observe(state.params, world, observe_key)
        world = unclocked(world)

        def once(carry: PyTree, x: tuple[jax.Array, Key]) -> tuple[PyTree, Metrics]:
            params, world, opt_state = carry
            index, key = x
            world = clocked(world, state.step, index)
            params, opt_state, outcomes = rule.update(game, params, world, opt_state, key)
            with jax.named_scope(MARK + "settle"):
                world = unclocked(game.settle(params, world, outcomes))
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
        world = clocked(state.world, state.step, 0)
        return game.evaluate(state.params, world, jax.random.fold_in(state.key, EVALUATION))

    return Algorithm(init, step, evaluate)
