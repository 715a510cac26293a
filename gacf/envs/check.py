"""Checks whether an environment does what its spaces declare, by shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import require, whole
from gacf.core.types import PyTree
from gacf.envs.types import Box, Discrete, Environment, Timestep, is_space


def check(env: Any) -> Environment:
    """Returns the environment if its spaces, its functions and its horizon agree.

    Observations of another shape than declared, rewards or flags of another type, or a state that
    changes its structure could run and yield wrong numbers, or raise errors far from their cause.
    `reset` and `step` are traced at the shapes of their arguments and never executed, so that an
    environment on the host plays no step.

    It checks the following:

    - The spaces are valid.
    - Observations of `reset` and `step`, including `next_observation`, have the structure and shape
      of the space (whole numbers for discrete spaces, real ones of any width for boxes), and all
      have the same type.
    - The reward is a real scalar, and the flags are bool scalars.
    - `step` takes an action of the space.
    - A state keeps its structure, shapes and types.
    - The horizon is a whole number >= 1, or a traced number.

    Args:
        env: an `Environment`.

    Raises:
        ValueError: a check fails; the message names the field, what it is and what is allowed.

    Example:
        >>> import jax.numpy as jnp
        >>> from gacf import envs
        >>> env = envs.lqr()
        >>> check(env) is env
        True
        >>> check(env._replace(observation=envs.Discrete(3)))
        Traceback (most recent call last):
            ...
        ValueError: env: the observation of `reset` in 'LQR' is float32[1]; allowed: int[], ...
    """
    check_spaces(env)
    _check_horizon(env)
    key = jax.eval_shape(lambda: jax.random.key(0))
    start = _traced(env, "reset", "(key) -> (state, observation)", env.reset, key)
    state, observation = _pair(env, "reset", "(state, observation)", start)
    _check_observation(env, "the observation of `reset`", observation)
    action = _action(env)
    signature = f"(key, state, action {_described(action)}) -> (state, Timestep)"
    result = _traced(env, "step", signature, env.step, key, state, action)
    next_state, timestep = _pair(env, "step", "(state, Timestep)", result)
    _check_state(env, state, next_state)
    missing = [name for name in Timestep._fields if not hasattr(timestep, name)]
    if missing:
        _refuse(env, "what `step` returns second", type(timestep).__name__, "a Timestep")
    for name in ("observation", "next_observation"):
        returned = getattr(timestep, name)
        _check_observation(env, f"`{name}` of `step`", returned)
        if _types(returned) != _types(observation):
            allowed = f"{_described(observation)}, as `reset` has it"
            _refuse(env, f"`{name}` of `step`", _described(returned), allowed)
    _check_scalar(env, "reward", timestep.reward, jnp.floating, "a real scalar, float[]")
    for name in ("terminated", "truncated"):
        _check_scalar(env, name, getattr(timestep, name), jnp.bool_, "a bool scalar, bool[]")
    return env


def check_spaces(env: Any) -> Environment:
    """Returns the environment if it is one and its spaces are valid: a part of `check`."""
    if not isinstance(env, Environment):
        given = type(env).__name__
        raise ValueError(
            f"env: {given} was given; allowed: an Environment, or a name for gacf.envs.make"
        )
    parts = jax.tree.leaves(env.observation, is_leaf=is_space)
    named = [("observation", part) for part in parts] or [("observation", env.observation)]
    for field, space in (*named, ("action", env.action)):
        _check_space(env, field, space)
    return env


def _refuse(env: Environment, field: str, actual: str, allowed: str) -> NoReturn:
    raise ValueError(f"env: {field} in {env.name!r} is {actual}; allowed: {allowed}")


class _Plain(str):
    """A text that is shown without quotation marks inside a dict."""

    def __repr__(self) -> str:
        return str(self)


def _described(tree: PyTree) -> str:
    """Shapes and types in readable form: float32[2], or {'state': float32[2]}."""

    def leaf(x: Any) -> _Plain:
        return _Plain(f"{x.dtype}[{', '.join(map(str, x.shape))}]")

    return str(jax.tree.map(leaf, tree))


def _types(tree: PyTree) -> list[Any]:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _traced(
    env: Environment, name: str, signature: str, function: Callable[..., Any], *args: Any
) -> Any:
    try:
        return jax.eval_shape(function, *args)
    except Exception as error:  # the user's code may raise anything
        reason = (str(error).strip() or "nothing more").splitlines()[0]
        raise ValueError(
            f"env: `{name}` of {env.name!r} raised {type(error).__name__}: {reason}; "
            f"allowed: {signature}"
        ) from error


def _pair(env: Environment, name: str, allowed: str, result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        _refuse(env, f"what `{name}` returns", _described(result), allowed)
    return result


def _check_space(env: Environment, field: str, space: Any) -> None:
    if isinstance(space, Discrete):
        require(f"env: n of `{field}` in {env.name!r}", space.n, whole, "a whole number >= 1")
    elif isinstance(space, Box):
        for name in ("low", "high"):
            shape = np.shape(getattr(space, name))
            if shape not in ((), tuple(space.shape)):
                allowed = f"{list(space.shape)}, the shape of the box"
                _refuse(env, f"the shape of `{name}` of `{field}`", str(list(shape)), allowed)
    else:
        allowed = "a Box or Discrete" + ", or a pytree of them" * (field == "observation")
        _refuse(env, f"`{field}`", str(space), allowed)


def _check_horizon(env: Environment) -> None:
    horizon: Any = env.horizon
    if isinstance(horizon, jax.core.Tracer) and not (
        horizon.shape == () and jnp.issubdtype(horizon.dtype, jnp.integer)
    ):
        _refuse(env, "`horizon`", _described(horizon), "a whole number, int32[] where it is traced")
    require(f"env: horizon of {env.name!r}", horizon, whole, "a whole number >= 1")


def _check_observation(env: Environment, field: str, observation: PyTree) -> None:
    def declared(space: Any) -> _Plain:
        if isinstance(space, Discrete):
            return _Plain("int[]")
        return _Plain(f"float[{', '.join(map(str, space.shape))}]")

    def fits(space: Any, leaf: Any) -> bool:
        if isinstance(space, Discrete):
            return leaf.shape == () and jnp.issubdtype(leaf.dtype, jnp.integer)
        real = not jnp.issubdtype(leaf.dtype, jnp.complexfloating)
        number = real and (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == jnp.bool_)
        return leaf.shape == tuple(space.shape) and number

    spaces, structure = jax.tree.flatten(env.observation, is_leaf=is_space)
    leaves = jax.tree.leaves(observation)
    same_structure = jax.tree.structure(observation) == structure
    if not (same_structure and all(map(fits, spaces, leaves))):
        allowed = jax.tree.map(declared, env.observation, is_leaf=is_space)
        _refuse(env, field, _described(observation), f"{allowed}, as `observation` declares")


def _action(env: Environment) -> jax.ShapeDtypeStruct:
    if isinstance(env.action, Discrete):
        return jax.ShapeDtypeStruct((), jnp.int32)
    return jax.ShapeDtypeStruct(tuple(env.action.shape), jnp.result_type(float))


def _check_state(env: Environment, before: PyTree, after: PyTree) -> None:
    if jax.tree.structure(before) != jax.tree.structure(after):
        allowed = f"{_described(before)}, as `reset` makes it"
        _refuse(env, "the state after `step`", _described(after), allowed)
    for (path, first), last in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        if (first.shape, first.dtype) != (last.shape, last.dtype):
            field = f"state{jax.tree_util.keystr(path)} after `step`"
            _refuse(env, field, _described(last), f"{_described(first)}, as `reset` makes it")


def _check_scalar(env: Environment, name: str, value: Any, kind: Any, allowed: str) -> None:
    single = jax.tree.structure(value) == jax.tree.structure(0)
    if not (single and value.shape == () and jnp.issubdtype(value.dtype, kind)):
        _refuse(env, f"`{name}` of `step`", _described(value), allowed)
