"""Transitions over several steps (L3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gacf.actor_critic.constructor import Source
from gacf.types import Batch, Key, Metrics, Params, World, blank, require, whole


def n_step(source: Source, n: int, discount: float | jax.Array) -> Source:
    """The source whose transitions reach over n steps of the environment.

        R = Σ_{k<m} γᵏ r_{t+k},   target R + γᵐ (1 − d) V(s_{t+m}),   m = n, or less at an episode's end

    `sample` yields the transition that began n − 1 observations ago, with `reward` R,
    `next_observation` s_{t+m}, `terminated` d, and `span` m. Actions of an explorer stand where they
    stood: for n > 1 the target is not corrected for what another policy would have done.

    Args:
        source: of single steps, whose `sample` yields the newest, [N, …].
        n: steps; with 1 it is the source itself.
        discount: γ; may be traced.

    Reference:
        Watkins 1989; Barth-Maron et al. 2018 (n-step deterministic actors).
    """  # noqa: E501
    require("n_step", n, whole, "a whole number >= 1")
    if n == 1:
        return source
    assert source.observe is not None, "a data set has no steps to join"
    observe_one = source.observe

    def fresh(world: World) -> Batch:
        return source.sample(world, jax.random.key(0))

    def open_window(world: World) -> World:
        example = jax.eval_shape(fresh, world)
        rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape), x.dtype), example)
        return {**world, "window": {"rows": blank(rows), "count": jnp.zeros((), jnp.int32)}}

    def start(params: Params, world: World, key: Key) -> World:
        return open_window(world if source.start is None else source.start(params, world, key))

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        world, metrics = observe_one(params, world, key)
        window = world["window"]
        rows = jax.tree.map(
            lambda old, new: jnp.concatenate([old[1:], new[None]]), window["rows"], fresh(world)
        )
        count = jnp.minimum(window["count"] + 1, n)
        return {**world, "window": {"rows": rows, "count": count}}, metrics

    def sample(world: World, key: Key) -> Batch:
        del key
        rows, first = world["window"]["rows"], n - jnp.maximum(world["window"]["count"], 1)
        index = jnp.arange(n)
        over = (rows["terminated"] | rows["truncated"]) & (index >= first)[:, None]  # [n, N]
        before = jnp.cumsum(over, axis=0) - over
        counts = (index >= first)[:, None] & (before == 0)
        last = n - 1 - jnp.argmax(counts[::-1], axis=0)  # [N]
        weight = jnp.where(counts, discount ** jnp.maximum(index - first, 0)[:, None], 0)

        def at(leaf: jax.Array, row: jax.Array) -> jax.Array:
            return leaf[row, jnp.arange(leaf.shape[1])]

        begun = jnp.full_like(last, first)
        joined = jax.tree.map(lambda leaf: at(leaf, begun), rows)
        later = {k: rows[k] for k in ("next_observation", "terminated", "truncated")}
        ended = jax.tree.map(lambda leaf: at(leaf, last), later)
        reward = jnp.sum(weight * rows["reward"], axis=0)
        span = (last - first + 1).astype(reward.dtype)
        return {**joined, **ended, "reward": reward.astype(rows["reward"].dtype), "span": span}

    def init(key: Key) -> World:
        return open_window(source.init(key))

    return source._replace(init=init, sample=sample, observe=observe, start=start)
