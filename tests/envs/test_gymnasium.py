"""Episodes that the host plays, against stepping Gymnasium by hand."""

from __future__ import annotations

import functools
import gc
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gacf
from gacf import envs, rules
from gacf.core.clock import with_clock, without_clock
from gacf.methods.actor_critic import actions_of
from tests.envs.contract import KEY, check_contract, play, play_all

gymnasium = pytest.importorskip("gymnasium")


def by_hand(name, key, actions, **parameters):
    """What Gymnasium itself shows under these actions; episodes are seeded as `envs` does."""
    reset_key, play_key = jax.random.split(key)
    keys = jax.random.split(play_key, len(actions))
    seeds = jax.vmap(lambda k: jax.random.bits(jax.random.split(k)[1], (), jnp.uint32))(keys)
    env = gymnasium.make(name, **parameters)
    shown, _ = env.reset(seed=int(jax.random.bits(reset_key, (), jnp.uint32)))
    rows: Any = [shown]
    for action, seed in zip(np.asarray(actions), np.asarray(seeds), strict=True):
        reached, reward, terminated, truncated, _ = env.step(action)
        shown = env.reset(seed=int(seed))[0] if terminated or truncated else reached
        rows.append((shown, reached, reward, terminated, truncated))
    return rows[0], envs.Timestep(*(np.stack(x) for x in zip(*rows[1:], strict=True)))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "parameters", "ends"),
    [("CartPole-v1", {}, None), ("Pendulum-v1", {"max_episode_steps": 5, "g": 9.0}, 5)],
)
def test_an_episode_equals_one_played_by_hand(name, parameters, ends):
    env, _ = check_contract(f"gymnasium:{name}", 40, **parameters)
    first, actions, seen = jax.jit(lambda: play_all(env, 40))()
    start, expected = by_hand(name, KEY, actions, **parameters)
    np.testing.assert_array_equal(first, start)
    for field in ("observation", "next_observation", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(seen, field), getattr(expected, field))
    np.testing.assert_allclose(seen.reward, expected.reward, rtol=1e-6)
    if ends is None:
        assert np.sum(seen.terminated) >= 1 and not np.any(seen.truncated)
    else:
        np.testing.assert_array_equal(seen.truncated, np.arange(1, 41) % ends == 0)
        assert env.horizon == ends and not np.any(seen.terminated)


@pytest.mark.long
def test_vmap_equals_a_loop_and_the_same_key_gives_the_same_bits():
    env = envs.make("gymnasium:CartPole-v1")
    keys = jax.random.split(KEY, 3)
    one = jax.jit(functools.partial(play, env, 20))
    many = jax.jit(jax.vmap(functools.partial(play, env, 20)))(keys)
    for i, key in enumerate(keys):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), many, one(key))
    assert not np.array_equal(many.observation[0], many.observation[1])


@pytest.mark.long
def test_a_start_that_many_share_is_played_by_each_for_itself():
    # as an evaluation does: the start states are common to all seeds, the actors are not
    env = envs.make("gymnasium:Pendulum-v1")
    torques = jnp.array([-1.0, 0.5, 2.0])

    def play(torque):
        return play_all(env, 8, policy=lambda observation: jnp.ones(1) * torque)[1:]

    actions, seen = jax.jit(jax.vmap(play))(torques)
    for i in range(3):
        _, expected = by_hand("Pendulum-v1", KEY, actions[i])
        np.testing.assert_array_equal(seen.next_observation[i], expected.next_observation)


def test_a_state_is_good_for_one_step():
    env = envs.make("gymnasium:CartPole-v1", limit=2)
    start, _ = env.reset(KEY)
    once, first = env.step(KEY, start, jnp.array(1))
    again, second = env.step(KEY, start, jnp.array(1))  # a start is good for many
    np.testing.assert_array_equal(first.observation, second.observation)
    env.step(KEY, once, jnp.array(1))
    with pytest.raises(Exception, match="this state of a host environment is gone"):
        env.step(KEY, once, jnp.array(1))
    third, _ = env.step(KEY, start, jnp.array(0))  # over the limit: takes the oldest's place
    env.step(KEY, third, jnp.array(1))
    with pytest.raises(Exception, match="at most 2 episodes at once"):
        env.step(KEY, again, jnp.array(1))


class Odd(gymnasium.Env):
    """Whole numbers that begin elsewhere, doubles, and no limit of its own."""

    def __init__(self, space: Any = None, start: int = 5):
        self.observation_space = space or gymnasium.spaces.Discrete(100, start=start)
        self.action_space = gymnasium.spaces.Discrete(3, start=-1)
        self.total = start

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total = int(self.observation_space.start)
        return self.total, {}

    def step(self, action):
        assert action in self.action_space
        self.total += int(action) + 1
        return self.total, float(self.total), False, False, {}


def test_spaces_begin_at_zero_and_a_horizon_cuts():
    env = envs.from_gymnasium(Odd, horizon=3, start=7)
    assert (env.observation, env.action) == (envs.Discrete(100), envs.Discrete(3))
    assert (env.name, envs.from_gymnasium(Odd).horizon) == ("gymnasium:Odd", 1000)
    seen = play(env, 5, policy=lambda observation: jnp.array(2))
    np.testing.assert_array_equal(seen.next_observation, [2, 4, 6, 2, 4])
    np.testing.assert_array_equal(seen.observation, [2, 4, 0, 2, 4])
    np.testing.assert_array_equal(seen.reward, [9, 11, 13, 9, 11])
    np.testing.assert_array_equal(seen.truncated, [False, False, True, False, False])
    assert not np.any(seen.terminated) and seen.observation.dtype == jnp.int32


class Many(Odd):
    """Several choices at once."""

    def __init__(self):
        super().__init__()
        self.action_space = gymnasium.spaces.MultiDiscrete([2, 3])


class Chosen(gymnasium.ActionWrapper):
    """One choice that stands for several."""

    def __init__(self, env):
        super().__init__(env)
        self.action_space = gymnasium.spaces.Discrete(6)

    def action(self, action):
        return np.array(divmod(int(action), 3))


def test_the_advice_of_refusals_helps():
    assert envs.from_gymnasium(lambda: Chosen(Many())).action == envs.Discrete(6)
    space = gymnasium.spaces.MultiBinary(3)
    binary = envs.from_gymnasium(lambda: gymnasium.wrappers.FlattenObservation(Odd(space=space)))
    assert isinstance(binary.observation, envs.Box) and binary.observation.shape == (3,)


def test_an_unknown_id_prints_no_list_of_all():
    with pytest.raises(ValueError, match=r"gymnasium\.pprint_registry") as error:
        envs.make("gymnasium:Nothing-v7")
    assert len(str(error.value)) < 200


class Counted(gymnasium.Env):
    """Episodes of 1 to 6 steps; it knows how many are open, and raises when it is asked to."""

    open = 0
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, raises: bool = False):
        Counted.open += 1
        self.raises, self.left = raises, 0

    def close(self):
        Counted.open -= 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 7))
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if self.raises and self.left == 1:
            raise RuntimeError("the host has had enough")
        self.left -= 1
        return np.zeros(2, np.float32), 1.0, self.left <= 0, False, {}


def counted(copies, episodes, **parameters):
    """A game on them: what one step of training and one evaluation do, for several seeds."""
    env = envs.from_gymnasium(Counted, horizon=6, **parameters)
    actor = (lambda key: jnp.zeros(1), lambda p, o: o[:, :1] + p[None])
    critic = (lambda key: jnp.zeros(()), lambda p, o: p * o[:, 0])
    rollout = gacf.Rollout(num_envs=copies, length=3, episodes=episodes)
    game = gacf.a2c(env, actor, critic, rollout=rollout)

    def train(params, world, key):
        world, _ = game.observe(params, with_clock(world), key)
        return without_clock(world)

    def evaluate(params, world, key):
        return game.evaluate(params, world, key)["return"]

    return (jax.jit(jax.vmap(f)) for f in (game.init, train, evaluate))


@pytest.mark.long
def test_host_environments_are_reused_and_closed():
    assert Counted.open == 0
    seeds, copies, episodes = 2, 2, 5
    init, train, evaluate = counted(copies, episodes)
    keys = jax.random.split(KEY, seeds)
    params, world = init(keys)
    returns = []
    for _ in range(6):
        world = train(params, world, keys)  # what is under way survives each evaluation
        returns.append(np.asarray(evaluate(params, world, keys)))
        assert Counted.open <= 2 * seeds * (copies + episodes)
    np.testing.assert_array_equal(returns, np.broadcast_to(returns[0], (6, seeds)))
    jax.block_until_ready(world)
    del init, train, evaluate
    jax.clear_caches()
    gc.collect()
    assert Counted.open == 0  # nobody can step them any more


@pytest.mark.long
def test_no_host_environment_stays_open_when_one_raises():
    init, train, _ = counted(3, 1, raises=True)
    keys = jax.random.split(KEY, 1)
    params, world = init(keys)
    assert Counted.open > 0
    with pytest.raises(Exception, match="the host has had enough"):
        for _ in range(4):
            world = jax.block_until_ready(train(params, world, keys))
    assert Counted.open == 0
    jax.block_until_ready(init(keys))  # and one may begin again


@pytest.mark.long
def test_host_environments_are_closed_at_exit():
    code = (
        "import gymnasium, jax, numpy as np\n"
        "from gacf import envs\n"
        "class Host(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (2,))\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def reset(self, **options): return np.zeros(2, np.float32), {}\n"
        "    def close(self): print('closed')\n"
        "env = envs.from_gymnasium(Host)\n"
        "jax.block_until_ready(env.reset(jax.random.key(0)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    assert done.stdout.split() == ["closed"]


class Whole(gymnasium.Env):
    """It keeps the whole actions that arrive."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, space: Any, arrived: list[Any] | None = None):
        self.action_space, self.arrived = space, arrived

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert action in self.action_space
        self.arrived.append(action)  # type: ignore[union-attr]
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_every_whole_action_has_its_share(dtype):
    arrived: list[Any] = []
    low, high = np.array([0, 2], dtype), np.array([3, 6], dtype)
    env = envs.from_gymnasium(
        Whole, space=gymnasium.spaces.Box(low, high, (2,), dtype), arrived=arrived
    )
    to_env = actions_of(env).to_env
    # what a warm-up draws, spread evenly over [-1, 1], its ends included; then whole numbers
    drawn = jnp.repeat(jnp.linspace(-1, 1, 401)[:, None], 2, axis=1)
    given = jnp.concatenate(
        [jax.vmap(to_env)(drawn), jnp.array([[0.0, 2.0], [1.0, 5.0], [3.0, 6.0]])]
    )

    def play(state, action):
        return env.step(KEY, state, action)[0], None

    jax.block_until_ready(jax.jit(lambda: jax.lax.scan(play, env.reset(KEY)[0], given)[0])())
    rows = np.stack(arrived)
    assert rows.dtype == dtype and rows[0].tolist() == [0, 2] and rows[400].tolist() == [3, 6]
    assert rows[401:].tolist() == [[0, 2], [1, 5], [3, 6]]
    for column, n in zip((rows[:401] - low).T, (4, 5), strict=True):
        np.testing.assert_allclose(np.bincount(column, minlength=n) / 401, 1 / n, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("map", ["vmap", "loop", "sharded-vmap", "sharded-loop"])
def test_a_run_of_many_seeds(map):
    import optax

    game = gacf.ddpg(
        "gymnasium:Pendulum-v1", rollout=gacf.Rollout(episodes=3),
        replay=gacf.Replay(capacity=64, batch_size=8, warmup=8),
    )  # fmt: skip
    algorithm = gacf.compose(game, rules.alternating({p: optax.adam(1e-3) for p in game.losses}))
    _, metrics = gacf.run(
        algorithm, KEY, 4, seeds=3, log_every=2, evaluate_every=2, map=map
    )  # fmt: skip
    found = np.asarray(metrics["evaluate/return"])
    assert found.shape[0] == 3 and np.all((found[:, -1] < 0) & (found[:, -1] > -2000))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: envs.make("gymnasium:CartPol-v1"), "did you mean 'CartPole-v1'"),
        (lambda: envs.from_gymnasium("CartPole-v1", limit=0), "limit: 0 was given"),
        (lambda: envs.from_gymnasium("CartPole-v1", horizon=0), "horizon: 0 was given"),
        (
            lambda: envs.from_gymnasium(Odd, space=gymnasium.spaces.MultiBinary(3)),
            r"observations in the space MultiBinary\(3\); allowed: Box and Discrete, which "
            r"gymnasium.wrappers.FlattenObservation makes of it",
        ),
        (
            lambda: envs.from_gymnasium(
                Odd, space=gymnasium.spaces.Sequence(gymnasium.spaces.Discrete(2))
            ),
            r"observations in the space Sequence\(.*\); allowed: Box and Discrete$",
        ),
        (
            lambda: envs.from_gymnasium(Many),
            r"actions in the space MultiDiscrete\(\[2 3\]\); "
            r"allowed: Box and Discrete, which a gymnasium.ActionWrapper of your own can offer",
        ),
        *(
            (
                functools.partial(
                    envs.from_gymnasium, Whole, space=gymnasium.spaces.Box(low, high, (1,), dtype)
                ),
                "has whole actions, .*; allowed: a Box of whole numbers with bounds less than",
            )
            for low, high, dtype in ((0, np.inf, np.int64), (-(2**31), 2**31 - 1, np.int32))
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
