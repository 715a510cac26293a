"""`gacf.propose`: the actor when nobody learns, and `gacf.run` going on from a state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import gacf
from gacf import Rollout, envs
from gacf.core.tracing import CHUNK, in_chunks
from gacf.methods import flows
from gacf.networks import MLP, model

KEY = jax.random.key(3)
SMALL = gacf.Replay(capacity=32, batch_size=4, warmup=4)


def state_of(game: gacf.Game) -> gacf.State:
    rule = gacf.rules.alternating(
        {p: optax.sgd(0.1) for p in game.losses}, order=tuple(game.losses)
    )
    return gacf.compose(game, rule).init(KEY)


def ring(**settings: Any) -> gacf.Game:
    return gacf.gan(MLP((4,), (2,)), MLP((4,)), gacf.data.ring(), batch_size=4, noise=3, **settings)


def test_samples_are_those_of_the_network_itself():
    state = state_of(ring())
    noise = jax.random.normal(KEY, (5, 3))
    expected, _ = model("actor", MLP((4,), (2,))).apply(state.params["actor"], {}, noise)
    np.testing.assert_allclose(gacf.propose(ring(), state, noise), expected, rtol=1e-6)


def test_a_number_draws_its_noise_with_the_key_and_chunks_change_nothing():
    game = ring()
    state, n = state_of(game), 2 * CHUNK + 7
    noise = jax.random.normal(KEY, (n, 3))
    whole = gacf.propose(game, state, n, KEY)
    assert whole.shape == (n, 2)
    np.testing.assert_allclose(whole, gacf.propose(game, state, noise), rtol=1e-6)
    for part in (slice(0, 5), slice(CHUNK - 2, CHUNK + 3), slice(n - 4, n)):
        alone = gacf.propose(game, state, noise[part])
        np.testing.assert_allclose(whole[part], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 9])
def test_chunks_are_joined_in_order_and_draw_anew(n: int):
    def with_noise(x: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        return {"x": 2 * x, "noise": jax.random.uniform(key, x.shape)}

    outputs = in_chunks(with_noise, jnp.arange(n), KEY, chunk=4)
    assert outputs["x"].tolist() == [2 * i for i in range(n)]
    assert len(np.unique(outputs["noise"])) == n


@pytest.mark.long
def test_memory_is_that_of_a_chunk():
    """The widest layer of all samples at once would be 64 times that of a chunk."""
    wide, n = 4_096, 64 * CHUNK
    game = gacf.gan(MLP((wide,), (2,)), MLP((4,)), gacf.data.ring(), batch_size=4, noise=3)
    state = jax.eval_shape(lambda: state_of(game))
    program = jax.jit(game.propose).lower(
        state.params, {}, jax.ShapeDtypeStruct((n, 3), jnp.float32), jax.eval_shape(lambda: KEY)
    )
    analysis: Any = program.compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 8 * CHUNK * wide * 4 < n * wide * 4


class ByLabel(linen.Module):
    """[B, 2] whose first number is the label, and whose second is 1."""

    @linen.compact
    def __call__(self, noise: jax.Array, label: jax.Array) -> jax.Array:
        self.param("w", lambda key: jnp.zeros(()))
        return jnp.stack([label.astype(noise.dtype), jnp.ones_like(noise[:, 0])], axis=-1)


class Pair(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        return linen.Dense(1)(x) + label[:, None]


def test_labels_are_given_or_drawn_like_those_of_the_data():
    data = jnp.zeros((6, 2)), jnp.array([4, 4, 4, 4, 4, 4])
    game = gacf.gan(ByLabel(), Pair(), data, batch_size=2, noise=3)
    state = state_of(game)
    noise, labels = jnp.zeros((3, 3)), jnp.array([1, 0, 2])
    given = gacf.propose(game, state, (noise, labels))
    assert given[:, 0].tolist() == [1, 0, 2]
    assert gacf.propose(game, state, 5, KEY)[:, 0].tolist() == [4] * 5
    with pytest.raises(ValueError, match=r"seen: float32\[3, 3\] was given; allowed: \(noise, lab"):
        gacf.propose(game, state, noise)


def test_averaged_parameters_propose_where_they_are_evaluated():
    game = gacf.stabilizers.ema(ring(), 0.5)
    state = state_of(game)
    slow = jax.tree.map(jnp.zeros_like, state.world["ema"])
    state = state._replace(world={**state.world, "ema": slow})
    assert not gacf.propose(game, state, jnp.ones((2, 3))).any()
    assert gacf.propose(ring(), state, jnp.ones((2, 3))).any()


def test_statistics_are_read_and_not_renewed():
    class Normalised(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            return linen.BatchNorm(use_running_average=not train)(linen.Dense(2)(x))

    game = gacf.gan(Normalised(), MLP((4,)), gacf.data.ring(), batch_size=4, noise=3)
    state = state_of(game)
    x = jax.random.normal(KEY, (4, 3))
    both = gacf.propose(game, state, x)
    # in evaluation an example's output does not depend on the others
    np.testing.assert_allclose(gacf.propose(game, state, x[:1]), both[:1], rtol=1e-6)


ACTOR = linen.Dense(1, kernel_init=linen.initializers.ones)


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.long) for name in ("ddpg", "td3", "sac")]
)
def test_actions_are_in_the_units_of_the_environment(method: str):
    """Pendulum's torque lies in [-2, 2], an actor's output in [-1, 1]."""
    game = getattr(gacf, method)("Pendulum-v1", replay=SMALL)
    actions = gacf.propose(game, state_of(game), 100 * jax.random.normal(KEY, (400, 3)))
    assert actions.shape == (400, 1)
    assert float(jnp.abs(actions).max()) <= 2 and float(jnp.abs(actions).max()) > 1


def test_a_deterministic_policy_is_its_network_squashed_and_scaled():
    game = gacf.ddpg("Pendulum-v1", ACTOR, replay=SMALL)
    observations = jnp.array([[0.1, 0.2, 0.3], [-1.0, 0.0, 0.5]])
    expected = 2 * np.tanh(np.array([[0.6], [-0.5]]))
    np.testing.assert_allclose(
        gacf.propose(game, state_of(game), observations), expected, rtol=1e-5
    )


def test_discrete_actions_are_the_likeliest_ones():
    game = gacf.a2c("CartPole-v1", rollout=Rollout(num_envs=2, length=2))
    state = state_of(game)
    observations = jax.random.normal(KEY, (50, 4))
    logits, _ = model("actor", MLP((64, 64), (2,), jnp.tanh)).apply(
        state.params["actor"], {}, observations
    )
    actions = gacf.propose(game, state, observations)
    assert jnp.issubdtype(actions.dtype, jnp.integer)
    assert actions.tolist() == jnp.argmax(logits, axis=-1).tolist()


def test_observations_are_normalised_as_in_training():
    game = gacf.a2c(
        "CartPole-v1", rollout=Rollout(num_envs=2, length=2, normalize_observations=True)
    )
    state = state_of(game)
    far = 1_000 + jax.random.normal(KEY, (200, 4))
    shifted = state.world["observations"]["now"]._replace(
        count=jnp.array(200.0),
        mean=jnp.full(4, 1_000.0),
        squares=jnp.full(4, 200.0),
    )
    state = state._replace(world={**state.world, "observations": {"now": shifted, "next": shifted}})
    plain = gacf.a2c("CartPole-v1", rollout=Rollout(num_envs=2, length=2))
    expected = gacf.propose(plain, state_of(plain)._replace(params=state.params), far - 1_000)
    assert (gacf.propose(game, state, far) == expected).mean() > 0.99
    assert len(np.unique(expected)) == 2


@pytest.mark.long
def test_dicts_of_observations():
    base = envs.make("CartPole-v1")
    space: Any = base.observation

    def wrapped(x: Any) -> Any:
        return {"all": x, "first": x[..., :1]}

    def reset(key: Any) -> Any:
        state, observation = base.reset(key)
        return state, wrapped(observation)

    def step(key: Any, state: Any, action: Any) -> Any:
        state, timestep = base.step(key, state, action)
        return state, timestep._replace(
            observation=wrapped(timestep.observation),
            next_observation=wrapped(timestep.next_observation),
        )

    spaces = {"all": space, "first": envs.Box((1,), space.low[:1], space.high[:1])}
    env = base._replace(reset=reset, step=step, observation=spaces)
    game = gacf.a2c(env, rollout=Rollout(num_envs=2, length=2))
    state = state_of(game)
    assert gacf.propose(game, state, wrapped(np.zeros((3, 4)))).shape == (3,)
    with pytest.raises(ValueError, match="observations of different numbers"):
        gacf.propose(game, state, {"all": np.zeros((3, 4)), "first": np.zeros((2, 1))})
    with pytest.raises(ValueError, match=r"seen: .* was given; allowed are observations"):
        gacf.propose(game, state, np.zeros((3, 4)))


IMAGES = jnp.linspace(-1, 1, 5 * 16).reshape(5, 4, 4, 1)
POINTS = jnp.linspace(-1, 1, 15).reshape(5, 3)


def lapgan() -> gacf.Game:
    networks = {"2x2": MLP((4,), (2, 2, 1)), "4x4": MLP((4,), (4, 4, 1))}
    critics = {"2x2": MLP((4,)), "4x4": MLP((4,))}
    return flows.lapgan(networks, critics, IMAGES, noise=3, batch_size=2)


FLOWS = {
    "bigan": lambda: flows.bigan(MLP((4,), (3,)), MLP((4,), (2,)), MLP((4,)), POINTS, noise=2),
    "adversarial_autoencoder": lambda: flows.adversarial_autoencoder(
        MLP((4,), (3,)), MLP((4,), (2,)), MLP((4,)), POINTS, noise=2
    ),
    "vae_gan": lambda: flows.vae_gan(
        MLP((4,), (3,)), MLP((4,), (4,)), flows.WithFeatures((4,)), POINTS, noise=2
    ),
    "infogan": lambda: flows.infogan(
        MLP((4,), (2,)), MLP((4,)), MLP((4,), (8,)), gacf.data.ring(), 8
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", FLOWS)
def test_games_of_more_players_draw_by_their_generator(name: str):
    game = FLOWS[name]()
    state = state_of(game)
    samples = gacf.propose(game, state, 5, KEY)
    assert samples.shape[0] == 5 and np.isfinite(samples).all()
    if name != "infogan":  # whose noise has a code in it
        noise = jax.random.normal(KEY, (5, 2))
        np.testing.assert_allclose(gacf.propose(game, state, noise), samples, rtol=1e-6)


@pytest.mark.long
def test_a_pyramid_draws_its_finest_level():
    game = lapgan()
    state = state_of(game)
    samples = gacf.propose(game, state, 3, KEY)
    networks = {"2x2": MLP((4,), (2, 2, 1)), "4x4": MLP((4,), (4, 4, 1))}
    levels = flows.draw_pyramid(networks, state.params, state.world, KEY, 3, noise=3)
    np.testing.assert_allclose(samples, levels["4x4"], rtol=1e-6)


@pytest.mark.long
def test_sequences_are_tokens():
    data = jnp.array([[0, 1, 2], [2, 1, 0]])
    game = flows.seqgan(flows.lstm(4), MLP((4,)), data, batch_size=2)
    tokens = gacf.propose(game, state_of(game), 6, KEY)
    assert tokens.shape == (6, 3) and jnp.issubdtype(tokens.dtype, jnp.integer)
    assert int(tokens.min()) >= 0 and int(tokens.max()) < 4


@pytest.mark.long
def test_a_classifier_of_two_domains_yields_logits():
    game = flows.domain_adversarial(
        MLP((4,), (2,)), MLP((4,), (3,)), MLP((4,)), (POINTS, jnp.array([0, 1, 2, 0, 1])), POINTS
    )
    state = state_of(game)
    assert gacf.propose(game, state, POINTS).shape == (5, 3)
    with pytest.raises(ValueError, match=r"seen: 4 was given; allowed: float32\[n, 3\]$"):
        gacf.propose(game, state, 4, KEY)


def test_an_algorithm_proposes_what_its_game_does():
    game = ring()
    algorithm = gacf.compose(
        game, gacf.rules.simultaneous({p: optax.sgd(0.1) for p in game.losses})
    )
    state = algorithm.init(KEY)
    np.testing.assert_array_equal(
        gacf.propose(algorithm, state, 4, KEY), gacf.propose(game, state, 4, KEY)
    )


@pytest.mark.long
def test_proposals_under_vmap_over_seeds():
    game = ring()
    rule = gacf.rules.simultaneous({p: optax.sgd(0.1) for p in game.losses})
    states, _ = gacf.run(gacf.compose(game, rule), KEY, 2, seeds=3)
    noise = jax.random.normal(KEY, (4, 3))
    all_at_once = jax.vmap(lambda params: game.propose(params, {}, noise, KEY))(states.params)
    for i in range(3):
        alone = gacf.propose(game, gacf.take_seed(states, i), noise)
        np.testing.assert_allclose(all_at_once[i], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("seen", "key", "says"),
    [
        (jnp.zeros((3, 4)), None, r"seen: float32\[3, 4\] was given; allowed: float32\[n, 3\], or"),
        (jnp.zeros(3), None, r"seen: float32\[3\] was given"),
        (jnp.zeros((3, 3), int), None, r"seen: int32\[3, 3\] was given"),
        (jnp.zeros((0, 3)), None, r"seen: float32\[0, 3\] was given"),
        (5, None, "key: none was given for 5 samples"),
        (0, KEY, "seen: 0 was given"),
        (-1, KEY, "seen: -1 was given"),
        (2.0, KEY, r"seen: float32\[\] was given"),
        (True, KEY, r"seen: bool\[\] was given"),
        ("many", KEY, "seen: 'many' was given; allowed: arrays"),
        (None, KEY, "seen: None was given"),
        (5, 7, "key: 7 was given; allowed: a typed key"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(seen: Any, key: Any, says: str):
    game = ring()
    with pytest.raises(ValueError, match=says) as refused:
        gacf.propose(game, state_of(game), seen, key)
    assert "\n" not in str(refused.value)


def test_states_of_several_seeds_and_games_without_actors_are_refused():
    game = ring()
    rule = gacf.rules.simultaneous({p: optax.sgd(0.1) for p in game.losses})
    states, _ = gacf.run(gacf.compose(game, rule), KEY, 1, seeds=2)
    with pytest.raises(ValueError, match=r"state: it holds seeds \[2\]; allowed: that of one seed"):
        gacf.propose(game, states, 3, KEY)
    with pytest.raises(ValueError, match="state: 3 was given"):
        gacf.propose(game, 3, 3, KEY)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="game: 3 was given; allowed: a Game or an Algorithm"):
        gacf.propose(3, states, 3, KEY)  # type: ignore[arg-type]
    plain = gacf.from_losses({"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] ** 2})
    with pytest.raises(ValueError, match="this game does not say how its actor acts"):
        gacf.propose(plain, state_of(plain), 3, KEY)


# --- run goes on from a state ---------------------------------------------------------------------


def bits(tree: Any) -> list[np.ndarray]:
    def data(x: jax.Array) -> Any:
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return [np.asarray(data(x)) for x in jax.tree.leaves(tree)]


def same(one: Any, other: Any) -> None:
    for x, y in zip(bits(one), bits(other), strict=True):
        np.testing.assert_array_equal(x, y)


def counted(rate: float = 0.1) -> gacf.Algorithm:
    """Adam on a noisy quadratic with a schedule, evaluated at its point."""
    game = gacf.from_losses(
        lambda key: {"actor": jax.random.normal(key, (3,)), "critic": jnp.zeros(())},
        {
            "actor": lambda p, batch, key: jnp.sum((p["actor"] - p["critic"] - batch) ** 2),
            "critic": lambda p, batch, key: (p["critic"] - p["actor"].sum()) ** 2,
        },
        sample=lambda key: jax.random.normal(key, (3,)),
    )
    game = game._replace(evaluate=lambda params, world, key: {"point": params["critic"]})
    adam = optax.adam(optax.linear_schedule(rate, 0.01, 15))
    return gacf.compose(game, gacf.rules.alternating(dict.fromkeys(game.losses, adam)))


@pytest.mark.parametrize("map", ["vmap", "sharded-loop"])
def test_two_parts_are_the_whole_to_the_bit(map: str):
    algorithm = counted()
    settings: Any = {"log_every": 2, "evaluate_every": 4, "map": map}
    whole, metrics = gacf.run(algorithm, KEY, 20, seeds=3, **settings)
    half, first = gacf.run(algorithm, KEY, 12, seeds=3, **settings)
    kept = jax.tree.map(jnp.copy, half)
    rest, second = gacf.run(algorithm, KEY, 8, state=half, **settings)
    same(whole, rest)
    same(half, kept)  # it stays usable
    joined = {k: np.concatenate([first[k], second[k]], axis=1) for k in metrics}
    assert joined.keys() == metrics.keys()
    for name in metrics:
        np.testing.assert_array_equal(joined[name], metrics[name])
    assert np.isfinite(metrics["evaluate/point"][:, 1::2]).all()


def test_it_goes_on_with_hyperparameters():
    hyper = {"rate": jnp.array([0.1, 0.2])}
    build = lambda h: counted(h["rate"])  # noqa: E731
    whole, _ = gacf.run(build, KEY, 6, seeds=2, hyper=hyper)
    half, _ = gacf.run(build, KEY, 4, seeds=2, hyper=hyper)
    rest, _ = gacf.run(build, KEY, 2, state=half, hyper=hyper)
    same(whole, rest)
    with pytest.raises(ValueError, match=r"state: its leading axes are \[2, 2\]; allowed: \[seeds"):
        gacf.run(counted(), KEY, 2, state=half)


def test_a_state_that_is_not_the_algorithms_is_refused():
    half, _ = gacf.run(counted(), KEY, 4, seeds=3)
    with pytest.raises(ValueError, match="seeds: 2 was given; allowed with this state: 3"):
        gacf.run(counted(), KEY, 4, seeds=2, state=half)
    with pytest.raises(ValueError, match=r"its leading axes are \[\]; allowed: \[seeds\]"):
        gacf.run(counted(), KEY, 4, state=gacf.take_seed(half, 0))
    game = gacf.from_losses({"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] ** 2})
    other = gacf.compose(game, gacf.rules.simultaneous({"actor": optax.sgd(0.1)}))
    with pytest.raises(ValueError, match="state: its structure is not that of the algorithm's"):
        gacf.run(other, KEY, 4, state=half)
    params = {**half.params, "actor": jnp.zeros((3, 4))}
    with pytest.raises(ValueError, match=r"params\['actor'\] is float32\[3, 4\]; allowed for this"):
        gacf.run(counted(), KEY, 4, state=half._replace(params=params))
    with pytest.raises(ValueError, match="log_every: 3 was given, and 4 steps have been made"):
        gacf.run(counted(), KEY, 6, state=half, log_every=3, evaluate_every=3)
    with pytest.raises(ValueError, match="steps: 2147483645 more than the 4 made were given"):
        gacf.run(counted(), KEY, 2**31 - 3, state=half, log_every=2**31 - 3)
