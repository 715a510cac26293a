"""Gymnasium's environments, stepped on the host, behind gacf's protocol.

They are meant for evaluation and for small runs, because each step of each environment is a call of
Python. They are not pure either, since a Gymnasium environment cannot be copied in general. A state
holds the seed of its episode, the number of a host environment and the time. So

- a state can be stepped only once: a second step raises an error and gives no wrong answer (a state
  at the start of an episode can be stepped often, each time by a host environment of its own);
- a run cannot be resumed exactly from a checkpoint, which does not hold the host's environments;
- there is no gradient through a step;
- `lax.cond` under `vmap` runs both branches, so a step must not be inside a branch.

`jit`, `scan` and `vmap` over copies and seeds work as with other environments, and the same key
gives the same bits.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import require, whole
from gacf.core.names import did_you_mean
from gacf.core.types import Key
from gacf.envs.types import Box, Discrete, Environment, Space, Timestep, check_installed

PREFIX = "gymnasium:"
LONGEST = 1_000  # steps of an episode if the environment sets no limit
ID = re.compile(r"([\w:.-]+/)?[\w:.-]+-v\d+")  # how Gymnasium names environments
WIDEST = 2**24  # the whole numbers up to here are exact in float32


class _Gone(ValueError):
    """A state was stepped, but no host environment is at that state."""


class HostState(NamedTuple):
    """The state of an episode that is played on the host.

    Attributes:
        seed: the seed of the episode, uint32 scalar.
        number: the number of the host environment, int32 scalar; −1 before the first step.
        time: steps since the start, int32 scalar.
    """

    seed: jax.Array
    number: jax.Array
    time: jax.Array


def _space(name: str, role: str, space: Any) -> Space:
    """The space of observations or actions, as `role` says, in gacf's terms."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box):
        low, high = (jnp.asarray(np.asarray(x), jnp.float32) for x in (space.low, space.high))
        return Box(tuple(space.shape), low, high)
    raise ValueError(
        f"environment: {name} has {role}s in the space {space}; allowed: Box and Discrete"
        + _way_out(role, space)
    )


def _way_out(role: str, space: Any) -> str:
    """How a user can turn a space into one that is allowed; empty if Gymnasium has no way."""
    wrapped = "gacf.envs.from_gymnasium takes a function that returns the wrapped environment"
    if role == "action":
        return f", which a gymnasium.ActionWrapper of your own can offer; {wrapped}"
    if space.is_np_flattenable:
        return f", which gymnasium.wrappers.FlattenObservation makes of it; {wrapped}"
    return ""


def _counts(space: Any) -> bool:
    """Whether the space is a box of whole numbers."""
    return not hasattr(space, "n") and np.issubdtype(space.dtype, np.integer)


def _actions(name: str, space: Any) -> Space:
    """The space of actions; for whole numbers it is wider by one half on both sides.

    Real numbers in it are rounded to the nearest whole number (`_Pool.host_action`). So each whole
    number, including the lowest and the highest, gets a share of the same size.
    """
    box = _space(name, "action", space)
    if not (isinstance(box, Box) and _counts(space)):
        return box
    low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
    # of wider ones float32 does not know every number
    if not (space.is_bounded("both") and np.all(high - low < WIDEST)):
        raise ValueError(
            f"environment: {name} has whole actions, {space}; allowed: a Box of whole numbers with "
            f"bounds less than {WIDEST:,} apart"
        )
    return Box(box.shape, jnp.asarray(low - 0.5, jnp.float32), jnp.asarray(high + 0.5, jnp.float32))


def _close(environments: list[Any]) -> None:
    while environments:
        environments.pop().close()


class _Pool:
    """Host environments: in the middle of an episode, at the start of one, or idle.

    Environments are reused instead of being closed and made again. An environment at the start of
    an episode may be taken for another episode, because the first can be started again from its
    seed. So the number of open environments is at most a few more than twice the largest number
    that were in the middle of an episode at the same time. All are closed when an environment
    raises, when the pool is collected, and at exit.

    Args:
        make: `() -> gymnasium.Env`.
        first: an environment that has been made already.
        limit: the largest number of environments; beyond it, the least recently used is taken.
        horizon: the number of steps after which an episode is truncated.
    """

    def __init__(self, make: Callable[[], Any], first: Any, limit: int, horizon: int):
        self.make, self.limit, self.horizon = make, limit, horizon
        self.observations, self.actions = first.observation_space, first.action_space
        self.everything = [first]
        self.idle = [first]
        # seed -> (environment, first observation); number -> (environment, time)
        self.ready: OrderedDict[int, tuple[Any, np.ndarray]] = OrderedDict()
        self.playing: OrderedDict[int, tuple[Any, int]] = OrderedDict()
        self.count = 0
        self.most = 1  # the largest number that were playing at once
        # several devices may call at once
        self.lock = threading.Lock()
        # without a reference to the pool, which else would never be collected
        weakref.finalize(self, _close, self.everything)

    def close(self) -> None:
        """Closes all environments; afterwards episodes can be started but not continued."""
        self.idle, self.ready, self.playing = [], OrderedDict(), OrderedDict()
        _close(self.everything)

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Admits one thread at a time; if the host raises, no environment is left open."""
        with self.lock:
            try:
                yield
            except _Gone:
                raise
            except BaseException:
                self.close()
                raise

    def observation(self, raw: Any) -> np.ndarray:
        if hasattr(self.observations, "n"):
            return np.array(raw - self.observations.start, np.int32)
        return np.array(raw, np.float32)

    def host_action(self, action: np.ndarray) -> Any:
        if hasattr(self.actions, "n"):
            return self.actions.start + action.astype(self.actions.dtype)
        if _counts(self.actions):
            action = np.clip(np.rint(action), self.actions.low, self.actions.high)
        return action.astype(self.actions.dtype)

    def start(self, seed: int) -> tuple[Any, np.ndarray]:
        """An environment at the start of the episode, which is not in use yet."""
        if seed in self.ready:
            return self.ready.pop(seed)
        full = len(self.everything) >= self.limit
        if self.idle:
            env = self.idle.pop()
        elif self.ready and (full or len(self.ready) >= self.most):
            env = self.ready.popitem(last=False)[1][0]
        elif not full:
            env = self.make()
            self.everything.append(env)
        else:
            env = self.playing.popitem(last=False)[1][0]
        return env, self.observation(env.reset(seed=seed)[0])

    def wait(self, seed: int, env: Any, observation: np.ndarray) -> None:
        """Keeps an environment at the start of the episode until it is played."""
        if seed in self.ready:  # many copies may begin the same episode
            self.idle.append(self.ready.pop(seed)[0])
        self.ready[seed] = env, observation

    def reset(self, seed: Any) -> np.ndarray:
        with self.owned():
            env, observation = self.start(int(seed))
            self.wait(int(seed), env, observation)
            return observation

    def step(self, seed: Any, number: Any, time: Any, action: Any, next_seed: Any) -> Any:
        number, time = int(number), int(time)
        with self.owned():
            if number < 0:
                env, _ = self.start(int(seed))
                number = self.count = self.count + 1
            else:
                env, reached = self.playing.get(number, (None, -1))
                if reached != time:
                    raise _Gone(
                        "environment: this state of a host environment is gone; allowed: one step "
                        f"from each state, at most {self.limit} episodes at once (argument "
                        "`limit`), no resuming"
                    )
                del self.playing[number]  # it moves to the end of the order
            self.most = max(self.most, 1 + len(self.playing))
            raw, reward, terminated, truncated, _ = env.step(self.host_action(np.asarray(action)))
            next_observation = observation = self.observation(raw)
            terminated = bool(terminated)
            truncated = not terminated and (bool(truncated) or time + 1 >= self.horizon)
            if terminated or truncated:
                number, time, seed = -1, -1, int(next_seed)
                observation = self.observation(env.reset(seed=seed)[0])
                self.wait(seed, env, observation)
            else:
                self.playing[number] = env, time + 1
        state = np.uint32(seed), np.int32(number), np.int32(time + 1)
        flags = np.bool_(terminated), np.bool_(truncated)
        timestep = observation, next_observation, np.float32(reward), *flags
        return HostState._make(state), Timestep._make(timestep)

    def release(self, seed: Any, number: Any, time: Any) -> np.ndarray:
        """Frees the environment of a state that will not be stepped again; returns 0."""
        with self.owned():
            if int(number) >= 0:
                env, reached = self.playing.get(int(number), (None, -1))
                if reached == int(time):
                    del self.playing[int(number)]
                    self.idle.append(env)
            elif int(seed) in self.ready:
                self.idle.append(self.ready.pop(int(seed))[0])
        return np.zeros((), np.float32)


def from_gymnasium(
    name: str | Callable[..., Any],
    horizon: int | None = None,
    limit: int = 1_024,
    **parameters: Any,
) -> Environment:
    """A Gymnasium environment as an `Environment`; see the top of this file for what is not pure.

    The host resets it with a seed drawn from the key, so an episode is a function of the key and
    the actions, if the environment is deterministic given its seed. Rewards and observations from a
    box are float32, and discrete ones int32. Discrete spaces begin at 0, even if the environment's
    own do not. Actions from a box of whole numbers are real here, in [low − ½, high + ½], and are
    rounded to the nearest whole number.

    Host environments are reused from episode to episode and from evaluation to evaluation.

    Args:
        name: Gymnasium's id of the environment, or a function that makes it. `gacf.envs.make` takes
            "gymnasium:<id>".
        horizon: the number of steps after which an episode is truncated; by default the
            environment's own limit, or 1,000 if it has none.
        limit: how many episodes may be under way at once: copies × seeds, plus those of an
            evaluation.
        **parameters: arguments of `gymnasium.make`, or of the function.

    Raises:
        ValueError: Gymnasium is missing or does not know the id; a space is neither a Box nor
            Discrete; or actions are whole numbers without bounds.

    Reference:
        Towers et al. (2024), Gymnasium.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("gymnasium")
        >>> from_gymnasium("CartPole-v1").horizon
        500
    """
    check_installed("gymnasium", name if isinstance(name, str) else "gymnasium")
    require("limit", limit, whole, "a whole number >= 1")
    import gymnasium

    if isinstance(name, str):
        # "module:id" is registered by its module
        if ":" not in name and name not in gymnasium.registry:
            raise ValueError(
                f"gymnasium: {name!r} is unknown; {did_you_mean(name, gymnasium.registry)}"
                "allowed: the ids that gymnasium.pprint_registry() prints, and <module>:<id>"
            )
        # its checks of an environment's author are none of the user's
        parameters = {"disable_env_checker": True, **parameters}

    def make() -> Any:
        return gymnasium.make(name, **parameters) if isinstance(name, str) else name(**parameters)

    first = make()
    if horizon is None:
        horizon = int((first.spec and first.spec.max_episode_steps) or LONGEST)
    require("horizon", horizon, whole, "a whole number >= 1")
    title = PREFIX + (name if isinstance(name, str) else type(first.unwrapped).__name__)
    with jax.ensure_compile_time_eval():
        observations = _space(title, "observation", first.observation_space)
        actions = _actions(title, first.action_space)
    pool = _Pool(make, first, limit, horizon)

    def scalar(dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((), dtype)

    if isinstance(observations, Discrete):
        observed = scalar(jnp.int32)
    else:
        observed = jax.ShapeDtypeStruct(observations.shape, jnp.float32)
    flag, count = scalar(jnp.bool_), scalar(jnp.int32)
    after = (
        HostState._make((scalar(jnp.uint32), count, count)),
        Timestep._make((observed, observed, scalar(jnp.float32), flag, flag)),
    )

    # `io_callback` would say more of what this is, but JAX has none under `vmap` of `cond`, where
    # the runner evaluates. A call that JAX repeats is an error (`_Pool.step`), no wrong answer.
    call = functools.partial(jax.pure_callback, vmap_method="sequential")

    def reset(key: Key) -> tuple[HostState, jax.Array]:
        seed = jax.random.bits(key, (), jnp.uint32)
        state = HostState(seed, jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32))
        return state, call(pool.reset, observed, seed)

    def step(key: Key, state: HostState, action: jax.Array) -> tuple[HostState, Timestep]:
        next_seed = jax.random.bits(key, (), jnp.uint32)
        return call(pool.step, after, *state, action, next_seed)

    def release(state: HostState) -> jax.Array:
        return call(pool.release, scalar(jnp.float32), *state)

    return Environment(title, reset, step, observations, actions, horizon, release)
