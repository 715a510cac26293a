"""Leaders, followers and the derivatives between them: the common parts of leaders' directions.

x is the leader and minimises F(x, y); y are the followers, and f_y is their field. A leader's
loss is differentiated in its own slot and in the followers' parameters; a followers' field in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from gacf.core.checks import nearest
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field, differentiate, select

Followers = str | Sequence[str]
Lead = Callable[[Field, Params, PyTree], tuple[PyTree, Outcome, PyTree]]


def as_followers(where: str, leader: str, follower: Followers) -> tuple[str, ...]:
    """The followers' names as a tuple.

    Raises:
        ValueError: there is no follower, one is named twice, or the leader is among them.
    """
    followers = (follower,) if isinstance(follower, str) else tuple(follower)
    if not followers or len(set(followers)) < len(followers) or leader in followers:
        raise ValueError(
            f"{where}: follower: {follower!r} was given with leader {leader!r}; "
            "allowed: one or more players, each once, other than the leader"
        )
    return followers


def led_by(
    where: str,
    leader: str,
    followers: tuple[str, ...],
    lead: Lead,
    init: Callable[[Params], PyTree] = lambda params: (),
) -> Direction:
    """The direction that `lead` gives the leader; every other player follows its own gradient.

    Args:
        where: the direction's name, for error messages.
        leader: the player that follows `lead`.
        followers: the players that respond.
        lead: `(field, params, memory) -> (vector, Outcome, memory)`.
        init: `params -> memory` of the leader.
    """

    def start(player: str, params: Params) -> PyTree:
        return init(params) if player == leader else ()

    def follow(
        field: Field, player: str, params: Params, memory: PyTree
    ) -> tuple[PyTree, Outcome, PyTree]:
        for role, names in (("leader", (leader,)), ("follower", followers)):
            for name in names:
                if name not in field.players:
                    hint = nearest(name, field.players)
                    raise ValueError(f"{where}: {role}: {name!r} is not a player; {hint}")
        if player != leader:
            vector, outcome = field.gradient(player, params)
            return vector, outcome, memory
        check_moved(where, field, followers)
        return lead(field, params, memory)

    return Direction(start, follow)


def check_moved(where: str, field: Field, followers: Sequence[str]) -> None:
    """Raises a ValueError if a follower's optimiser keeps all that the follower has."""
    for name in followers:
        if name in field.trained and not field.trained[name].moves_anything():
            raise ValueError(
                f"{where}: follower: {name!r} was given, but its optimiser keeps all of its "
                "parameters as they are, so it has no response; allowed: one that moves some"
            )


def leader_gradients(
    field: Field, leader: str, followers: Sequence[str], params: Params
) -> tuple[PyTree, Params, Outcome]:
    """One gradient of the leader's loss, in its own slot and in the followers' parameters.

    Returns:
        F_x, F_y (an entry for each follower; zero where its optimiser moves nothing), and the
        outcome.
    """

    def loss(both: tuple[PyTree, Params]) -> tuple[jax.Array, Outcome]:
        own, others = both
        return field.loss(leader, own, {**params, **others})

    (own, others), outcome = differentiate(loss, (params[leader], select(params, followers)))
    return own, field.movable(others), outcome


def followers_field(
    field: Field, leader: str, followers: Sequence[str], params: Params
) -> Callable[[PyTree, Params], Params]:
    """The followers' field as a function of the leader's parameters and their own: f_y(x, y).

    It is zero where a follower's optimiser moves nothing: such parameters are constants, and no
    part of the response.
    """

    def at(own: PyTree, others: Params) -> Params:
        here = {**params, **others, leader: own}
        return field.movable({player: field.gradient(player, here)[0] for player in followers})

    return at


def transposed_products(
    field: Field, leader: str, followers: Sequence[str], params: Params
) -> Callable[[Params], tuple[PyTree, Params]]:
    """Products with the transposed Jacobian of the followers' field: u -> (f_yxᵀ u, f_yyᵀ u)."""
    response = followers_field(field, leader, followers, params)
    _, pull = jax.vjp(response, params[leader], select(params, followers))

    def products(u: Params) -> tuple[PyTree, Params]:
        toward_leader, toward_followers = pull(u)
        return toward_leader, field.movable(toward_followers)

    return products
