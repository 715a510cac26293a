"""Environments that contradict themselves are refused in one line, before anything is played."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gacf
from gacf import envs
from tests.envs.contract import KEY

OPEN = np.inf


def box(*shape):
    return envs.Box(shape, jnp.full(shape, -OPEN), jnp.full(shape, OPEN))


class Seen(NamedTuple):
    name: Any
    place: Any


def environment(**changes: Any) -> envs.Environment:
    """One that keeps its word, but for what is changed: fields of it, of `reset` and of `step`."""
    first = changes.pop("first", jnp.zeros(2))
    state = changes.pop("state", {"time": jnp.zeros((), jnp.int32)})
    later_state = changes.pop("later_state", state)
    shown = {
        "observation": first,
        "next_observation": first,
        "reward": jnp.zeros(()),
        "terminated": jnp.zeros((), bool),
        "truncated": jnp.zeros((), bool),
    }
    shown |= {name: changes.pop(name) for name in tuple(changes) if name in tuple(shown)[1:]}
    shown["observation"] = changes.pop("later", first)
    fields = {
        "name": "made",
        "reset": lambda key: (state, first),
        "step": lambda key, state, action: (later_state, envs.Timestep(**shown)),
        "observation": box(2),
        "action": envs.Discrete(2),
        "horizon": 3,
    }
    return envs.Environment(**{**fields, **changes})


def raises(key, state, action):
    raise KeyError("no such thing\nand more of it")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"first": jnp.zeros(2, jnp.uint8)},
        {"first": jnp.zeros(2, jnp.bfloat16), "reward": jnp.zeros((), jnp.bfloat16)},
        {"observation": envs.Discrete(4), "first": jnp.zeros((), jnp.int8)},
        {
            "observation": {"a": box(2), "b": envs.Discrete(3)},
            "first": {"a": jnp.ones(2), "b": jnp.int32(1)},
        },
        {"observation": (box(), box(3, 2)), "first": (jnp.zeros(()), jnp.ones((3, 2)))},
        {"observation": Seen(envs.Discrete(2), box(1)), "first": Seen(jnp.int32(0), jnp.ones(1))},
        {"action": envs.Box((), jnp.float32(-1), jnp.float32(1))},
        {"horizon": np.int64(3)},
        {"reward": 1.0, "state": 0, "later_state": jnp.int32(1)},
    ],
)
def test_what_keeps_its_word_passes(changes):
    env = environment(**changes)
    assert envs.check(env) is env


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"first": jnp.zeros(3)},
            r"observation of `reset` in 'made' is float32\[3\]; allowed: float\[2\]",
        ),
        ({"first": jnp.zeros((2, 1))}, r"is float32\[2, 1\]; allowed: float\[2\]"),
        ({"first": {"state": jnp.zeros(2)}}, r"is {'state': float32\[2\]}; allowed: float\[2\]"),
        ({"observation": {"a": box(2)}}, r"is float32\[2\]; allowed: {'a': float\[2\]}"),
        (
            {"observation": {"b": box(2)}, "first": {"a": jnp.ones(2)}},
            r"allowed: {'b': float\[2\]}",
        ),
        ({"observation": envs.Discrete(3)}, r"is float32\[2\]; allowed: int\[\]"),
        (
            {"observation": envs.Discrete(3), "first": jnp.zeros(())},
            r"is float32\[\]; allowed: int\[\]",
        ),
        ({"first": jnp.zeros(2, complex)}, r"complex64\[2\]; allowed: float\[2\]"),
        ({"later": jnp.zeros(1)}, r"`observation` of `step` in 'made' is float32\[1\]"),
        (
            {"next_observation": jnp.zeros(())},
            r"`next_observation` of `step` in 'made' is float32\[\]",
        ),
        (
            {"next_observation": jnp.zeros(2, int)},
            r"is int32\[2\]; allowed: float32\[2\], as `reset`",
        ),
        (
            {"reward": jnp.zeros(1)},
            r"`reward` of `step` in 'made' is float32\[1\]; allowed: a real scalar",
        ),
        ({"reward": jnp.zeros((), int)}, r"`reward` of `step` in 'made' is int32\[\]"),
        ({"reward": {"r": jnp.zeros(())}}, r"`reward` of `step` in 'made' is {'r': float32\[\]}"),
        (
            {"terminated": jnp.zeros(())},
            r"`terminated` of `step` in 'made' is float32\[\]; allowed: a bool",
        ),
        ({"terminated": jnp.zeros((), int)}, r"`terminated` of `step` in 'made' is int32\[\]"),
        ({"truncated": jnp.zeros(1, bool)}, r"`truncated` of `step` in 'made' is bool\[1\]"),
        (
            {"later_state": {"time": jnp.zeros(())}},
            r"state\['time'\] after `step` in 'made' is float32\[\]; allowed: int32\[\], as",
        ),
        (
            {"later_state": {"time": jnp.zeros(1, int)}},
            r"state\['time'\] after `step` in 'made' is int32\[1\]",
        ),
        (
            {"later_state": {"clock": jnp.zeros((), int)}},
            r"the state after `step` in 'made' is {'clock': int32\[\]}",
        ),
        (
            {"reset": lambda key: jnp.zeros(2)},
            r"what `reset` returns in 'made' is float32\[2\]; allowed: \(state, observation\)",
        ),
        (
            {"step": lambda key, s, a: (s, jnp.zeros(2), 0.0)},
            r"what `step` returns in 'made' is .*; allowed: \(state, Timestep\)",
        ),
        (
            {"step": lambda key, s, a: (s, {"reward": 0.0})},
            r"returns second in 'made' is dict; allowed: a Timestep",
        ),
        (
            {"step": raises},
            r"`step` of 'made' raised KeyError: .*; allowed: \(key, state, action int32\[\]\)",
        ),
        (
            {"step": lambda key, s, a: (s, a @ jnp.ones((3, 3))), "action": box(2)},
            r"raised TypeError: .*action float32\[2\]",
        ),
        ({"reset": lambda: None}, r"`reset` of 'made' raised TypeError"),
        ({"action": None}, r"`action` in 'made' is None; allowed: a Box or Discrete"),
        ({"action": (box(1), box(2))}, r"`action` in 'made' is .*; allowed: a Box or Discrete"),
        (
            {"observation": None},
            r"`observation` in 'made' is None; allowed: a Box or Discrete, or a pytree",
        ),
        (
            {"observation": {"a": 3}},
            r"`observation` in 'made' is 3; allowed: a Box or Discrete, or",
        ),
        ({"action": envs.Discrete(0)}, r"n of `action` in 'made': 0 was given"),
        (
            {"action": envs.Box((2,), jnp.zeros(3), jnp.ones(3))},
            r"shape of `low` of `action` in 'made' is \[3\]; allowed: \[2\]",
        ),
        ({"horizon": 0}, r"horizon of 'made': 0 was given; allowed: a whole number >= 1"),
        ({"horizon": 2.5}, r"horizon of 'made': 2.5 was given"),
        ({"horizon": None}, r"horizon of 'made': None was given"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        envs.check(environment(**changes))
    assert "\n" not in str(error.value) and str(error.value).startswith("env: ")


def test_whatever_is_no_environment_is_refused():
    with pytest.raises(ValueError, match="env: int was given; allowed: an Environment, or a name"):
        envs.check(3)
    with pytest.raises(ValueError, match="env: NoneType was given"):
        gacf.ppo(None)


def test_methods_check_their_environment_when_a_game_is_built():
    env = environment(reward=jnp.zeros(1))
    moving = env._replace(action=envs.Box((1,), -jnp.ones(1), jnp.ones(1)))
    for method, given in (
        (gacf.ppo, env),
        (gacf.a2c, env),
        (gacf.ddpg, moving),
        (gacf.sac, moving),
    ):
        with pytest.raises(ValueError, match="`reward` of `step`"):
            method(given)


@pytest.mark.long
def test_an_episode_that_outlasts_the_horizon_has_no_return():
    """Better none than that of a part of it."""

    def returns(horizon):
        env = envs.make("LQR", horizon=8)._replace(horizon=horizon)
        still = (lambda key: jnp.zeros(()), lambda p, o: p * o)
        number = (lambda key: jnp.zeros(()), lambda v, o: v * o[:, 0])
        rollout = gacf.Rollout(num_envs=2, length=1, episodes=3)
        game = gacf.a2c(env, still, number, rollout=rollout)
        return jax.jit(lambda key: game.evaluate(*game.init(key), key))(KEY)

    whole, longer, cut = returns(8), returns(20), returns(7)
    np.testing.assert_array_equal(whole["return"], longer["return"])
    assert np.isfinite(whole["return"]) and np.isnan(cut["return"]) and np.isnan(cut["return_std"])


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1", "FrozenLake-misc", "LQR"])
def test_environments_of_the_package_keep_their_word(name):
    env = envs.make(name)
    assert envs.check(env) is env


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(envs.ENVIRONMENTS))
def test_all_environments_of_the_package_keep_their_word(name):
    if name.startswith("brax-"):
        pytest.importorskip("brax")
    envs.check(envs.make(name))


def test_no_host_environment_plays_for_it():
    gymnasium: Any = pytest.importorskip("gymnasium")

    class Host(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, **options):
            raise AssertionError("a reset was played")

    env = envs.from_gymnasium(Host)
    assert envs.check(env) is env
