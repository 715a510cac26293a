"""Games: who plays, what each player minimises, where evidence comes from.

A multilevel problem is a dict of private losses, not one objective (Pfau & Vinyals 2016):

    outer   x* = argmin_x F(x, y*(x))        inner   y*(x) = argmin_y f(x, y)

Every loss has two slots for its own player's parameters: `own`, in which it is differentiated, and
`params[player]`, the same value held fixed. So

    field_i(params) = ∇_own loss_i(own=params[i], params)

is a function of all parameters that can be differentiated again, without any stopped gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gacf.core.checks import nearest, require, shown
from gacf.core.types import (
    Batch,
    Key,
    Loss,
    Metrics,
    Outcome,
    Params,
    PyTree,
    World,
)


def commit(params: Params, world: World, outcomes: Mapping[str, Outcome]) -> World:
    """The default `settle`: the world with the entries that the outcomes of a step renew."""
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


def _propose_nothing(params: Params, world: World, seen: PyTree, key: Key) -> PyTree:
    del params, world, seen, key
    raise ValueError(
        "propose: this game does not say how its actor acts; game._replace(propose=…) says so: "
        "(params, world, seen, key) -> action"
    )


class Game(NamedTuple):
    """A multilevel problem as a tuple of pure functions.

    Attributes:
        losses: player -> loss `(own, params, world, batch, key) -> (scalar, Outcome)`, in order.
        init: `key -> (params, world)`.
        observe: `(params, world, key) -> (world, metrics)`: acts in the environment, once per step.
        sample: `(world, key) -> batch`: one batch, including its noise, serves all players.
        settle: `(params, world, outcomes) -> world`: commits what the step changed in the world.
        evaluate: `(params, world, key) -> metrics`: what the table of a paper would report.
        propose: `(params, world, seen, key) -> action`: the actor when nobody learns: a policy's
            action as its environment wants it, a generator's sample. See `gacf.propose`.
    """

    losses: dict[str, Loss]
    init: Callable[[Key], tuple[Params, World]]
    observe: Callable[[Params, World, Key], tuple[World, Metrics]] = _observe_nothing
    sample: Callable[[World, Key], Batch] = _sample_nothing
    settle: Callable[[Params, World, Mapping[str, Outcome]], World] = commit
    evaluate: Callable[[Params, World, Key], Metrics] = _evaluate_nothing
    propose: Callable[[Params, World, PyTree, Key], PyTree] = _propose_nothing


class Update(Protocol):
    """`(game, params, world, opt_state, key) -> (params, opt_state, outcomes)`."""

    def __call__(
        self, game: Game, params: Params, world: World, opt_state: dict[str, PyTree], key: Key
    ) -> tuple[Params, dict[str, PyTree], dict[str, Outcome]]: ...


class Rule(NamedTuple):
    """Who moves when, along which direction.

    Attributes:
        players: the players that the rule moves.
        init: `params -> opt_state`, a flat dict with an entry per player, and more if needed.
        update: moves each player once; it reads all of `opt_state` and changes its own entries.
    """

    players: tuple[str, ...]
    init: Callable[[Params], dict[str, PyTree]]
    update: Update


def check_player(game: Game, player: str, where: str) -> None:
    """Raises a ValueError with the nearest name if `player` has no loss in `game`."""
    if player not in game.losses:
        raise ValueError(f"{where}: {player!r} is not a player; {nearest(player, game.losses)}")


def _learnable(leaf: Any) -> jax.Array:
    """A parameter as an array; integers become floats, because gradients are floats."""
    try:
        kind = jnp.result_type(leaf)
    except TypeError:
        given = shown(leaf)
        raise ValueError(f"init: {given} was given as a parameter; allowed: arrays") from None
    number = jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.bool_)
    return jnp.asarray(leaf, jnp.result_type(float) if number else kind)


def from_losses(
    init: Params | Callable[[Key], Params],
    losses: Mapping[str, Callable[[Params, Batch, Key], jax.Array]],
    sample: Callable[[Key], Batch] | None = None,
) -> Game:
    """A game from a dict of losses: one call, any number of players.

    Args:
        init: the params dict, or `key -> params`.
        losses: player -> `(params, batch, key) -> scalar`. Each is differentiated with respect to
            its own player's entry alone; all other entries are held fixed.
        sample: `key -> batch`; without it the batch is the empty tuple.

    Returns:
        A `Game` with an empty world.

    Raises:
        ValueError: a player has no parameters, or a loss is not a scalar.

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
        initial = init(key) if callable(init) else init
        params = {name: jax.tree.map(_learnable, entry) for name, entry in initial.items()}
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
                raise ValueError(
                    f"losses: the loss of {player!r} has shape {jnp.shape(value)}; allowed: a "
                    "scalar, shape ()"
                )
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

    Penalties, entropy, mutual information and feature matching are added in this way. The term sees
    the same batch as the loss, and a key of its own.

    Args:
        game: any game.
        player: the player to whose loss the term is added.
        term: a loss `(own, params, world, batch, key) -> (scalar, Outcome)`, or one that
            returns the scalar alone.

    Raises:
        ValueError: there is no such player, or the term has a metric that the loss reports already.

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
        game: any game; its losses stay as they are.
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
        players = ", ".join(game.losses)
        raise ValueError(
            f"add_player: {name!r} is a player already; allowed: a name other than {players}"
        )

    def make(key: Key) -> tuple[Params, World]:
        base_key, own_key = jax.random.split(key)
        params, world = game.init(base_key)
        return {**params, name: init(own_key)}, world

    return game._replace(losses={**game.losses, name: loss}, init=make)
