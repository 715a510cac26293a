"""Transitions that reach over several steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gacf.core.checks import require, whole
from gacf.core.clock import with_clock, without_clock
from gacf.core.tracing import blank
from gacf.core.types import Batch, Key, Metrics, Params, World
from gacf.methods.actor_critic.constructor import Source


def n_step(source: Source, n: int, discount: float | jax.Array, step: int = 0) -> Source:
    """The source whose transitions reach over n steps of the environment.

        R = Σ_{k<m} γᵏ r_{t+k},   target R + γᵐ (1 − d) V(s_{t+m}),   m = n, or less at an episode's end

    `sample` yields the transition that began n − 1 observations ago, with `reward` R,
    `next_observation` s_{t+m}, `terminated` d, and `span` m. It yields each transition once,
    because `start` observes n − 1 times beforehand. For n > 1 the rewards are those of the actions
    that the explorer took; the target is not corrected for what another policy would have done.

    Args:
        source: a source of single steps, whose `sample` yields the newest transitions, [N, …].
        n: the number of steps; with 1 the source itself is returned.
        discount: γ; may be traced.
        step: the step that the clock shows while `start` observes; a negative one means a warm-up,
            in which an explorer acts at random.

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
        return {**world, "window": blank(rows)}

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        world, metrics = observe_one(params, world, key)
        rows = jax.tree.map(
            lambda old, new: jnp.concatenate([old[1:], new[None]]), world["window"], fresh(world)
        )
        return {**world, "window": rows}, metrics

    def start(params: Params, world: World, key: Key) -> World:
        start_key, fill_key = jax.random.split(key)
        if source.start is not None:
            world = source.start(params, world, start_key)

        def fill(world: World, key: Key) -> tuple[World, None]:
            world, _ = observe(params, with_clock(world, step), key)
            return without_clock(world), None

        return jax.lax.scan(fill, open_window(world), jax.random.split(fill_key, n - 1))[0]

    def sample(world: World, key: Key) -> Batch:
        del key
        rows = world["window"]
        over = jnp.logical_or(rows["terminated"], rows["truncated"])  # [n, N]
        goes_on = jnp.cumsum(over, axis=0) - over == 0  # whether no episode has ended before
        last = jnp.sum(goes_on, axis=0) - 1  # [N]
        weight = jnp.where(goes_on, (discount ** jnp.arange(n))[:, None], 0)

        def at_last(leaf: jax.Array) -> jax.Array:
            return leaf[last, jnp.arange(leaf.shape[1])]

        first = jax.tree.map(lambda leaf: leaf[0], rows)
        ends = {name: rows[name] for name in ("next_observation", "terminated", "truncated")}
        # rewards after an end belong to another episode; `where` drops them even if infinite
        reward = jnp.sum(weight * jnp.where(goes_on, rows["reward"], 0), axis=0)
        return {
            **first,
            **jax.tree.map(at_last, ends),
            "reward": reward.astype(rows["reward"].dtype),
            "span": (last + 1).astype(reward.dtype),
        }

    def init(key: Key) -> World:
        return open_window(source.init(key))

    return source._replace(init=init, sample=sample, observe=observe, start=start)
