from __future__ import annotations

import functools
import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gacf
from gacf import envs
from gacf.envs import gymnax, probes
from tests.envs.contract import KEY, check_contract, play

CLASSIC = (
    "Pendulum-v1",
    "CartPole-v1",
    "MountainCarContinuous-v0",
    "Acrobot-v1",
    "MountainCar-v0",
)
OTHERS = tuple(name for name in gymnax.NAMES if name not in CLASSIC)


@pytest.mark.long
@pytest.mark.parametrize("name", (*CLASSIC, "LQR", *probes.PROBES))
def test_contract_and_bounds(name):
    env, seen = check_contract(name, 300)
    low, high = (np.asarray(bound) for bound in (env.observation.low, env.observation.high))
    shown = np.asarray(seen.observation)
    assert np.all((shown >= low - 1e-5) & (shown <= high + 1e-5))
    if isinstance(env.action, envs.Box):
        assert env.action.low.shape == env.action.high.shape == env.action.shape == (1,)
        assert env.action.low.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_contract_of_all_others(name):
    check_contract(name, 30)


def test_all_of_gymnax_is_there():
    import gymnax as package

    assert set(gymnax.NAMES) == set(package.registered_envs) - {"MNISTBandit-bsuite"}


def test_pendulum_follows_its_equations():
    env = envs.make("Pendulum-v1", g=9.0)
    state, observation = env.reset(KEY)
    cos, sin, speed = np.asarray(observation, np.float64)
    angle, torque = np.arctan2(sin, cos), 1.3
    _, seen = env.step(KEY, state, jnp.array([torque]))
    assert float(seen.reward) == pytest.approx(
        -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2), 1e-5
    )
    speed += 0.05 * (1.5 * 9.0 * sin + 3 * torque)
    angle += 0.05 * speed
    expected = [np.cos(angle), np.sin(angle), speed]
    np.testing.assert_allclose(seen.next_observation, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_truncation_shows_both_the_end_and_the_new_start():
    def torque(observation):
        return jnp.array([2.0]) * jnp.sign(observation[2])  # gains speed all the time

    short = envs.make("Pendulum-v1", max_steps_in_episode=30)
    seen = play(short, 60, policy=torque)
    endless = play(envs.make("Pendulum-v1", max_steps_in_episode=1000), 60, policy=torque)
    np.testing.assert_array_equal(np.flatnonzero(seen.truncated), [29, 59])
    assert not seen.terminated.any()
    np.testing.assert_allclose(
        seen.next_observation[:30], endless.next_observation[:30], rtol=1e-4, atol=1e-5
    )
    assert abs(float(seen.next_observation[29, 2])) > 1.0  # faster than any start
    for end in (29, 59):
        assert abs(float(seen.observation[end, 2])) <= 1.0
    # the next transition starts from what was shown as the new start
    _, sin, speed = np.asarray(seen.observation[29], np.float64)
    after = speed + 0.05 * (15.0 * sin + 3 * 2.0 * np.sign(speed))
    assert float(seen.next_observation[30, 2]) == pytest.approx(after, abs=1e-5)


@pytest.mark.long
def test_termination_is_told_from_truncation():
    seen = play(envs.make("CartPole-v1"), 40, policy=lambda observation: jnp.array(1))
    ends = np.flatnonzero(seen.terminated)
    assert len(ends) >= 2 and ends[0] < 15
    assert not seen.truncated.any()
    fallen = np.asarray(seen.next_observation)[ends]
    assert np.all((np.abs(fallen[:, 2]) > 0.2) | (np.abs(fallen[:, 0]) > 2.4))
    assert np.abs(np.asarray(seen.observation)[ends]).max() <= 0.05


@pytest.mark.long
def test_same_key_same_bits_and_vmap_equals_loop():
    env = envs.make("MountainCarContinuous-v0")
    keys = jax.random.split(KEY, 3)
    one = jax.jit(functools.partial(play, env, 20))
    many = jax.vmap(one)(keys)
    for i, key in enumerate(keys):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6),
            many,
            one(key),
        )
    jax.tree.map(np.testing.assert_array_equal, one(keys[0]), one(keys[0]))
    assert not np.array_equal(many.observation[0], many.observation[1])


@pytest.mark.long
def test_parameters_may_be_traced():
    @jax.jit
    @jax.vmap
    def speed(gravity):
        env = envs.make("Pendulum-v1", g=gravity)
        state, _ = env.reset(KEY)
        return env.step(KEY, state, jnp.zeros(1))[1].next_observation[2]

    gravity = jnp.array([0.0, 10.0])
    _, start = envs.make("Pendulum-v1").reset(KEY)
    expected = start[2] + 0.05 * 1.5 * gravity * start[1]
    np.testing.assert_allclose(speed(gravity), expected, rtol=1e-5)


@pytest.mark.long
def test_one_program_serves_a_sweep_of_time_limits():
    """A limit as a hyperparameter, hence a float; an evaluation plays whole episodes."""

    @jax.jit
    @jax.vmap
    def returns(limit):
        env = envs.make("CartPole-v1", max_steps_in_episode=limit)
        actor = (lambda key: None, lambda p, o: o[:, 2:3] * jnp.array([[-9.0, 9.0]]))
        critic = (lambda key: jnp.zeros(()), lambda p, o: p * o[:, 0])
        game = gacf.a2c(env, actor, critic, rollout=gacf.Rollout(num_envs=2, episodes=5))
        return game.evaluate({"actor": None, "critic": None}, {}, KEY)["return"]

    # that actor keeps the pole up for longer than that, and each step earns 1
    np.testing.assert_array_equal(returns(jnp.array([3.0, 7.0, 5.0])), [3, 7, 5])


def test_a_chain_as_long_as_an_episode_needs_a_number():
    def build(limit):
        gacf.svg(envs.make("Pendulum-v1", max_steps_in_episode=limit), horizon=math.inf)

    with pytest.raises(ValueError, match="horizon: inf was given; allowed: a number, since"):
        jax.jit(build)(5)


@pytest.mark.slow
@pytest.mark.parametrize("name", gymnax.NAMES)
def test_the_time_limit_of_every_environment_may_be_traced(name):
    def ends(limit):
        env = envs.check(envs.make(name, max_steps_in_episode=limit))
        return play(env, 12).truncated, env.horizon

    truncated, horizon = jax.jit(ends)(4)
    plain = play(envs.make(name, max_steps_in_episode=4), 12)
    np.testing.assert_array_equal(truncated, plain.truncated)
    assert int(horizon) == envs.make(name, max_steps_in_episode=4).horizon == 4


def test_spaces_are_values_even_inside_a_trace():
    seen = []
    jax.jit(lambda x: seen.append(envs.make("Pendulum-v1").action) or x)(0.0)
    assert float(seen[0].high[0]) == 2.0


def test_constructor_arguments_reach_the_environment():
    env = envs.make("Catch-bsuite", rows=6)
    assert isinstance(env.observation, envs.Box) and env.observation.shape == (6, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (functools.partial(envs.make, "Pendulun-v1"), "did you mean 'Pendulum-v1'"),
        (functools.partial(envs.make, "Pendulum-v1", gravity=1.0), "no parameter 'gravity'"),
        (functools.partial(envs.make, "Pendulum-v1", max_steps=1), "did you mean 'max_s"),
        (
            functools.partial(envs.make, "Pendulum-v1", max_steps_in_episode=2.5),
            "max_steps_in_episode: 2.5 was given; allowed: a whole number >= 1",
        ),
        (functools.partial(envs.make, "Pendulum-v1", max_steps_in_episode=0), "0 was given"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, extra in (("gymnasium:CartPole-v1", "gymnasium"), ("brax-ant", "brax")):
        with pytest.raises(ValueError, match=rf"pip install 'gacf\[{extra}\]'") as error:
            envs.make(name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LunarLander-v3", "gymnasium:LunarLander-v3"),
        ("ALE/Pong-v5", "gymnasium:ALE/Pong-v5"),
        ("Ant-v5", "gymnasium:Ant-v5"),
        ("Reacher-v5", "gymnasium:Reacher-v5"),
        ("Taxi-v3", "gymnasium:Taxi-v3"),
        ("CartPole-v0", "CartPole-v1"),
        ("cartpole-v1", "CartPole-v1"),
        ("MountainCar-v1", "MountainCar-v0"),
        ("brax-ants", "brax-ant"),
        ("lqr", "LQR"),
    ],
)
def test_an_unknown_name_points_to_what_was_meant(name, meant):
    with pytest.raises(ValueError, match=f"'{name}' is unknown; did you mean '{meant}'") as error:
        envs.make(name)
    said = str(error.value)
    assert "gacf list environments" in said and "Breakout" not in said and len(said) < 200


def test_an_unknown_name_may_be_anything():
    with pytest.raises(ValueError, match="environment: 3 is unknown; allowed: a name"):
        envs.make(3)
    with pytest.raises(ValueError, match=r"environment: \['LQR'\] is unknown"):
        envs.make(["LQR"])
