"""Evidence from an environment: a source of single steps, and the wrappers that go around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf import envs
from gacf.core.checks import require, whole
from gacf.core.clock import with_clock
from gacf.core.rows import where_rows
from gacf.core.tracing import blank
from gacf.core.types import Batch, Key, Metrics, Params, PyTree, World
from gacf.envs import Box, Environment, Timestep, check
from gacf.envs.check import check_spaces
from gacf.methods.actor_critic.acting import Act, Exploit, Explore, as_act
from gacf.methods.actor_critic.constructor import Source
from gacf.methods.actor_critic.evaluation import evaluation
from gacf.methods.actor_critic.normalize import normalized_observations, normalized_rewards
from gacf.methods.actor_critic.proposals import ProposedActions
from gacf.methods.actor_critic.settings import Rollout, with_defaults

Finish = Callable[[Params, World, Batch, Key], Batch]


def as_environment(env: Environment | str) -> Environment:
    """The environment of that name, or the given one, after a check of its spaces.

    `environment` checks everything else, when the source is built.
    """
    return check_spaces(envs.make(env) if isinstance(env, str) else env)


def environment(
    env: Environment,
    explore: Explore,
    exploit: Exploit,
    to_env: Callable[[jax.Array], jax.Array],
    rollout: Rollout = Rollout(),
    *,
    memory: Callable[[int], PyTree] = lambda num_envs: (),
    discount: float | jax.Array | None = None,
    finish: Finish | None = None,
) -> Source:
    """A source that acts in copies of an environment as `rollout` says, and evaluates in it.

    The world's entry `env` holds the environments' states, the observations, the returns so far,
    and the step's transitions, which `sample` yields: a dict of `observation`, `action`, `reward`,
    `terminated`, `truncated` and `next_observation`, [T·N, …], time before copies. A truncated
    episode does not count as terminated: the target bootstraps from the observation to which the
    step really led.

    Args:
        env: the environment.
        explore: `(params, world, observations [N, O], key) -> actions [N, …]`, or an `Act`: how
            actions are chosen while learning. Its memory is in `world["env"]["memory"]`, and
            starts afresh with every episode.
        exploit: `(params, world, observations, key) -> actions`, for evaluation.
        to_env: converts one recorded action to what the environment expects.
        rollout: how evidence is gathered; one environment and one time step by default.
        memory: `N -> the explorer's memory at the start`, leaves [N, …].
        discount: γ; needed only if rewards are normalised.
        finish: `(params, world, transitions, key) -> transitions`: changes the step's transitions,
            [T·N, …], once they are collected.

    Metrics:
        `episode/return`, the return of each copy's last finished episode, averaged over the copies
        (NaN until one has finished); and those of `evaluation`.

    Raises:
        ValueError: the environment contradicts itself (`gacf.envs.check`).
    """
    check(env)
    settings = with_defaults(rollout, Rollout(num_envs=1, length=1))
    source = single_steps(env, explore, to_env, settings.num_envs, memory)
    source = over_time(source, settings.length)
    if settings.normalize_observations:
        source = normalized_observations(source, env.observation)
    if settings.normalize_rewards:
        assert discount is not None, "returns are discounted"
        source = normalized_rewards(source, discount)
    source = finished(source, finish)
    return source._replace(
        evaluate=evaluation(env, exploit, to_env, settings.episodes),
        propose=ProposedActions(env, exploit, to_env),
    )


def single_steps(
    env: Environment,
    explore: Explore,
    to_env: Callable[[jax.Array], jax.Array],
    num_envs: int,
    memory: Callable[[int], PyTree] = lambda num_envs: (),
) -> Source:
    """A source of one time step in `num_envs` copies of an environment.

    Args:
        env: as for `environment`.
        explore: as for `environment`.
        to_env: as for `environment`.
        num_envs: the number of copies, N.
        memory: as for `environment`.
    """
    require("num_envs", num_envs, whole, "a whole number >= 1")
    step = jax.vmap(lambda key, state, action: env.step(key, state, to_env(action)))

    def act(params: Params, world: World, observation: Any, key: Key) -> Act:
        decision = as_act(explore(params, world, observation, key))
        if decision.action.shape[:1] != (num_envs,):  # one for all would be broadcast to all
            raise ValueError(
                f"actor: it yields actions {list(decision.action.shape)} for observations of "
                f"{num_envs} copies; allowed: [{num_envs}, …]"
            )
        return decision

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        entry = world["env"]
        act_key, step_key = jax.random.split(key)
        keys = jax.random.split(step_key, num_envs)
        acting_world = {**world, "env": {**entry, "keys": keys}}
        decision = act(params, acting_world, entry["observation"], act_key)
        state, timestep = step(keys, entry["state"], decision.action)
        done = timestep.terminated | timestep.truncated
        running = entry["running"] + timestep.reward

        def begin_anew(start: jax.Array, present: jax.Array) -> jax.Array:
            return where_rows(done, start, present)

        entry = {
            "state": state,
            "observation": timestep.observation,
            "running": jnp.where(done, 0, running),
            "finished": jnp.where(done, running, entry["finished"]),
            "memory": jax.tree.map(begin_anew, memory(num_envs), decision.memory),
            "transition": _recorded(entry["observation"], decision, timestep),
        }
        return {**world, "env": entry}, _returns(entry)

    def init(key: Key) -> World:
        state, observation = jax.vmap(env.reset)(jax.random.split(key, num_envs))
        returns = jnp.zeros(num_envs)
        action = _no_action(env, num_envs)
        # only the shape of the keys matters here: nothing is drawn with them
        _, timestep = jax.eval_shape(lambda: step(jax.random.split(key, num_envs), state, action))
        entry = {
            "state": state,
            "observation": observation,
            "running": returns,
            "finished": jnp.full_like(returns, jnp.nan),
            "memory": memory(num_envs),
            "transition": blank(jax.eval_shape(_recorded, observation, Act(action), timestep)),
        }
        return {"env": entry}

    def sample(world: World, key: Key) -> Batch:
        del key
        return world["env"]["transition"]

    return Source(init, sample, observe)


def _recorded(observation: Any, decision: Act, timestep: Timestep) -> Batch:
    return {
        "observation": observation,
        "action": decision.action,
        "reward": timestep.reward,
        "terminated": timestep.terminated,
        "truncated": timestep.truncated,
        "next_observation": timestep.next_observation,
        **decision.record,
    }


def _returns(entry: Any) -> Metrics:
    return {"episode/return": jnp.nanmean(entry["finished"])}


def _no_action(env: Environment, num_envs: int) -> jax.Array:
    if isinstance(env.action, Box):
        return jnp.zeros((num_envs, *env.action.shape))
    return jnp.zeros(num_envs, jnp.int32)


def _without_transitions(world: World) -> Any:
    return {name: x for name, x in world["env"].items() if name != "transition"}


def _with_transitions(world: World, transitions: Batch) -> World:
    return {**world, "env": {**world["env"], "transition": transitions}}


def over_time(source: Source, length: int) -> Source:
    """The source that makes several time steps per step, [N, …] -> [T·N, …], time before copies.

    Args:
        source: a source from `single_steps`.
        length: the number of time steps, T; with 1 the source itself is returned.
    """
    require("length", length, whole, "a whole number >= 1")
    if length == 1:
        return source
    assert source.observe is not None
    observe_one = source.observe

    def init(key: Key) -> World:
        world = source.init(key)
        rows = jax.tree.map(
            lambda x: jnp.zeros((length * x.shape[0], *x.shape[1:]), x.dtype),
            world["env"]["transition"],
        )
        return _with_transitions(world, rows)

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        def once(entry: Any, key: Key) -> tuple[Any, Batch]:
            after, _ = observe_one(params, {**world, "env": entry}, key)
            return _without_transitions(after), after["env"]["transition"]

        keys = jax.random.split(key, length)
        entry, rows = jax.lax.scan(once, _without_transitions(world), keys)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
        return {**world, "env": {**entry, "transition": rows}}, _returns(entry)

    return source._replace(init=init, observe=observe)


def finished(source: Source, finish: Finish | None = None) -> Source:
    """The source whose transitions are finished once they are all collected.

    Before the first step they are zeros, in the shape that `observe` gives them.

    Args:
        source: a source from `single_steps`, in whatever wrappers.
        finish: as for `environment`; by default transitions stay as they are.
    """
    assert source.observe is not None
    collect = source.observe

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        act_key, finish_key = jax.random.split(key)
        world, metrics = collect(params, world, act_key)
        if finish is not None:
            rows = finish(params, world, world["env"]["transition"], finish_key)
            world = _with_transitions(world, rows)
        return world, metrics

    def start(params: Params, world: World, key: Key) -> World:
        after, _ = jax.eval_shape(observe, params, with_clock(world), key)
        return _with_transitions(world, blank(after["env"]["transition"]))

    return source._replace(observe=observe, start=start)
