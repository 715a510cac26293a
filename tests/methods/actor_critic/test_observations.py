"""Observations that are names, dicts and tuples, in every method that takes an environment."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import envs, rules
from gacf.core.clock import with_clock
from gacf.networks import MLP
from tests.methods.actor_critic.packed import packed

KEY = jax.random.key(0)
N = 5
OPEN = np.inf


def box(*shape):
    return envs.Box(shape, jnp.full(shape, -OPEN), jnp.full(shape, OPEN))


MOVES = envs.Box((1,), -jnp.ones(1), jnp.ones(1))
SPACES = {
    "name": (envs.Discrete(7), lambda key: jax.random.randint(key, (), 0, 7)),
    "dict": ({"size": box(2)}, lambda key: {"size": 3 + jax.random.normal(key, (2,))}),
    "mixed": (
        {"name": envs.Discrete(7), "more": (box(), box(2, 2))},
        lambda key: {
            "name": jax.random.randint(key, (), 0, 7),
            "more": (jax.random.normal(key), 5 + jax.random.normal(key, (2, 2))),
        },
    ),
    "tuple": (
        (box(2), envs.Discrete(3)),
        lambda key: (jnp.ones(2), jax.random.randint(key, (), 0, 3)),
    ),
}


def environment(kind, action=MOVES, length=2):
    """Episodes of a fixed length in which nothing matters; each observation is drawn anew."""
    spaces, draw = SPACES[kind]

    def reset(key):
        return jnp.zeros((), jnp.int32), draw(key)

    def step(key, time, action):
        done = time + 1 >= length
        reward = jnp.sum(jnp.asarray(action, jnp.float32))
        seen = draw(key)
        return jnp.where(done, 0, time + 1), envs.Timestep(seen, seen, reward, done, ~done & done)

    return envs.Environment(kind, reset, step, spaces, action, length)


def algorithm_of(game):
    optimizers = {player: optax.adam(1e-3) for player in game.losses}
    return gacf.compose(game, rules.simultaneous(optimizers))


def observed(game):
    """The world after one round of acting."""

    @jax.jit
    def act(key):
        params, world = game.init(key)
        return game.observe(params, with_clock(world), key)[0]

    return act(KEY)


SMALL = {"warmup": 2, "capacity": 64, "batch_size": 4}
METHODS = {
    "a2c": lambda env, **more: gacf.a2c(env, **packed(length=2, **more)),
    "ppo": lambda env, **more: gacf.ppo(env, **packed(length=2, **more)),
    "natural": lambda env, **more: gacf.natural_actor_critic(env, **packed(length=2, **more)),
    "dpg": lambda env, **more: gacf.dpg(env, **packed(length=2, **more)),
    "ddpg": lambda env, **more: gacf.ddpg(env, **packed(n_step=2, **SMALL, **more)),
    "td3": lambda env, **more: gacf.td3(env, **packed(**SMALL, **more)),
    "sac": lambda env, **more: gacf.sac(env, **packed(n_step=3, **SMALL, **more)),
    "svg": lambda env, **more: gacf.svg(env, **packed(**SMALL, **more)),
}


def of_mixed(name):
    return METHODS[name](environment("mixed"), num_envs=N, episodes=2, normalize_observations=True)


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_default_networks_of_every_method_take_observations_of_any_kind(name):
    algorithm = algorithm_of(of_mixed(name))

    def play(key):
        state, metrics = algorithm.step(algorithm.init(key))
        return state, metrics, algorithm.evaluate(state)

    state, _, evaluation = jax.eval_shape(play, KEY)
    assert evaluation["return"].shape == ()
    # 7 names, one number and four of a matrix, and then the action where a critic sees it
    firsts = {
        leaf.shape[-2]
        for path, leaf in jax.tree.leaves_with_path(state.params)
        if [getattr(k, "key", None) for k in path[-2:]] == ["Dense_0", "kernel"]
    }
    assert 12 in firsts and firsts <= {12, 13}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_on_observations_of_any_kind(name):
    algorithm = algorithm_of(of_mixed(name))

    @jax.jit
    def play(key):
        step = lambda state, _: (algorithm.step(state)[0], None)  # noqa: E731
        state = jax.lax.scan(step, algorithm.init(key), length=3)[0]
        return state, algorithm.evaluate(state)

    state, evaluation = play(KEY)
    for leaf in jax.tree.leaves((state.params, evaluation)):
        assert np.isfinite(leaf).all()
    seen = state.world["observations"]["next"]
    assert seen["name"] is None
    np.testing.assert_allclose(seen["more"][1].mean, 5, atol=1)


@pytest.mark.long
def test_names_are_one_hot_and_their_numbers_mean_nothing():
    """An update on permuted names is the update with permuted rows of the first weights."""
    order = np.array([3, 0, 6, 2, 5, 1, 4])
    env = environment("name", envs.Discrete(2))

    def renamed(function):
        def rename(*args):
            result, seen = function(*args)
            if isinstance(seen, envs.Timestep):
                news = {k: jnp.asarray(order)[getattr(seen, k)] for k in seen._fields[:2]}
                return result, seen._replace(**news)
            return result, jnp.asarray(order)[seen]

        return rename

    other = env._replace(reset=renamed(env.reset), step=renamed(env.step))

    def stepped(env, permute):
        game = gacf.a2c(env, rollout=gacf.Rollout(N, 4))

        @jax.jit
        def play(key):
            params, world = game.init(key)
            assert params["critic"]["Dense_0"]["kernel"].shape == (7, 64)
            if permute:
                for player in params:
                    first = params[player]["Dense_0"]
                    first["kernel"] = first["kernel"].at[order].set(first["kernel"])
            world, _ = game.observe(params, with_clock(world), key)
            batch = game.sample(world, key)

            def loss(own):
                return game.losses["critic"](own, params, world, batch, key)[0]

            return jax.grad(loss)(params["critic"])["Dense_0"]["kernel"], batch

        return play(KEY)

    plain, batch = stepped(env, False)
    moved, renamed_batch = stepped(other, True)
    np.testing.assert_array_equal(order[batch["observation"]], renamed_batch["observation"])
    np.testing.assert_array_equal(batch["action"], renamed_batch["action"])
    np.testing.assert_allclose(moved[order], plain, rtol=1e-5, atol=1e-7)


@pytest.mark.long
def test_a_network_of_ones_own_gets_observations_as_they_are_unless_it_is_wrapped():
    seen = []

    def table(p, o):
        seen.append((o.shape, o.dtype))
        return p[o]

    env = environment("name", envs.Discrete(2))
    own = (lambda key: jnp.zeros((7, 2)), table), (lambda key: jnp.zeros(7), table)
    observed(gacf.a2c(env, *own, **packed(num_envs=N, length=2, normalize_observations=True)))
    assert set(seen) == {((N,), jnp.dtype("int32"))}
    wrapped = gacf.networks.encoded(envs.features(env.observation), MLP((4,), (2,)))
    params, _ = jax.eval_shape(gacf.a2c(env, wrapped, own[1], rollout=gacf.Rollout(N)).init, KEY)
    assert params["actor"]["Dense_0"]["kernel"].shape == (7, 4)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_copies_explore_apart_whatever_their_observations_are(kind):
    """Under dicts of one key and tuples of two parts alike."""
    rows = observed(METHODS["a2c"](environment(kind), num_envs=N))["env"]["transition"]
    assert len(np.unique(rows["action"])) == rows["action"].size == 2 * N
    structure = jax.tree.structure(SPACES[kind][1](KEY))
    for field in ("observation", "next_observation"):
        assert jax.tree.structure(rows[field]) == structure
        assert all(len(leaf) == 2 * N for leaf in jax.tree.leaves(rows[field]))


@pytest.mark.long
def test_names_are_stored_as_whole_numbers_and_replayed_copies_explore_apart():
    read = envs.features(SPACES["mixed"][0])
    actor = (lambda key: jnp.ones(()), lambda p, o: p * read(o)[:, :1])
    critic = (lambda key: jnp.ones(()), lambda p, o, a: p * read(o)[:, 0])
    settings = packed(num_envs=N, n_step=2, **SMALL)
    game = gacf.ddpg(environment("mixed"), actor, critic, **settings)
    buffer = observed(game)["buffer"]
    items, size = buffer.items, int(buffer.size)
    assert len(np.unique(np.asarray(items["action"])[:size])) == size
    for field in ("observation", "next_observation"):
        assert items[field]["name"].dtype == jnp.int32
        names = np.asarray(items[field]["name"])[:size]
        assert set(names) <= set(range(7)) and len(set(names)) > 2


def test_an_actor_that_answers_once_for_all_copies_is_refused():
    one = (lambda key: jnp.zeros(1), lambda p, o: jnp.zeros((1, 1)) + p[None])
    game = gacf.ppo(environment("dict"), one, rollout=gacf.Rollout(N, 2))
    with pytest.raises(
        ValueError, match=r"actor: it yields actions \[1, 1\] for observations of 5"
    ):
        jax.eval_shape(game.init, KEY)


def test_a_model_of_dynamics_needs_vectors():
    for kind in SPACES:
        with pytest.raises(ValueError, match="observations that are real vectors"):
            gacf.svg(environment(kind), horizon=2)
