"""Packing, instance noise and labels: what the critic is shown, by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf.core.clock import with_clock
from gacf.methods.gan import generate, r1
from gacf.rules import field

KEY = jax.random.key(0)
DATA = np.random.RandomState(0).randn(20, 2).astype(np.float32)
GENERATOR = (lambda key: jnp.array([0.5, -1.5]), lambda p, z: jnp.tanh(z * p[None]))


def shown(game: gacf.Game, world: Any = None) -> Any:
    """What the critic gets to see in its own and in the actor's loss, and the batch."""
    params, first = game.init(KEY)
    world = {**first, **(world or {})}
    batch = game.sample(world, KEY)
    return params, world, batch, field(game, world, batch, KEY)


def watching(seen: list[Any]) -> Any:
    def apply(p: jax.Array, *inputs: jax.Array) -> jax.Array:
        seen.append(inputs)
        return p * jnp.sum(inputs[0].reshape(inputs[0].shape[0], -1), axis=1)

    return (lambda key: jnp.ones(())), apply


@pytest.mark.long
def test_packs_are_neighbours_with_more_channels():
    seen: list[Any] = []
    images = np.random.RandomState(0).randn(9, 4, 4, 2).astype(np.float32)
    make = (lambda key: jnp.ones(()), lambda p, z: p * jnp.tanh(z).reshape(-1, 4, 4, 2))
    game = gacf.gan(make, watching(seen), images, batch_size=6, noise=32, pack=3)
    params, _, batch, here = shown(game)
    seen.clear()
    loss, outcome = here.loss("critic", params["critic"], params)
    real, fake = (np.asarray(x) for (x,) in seen[:2])
    assert real.shape == fake.shape == (2, 4, 4, 6)
    for packed, whole in ((real, batch["real"]), (fake, jnp.tanh(batch["noise"]))):
        whole = np.asarray(whole).reshape(6, 4, 4, 2)
        np.testing.assert_array_equal(packed[1, ..., 2:4], whole[4])
        np.testing.assert_array_equal(packed[0], np.concatenate(whole[:3], axis=-1))
    r, f = real.sum((1, 2, 3)), fake.sum((1, 2, 3))
    wanted = np.logaddexp(0, -r).mean() + np.logaddexp(0, f).mean()
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    assert float(outcome.metrics["verdict/real"]) == pytest.approx(r.mean(), rel=1e-4)
    # the actor's utility is a mean over packs too
    actor = float(here.loss("actor", params["actor"], params)[0])
    assert actor == pytest.approx(np.logaddexp(0, -f).mean(), rel=1e-5)


@pytest.mark.long
def test_a_coin_shows_whole_packs():
    seen: list[Any] = []
    game = gacf.gan(
        GENERATOR, watching(seen), DATA, batch_size=8, noise=2, pack=2, show="bernoulli"
    )
    params, _, batch, here = shown(game)
    seen.clear()
    here.loss("critic", params["critic"], params)
    coin = np.asarray(batch["coin"])
    assert coin.shape == (4,) and 0 < coin.sum() < 4
    fake = np.asarray(GENERATOR[1](params["actor"], batch["noise"]))
    both = np.where(np.repeat(coin, 2)[:, None], batch["real"], fake)
    np.testing.assert_allclose(seen[0][0], both.reshape(4, 4), rtol=1e-6)


@pytest.mark.long
def test_instance_noise_is_on_real_and_fake_and_for_both_players():
    seen: list[Any] = []
    options: dict[str, Any] = {"batch_size": 4_000, "noise": 2}
    game = gacf.gan(GENERATOR, watching(seen), DATA, instance_noise=0.3, **options)
    params, _, batch, here = shown(game)
    seen.clear()
    for player in ("critic", "actor"):
        here.loss(player, params[player], params)
    clean = batch["real"], GENERATOR[1](params["actor"], batch["noise"])
    changes = [np.asarray(x - y) for (x,), y in zip(seen[:2], clean, strict=True)]
    for change in changes:
        assert np.std(change) == pytest.approx(0.3, rel=0.03) and abs(np.mean(change)) < 0.02
    assert abs(np.mean(changes[0] * changes[1])) < 0.01, "real and fake share their noise"
    # the actor is judged on the same noise
    np.testing.assert_array_equal(seen[3][0], seen[1][0])


@pytest.mark.long
def test_instance_noise_follows_the_step():
    def annealed(step: jax.Array) -> jax.Array:
        return jnp.maximum(0.0, 1 - step / 10)

    game = gacf.gan(GENERATOR, watching([]), DATA, batch_size=4, noise=2, instance_noise=annealed)
    sizes = [np.std(game.sample(with_clock({}, step), KEY)["blur"]) for step in (0, 5, 10, 20)]
    np.testing.assert_allclose(sizes, [sizes[0], sizes[0] / 2, 0, 0], rtol=1e-5)
    rule = gacf.rules.simultaneous({"critic": optax.sgd(0.1)})
    algorithm = gacf.compose(game, rule, still="actor")
    state, _ = jax.jit(algorithm.step)(algorithm.init(KEY))
    assert np.isfinite(state.params["critic"])


@pytest.mark.long
@pytest.mark.parametrize("options", [{"instance_noise": 0.0}, {"pack": 1}])
def test_off_is_off_to_the_bit(options):
    found = []
    for chosen in ({}, options):
        game = gacf.gan(GENERATOR, watching([]), DATA, batch_size=6, noise=2, **chosen)
        params, _, _, here = shown(game)
        found.append([here.gradient(p, params) for p in game.losses])
    plain, off = (jax.tree.leaves(f) for f in found)
    for one, other in zip(plain, off, strict=True):
        np.testing.assert_array_equal(one, other)


CONDITIONAL = (
    lambda key: jnp.ones(()),
    lambda p, z, label: p * z + 100 * label[:, None].astype(z.dtype),
)
LABELLED = (DATA, np.arange(20) % 4)


@pytest.mark.long
def test_labels_reach_actor_and_critic():
    seen: list[Any] = []
    game = gacf.gan(
        CONDITIONAL, watching(seen), LABELLED, batch_size=6, noise=2, loss="wasserstein",
        penalty=r1(1.0),
    )  # fmt: skip
    params, _, batch, here = shown(game)
    rows = [np.flatnonzero((row == DATA).all(1))[0] for row in np.asarray(batch["real"])]
    np.testing.assert_array_equal(batch["label"], np.array(rows) % 4)
    seen.clear()
    loss, _ = here.loss("critic", params["critic"], params)
    (real, of_real), (fake, of_fake) = seen[:2]
    np.testing.assert_array_equal(real, batch["real"])
    np.testing.assert_array_equal(of_real, batch["label"])
    np.testing.assert_array_equal(of_fake, batch["label"])
    wanted = np.asarray(batch["noise"]) + 100 * np.asarray(batch["label"])[:, None]
    np.testing.assert_allclose(fake, wanted, rtol=1e-6)
    verdicts = wanted.sum(1).mean() - np.asarray(batch["real"]).sum(1).mean()
    assert float(loss) == pytest.approx(verdicts + 1.0, rel=1e-5)  # the slope is (1, 1)


@pytest.mark.long
def test_evaluation_of_a_conditional_actor_draws_labels():
    def measure(made: Any, key: jax.Array) -> Any:
        samples, labels = made
        return {"off": jnp.max(jnp.abs(samples - 100 * labels[:, None])), "labels": labels}

    game = gacf.gan(
        CONDITIONAL, watching([]), LABELLED, batch_size=6, noise=2, evaluate=measure, samples=40
    )
    params, world = game.init(KEY)
    found = game.evaluate(params, world, KEY)
    assert set(np.asarray(found["labels"]).tolist()) == {0, 1, 2, 3}
    assert 0 < float(found["off"]) < 10
    asked = jnp.ones((3, 2)), jnp.arange(3)
    made = generate(CONDITIONAL, params, world, KEY, 3, lambda key, n: asked)
    np.testing.assert_allclose(made[:, 0], [1, 101, 201])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pack": 4}, "pack: 4 was given; allowed: a divisor of batch_size"),
        ({"pack": 0}, "pack: 0 was given"),
        ({"instance_noise": -0.1}, "instance_noise: -0.1 was given; allowed: a number >= 0"),
        ({"data": LABELLED, "pack": 2}, "pack: 2 was given; allowed with labelled data: 1"),
        (
            {"data": (DATA, np.arange(3))},
            r"data: shape \(20, 2\) and \(3,\) was given; allowed: \[n, …\]",
        ),
        ({"data": (DATA, DATA, DATA)}, r"data: shape \(20, 2\) and \(20, 2\) and"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        gacf.gan(GENERATOR, watching([]), **{"data": DATA, "batch_size": 6, "noise": 2, **options})


CRITIC = (lambda key: jnp.array([0.7, 1.1]), lambda p, x: jnp.sum(jnp.sin(x) * p[None], axis=-1))
GAINS = ("minimax", "wasserstein", "kl", "reverse_kl", "pearson", "jensen_shannon")


@pytest.mark.long
@pytest.mark.parametrize("loss", [*GAINS, "non_saturating", "least_squares", "hinge"])
def test_with_the_real_term_what_the_critic_loses_the_actor_gains(loss):
    @jax.jit
    def losses_and_slopes() -> Any:
        found = []
        for real_term in (False, True):
            game = gacf.gan(
                GENERATOR, CRITIC, DATA, loss, batch_size=6, noise=2, real_term=real_term
            )
            params, _, batch, here = shown(game)

            def actor(params: Any, here: Any = here) -> jax.Array:
                return here.loss("actor", params["actor"], params)[0]

            slope = jax.grad(actor)(params)
            own = here.gradient("actor", params)[0]
            critic = here.loss("critic", params["critic"], params)[0]
            found.append((actor(params), slope["critic"], own))
        return found, critic, here.gradient("critic", params)[0], batch["real"]

    ((_, old_slope, old), (value, slope, own)), critic, critics, real = losses_and_slopes()
    np.testing.assert_allclose(own, old, rtol=1e-5)  # moves nobody by itself
    assert np.abs(slope - old_slope).max() > 1e-3
    if loss in GAINS:
        np.testing.assert_allclose(value, -critic, rtol=1e-5)
        np.testing.assert_allclose(slope, -critics, rtol=1e-4)
        return
    sines = np.sin(np.asarray(real, np.float64))
    verdict = sines @ np.array([0.7, 1.1])
    # of −mean log σ(−r), mean r² / 2 and mean r: labels exchanged, real examples called fake
    rise = {
        "non_saturating": 1 / (1 + np.exp(-verdict)),
        "least_squares": verdict,
        "hinge": np.ones_like(verdict),
    }[loss]
    np.testing.assert_allclose(slope - old_slope, rise @ sines / 6, rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("real_term", [False, True])
def test_an_actor_that_foresees_the_critic_needs_the_real_term(real_term):
    # C(x) = w·x, its loss w·(mean fake − mean real) + |w|²/2: the best w is the distance of the
    # means d, the actor's loss there |d|², and the total derivative that of a matching of means
    linear = (lambda key: jnp.zeros(2), lambda w, x: jnp.sum(w[None] * x, axis=-1))
    game = gacf.gan(
        (lambda key: jnp.array([0.5, -1.5]), lambda p, z: z + p[None]),
        linear,
        DATA,
        "wasserstein",
        batch_size=6,
        noise=2,
        penalty=lambda judge, groups, key: jnp.sum(judge(jnp.eye(2)) ** 2) / 2,
        real_term=real_term,
    )
    params, _, batch, here = shown(game)
    fake = batch["noise"].mean(0) + params["actor"]
    apart = batch["real"].mean(0) - fake
    params = {**params, "critic": apart}
    ahead = gacf.rules.implicit("actor", "critic", "cg", 4, 0.0)
    vector, _, _ = ahead.follow(here, "actor", params, ())
    np.testing.assert_allclose(vector, -2 * apart if real_term else fake - apart, rtol=1e-5)


def test_a_coin_shows_real_examples_already():
    with pytest.raises(ValueError, match="real_term"):
        gacf.gan(GENERATOR, CRITIC, DATA, show="bernoulli", real_term=True)
