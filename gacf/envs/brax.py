"""brax's environments behind gacf's protocol."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import lookup, nearest, require, whole
from gacf.core.types import Key, PyTree
from gacf.envs.types import Box, Environment, Timestep, check_installed, restart

# All that brax registers except "fast", which only tests its own training, and "swimmer", whose
# fluid calls `clip` by a name that jax has dropped. They are listed here because listing names
# should not import brax, which may not even be installed.
NAMES = {
    "ant": "Walk forward on four legs.",
    "halfcheetah": "Run forward on two legs in the plane.",
    "hopper": "Hop forward on one leg.",
    "humanoid": "Walk forward as a humanoid.",
    "humanoidstandup": "Stand up as a humanoid.",
    "inverted_double_pendulum": "Balance two poles, one on the other, on a cart.",
    "inverted_pendulum": "Balance a pole on a cart.",
    "pusher": "Push an object to a goal with an arm.",
    "reacher": "Reach a goal with an arm of two links.",
    "walker2d": "Walk forward on two legs in the plane.",
}
BACKENDS = ("spring", "positional", "generalized", "mjx")


class BraxState(NamedTuple):
    """The state of an episode.

    Attributes:
        inner: brax's state.
        time: steps since the start, int32 scalar.
    """

    inner: PyTree
    time: jax.Array


@contextlib.contextmanager
def _brax_allowances() -> Iterator[None]:
    """Runs brax without warnings (it calls deprecated functions) and allows all broadcasting."""
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        yield


def _make_brax(name: str, backend: str, parameters: dict[str, Any]) -> Any:
    package = importlib.import_module("brax.envs")
    constructor = lookup("brax", name, package._envs)
    signatures = inspect.signature(constructor), inspect.signature(package.PipelineEnv)
    allowed = {parameter for signature in signatures for parameter in signature.parameters}
    allowed -= {"self", "sys", "kwargs"}
    for parameter in parameters:
        if parameter not in allowed:
            hint = nearest(parameter, sorted(allowed))
            raise ValueError(f"make: brax-{name} has no parameter {parameter!r}; {hint}")
    return constructor(backend=backend, **parameters)


def from_brax(
    name: str, backend: str = "spring", horizon: int = 1_000, **parameters: Any
) -> Environment:
    """A brax environment as an `Environment`; actions lie in [−1, 1].

    Only brax's `done` means termination. Steps are counted here, and after `horizon` of them the
    episode is truncated. Each new episode starts from a newly drawn start state (brax's
    `AutoResetWrapper` always returns to the first one).

    With the versions in constraints.txt, "spring" and "positional" run all names in `NAMES`.
    "generalized" and "mjx" run ant, reacher and inverted_pendulum, on which they were tried, but
    take several times as long to compile.

    Args:
        name: brax's name of the environment; `gacf.envs.make` takes "brax-<name>".
        backend: "spring", "positional", "generalized" or "mjx".
        horizon: the number of steps after which an episode is truncated.
        **parameters: arguments of the environment's constructor.

    Raises:
        ValueError: brax is missing, or a name, backend or parameter is unknown.

    Reference:
        Freeman et al. (2021), Brax.
    """
    check_installed("brax", f"brax-{name}")
    lookup("backend", backend, dict.fromkeys(BACKENDS))
    require("horizon", horizon, whole, "a whole number >= 1")
    with jax.ensure_compile_time_eval(), _brax_allowances():
        environment = _make_brax(name, backend, parameters)
        size = (environment.observation_size,)
        everywhere = jnp.full(size, jnp.inf, jnp.float32)
        limit = jnp.ones(environment.action_size)
        observations = Box(size, -everywhere, everywhere)
        actions = Box(limit.shape, -limit, limit)

    def start(key: Key) -> PyTree:
        with _brax_allowances():
            inner = environment.reset(key)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), inner)

    def reset(key: Key) -> tuple[BraxState, jax.Array]:
        inner = start(key)
        return BraxState(inner, jnp.zeros((), jnp.int32)), jnp.asarray(inner.obs, jnp.float32)

    def step(key: Key, state: BraxState, action: jax.Array) -> tuple[BraxState, Timestep]:
        inner = jax.tree.map(lambda leaf: leaf, state.inner)  # brax writes into its dicts
        with _brax_allowances():
            new = environment.step(inner, action)
        new = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), new, state.inner)
        time = state.time + 1
        terminated = new.done > 0.5
        truncated = ~terminated & (time >= horizon)
        state = restart(terminated | truncated, reset(key)[0], BraxState(new, time))
        return state, Timestep(
            observation=jnp.asarray(state.inner.obs, jnp.float32),
            next_observation=jnp.asarray(new.obs, jnp.float32),
            reward=jnp.asarray(new.reward, jnp.float32),
            terminated=terminated,
            truncated=truncated,
        )

    return Environment(f"brax-{name}", reset, step, observations, actions, horizon)
