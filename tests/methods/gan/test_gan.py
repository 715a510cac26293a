"""The GAN's losses, views and labels against formulas written out by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gacf
from gacf.methods.gan import LOSSES, generate, r1, slopes, zero_centred
from gacf.networks import MLP, model
from gacf.rules import field
from gacf.stabilizers import smooth

KEY = jax.random.key(0)
DATA = np.random.RandomState(0).randn(20, 2).astype(np.float32)
GENERATOR = (lambda key: jnp.array([0.5, -1.5]), lambda p, z: jnp.tanh(z * p[None]))
CRITIC = (lambda key: jnp.array([0.7, 1.1]), lambda p, x: jnp.sum(jnp.sin(x) * p[None], axis=-1))


def make(data: Any = DATA, critic: Any = CRITIC, **options: Any) -> gacf.Game:
    return gacf.gan(GENERATOR, critic, data, **{"batch_size": 6, "noise": 2, **options})


def at(game: gacf.Game) -> Any:
    """Losses, the verdicts that they are made of, and params, batch and gradients."""

    @jax.jit
    def everything() -> Any:
        params, world = game.init(KEY)
        batch = game.sample(world, KEY)
        here = field(game, world, batch, KEY)
        losses = {p: here.loss(p, params[p], params) for p in game.losses}
        return params, batch, losses, {p: here.gradient(p, params)[0] for p in game.losses}

    params, batch, losses, gradients = everything()
    real, z = (np.asarray(batch[name], np.float64) for name in ("real", "noise"))
    fake = np.tanh(z * np.array([0.5, -1.5]))
    weights = np.array([0.7, 1.1])
    verdicts = np.sin(real) @ weights, np.sin(fake) @ weights
    return losses, verdicts, (params, batch, gradients)


def log_sigmoid(v: Any) -> Any:
    return -np.log1p(np.exp(-v))


# name -> (critic's, actor's) loss of the verdicts on real and fake
FORMULAS = {
    "minimax": (
        lambda r, f: -np.mean(log_sigmoid(r)) - np.mean(np.log(1 - 1 / (1 + np.exp(-f)))),
        lambda r, f: np.mean(np.log(1 - 1 / (1 + np.exp(-f)))),
    ),
    "non_saturating": (
        lambda r, f: -np.mean(log_sigmoid(r)) - np.mean(log_sigmoid(-f)),
        lambda r, f: -np.mean(log_sigmoid(f)),
    ),
    "least_squares": (
        lambda r, f: np.mean((r - 1) ** 2) / 2 + np.mean(f**2) / 2,
        lambda r, f: np.mean((f - 1) ** 2) / 2,
    ),
    "wasserstein": (lambda r, f: np.mean(f) - np.mean(r), lambda r, f: -np.mean(f)),
    "hinge": (
        lambda r, f: np.mean(np.maximum(0, 1 - r)) + np.mean(np.maximum(0, 1 + f)),
        lambda r, f: -np.mean(f),
    ),
}


# The others' are in test_losses.py.
@pytest.mark.long
@pytest.mark.parametrize("loss", FORMULAS)
def test_losses_are_their_formulas(loss):
    losses, verdicts, _ = at(make(loss=loss))
    for player, formula in zip(("critic", "actor"), FORMULAS[loss], strict=True):
        assert float(losses[player][0]) == pytest.approx(formula(*verdicts), rel=1e-5, abs=1e-6)
    metrics = losses["critic"][1].metrics
    assert float(metrics["verdict/real"]) == pytest.approx(verdicts[0].mean(), rel=1e-5)
    assert float(metrics["verdict/fake"]) == pytest.approx(verdicts[1].mean(), rel=1e-5)


@pytest.mark.long
def test_a_loss_of_ones_own():
    losses, (_, fake), _ = at(
        make(loss=LOSSES["wasserstein"]._replace(utility=lambda verdict: 3 * verdict))
    )
    assert float(losses["actor"][0]) == pytest.approx(-3 * fake.mean(), rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("transform", "labels"),
    [
        (smooth(0.2), (0.9, 0.1)),
        (smooth(0.2, one_sided=True), (0.8, 0.0)),
        (lambda t: 1 - t, (0, 1)),
    ],
)
def test_transform_target_acts_on_the_labels(transform, labels):
    losses, verdicts, _ = at(make(transform_target=transform))
    value = sum(
        np.mean(-t * log_sigmoid(v) - (1 - t) * log_sigmoid(-v))
        for t, v in zip(labels, verdicts, strict=True)
    )
    assert float(losses["critic"][0]) == pytest.approx(value, rel=1e-5)


@pytest.mark.long
def test_bernoulli_shows_one_image_an_example():
    losses, (real, fake), (_, batch, _) = at(make(show="bernoulli", batch_size=64))
    coin = np.asarray(batch["coin"], float)
    assert 10 < coin.sum() < 54
    shown = np.where(coin == 1, real, fake)
    value = np.mean(-coin * log_sigmoid(shown) - (1 - coin) * log_sigmoid(-shown))
    assert float(losses["critic"][0]) == pytest.approx(value, rel=1e-5)
    assert float(losses["actor"][0]) == pytest.approx(-np.mean(log_sigmoid(shown)), rel=1e-5)
    assert set(losses["critic"][1].metrics) == {"verdict/shown"}


def test_bernoulli_masks_the_actor_where_the_image_is_real():
    game = make(show="bernoulli")

    @jax.jit
    def gradient(coin: jax.Array) -> Any:
        params, world = game.init(KEY)
        batch = {**game.sample(world, KEY), "coin": jnp.tile(coin, 6)}
        return field(game, world, batch, KEY).gradient("actor", params)[0]

    assert np.all(gradient(jnp.array(True)) == 0)
    assert np.all(gradient(jnp.array(False)) != 0)


@pytest.mark.long
def test_r1_takes_a_norm_per_example():
    # one gentle and one steep example: a norm over the batch, or of the mean, would differ
    def judge(x: jax.Array) -> jax.Array:
        return jnp.sum(x**3, axis=-1)

    x = jnp.array([[0.1, 0.2], [3.0, -4.0]])
    per_example = jax.vmap(jax.grad(lambda row: judge(row[None])[0]))(x)
    square = jnp.sum(per_example**2, axis=1)
    np.testing.assert_allclose(slopes(judge, x), square, rtol=1e-6)
    np.testing.assert_allclose(square, 9 * np.sum(np.asarray(x) ** 4, axis=1), rtol=1e-6)
    groups = {"real": x, "fake": x[:1]}
    np.testing.assert_allclose(r1(2.0)(judge, groups, KEY), jnp.mean(square), rtol=1e-6)
    both = zero_centred(2.0)(judge, groups, KEY)
    np.testing.assert_allclose(both, jnp.mean(square) + square[0], rtol=1e-6)


@pytest.mark.long
def test_a_penalty_is_added_to_the_critics_loss_alone():
    bare, _, (_, _, own) = at(make())
    losses, _, (params, batch, gradients) = at(make(penalty=r1(3.0)))
    slope = jnp.cos(batch["real"]) * params["critic"][None]
    wanted = 1.5 * float(jnp.mean(jnp.sum(slope**2, axis=-1)))
    added = float(losses["critic"][0] - bare["critic"][0])
    assert added == pytest.approx(wanted, rel=1e-4)
    assert float(losses["critic"][1].metrics["penalty"]) == pytest.approx(wanted, rel=1e-5)
    assert float(losses["actor"][0]) == float(bare["actor"][0])
    # its gradient in the critic's weights: d/dw 3/2 Σ_j w_j² E cos² x_j
    more = gradients["critic"] - own["critic"]
    np.testing.assert_array_equal(gradients["actor"], own["actor"])
    closed = 3 * params["critic"] * jnp.mean(jnp.cos(batch["real"]) ** 2, axis=0)
    np.testing.assert_allclose(more, closed, rtol=1e-4)


def test_a_penalty_on_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="penalty: group: 'reel' is unknown; did you mean 'real'"):
        at(make(penalty=zero_centred(1.0, of=("reel",))))


def test_data_are_rows_of_an_array_a_sampler_or_an_object():
    def drawn(data: Any) -> Any:
        return np.asarray(make(data).sample({}, KEY)["real"])

    rows = drawn(DATA)
    assert all(any(np.array_equal(row, one) for one in DATA) for row in rows)
    assert len(np.unique(rows, axis=0)) > 1
    np.testing.assert_array_equal(drawn(lambda key, n: jnp.full((n, 2), 3.0)), np.full((6, 2), 3.0))
    ring = gacf.data.ring()
    near = np.linalg.norm(drawn(ring)[:, None] - np.asarray(ring.means)[None], axis=-1).min(1)
    assert near.max() < 0.1


def test_noise_is_a_size_or_a_sampler():
    assert make(noise=np.int64(2)).sample({}, KEY)["noise"].shape == (6, 2)
    game = make(noise=lambda key, n: jnp.full((n, 2), 0.25))
    np.testing.assert_array_equal(game.sample({}, KEY)["noise"], np.full((6, 2), 0.25))


def test_evaluation_measures_fresh_samples():
    seen = []

    def measure(samples: jax.Array, key: jax.Array) -> Any:
        seen.append(samples.shape)
        return {"largest": jnp.max(samples)}

    game = make(evaluate=measure, samples=11, noise=lambda key, n: jnp.ones((n, 2)))
    params, world = game.init(KEY)
    found = game.evaluate(params, world, KEY)
    assert seen == [(11, 2)]
    assert float(found["largest"]) == pytest.approx(np.tanh(0.5), rel=1e-6)
    assert make().evaluate(params, world, KEY) == {}


def test_generate_takes_networks_and_models():
    net = MLP((4,), (2,))
    params, _ = model("actor", net).init(KEY, jnp.zeros((1, 3)))
    made = [generate(n, {"actor": params}, {}, KEY, 5, 3) for n in (net, model("actor", net))]
    assert made[0].shape == (5, 2)
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinje"}, "loss: 'hinje' is unknown; did you mean 'hinge'"),
        ({"show": "bernouli"}, "show: 'bernouli' is unknown; did you mean 'bernoulli'"),
        ({"batch_size": 0}, "batch_size: 0 was given; allowed: a whole number >= 1"),
        ({"batch_size": 2.5}, "batch_size: 2.5 was given"),
        ({"samples": 0}, "samples: 0 was given"),
        ({"noise": 0}, "noise: 0 was given; allowed: a whole number >= 1, or a sampler"),
        ({"data": np.zeros((0, 2))}, r"data: shape \(0, 2\) was given"),
        ({"data": np.float32(3)}, r"data: shape \(\) was given"),
    ],
)
def test_what_is_out_of_bounds_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
