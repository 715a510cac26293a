"""Running mean and variance of observations and returns, kept in the world.

`normalized_observations` and `normalized_rewards` wrap a source and keep the statistics;
`standardised` wraps a model, which reads them.
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
    """The mean and the sum of squared deviations of the examples so far.

    Attributes:
        count: the number of examples, float scalar.
        mean: the mean, in the shape of one example.
        squares: the sums of squared deviations, in the same shape.
    """

    count: jax.Array
    mean: jax.Array
    squares: jax.Array


def start(example: jax.Array) -> Running:
    """The statistics before the first example: count 0 and mean 0; the deviation counts as 1."""
    zeros = jnp.zeros_like(example, jnp.result_type(example, jnp.float32))
    return Running(jnp.zeros((), zeros.dtype), zeros, jnp.zeros_like(zeros))


def variance(running: Running) -> jax.Array:
    """The variance of all examples so far; 1 for a number that has not varied yet."""
    squares, count = running.squares, jnp.maximum(running.count, 1)
    return jnp.where(squares > 0, squares / count, 1)


def deviation(running: Running) -> jax.Array:
    """√(variance + 1e-8), by which numbers are divided."""
    return jnp.sqrt(variance(running) + 1e-8)


def take_in(running: Running, batch: jax.Array) -> Running:
    """The statistics with a batch [n, …] added.

    All differences are taken from the batch's first example. So numbers far from 0 keep their
    precision, and a number that never varies has a variance of exactly 0.

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
    """Statistics before the first observation, one for each box; None for discrete parts.

    Args:
        spaces: a space, or a pytree of them.
        observation: one observation from these spaces, without leading axes.
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

    Before the first observation, the mean is 0 and the variance 1. Discrete parts of an observation
    are left alone.

    Args:
        model: the model of any player; its first input is an observation [B, O], or a pytree of
            arrays [B, …].
        entry: the world's entry that holds the statistics. Without it the input is left alone.
        clip: the bound of standardised numbers.
    """
    if model.bind is not None:
        return model  # the models that it consists of standardise their own inputs

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
    """The source that keeps statistics of the observations on which the actor acted.

    They are `world["observations"]`, for models wrapped by `standardised`. All players use `now`
    during a step; `next` already includes the step's own observations, and replaces `now` when the
    next step begins. The last observation of an episode is left out, since nobody acts on it.

    Args:
        source: an `environment`, whose transitions are those of the step.
        spaces: the spaces of its observations. Discrete ones are left alone.
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

    G starts again from 0 after every end of an episode, terminated or truncated. The statistics are
    in `world["rewards"]`, and include the step's own returns; a deviation of 0 counts as 1.

    Args:
        source: an `environment`, whose transitions are those of the step, [T·N, …].
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
