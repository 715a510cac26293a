"""The handful of small types that everything in gacf uses.

Shape letters used throughout: S seeds, T steps, B batch, N environments, A actions,
O observation, Z noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.extend

PyTree = Any
Key = jax.Array
Params = dict[str, PyTree]
World = dict[str, PyTree]
Batch = PyTree
Metrics = dict[str, jax.Array]


class Outcome(NamedTuple):
    """The results of evaluating a loss, besides its value.

    Attributes:
        metrics: name -> scalar (or small array), for logging.
        world: the entries of the world that this evaluation renews (running statistics, …), with
            keys that belong to the loss's owner. `settle` commits them once per real step.
    """

    metrics: Metrics
    world: World


Loss = Callable[[PyTree, Params, World, Batch, Key], tuple[jax.Array, Outcome]]
"""`(own, params, world, batch, key) -> (scalar, Outcome)`, differentiated in `own` alone."""


class State(NamedTuple):
    """All that an interrupted run needs in order to go on bit for bit.

    Attributes:
        params: player -> what that player learns by gradient.
        world: owner -> what nobody learns by gradient.
        opt_state: the memory of the rule: one entry per player, and more if the rule needs it.
        key: typed PRNG key of this seed.
        step: steps made, int32 scalar; the one leaf without a seed axis (a batched counter
            turns every `lax.cond` on it into "run both branches").
    """

    params: Params
    world: World
    opt_state: dict[str, PyTree]
    key: Key
    step: jax.Array


def _no_proposal(state: State, seen: PyTree, key: Key) -> PyTree:
    del state, seen, key
    raise ValueError(
        "propose: this algorithm does not say how its actor acts; Algorithm(…, propose=…) says so: "
        "(state, seen, key) -> action"
    )


class Algorithm(NamedTuple):
    """A game under a rule: pure functions of one seed's state.

    Attributes:
        init: `key -> State`.
        step: `State -> (State, metrics)`.
        evaluate: `State -> metrics`; leaves the state alone.
        propose: `(State, seen, key) -> action`: the actor when nobody learns, see `gacf.propose`.
    """

    init: Callable[[Key], State]
    step: Callable[[State], tuple[State, Metrics]]
    evaluate: Callable[[State], Metrics]
    propose: Callable[[State, PyTree, Key], PyTree] = _no_proposal
