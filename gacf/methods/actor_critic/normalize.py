"""Running mean and variance of observations and returns, kept in the world.

`normalized_observations` and `normalized_rewards` go around a source and keep them;
`standardised` goes around a model that reads them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.types import Key, Metrics, Params, PyTree, World
from gacf.envs import Box, Space
from gacf.envs.types import is_space
from gacf.methods.actor_critic.constructor import Source
from gacf.networks import Model


class Running(NamedTuple):
    """Mean and sum of squared deviations of what was seen.

    Attributes:
        count: float scalar.
        mean: like one example.
        squares: likewise.
    """

    count: jax.Array
    mean: jax.Array
    squares: jax.Array


def start(example: jax.Array) -> Running:
    """Nothing seen yet: count 0 and mean 0; the deviation counts as 1."""
    zeros = jnp.zeros_like(example, jnp.result_type(example, jnp.float32))
    return Running(jnp.zeros((), zeros.dtype), zeros, jnp.zeros_like(zeros))


def variance(running: Running) -> jax.Array:
    """Of all that was seen, like one example; 1 for a number that has not varied so far."""
    squares, count = running.squares, jnp.maximum(running.count, 1)
    return jnp.where(squares > 0, squares / count, 1)


def deviation(running: Running) -> jax.Array:
    """√(variance + 1e-8), by which numbers are divided."""
    return jnp.sqrt(variance(running) + 1e-8)


def take_in(running: Running, batch: jax.Array) -> Running:
    """The statistics with a batch [n, …] added.

    All differences are taken from the batch's first example, so that numbers far from 0 lose no
    more digits than they have, and a number that never varies has variance 0 exactly.

    Reference:
        Chan, Golub & LeVeque 1979 (pairwise update).

    Example:
        >>> import jax.numpy as jnp
        >>> running = take_in(start(jnp.zeros(())), jnp.array([999.0, 1001.0]))
        >>> float(running.mean), float(variance(running))
        (1000.0, 1.0)
    """
    batch = batch.astype(running.mean.dtype)
    n = batch.shape[0]
    first = batch[0]
    offsets = batch - first[None]
    mean = jnp.mean(offsets, axis=0)
    squares = jnp.sum(jnp.square(offsets - mean[None]), axis=0)
    count = running.count + n
    change = (first - running.mean) + mean
    share = n / count
    return Running(
        count,
        running.mean + change * share,
        running.squares + squares + jnp.square(change) * (running.count * share),
    )


def _is_part(node: Any) -> bool:
    return node is None or isinstance(node, Running)


def start_all(spaces: PyTree, observation: PyTree) -> PyTree:
    """Statistics of nothing, one for each box of an observation; None for what is discrete.

    Args:
        spaces: a space, or a pytree of them.
        observation: one of those spaces, without leading axes.
    """

    def part(space: Space, example: jax.Array) -> Running | None:
        return start(example) if isinstance(space, Box) else None

    return jax.tree.map(part, spaces, observation, is_leaf=is_space)


def take_in_all(parts: PyTree, observations: PyTree) -> PyTree:
    """The statistics of `start_all` with observations [n, …] added."""

    def add(part: Running | None, batch: jax.Array) -> Running | None:
        return None if part is None else take_in(part, batch)

    return jax.tree.map(add, parts, observations, is_leaf=_is_part)


def standardised(model: Model, entry: str = "observations", clip: float = 10.0) -> Model:
    """The model whose first input is standardised by the running statistics in the world.

        x ← clip((x − mean) / √(variance + 1e-8), ±clip)

    Before anything has been seen, the mean is 0 and the variance 1. What is discrete in an
    observation is left alone.

    Args:
        model: of any player; the first of its inputs is an observation [B, O], or a pytree of
            arrays [B, …].
        entry: of the world. Without such an entry the input is left alone.
        clip: bound of a standardised number.
    """
    if model.bind is not None:
        return model  # it sees observations through the models that it was made of

    def standardise(part: Running | None, x: jax.Array) -> jax.Array:
        if part is None:
            return x
        return jnp.clip((x - part.mean[None]) / deviation(part)[None], -clip, clip)

    def apply(
        params: PyTree, world: World, *inputs: Any, key: Key | None = None, train: bool = True
    ) -> tuple[jax.Array, World]:
        first, *rest = inputs
        if entry in world:
            first = jax.tree.map(standardise, world[entry]["now"], first, is_leaf=_is_part)
        return model.apply(params, world, first, *rest, key=key, train=train)

    return model._replace(apply=apply)


def normalized_observations(source: Source, spaces: PyTree) -> Source:
    """The source that keeps statistics of the observations that were acted on.

    They are `world["observations"]`, for models wrapped by `standardised`: `now` is what a step
    is acted and judged by, `next` has the step's own observations in it and takes its place when
    the next step begins. The observation at which an episode ended is never acted on, and left out.

    Args:
        source: an `environment`, whose transitions are the step's.
        spaces: of its observations. What is discrete is left alone.
    """
    assert source.observe is not None
    observe_raw = source.observe

    def init(key: Key) -> World:
        world = source.init(key)
        one = jax.tree.map(lambda x: x[0], world["env"]["observation"])
        nothing = start_all(spaces, one)
        return {
            **world,
            "observations": {"now": nothing, "next": jax.tree.map(jnp.copy, nothing)},
        }

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        now = world["observations"]["next"]
        world, metrics = observe_raw(
            params, {**world, "observations": {"now": now, "next": now}}, key
        )
        then = take_in_all(now, world["env"]["transition"]["observation"])
        return {**world, "observations": {"now": now, "next": then}}, metrics

    return source._replace(init=init, observe=observe)


def normalized_rewards(source: Source, discount: float | jax.Array) -> Source:
    """The source whose recorded rewards are divided by the deviation of the discounted return.

        G ← γ G + r,   r ← r / √(variance of all G so far + 1e-8)

    G begins anew after an episode's end, however it came. The statistics are `world["rewards"]`,
    the step's own returns among them; the deviation counts as 1 as long as it is 0.

    Args:
        source: an `environment`, whose transitions are the step's, [T·N, …].
        discount: γ; may be traced.
    """
    assert source.observe is not None
    observe_raw = source.observe

    def init(key: Key) -> World:
        world = source.init(key)
        returns = jnp.zeros_like(world["env"]["running"])
        return {**world, "rewards": {"returns": returns, "running": start(returns[0])}}

    def discounted(total: jax.Array, x: Any) -> tuple[jax.Array, jax.Array]:
        reward, over = x
        total = discount * total + reward
        return jnp.where(over, 0, total), total

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        world, metrics = observe_raw(params, world, key)
        rows, statistics = world["env"]["transition"], world["rewards"]
        shape = (-1, *statistics["returns"].shape)
        rewards = rows["reward"].reshape(shape)
        over = jnp.logical_or(rows["terminated"], rows["truncated"]).reshape(shape)
        returns, totals = jax.lax.scan(discounted, statistics["returns"], (rewards, over))
        running = take_in(statistics["running"], totals.reshape(-1))
        divided = rewards / deviation(running)
        entry = {**world["env"], "transition": {**rows, "reward": divided.reshape(-1)}}
        rewards = {"returns": returns, "running": running}
        return {**world, "env": entry, "rewards": rewards}, metrics

    return source._replace(init=init, observe=observe)
