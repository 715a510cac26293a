"""gymnax's environments behind gacf's protocol."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from gacf.core.checks import nearest, require
from gacf.core.types import Key, PyTree
from gacf.envs.types import Box, Discrete, Environment, Space, Timestep

# All that gymnax registers except MNISTBandit, which downloads a data set when it is made. They are
# listed here because importing gymnax takes two seconds, for which the training of a GAN should not
# wait.
NAMES = {
    "CartPole-v1": "Balance a pole on a cart; two actions.",
    "Pendulum-v1": "Swing a pendulum up and hold it there; one torque.",
    "Acrobot-v1": "Swing the lower of two links up to a height; three actions.",
    "MountainCar-v0": "Rock a weak car up a hill; three actions.",
    "MountainCarContinuous-v0": "Rock a weak car up a hill; one force.",
    "Asterix-MinAtar": "MinAtar's Asterix: collect treasure and avoid enemies.",
    "Breakout-MinAtar": "MinAtar's Breakout: break bricks with a ball and a paddle.",
    "Freeway-MinAtar": "MinAtar's Freeway: cross a road between cars.",
    "Seaquest-MinAtar": "MinAtar's Seaquest: rescue divers and shoot from a submarine.",
    "SpaceInvaders-MinAtar": "MinAtar's Space Invaders: shoot aliens before they land.",
    "Catch-bsuite": "bsuite's Catch: catch a falling ball with a paddle.",
    "DeepSea-bsuite": "bsuite's Deep Sea: only one long sequence of actions pays (exploration).",
    "MemoryChain-bsuite": "bsuite's memory chain: recall at the end what was shown at the start.",
    "UmbrellaChain-bsuite": "bsuite's umbrella chain: only the first action matters, much later.",
    "DiscountingChain-bsuite": "bsuite's discounting chain: the first action chooses the delay.",
    "SimpleBandit-bsuite": "bsuite's bandit: eleven arms with fixed rewards.",
    "FourRooms-misc": "Four rooms: find the goal in a grid through narrow doors.",
    "MetaMaze-misc": "Find a goal in a maze again and again, within one episode.",
    "PointRobot-misc": "Move a point to a goal in the plane; two real actions.",
    "BernoulliBandit-misc": "A bandit with two arms, whose chances of a reward vary by episode.",
    "GaussianBandit-misc": "A bandit with two arms: a sure reward against a normal one.",
    "Reacher-misc": "Reach a goal with an arm of two links; two torques.",
    "Swimmer-misc": "Swim forward by moving the joints; real torques.",
    "Pong-misc": "Pong against a simple opponent.",
    "FrozenLake-misc": "Cross a frozen lake with holes on a grid; four actions.",
}

LIMIT = "max_steps_in_episode"
LONGEST = 1_000  # steps of an episode if the environment sets no limit


def _space(space: Any) -> Space:
    if hasattr(space, "n"):
        return Discrete(int(space.n))
    low, high = (
        jnp.broadcast_to(jnp.asarray(bound, jnp.float32), space.shape)
        for bound in (space.low, space.high)
    )
    return Box(tuple(space.shape), low, high)


def _steps(value: Any) -> Any:
    """A limit of steps as a whole number; a sweep may give it as a traced number of any type.

    Raises:
        ValueError: it is not a whole number >= 1.
    """
    if isinstance(value, jax.core.Tracer):
        return jnp.ceil(value).astype(jnp.int32)
    allowed = "a whole number >= 1"
    require("max_steps_in_episode", value, lambda n: n >= 1 and n == int(n), allowed)
    return int(value)


def _environment(name: str, parameters: dict[str, Any]) -> tuple[Any, Any]:
    """The gymnax environment and its parameters; each argument goes to the one that takes it."""
    import gymnax

    plain, defaults = gymnax.make(name)
    fields = set(vars(defaults))
    arguments = set(inspect.signature(type(plain)).parameters)
    for parameter in parameters:
        if parameter not in fields | arguments:
            hint = nearest(parameter, sorted(fields | arguments))
            raise ValueError(f"make: {name} has no parameter {parameter!r}; {hint}")
    static = {key: value for key, value in parameters.items() if key not in fields}
    environment, defaults = gymnax.make(name, **static) if static else (plain, defaults)
    if LIMIT in parameters:
        steps = _steps(parameters[LIMIT])
        # in some environments it is a float, and meets other ones
        keeps = isinstance(getattr(defaults, LIMIT), float)
        parameters = {**parameters, LIMIT: steps * 1.0 if keeps else steps}
    return environment, defaults.replace(
        **{key: value for key, value in parameters.items() if key in fields}
    )


def from_gymnax(name: str, **parameters: Any) -> Environment:
    """A gymnax environment as an `Environment`.

    Dtypes are fixed: rewards are float32 scalars, flags are bool scalars, real observations are
    float32, and a state keeps the dtypes that `reset` gave it, so that it can be scanned.

    Args:
        name: gymnax's name of the environment.
        **parameters: fields of its `EnvParams`, or arguments of its constructor. The fields may be
            traced, including `max_steps_in_episode`, except those that set the bounds of a space.

    Raises:
        ValueError: a parameter is unknown, or a limit of steps is not a whole number >= 1.

    Reference:
        Lange (2022), gymnax.

    Example:
        >>> import jax
        >>> env = from_gymnax("Pendulum-v1", max_steps_in_episode=50)
        >>> state, observation = env.reset(jax.random.key(0))
        >>> observation.shape, env.action.shape
        ((3,), (1,))
    """
    with jax.ensure_compile_time_eval(), jax.numpy_rank_promotion("allow"):
        environment, params = _environment(name, parameters)
        observations = _space(environment.observation_space(params))
        actions = _space(environment.action_space(params))
    dtype = jnp.int32 if isinstance(observations, Discrete) else jnp.float32

    def reset(key: Key) -> tuple[PyTree, jax.Array]:
        with jax.numpy_rank_promotion("allow"):
            observation, state = environment.reset(key, params)
        # a weakly typed leaf, such as a counter that starts as a Python 0, would change in a scan
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
        return state, jnp.asarray(observation, dtype)

    def step(key: Key, state: PyTree, action: jax.Array) -> tuple[PyTree, Timestep]:
        with jax.numpy_rank_promotion("allow"):
            observation, new, reward, terminated, truncated, info = environment.step(
                key, state, action, params
            )
        new = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), new, state)
        terminated = jnp.asarray(terminated, bool)
        return new, Timestep(
            observation=jnp.asarray(observation, dtype),
            next_observation=jnp.asarray(info["final_observation"], dtype),
            reward=jnp.asarray(reward, jnp.float32),
            terminated=terminated,
            truncated=jnp.asarray(truncated, bool) & ~terminated,  # DeepSea sets both flags
        )

    horizon = _steps(getattr(params, LIMIT, LONGEST))
    return Environment(name, reset, step, observations, actions, horizon)
