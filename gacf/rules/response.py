"""Who leads, who follows, and the derivatives between them: what leaders' directions share.

x is the leader and minimises F(x, y); y are the followers, and f_y is their field. A leader's
loss is differentiated in its own slot and in the followers' parameters; a followers' field in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from gacf.core.checks import nearest
from gacf.core.types import Outcome, Params, PyTree
from gacf.rules.direction import Direction, Field

Followers = str | Sequence[str]
Lead = Callable[
    [Field, Params, PyTree, Mapping[str, optax.GradientTransformationExtraArgs], Mapping[str, Any]],
    tuple[PyTree, Outcome, PyTree],
]


def pair(where: str, leader: str, follower: Followers) -> tuple[str, ...]:
    """The followers' names as a tuple.

    Raises:
        ValueError: nobody follows, one follows twice, or the leader follows itself.
    """
    followers = (follower,) if isinstance(follower, str) else tuple(follower)
    if not followers or len(set(followers)) < len(followers) or leader in followers:
        raise ValueError(
            f"{where}: follower: {follower!r} was given with leader {leader!r}; "
            "allowed: one or more players, each once, other than the leader"
        )
    return followers


def directed(
    where: str,
    leader: str,
    followers: tuple[str, ...],
    lead: Lead,
    init: Callable[[Params], PyTree] = lambda params: (),
) -> Direction:
    """The direction that `lead` gives the leader; everybody else follows its own gradient.

    Args:
        where: the direction's name, for error messages.
        leader: who follows `lead`.
        followers: who responds.
        lead: `(field, params, memory, optimizers, opt_state) -> (vector, Outcome, memory)`.
        init: `params -> memory` of the leader.
    """

    def start(player: str, params: Params) -> PyTree:
        return init(params) if player == leader else ()

    def follow(
        field: Field,
        player: str,
        params: Params,
        memory: PyTree,
        optimizers: Mapping[str, optax.GradientTransformationExtraArgs],
        opt_state: Mapping[str, Any],
    ) -> tuple[PyTree, Outcome, PyTree]:
        for role, names in (("leader", (leader,)), ("follower", followers)):
            for name in names:
                if name not in field.players:
                    hint = nearest(name, field.players)
                    raise ValueError(f"{where}: {role}: {name!r} is no player; {hint}")
        if player != leader:
            vector, outcome = field.gradient(player, params)
            return vector, outcome, memory
        check_moved(where, field, followers)
        return lead(field, params, memory, optimizers, opt_state)

    return Direction(start, follow)


def check_moved(where: str, field: Field, followers: Sequence[str]) -> None:
    """Raises a ValueError if a follower's optimiser keeps all that the follower has."""
    for name in followers:
        if name in field.trained and not field.trained[name].anything():
            raise ValueError(
                f"{where}: follower: {name!r} was given, but its optimiser keeps all of its "
                "parameters as they are, so it has no response; allowed: one that moves some"
            )


def only(params: Params, players: Sequence[str]) -> Params:
    """The entries of those players."""
    return {player: params[player] for player in players}


def leader_gradients(
    field: Field, leader: str, followers: Sequence[str], params: Params
) -> tuple[PyTree, Params, Outcome]:
    """One gradient of the leader's loss, in its own slot and in the followers' parameters.

    Returns:
        F_x, F_y (an entry a follower; zero where its optimiser moves nothing), and the outcome.
    """

    def loss(own: PyTree, others: Params) -> tuple[jax.Array, Outcome]:
        return field.loss(leader, own, {**params, **others})

    (value, outcome), (own, others) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        params[leader], only(params, followers)
    )
    return own, field.kept(others), outcome._replace(metrics={"loss": value, **outcome.metrics})


def followers_field(
    field: Field, leader: str, followers: Sequence[str], params: Params
) -> Callable[[PyTree, Params], Params]:
    """The followers' field as a function of the leader's parameters and their own: f_y(x, y).

    Zero where a follower's optimiser moves nothing: such parameters are constants, and no part of
    the response. A product with the Jacobian's transpose has to pass through `field.kept` too.
    """

    def at(own: PyTree, others: Params) -> Params:
        here = {**params, **others, leader: own}
        return field.kept({player: field.gradient(player, here)[0] for player in followers})

    return at


def noted(outcome: Outcome, **metrics: jax.Array) -> Outcome:
    """The outcome with further metrics."""
    return outcome._replace(metrics={**outcome.metrics, **metrics})
