"""Evidence from an environment: acting, recording, evaluating."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import require, whole
from gacf.core.tracing import blank
from gacf.core.types import Batch, Key, Metrics, Params, PyTree, World
from gacf.envs import Box, Environment, check
from gacf.methods.actor_critic import normalize
from gacf.methods.actor_critic.constructor import Source

STARTS = 20161004  # seed of the common start states of every evaluation


class Act(NamedTuple):
    """What an explorer did.

    Attributes:
        action: actions [N, …].
        record: what else the transition shall hold, a dict of arrays [N, …].
        memory: what the explorer keeps until its next action, leaves [N, …].
    """

    action: jax.Array
    record: Batch = {}  # noqa: RUF012
    memory: PyTree = ()


Explore = Callable[[Params, World, jax.Array, Key], jax.Array | Act]
Exploit = Callable[[Params, World, jax.Array, Key], jax.Array]


class Actions(NamedTuple):
    """How a method's actions become an environment's.

    Attributes:
        bounded: whether they lie in [−1, 1]^A.
        to_env: one action as the environment wants it.
    """

    bounded: bool
    to_env: Callable[[jax.Array], jax.Array]


def actions_of(env: Environment) -> Actions:
    """Boxes with finite bounds are [−1, 1]^A, scaled and clipped; all others are as they are.

    Real actions reach the environment in JAX's default precision at least, whatever their
    network's.

    Raises:
        ValueError: bounds of which some are finite and others not, that are NaN or in the wrong
            order, or so far apart that their distance is not finite.
    """
    if not isinstance(env.action, Box):
        return Actions(False, lambda action: action)

    def real(action: jax.Array) -> jax.Array:
        return action.astype(jnp.promote_types(action.dtype, jnp.result_type(float)))

    if not _bounded(env.action, f"env: {env.name}"):
        return Actions(False, real)
    low, high = jnp.asarray(env.action.low), jnp.asarray(env.action.high)
    return Actions(True, lambda a: low + (jnp.clip(real(a), -1, 1) + 1) / 2 * (high - low))


def _bounded(space: Box, where: str) -> bool:
    """Whether all bounds of a box of actions are finite, for they are, or none is."""
    low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
    finite = np.isfinite(low) & np.isfinite(high)
    held = jnp.result_type(space.low, space.high, jnp.float32)
    largest = float(jnp.finfo(held).max)  # of the numbers that scale an action
    with np.errstate(over="ignore", invalid="ignore"):
        reach = np.maximum(high - low, np.maximum(np.abs(low), np.abs(high)))
        faults = (
            (~(low <= high), "with low <= high"),
            (~finite & ((low > -np.inf) | (high < np.inf)), "all finite, or none"),
            (finite & (reach > largest), f"at most {largest:.3g} apart, or −inf and inf"),
            (finite != finite.all(), "all finite, or none"),
        )
    for fault, allowed in faults:
        if fault.any():
            at = np.unravel_index(np.argmax(fault), fault.shape)
            index = f"[{', '.join(map(str, at))}]" if at else ""
            raise ValueError(
                f"{where}: action{index} has the bounds {low[at]:.9g} and {high[at]:.9g}; "
                f"allowed: bounds of actions {allowed}"
            )
    return bool(finite.all())


def _blank(transition: Batch, n: int) -> Batch:
    """Zeros, with n examples in place of however many there are."""
    return jax.tree.map(lambda x: jnp.zeros((n, *x.shape[1:]), x.dtype), transition)


def environment(
    env: Environment,
    explore: Explore,
    exploit: Exploit,
    to_env: Callable[[jax.Array], jax.Array],
    num_envs: int = 1,
    episodes: int = 100,
    length: int = 1,
    memory: Callable[[int], PyTree] = lambda num_envs: (),
    normalize_observations: bool = False,
    normalize_rewards: float | jax.Array | None = None,
    finish: Callable[[Params, World, Batch, Key], Batch] | None = None,
    keep_states: bool = False,
) -> Source:
    """A source that acts in `num_envs` copies of an environment, `length` times a step.

    The world's entry `env` holds the environments' states, the observations, the returns so far,
    and the step's transitions, which `sample` yields: a dict of `observation`, `action`, `reward`,
    `terminated`, `truncated` and `next_observation`, [T·N, …], time before copies. A truncated
    episode is no terminated one: the target goes on from the observation that the step really
    led to.

    Args:
        env: the environment.
        explore: `(params, world, observations [N, O], key) -> actions [N, …]`, or an `Act`: how
            it is explored. Its memory stands in `world["env"]["memory"]`, and begins anew with
            every episode.
        exploit: `(params, world, observations, key) -> actions`, for evaluation.
        to_env: one recorded action as the environment wants it.
        num_envs: copies N.
        episodes: how many an evaluation plays, from start states common to all seeds and times.
        length: time steps T.
        memory: `N -> the explorer's memory at the start`, leaves [N, …].
        normalize_observations: keep the running mean and variance of the observations that were
            acted on, `world["observations"]`, for models wrapped by `normalize.standardised`. It
            takes in a step's observations only when the next one begins, so that the step's batch
            is judged as it was collected. What is discrete is left alone.
        normalize_rewards: γ: divide recorded rewards by the running deviation of the discounted
            return so far, G ← γG + r, which begins anew after an episode's end, however it came;
            the step's own are among them. It is kept in `world["rewards"]`, and counts as 1 as
            long as it is 0. Metrics stay in the environment's units.
        finish: `(params, world, transitions, key) -> transitions`: what to add to the step's
            transitions, [T·N, …], once they are collected.
        keep_states: record the environment's `state` before the step and the step's `key`, as raw
            data, so that the step can be made again.

    Metrics:
        `episode/return`, mean over the copies of the last finished episode's return, NaN until
        one has finished; evaluation: `return`, mean over the episodes, and `return_std`, NaN if an
        episode has not ended after `env.horizon` steps.

    Raises:
        ValueError: an environment that contradicts itself (`gacf.envs.check`), or a number out of
            bounds.
    """
    require("num_envs", num_envs, whole, "a whole number >= 1")
    require("episodes", episodes, whole, "a whole number >= 1")
    require("length", length, whole, "a whole number >= 1")
    check(env)
    step = jax.vmap(lambda key, state, action: env.step(key, state, to_env(action)))

    def act(params: Params, world: World, observation: Any, key: Key) -> Act:
        found = explore(params, world, observation, key)
        found = found if isinstance(found, Act) else Act(found)
        if found.action.shape[:1] != (num_envs,):  # one for all would be broadcast to all
            raise ValueError(
                f"actor: it yields actions {list(found.action.shape)} for observations of "
                f"{num_envs} copies; allowed: [{num_envs}, …]"
            )
        return found

    def record(observation: Any, did: Act, timestep: Any) -> Batch:
        return {
            "observation": observation,
            "action": did.action,
            "reward": timestep.reward,
            "terminated": timestep.terminated,
            "truncated": timestep.truncated,
            "next_observation": timestep.next_observation,
            **did.record,
        }

    def once(params: Params, world: World, entry: Any, key: Key) -> tuple[Any, Batch]:
        act_key, step_key = jax.random.split(key)
        did = act(params, {**world, "env": entry}, entry["observation"], act_key)
        keys = jax.random.split(step_key, num_envs)
        state, timestep = step(keys, entry["state"], did.action)
        done = timestep.terminated | timestep.truncated
        running = entry["running"] + timestep.reward

        def anew(fresh: jax.Array, kept: jax.Array) -> jax.Array:
            return jnp.where(done.reshape(-1, *(1 for _ in kept.shape[1:])), fresh, kept)

        now = {
            **entry,
            "state": state,
            "observation": timestep.observation,
            "running": jnp.where(done, 0, running),
            "finished": jnp.where(done, running, entry["finished"]),
            "memory": jax.tree.map(anew, memory(num_envs), did.memory),
        }
        found = record(entry["observation"], did, timestep)
        if keep_states:
            found |= {"state": entry["state"], "key": jax.random.key_data(keys)}
        return now, found

    def init(key: Key) -> World:
        state, observation = jax.vmap(env.reset)(jax.random.split(key, num_envs))
        returns = jnp.zeros(num_envs)
        entry = {
            "state": state,
            "observation": observation,
            "running": returns,
            "finished": jnp.full_like(returns, jnp.nan),
            "memory": memory(num_envs),
        }
        world: World = {}
        if normalize_observations:
            one = jax.tree.map(lambda x: x[0], observation)
            nothing = normalize.start_all(env.observation, one)
            world["observations"] = {"now": nothing, "next": jax.tree.map(jnp.copy, nothing)}
        if normalize_rewards is not None:
            world["rewards"] = {"returns": returns, "running": normalize.start(returns[0])}
        # the keys are of the right shape, and nothing is drawn with them
        _, timestep = jax.eval_shape(
            lambda: step(jax.random.split(key, num_envs), state, nothing_done())
        )
        seen = jax.eval_shape(record, observation, Act(nothing_done()), timestep)
        entry["transition"] = _blank(seen, length * num_envs)
        return {**world, "env": entry}

    def nothing_done() -> jax.Array:
        if isinstance(env.action, Box):
            return jnp.zeros((num_envs, *env.action.shape))
        return jnp.zeros(num_envs, jnp.int32)

    def collect(params: Params, world: World, key: Key) -> tuple[Any, Batch]:
        entry = {k: v for k, v in world["env"].items() if k != "transition"}
        if length == 1:
            return once(params, world, entry, key)

        def body(entry: Any, key: Key) -> tuple[Any, Batch]:
            return once(params, world, entry, key)

        entry, found = jax.lax.scan(body, entry, jax.random.split(key, length))
        return entry, jax.tree.map(lambda x: x.reshape(length * num_envs, *x.shape[2:]), found)

    def gather(params: Params, world: World, key: Key) -> tuple[World, Batch]:
        """One step's worth of acting: the world, whose transitions are the step's."""
        act_key, finish_key = jax.random.split(key)
        if normalize_observations:
            now = world["observations"]["next"]
            world = {**world, "observations": {"now": now, "next": now}}
        entry, found = collect(params, world, act_key)
        if normalize_observations:
            # What was acted on, the first of an episode included. Nobody acts on where one ended.
            seen = normalize.take_in_all(now, found["observation"])
            world = {**world, "observations": {"now": now, "next": seen}}
        if normalize_rewards is not None:
            scale, rewards = scaled(world["rewards"], found, normalize_rewards)
            world, found = {**world, "rewards": scale}, {**found, "reward": rewards}
        if finish is not None:
            found = finish(params, world, found, finish_key)
        return world, {**entry, "transition": found}

    def scaled(kept: Any, found: Batch, discount: float | jax.Array) -> tuple[Any, jax.Array]:
        """The statistics of returns with the step's in them, and the step's rewards [T·N]."""
        rewards = found["reward"].reshape(length, num_envs)
        over = jnp.logical_or(found["terminated"], found["truncated"]).reshape(length, num_envs)

        def discounted(total: jax.Array, x: Any) -> tuple[jax.Array, jax.Array]:
            reward, over = x
            total = discount * total + reward
            return jnp.where(over, 0, total), total

        returns, totals = jax.lax.scan(discounted, kept["returns"], (rewards, over))
        running = normalize.take_in(kept["running"], totals.reshape(-1))
        divided = rewards / normalize.deviation(running)
        return {"returns": returns, "running": running}, divided.reshape(-1)

    def start(params: Params, world: World, key: Key) -> World:
        """The world with transitions of zeros, in the shape that `observe` gives them."""
        clocked = {**world, "step": jnp.zeros((), jnp.int32), "update": jnp.zeros((), jnp.int32)}
        _, entry = jax.eval_shape(gather, params, clocked, key)
        return {**world, "env": {**world["env"], "transition": blank(entry["transition"])}}

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        world, entry = gather(params, world, key)
        return {**world, "env": entry}, {"episode/return": jnp.nanmean(entry["finished"])}

    def sample(world: World, key: Key) -> Batch:
        del key
        return world["env"]["transition"]

    def evaluate(params: Params, world: World, key: Key) -> Metrics:
        del key
        reset_key, step_key, act_key = jax.random.split(jax.random.key(STARTS), 3)
        state, observation = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))

        def play(t: jax.Array, carry: Any) -> Any:
            state, observation, total, alive = carry
            keys = jax.random.split(jax.random.fold_in(step_key, t), episodes)
            action = exploit(params, world, observation, jax.random.fold_in(act_key, t))
            state, timestep = step(keys, state, action)
            total = total + jnp.where(alive, timestep.reward, 0)
            alive = alive & ~(timestep.terminated | timestep.truncated)
            return state, timestep.observation, total, alive

        first = (state, observation, jnp.zeros(episodes), jnp.ones(episodes, bool))
        state, _, total, alive = jax.lax.fori_loop(0, env.horizon, play, first)
        if env.release is not None:
            total = total + jax.vmap(env.release)(state)
        # An episode longer than `horizon` contradicts it, and what it would have earned is unknown.
        total = jnp.where(alive.any(), jnp.nan, total)
        return {"return": jnp.mean(total), "return_std": jnp.std(total)}

    return Source(init, sample, observe, evaluate, start)
