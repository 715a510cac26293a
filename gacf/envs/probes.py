"""Probe environments: so small that every value in them is known.

Each asks one question, and together they tell wiring errors apart: if a method fails one of them
and passes those above it in this file, the docstring of the failing one describes the error.

In all of them, the reward of an action does not depend on later actions. So Q below holds for every
policy, and V(o) = E_a Q(o, a) for the policy in question. Where actions matter, the V given is that
of the best policy. `value`, `action_value` and `best_action` are these as functions.

Actions are [1] in [−1, 1], or 0 and 1 with `actions="discrete"`. Where an action a matters, there
is a goal g, and the reward is given by the action's

    merit(a; g) = 1 − (a − g)²         or 1 where a = [g > 0] and 0 elsewhere, if discrete

Reference:
    Jones (2021), Debugging RL, without the agonizing pain: probe environments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import lookup, require, whole
from gacf.core.types import Key
from gacf.envs.types import Box, Discrete, Environment, Space, Timestep, restart


class ProbeState(NamedTuple):
    """The state of a probe.

    Attributes:
        observation: the observation, [O].
        time: steps since the start, int32 scalar.
    """

    observation: jax.Array
    time: jax.Array


class Probe(NamedTuple):
    """The definition of a probe, with its true values; o is [..., O].

    Attributes:
        start: `key -> o`.
        reward: `(o, action) -> r`.
        value: `(γ, o) -> V(o)`.
        move: `(o, action) -> o'`.
        last: `o -> bool`: whether the step from o ends the episode for good.
        goal: `o -> g(o)`, or None if actions do not matter.
        length: the largest number of steps of an episode.
    """

    start: Callable[[Key], jax.Array]
    reward: Callable[[jax.Array, jax.Array], jax.Array]
    value: Callable[[Any, jax.Array], jax.Array]
    move: Callable[[jax.Array, jax.Array], jax.Array] = lambda o, a: o
    last: Callable[[jax.Array], jax.Array] = lambda o: jnp.ones(o.shape[:-1], bool)
    goal: Callable[[jax.Array], jax.Array] | None = None
    length: int = 1


def _merit(goal: jax.Array, action: jax.Array) -> jax.Array:
    if jnp.issubdtype(action.dtype, jnp.integer):
        return (action == (goal > 0)).astype(jnp.float32)
    return 1 - (action[..., 0] - goal) ** 2


def _one(key: Key) -> jax.Array:
    return jnp.ones(1)


def _sign(key: Key) -> jax.Array:
    return jax.random.rademacher(key, (1,), jnp.float32)


def _half(o: jax.Array) -> jax.Array:
    return jnp.full(o.shape[:-1], 0.5)


def _best(discount: Any, o: jax.Array) -> jax.Array:
    return jnp.ones(o.shape[:-1])


def _is_plus(o: jax.Array) -> jax.Array:
    return (1 + o[..., 0]) / 2


def _remember(o: jax.Array, action: jax.Array) -> jax.Array:
    time, merit = o[..., 0], o[..., 1]
    merit = jnp.where(time < 0, _merit(_half(o), action), merit)
    return jnp.stack([time + 1, merit], -1)


def _flips(truncates: bool) -> Probe:
    """The two probes that differ only in how they end."""
    return Probe(
        start=_sign,
        reward=lambda o, a: _is_plus(o),
        value=lambda discount, o: (
            discount ** (1 - _is_plus(o)) / (1 - discount**2) if truncates else _is_plus(o)
        ),
        move=lambda o, a: -o,
        last=lambda o: jnp.full(o.shape[:-1], not truncates),
    )


PROBES = {
    "probe-constant": Probe(start=_one, reward=lambda o, a: o[..., 0], value=_best),
    "probe-observation": Probe(
        start=_sign, reward=lambda o, a: o[..., 0], value=lambda discount, o: o[..., 0]
    ),
    "probe-action": Probe(
        start=_one, reward=lambda o, a: _merit(_half(o), a), value=_best, goal=_half
    ),
    "probe-match": Probe(
        start=_sign,
        reward=lambda o, a: _merit(o[..., 0] / 2, a),
        value=_best,
        goal=lambda o: o[..., 0] / 2,
    ),
    "probe-discount": Probe(
        start=lambda key: jnp.zeros(1),
        reward=lambda o, a: o[..., 0],
        value=lambda discount, o: discount ** (1 - o[..., 0]),
        move=lambda o, a: o + 1,
        last=lambda o: o[..., 0] > 0.5,
        length=2,
    ),
    "probe-delayed": Probe(
        start=lambda key: jnp.array([-1.0, 0.0]),
        reward=lambda o, a: jnp.where(o[..., 0] > 0.5, o[..., 1], 0),
        value=lambda discount, o: (
            discount ** (1 - o[..., 0]) * jnp.where(o[..., 0] < -0.5, 1, o[..., 1])
        ),
        move=_remember,
        last=lambda o: o[..., 0] > 0.5,
        goal=_half,
        length=3,
    ),
    "probe-termination": _flips(truncates=False),
    "probe-truncation": _flips(truncates=True),
}


def _space(actions: str) -> Space:
    kinds = {"continuous": Box((1,), -jnp.ones(1), jnp.ones(1)), "discrete": Discrete(2)}
    return lookup("actions", actions, kinds)


def _environment(name: str, actions: str, length: int | None = None) -> Environment:
    probe = PROBES[name]
    length = probe.length if length is None else length
    require("length", length, whole, "a whole number >= 1")

    def reset(key: Key) -> tuple[ProbeState, jax.Array]:
        start = probe.start(key)
        return ProbeState(start, jnp.zeros((), jnp.int32)), start

    def step(key: Key, state: ProbeState, action: jax.Array) -> tuple[ProbeState, Timestep]:
        o, action = state.observation, jnp.asarray(action)
        reached = ProbeState(probe.move(o, action), state.time + 1)
        terminated = probe.last(o)
        truncated = ~terminated & (reached.time >= length)
        state = restart(terminated | truncated, reset(key)[0], reached)
        return state, Timestep(
            observation=state.observation,
            next_observation=reached.observation,
            reward=jnp.asarray(probe.reward(o, action), jnp.float32),
            terminated=terminated,
            truncated=truncated,
        )

    with jax.ensure_compile_time_eval():
        size = probe.start(jax.random.key(0)).shape
        everywhere = jnp.full(size, jnp.inf, jnp.float32)
        observations = Box(size, -everywhere, everywhere)
        action_space = _space(actions)
    return Environment(name, reset, step, observations, action_space, length)


def value(name: str, discount: Any, observation: Any) -> jax.Array:
    """V(o) of the best policy.

    Args:
        name: the name of the probe.
        discount: γ.
        observation: o, [..., O].

    Returns:
        [...].

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> import numpy as np
        >>> float(value("probe-discount", 0.5, np.zeros(1)))
        0.5
    """
    return lookup("name", name, PROBES).value(discount, jnp.asarray(observation, jnp.float32))


def action_value(name: str, discount: Any, observation: Any, action: Any) -> jax.Array:
    """Q(o, a) = r(o, a) + γ V(o'), or r(o, a) alone where the episode is terminated.

    Args:
        name: the name of the probe.
        discount: γ.
        observation: o, [..., O].
        action: a, [..., 1] if it is a float, [...] if it is a whole number.

    Returns:
        [...].

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> import numpy as np
        >>> float(action_value("probe-action", 0.5, np.ones(1), np.zeros(1)))
        0.75
    """
    probe = lookup("name", name, PROBES)
    o, a = jnp.asarray(observation, jnp.float32), jnp.asarray(action)
    later = jnp.where(probe.last(o), 0, discount * probe.value(discount, probe.move(o, a)))
    return probe.reward(o, a) + later


def best_action(name: str, observation: Any, actions: str = "continuous") -> jax.Array | None:
    """The action with the highest value.

    Args:
        name: the name of the probe.
        observation: o, [..., O].
        actions: "continuous" or "discrete".

    Returns:
        [..., 1] if it is continuous, [...] if it is discrete; None if actions do not matter.

    Raises:
        ValueError: the name or the kind of actions is unknown.

    Example:
        >>> import numpy as np
        >>> best_action("probe-match", -np.ones(1)).tolist()
        [-0.5]
    """
    goal = lookup("name", name, PROBES).goal
    discrete = isinstance(_space(actions), Discrete)
    if goal is None:
        return None
    best = goal(jnp.asarray(observation, jnp.float32))
    return (best > 0).astype(jnp.int32) if discrete else best[..., None]


def constant(actions: str = "continuous") -> Environment:
    """Reward 1, then the end: is anything learned at all?

        o = 1,   V = Q = 1

    A method that bootstraps after the end learns 1/(1−γ).
    """
    return _environment("probe-constant", actions)


def observation(actions: str = "continuous") -> Environment:
    """The reward is the observation, ±1, then the end: does the critic see?

        V(o) = Q(o, a) = o

    A critic that does not see the observation learns 0.
    """
    return _environment("probe-observation", actions)


def action(actions: str = "continuous") -> Environment:
    """The reward is the action's merit, then the end: does the actor climb, and the critic see it?

        o = 1,   g = ½,   Q(a) = merit(a; ½),   V = 1

    The best action is ½, or 1 if they are discrete.
    """
    return _environment("probe-action", actions)


def match(actions: str = "continuous") -> Environment:
    """The merit depends on the observation, ±1, then the end: do action and observation match?

        g(o) = o/2,   Q(o, a) = merit(a; o/2),   V(o) = 1

    The best action is o/2, or [o > 0] if they are discrete.
    """
    return _environment("probe-match", actions)


def discount(actions: str = "continuous") -> Environment:
    """Reward 0, then 1, then the end: what is the discount?

        o = 0, then 1;   V(o) = Q(o, a) = γ^(1−o)

    At the start, V is the discount itself; a method that does not bootstrap learns 0.
    """
    return _environment("probe-discount", actions)


def delayed(actions: str = "continuous") -> Environment:
    """The first action's merit is paid two steps later: does credit travel back?

        o = (−1, 0), then (0, m), then (1, m),   m = merit(a_0; ½),   rewards 0, 0, m
        Q((−1, 0), a) = γ² merit(a; ½),   V((−1, 0)) = γ²,   V((t, m)) = Q((t, m), a) = γ^(1−t) m

    The best first action is ½, or 1 if they are discrete; the two later ones do nothing.
    """
    return _environment("probe-delayed", actions)


def termination(actions: str = "continuous") -> Environment:
    """The rewards of "probe-truncation" with a true end: is nothing added after it?

        V(o) = Q(o, a) = [o = 1]

    A method that bootstraps after the end learns the values of "probe-truncation".
    """
    return _environment("probe-termination", actions)


def truncation(actions: str = "continuous", length: int = 1) -> Environment:
    """Reward 1 at o = 1 and 0 at o = −1, o' = −o, cut short: does the target go on past the cut?

        V(o) = Q(o, a) = [o = 1] + γ V(−o),   V(1) = 1/(1−γ²),   V(−1) = γ/(1−γ²)

    The next episode starts at ±1, at random. So with one step to the cut, a method that bootstraps
    from the first observation of the next episode, instead of the one that the transition led to,
    learns [o = 1] + γ/(2(1−γ)). A method that treats the cut as an end learns [o = 1], as in
    "probe-termination".

    Args:
        actions: "continuous" or "discrete".
        length: the number of steps to the cut; the values do not depend on it.
    """
    return _environment("probe-truncation", actions, length)


CONSTRUCTORS: dict[str, Callable[..., Environment]] = {
    "probe-constant": constant,
    "probe-observation": observation,
    "probe-action": action,
    "probe-match": match,
    "probe-discount": discount,
    "probe-delayed": delayed,
    "probe-termination": termination,
    "probe-truncation": truncation,
}
