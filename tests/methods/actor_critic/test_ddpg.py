"""DDPG in environments whose values are known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import envs, rules
from gacf.methods.actor_critic import actions_of
from gacf.methods.actor_critic.exploration import ornstein_uhlenbeck
from gacf.methods.gan import zero_centred
from gacf.networks import MLP
from tests.methods.actor_critic.packed import packed
from tests.methods.actor_critic.probes import one_reward, probe

KEY = jax.random.key(0)
STILL = (lambda key: jnp.zeros(1), lambda p, o: jnp.zeros((len(o), 1)) + 0 * p[None])
NUMBER = (lambda key: jnp.zeros(()), lambda w, o, a: jnp.zeros(len(o)) + w)


def make(env: Any, actor: Any = STILL, critic: Any = NUMBER, **options: Any) -> gacf.Game:
    sizes = {"batch_size": 8, "capacity": 64, "warmup": 4, "num_envs": 2, "episodes": 4}
    return gacf.ddpg(env, actor, critic, **packed(**{**sizes, **options}))


def critic_only(game: gacf.Game, rate: float = 1.0, **options: Any) -> gacf.Algorithm:
    step = rules.player_step("critic", optax.sgd(rate))
    return gacf.compose(game, step, still="actor", **options)


def walk(algorithm: gacf.Algorithm, steps: int) -> Any:
    """States [steps, …] and metrics [steps] of one seed."""

    def step(state: gacf.State, _: Any) -> Any:
        state, metrics = algorithm.step(state)
        return state, (state.params, state.world, metrics)

    return jax.jit(lambda key: jax.lax.scan(step, algorithm.init(key), length=steps)[1])(KEY)


@pytest.mark.long
def test_termination_masks_the_bootstrap():
    params, _, _ = walk(critic_only(make(one_reward(), discount=0.9)), 5)
    np.testing.assert_allclose(params["critic"], 1.0, rtol=1e-6)


@pytest.mark.long
def test_truncation_is_bootstrapped_through():
    game = make(one_reward(truncates=True), discount=0.9, target_rate=1.0)
    q = walk(critic_only(game), 150)[0]["critic"]
    # one exact Bellman step after the other: Q_n = (1 − γⁿ) / (1 − γ), toward 10
    np.testing.assert_allclose(q, (1 - 0.9 ** np.arange(1, 151)) * 10, rtol=1e-5)
    assert float(q[-1]) == pytest.approx(10, rel=1e-5)


@pytest.mark.long
def test_slow_copies_follow_the_closed_form():
    rate, rewards = 0.3, one_reward(truncates=True)
    params, world, _ = walk(critic_only(make(rewards, discount=0.5, target_rate=rate)), 6)
    live, slow = 0.0, 0.0
    for q, copy in zip(params["critic"], world["slow"]["critic"], strict=True):
        live = 1 + 0.5 * slow  # a Newton step toward a target that reads the slow copy
        slow = slow + rate * (live - slow)
        assert (float(q), float(copy)) == (pytest.approx(live), pytest.approx(slow))


@pytest.mark.long
def test_the_target_is_transformed_and_the_divergence_chosen():
    def first(**options: Any) -> float:
        return float(walk(critic_only(make(one_reward(), **options)), 1)[0]["critic"][0])

    assert first(transform_target=lambda target: 3 * target) == pytest.approx(3)
    assert first(divergence=lambda prediction, target: 2 * (prediction - target)) == -2


@pytest.mark.long
def test_the_actor_finds_the_best_action():
    env = probe(lambda t, action: -((action - 1.3) ** 2), low=0.0, high=2.0)
    game = gacf.ddpg(
        env, MLP((8,), (1,)), MLP((16,)), exploration=0.3,
        rollout=gacf.Rollout(num_envs=4, episodes=2), replay=gacf.Replay(512, 32, 64),
    )  # fmt: skip
    optimizers = {p: optax.adam(1e-2) for p in game.losses}
    algorithm = gacf.compose(game, rules.alternating(optimizers))
    state, metrics = gacf.run(
        algorithm, KEY, 400, seeds=2, log_every=400, evaluate_every=400, map="vmap"
    )
    # in the units of the environment: reward −(a − 1.3)² of the action that the actor takes
    assert np.all(metrics["evaluate/return"] > -0.01)
    action = 1 + np.tanh(
        MLP((8,), (1,)).apply(
            {"params": gacf.take_seed(state, 1).params["actor"]}, jnp.ones((1, 1))
        )
    )
    assert float(action[0, 0]) == pytest.approx(1.3, abs=0.1)


@pytest.mark.long
def test_warm_up_acts_uniformly():
    game = make(one_reward(), warmup=500, num_envs=8, capacity=4000, exploration=0.0)
    _, world = jax.jit(game.init)(KEY)
    actions = np.asarray(world["buffer"].items["action"]).ravel()
    assert int(world["buffer"].size) == 4000
    counts, _ = np.histogram(actions, bins=10, range=(-1, 1))
    assert counts.sum() == 4000
    assert np.sum((counts - 400) ** 2 / 400) < 27.9  # χ² of 9 degrees of freedom, p = .001


@pytest.mark.long
@pytest.mark.parametrize("deviation", [0.05, 0.2])
def test_exploration_has_the_stated_deviation(deviation):
    actor = (
        lambda key: jnp.full(1, np.arctanh(0.2)),
        lambda p, o: jnp.zeros((len(o), 1)) + p[None],
    )
    # in units of half the action range, whatever the environment's bounds are
    env = one_reward(low=-7.0, high=1.0)
    game = make(env, actor, warmup=0, num_envs=8, exploration=deviation)
    _, world, _ = walk(critic_only(game), 500)
    actions = np.asarray(world["env"]["transition"]["action"]).ravel()
    assert actions.mean() == pytest.approx(0.2, abs=5 * deviation / 4000**0.5)
    assert actions.std() == pytest.approx(deviation, rel=5 / 8000**0.5)


@pytest.mark.long
def test_noisy_actions_stay_in_bounds_and_reach_the_environment_scaled():
    seen = probe(lambda t, action: action[0], low=-3.0, high=5.0)
    game = make(seen, warmup=0, num_envs=64, exploration=10.0, capacity=64)
    _, world, _ = walk(critic_only(game), 2)
    taken = world["env"]["transition"]
    assert np.abs(taken["action"]).max() == 1
    np.testing.assert_allclose(
        taken["reward"], 1 + 4 * taken["action"][..., 0], rtol=1e-5, atol=1e-5
    )


@pytest.mark.long
def test_evaluation_starts_are_common_to_all_keys():
    # the actor acts as it sees, and it sees where it starts
    env = probe(
        lambda t, action: action[0], length=2,
        starts=lambda key: jax.random.uniform(key, (1,), minval=-1),
    )  # fmt: skip
    game = make(env, (lambda key: jnp.ones(()), lambda p, o: p * o), episodes=50)

    @jax.jit
    def found(key: jax.Array, slope: Any) -> Any:
        params, world = game.init(key)
        return game.evaluate({**params, "actor": slope}, world, key)

    first, second = (found(key, 1.0) for key in jax.random.split(KEY))
    assert float(first["return"]) == float(second["return"])
    assert float(first["return_std"]) == float(second["return_std"]) > 0.1
    assert float(found(KEY, 2.0)["return_std"]) > float(first["return_std"])


@pytest.mark.long
def test_an_episode_counts_once_it_has_ended():
    game = make(probe(lambda t, action: t + 1.0, length=3), warmup=0, episodes=3)
    algorithm = critic_only(game)
    _, _, metrics = walk(algorithm, 7)
    np.testing.assert_array_equal(metrics["episode/return"], [np.nan, np.nan, *[6.0] * 5])
    found = jax.jit(lambda key: algorithm.evaluate(algorithm.init(key)))(KEY)
    assert (float(found["return"]), float(found["return_std"])) == (6, 0)


@pytest.mark.long
def test_episodes_of_the_warm_up_count():
    game = make(probe(lambda t, action: t + 1.0, length=3), warmup=4)
    _, _, metrics = walk(critic_only(game), 1)
    assert float(metrics["episode/return"][0]) == 6


def test_a_penalty_sees_states_and_actions():
    critic = (lambda key: jnp.array([2.0, 3.0]), lambda w, o, a: o[:, 0] * w[0] + a[:, 0] * w[1])
    game = make(one_reward(), critic=critic, penalty=zero_centred(1.0))

    def added(game: gacf.Game) -> Any:
        params, world = game.init(KEY)
        at = rules.field(game, world, game.sample(world, KEY), KEY)
        return at.loss("critic", params["critic"], params)[1].metrics["penalty"]

    assert float(jax.jit(lambda: added(game))()) == pytest.approx((4 + 9) / 2)
    wrong = make(one_reward(), critic=critic, penalty=zero_centred(1.0, of=("real",)))
    with pytest.raises(ValueError, match=r"penalty: group: 'real' is unknown; .*taken"):
        jax.eval_shape(lambda: added(wrong))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0 was given; allowed: a whole number >= 1"),
        ({"capacity": 0}, "capacity: 0 was given"),
        ({"warmup": -1}, "warmup: -1 was given; allowed: a whole number >= 0"),
        ({"num_envs": 0}, "num_envs: 0 was given"),
        ({"episodes": 0}, "episodes: 0 was given"),
        ({"discount": 1.5}, r"discount: 1.5 was given; allowed: a number in \[0, 1\]"),
        ({"exploration": -0.1}, "exploration: -0.1 was given"),
        ({"target_rate": 2.0}, "target_rate: 2.0 was given"),
        ({"divergence": "hubber"}, "divergence: 'hubber' is unknown; did you mean 'huber'"),
        ({"env": "Pendulum"}, "environment: 'Pendulum' is unknown; did you mean 'Pendulum-v1'"),
        ({"env": one_reward()._replace(action=envs.Discrete(2))}, "probe has discrete actions"),
        (
            {"env": one_reward(high=np.inf)},
            "env: .* allowed: bounds of actions all finite, or none",
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(options.pop("env", one_reward()), **options)


MOST = float(np.finfo(np.float32).max)
BOUNDED: dict[str, Any] = {
    **{name: {} for name in ("ddpg", "td3", "sac", "dpg", "nfqca", "ppo", "a2c")},
    "natural_actor_critic": {},
    "svg": {"horizon": 0},
}


def between(low: Any, high: Any) -> Any:
    bounds = (jnp.asarray(x, jnp.float32) for x in (low, high))
    return one_reward()._replace(action=envs.Box(np.shape(low), *bounds))


@pytest.mark.parametrize("method", BOUNDED)
@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-MOST, MOST, r"bounds -3.40282347e\+38 and 3.40282347e\+38; .* at most 3.4e\+38 apart"),
        (-1e38, 3e38, "at most 3.4e.38 apart, or −inf and inf"),
        (-np.inf, 1.0, "the bounds -inf and 1; allowed: bounds of actions all finite, or none"),
        (0.0, np.inf, "the bounds 0 and inf; allowed: bounds of actions all finite, or none"),
        (2.0, 1.0, "the bounds 2 and 1; allowed: bounds of actions with low <= high"),
        (np.nan, 1.0, "the bounds nan and 1; allowed: bounds of actions with low <= high"),
    ],
)
def test_bounds_that_scale_no_action_are_refused_in_one_line(method, low, high, message):
    make = gacf.svg if method == "svg" else getattr(gacf, method)
    with pytest.raises(ValueError, match=message) as error:
        make(between([-1.0, low], [1.0, high]), **BOUNDED[method])
    assert str(error.value).startswith("env: probe: action")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("low", "high"), [(-1e38, 1e38), (0.0, MOST), (-2.0, 6.0), (3.0, 3.0), (-1e-30, 1e-30)]
)
def test_actions_between_bounds_reach_them_and_their_middle(low, high):
    """By the definition of the scale: −1 is the lowest, 0 the middle, 1 the highest."""
    to_env = actions_of(between([low], [high])).to_env
    reached = [float(to_env(jnp.array([a]))[0]) for a in (-5.0, -1.0, 0.0, 1.0, 5.0)]
    middle = low / 2 + high / 2
    np.testing.assert_allclose(reached, [low, low, middle, high, high], rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("noise", [np.inf, np.nan, -1.0])
def test_noise_without_a_size_is_refused(noise):
    for given in (lambda: noise, lambda: ornstein_uhlenbeck(noise)):
        with pytest.raises(ValueError, match=r"(exploration|deviation): .* allowed: a number >= 0"):
            make(one_reward(), exploration=given())
