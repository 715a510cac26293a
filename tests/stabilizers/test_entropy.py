"""Entropies that are known; fixed points of the regulariser in closed form, on both sides."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules
from gacf.methods.actor_critic import policies
from gacf.networks import MLP, model
from gacf.stabilizers import entropy, nearest_neighbours, pulled_away

KEY = jax.random.key(0)
NORMAL = 0.5 * math.log(2 * math.pi * math.e)
# H and Var log p, in nats
KNOWN = {
    "uniform square": (lambda key, n: jax.random.uniform(key, (n, 2), maxval=3.0), math.log(9), 0),
    "normal": (lambda key, n: jax.random.normal(key, (n,)), NORMAL, 0.5),
    "normal in 3": (
        lambda key, n: 0.1 * jax.random.normal(key, (n, 3)),
        3 * (NORMAL - 2.3026),
        1.5,
    ),
    "exponential": (lambda key, n: jax.random.exponential(key, (n, 1)), 1.0, 1.0),
}


@pytest.mark.long
@pytest.mark.parametrize("name", KNOWN)
def test_known_entropies_within_the_stated_error(name: str):
    draw, true, spread = KNOWN[name]

    def both(key: jax.Array) -> Any:
        samples = draw(key, 200)
        return jnp.stack([nearest_neighbours(samples, k) for k in (1, 4)])

    found = np.asarray(jax.jit(jax.vmap(both))(jax.random.split(KEY, 60)))
    assert np.abs(found.mean(0) - true).max() < 0.12
    slopes = np.array([math.pi**2 / 6, math.pi**2 / 6 - 1 - 1 / 4 - 1 / 9])  # ψ′(1), ψ′(4)
    np.testing.assert_allclose(found.std(0), np.sqrt((slopes + spread) / 200), rtol=0.7)


@pytest.mark.long
def test_the_estimate_by_hand_and_how_it_scales():
    x = jnp.array([0.0, 1.0, 3.0, 7.0])
    # nearest neighbours 1, 1, 2, 4 away; second 3, 2, 3, 6; an interval of radius r is 2 r long
    psi = {1: -0.5772157, 2: 0.4227843, 4: 1.2561177}
    wanted = {1: np.log([1, 1, 2, 4]).mean(), 2: np.log([3, 2, 3, 6]).mean()}
    for k in (1, 2):
        by_hand = psi[4] - psi[k] + math.log(2) + wanted[k]
        assert float(nearest_neighbours(x, k)) == pytest.approx(by_hand, rel=1e-5)
    images = jax.random.normal(KEY, (6, 4, 4, 3))
    grown = nearest_neighbours(5 * images) - nearest_neighbours(images)
    assert float(grown) == pytest.approx(48 * math.log(5), rel=1e-5)


@pytest.mark.long
def test_its_slope_drives_neighbours_apart_and_is_finite_where_they_coincide():
    slope = jax.grad(nearest_neighbours)(jnp.array([0.0, 0.1, 5.0]))
    assert slope[0] < 0 < slope[1] and slope[2] > 0
    same = jnp.ones((4, 2))
    assert np.isfinite(nearest_neighbours(same)) and float(nearest_neighbours(same)) < -20
    assert np.isfinite(jax.grad(nearest_neighbours)(same)).all()


@pytest.mark.long
def test_pulled_away_is_least_for_one_direction_and_most_for_all():
    assert float(pulled_away(jnp.arange(1.0, 4.0)[:, None, None])) == pytest.approx(-1)
    assert float(pulled_away(jnp.eye(4))) == pytest.approx(0, abs=1e-6)


def alone(init: Any, apply: Any, loss: Any, size: int = 64) -> tuple[gacf.Game, Any]:
    """A game of one actor that sees normal noise [B, 1]."""
    actor = model("actor", (lambda key: init, apply))
    noise = jax.random.normal(jax.random.key(7), (size, 1))

    def minimised(own, params, world, batch, key):
        return loss(apply(own, batch)), gacf.Outcome({}, {})

    game = gacf.Game(
        {"actor": minimised}, lambda key: ({"actor": init}, {}), sample=lambda world, key: noise
    )
    return game, actor


def settled(game: gacf.Game, steps: int = 300) -> Any:
    algorithm = gacf.compose(game, rules.player_step("actor", optax.sgd(0.1)))
    state = algorithm.init(KEY)
    return jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), state, length=steps)[0].params


def sees(batch: jax.Array) -> jax.Array:
    return batch


@pytest.mark.long
def test_a_samplers_width_is_where_cost_and_entropy_balance():
    """Of x = θ z under mean x²/2 − s H(x): H is log θ and more, so θ² mean z² = s."""
    game, actor = alone(jnp.array(2.0), lambda theta, z: theta * z, lambda x: jnp.mean(x**2) / 2)
    strengths = jnp.array([0.0, 0.25, 1.0])
    found = jax.jit(jax.vmap(lambda s: settled(entropy(game, actor, sees, s))["actor"]))(strengths)
    wanted = np.sqrt(strengths / jnp.mean(game.sample({}, KEY) ** 2))
    np.testing.assert_allclose(found, wanted, atol=1e-4)  # without entropy it collapses


def test_a_gaussian_policys_width_is_where_cost_and_entropy_balance():
    """Of E a²/2 − s H: μ = 0 and σ² = s."""
    game, actor = alone(
        jnp.array([1.0, 0.0]),
        lambda own, z: jnp.broadcast_to(own, (len(z), 2)),
        lambda out: jnp.mean(out[:, 0] ** 2 + jnp.exp(2 * out[:, 1])) / 2,
        size=2,
    )
    game = entropy(game, actor, sees, 0.3, policies.gaussian(1).entropy)
    mean, log_scale = settled(game)["actor"]
    np.testing.assert_allclose([mean, jnp.exp(log_scale)], [0, math.sqrt(0.3)], atol=1e-4)


def test_a_categorical_policy_becomes_the_softmax_of_rewards():
    reward = jnp.array([1.0, 0.0, -0.5])
    game, actor = alone(
        jnp.zeros(3),
        lambda own, z: jnp.broadcast_to(own, (len(z), 3)),
        lambda out: -jnp.mean(jax.nn.softmax(out) @ reward),
        size=2,
    )
    game = entropy(game, actor, sees, 0.5, policies.categorical(3).entropy)
    found = jax.nn.softmax(settled(game, 2000)["actor"])
    np.testing.assert_allclose(found, jax.nn.softmax(reward / 0.5), atol=1e-4)


@pytest.mark.long
def test_codes_are_the_critics_features_and_the_critics_loss_stays():
    critic = MLP((3,))
    generator = (lambda key: jnp.ones(2), lambda theta, z: theta[None] * z)
    game = gacf.gan(generator, critic, gacf.data.ring(), batch_size=6, noise=2)

    def features(params: Any, made: jax.Array) -> jax.Array:
        layer = params["critic"]["Dense_0"]
        return jnp.maximum(made @ layer["kernel"] + layer["bias"][None], 0)

    various = entropy(game, generator, lambda b: b["noise"], 0.5, pulled_away, features)
    params, world = various.init(KEY)
    batch = various.sample(world, KEY)
    for player in ("actor", "critic"):
        (plain, _), (found, told) = (
            g.losses[player](params[player], params, world, batch, KEY) for g in (game, various)
        )
        code = features(params, params["actor"][None] * batch["noise"])
        apart = float(pulled_away(code)) if player == "actor" else 0.0
        assert float(found) == pytest.approx(float(plain) - apart / 2, rel=1e-5)
        assert ("entropy_estimate" in told.metrics) == (player == "actor")


def test_errors():
    game, actor = alone(jnp.array(1.0), lambda theta, z: theta * z, jnp.mean)
    with pytest.raises(ValueError, match=r"strength: -1\.0 was given; allowed: a number >= 0"):
        entropy(game, actor, sees, -1.0)
    with pytest.raises(ValueError, match="entropy: 'model' is not a player"):
        entropy(game, actor._replace(player="model"), sees, 1.0, player="model")
    with pytest.raises(ValueError, match="estimate: None was given, as by a policy without"):
        entropy(game, actor, sees, 1.0, policies.squashed_gaussian(1).entropy)
    with pytest.raises(ValueError, match=r"samples: shape \(1, 2\) was given; allowed: \[B, …\]"):
        nearest_neighbours(jnp.zeros((1, 2)))
    with pytest.raises(
        ValueError, match="int32 was given; allowed: floats, since whole numbers have no"
    ):
        nearest_neighbours(jnp.arange(5))
    with pytest.raises(ValueError, match="k: 0 was given"):
        nearest_neighbours(jnp.zeros((3, 2)), 0)
    twice = entropy(entropy(game, actor, sees, 1.0), actor, sees, 1.0)
    with pytest.raises(ValueError, match="'entropy_estimate' of 'actor' is reported already"):
        settled(twice)
