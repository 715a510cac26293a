"""The theorem of Pfau & Vinyals (2016): a GAN is an actor-critic method in their decision process.

The textbook side below is written from Goodfellow et al. (2014), algorithm 1, on its own: its
losses, its networks and its loop share no code with gacf, but for optax's Adam and the stream of
random numbers, which it derives as `compose`, `sequence` and `player_step` document.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import gacf
from gacf.methods.gan import gan
from gacf.networks import MLP

NOISE, BATCH, STEPS = 4, 32, 1_000


class ConvGenerator(linen.Module):
    @linen.compact
    def __call__(self, z):
        x = linen.relu(linen.Dense(4 * 4 * 3)(z)).reshape(-1, 4, 4, 3)
        return linen.tanh(linen.ConvTranspose(1, (3, 3), strides=(2, 2))(x))


class ConvDiscriminator(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.leaky_relu(linen.Conv(4, (3, 3), strides=(2, 2))(x))
        return linen.Dense(1)(x.reshape(x.shape[0], -1))


def ring(key, n):
    angle_key, noise_key = jax.random.split(key)
    angle = jax.random.randint(angle_key, (n,), 0, 8) * (2 * jnp.pi / 8)
    centre = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return centre + 0.05 * jax.random.normal(noise_key, (n, 2))


def images(key, n):
    return jnp.tanh(jax.random.normal(key, (n, 8, 8, 1)))


CASES = {
    "mlp": (MLP((16, 16), (2,)), MLP((16, 16)), ring),
    "conv": (ConvGenerator(), ConvDiscriminator(), images),
}


def textbook_losses(generator, discriminator):
    """V(D, G) of Goodfellow et al. (2014), eq. 1, with the non-saturating generator."""

    def log_d(d, x):
        return jax.nn.log_sigmoid(discriminator.apply({"params": d}, x).reshape(-1))

    def log_not_d(d, x):
        return jax.nn.log_sigmoid(-discriminator.apply({"params": d}, x).reshape(-1))

    def discriminator_loss(d, g, real, z):
        fake = generator.apply({"params": g}, z)
        return -(log_d(d, real).mean() + log_not_d(d, fake).mean())

    def generator_loss(g, d, z):
        return -log_d(d, generator.apply({"params": g}, z)).mean()

    return discriminator_loss, generator_loss


def textbook_gan(generator, discriminator, data, g, d, key, adam, steps):
    discriminator_loss, generator_loss = textbook_losses(generator, discriminator)

    def batch(key):
        batch_key, _ = jax.random.split(key)
        real_key, noise_key, _ = jax.random.split(batch_key, 3)
        return data(real_key, BATCH), jax.random.normal(noise_key, (BATCH, NOISE))

    def step(carry, _):
        g, d, g_adam, d_adam, key = carry
        key, _, update_key = jax.random.split(key, 3)
        first, second = jax.random.split(update_key)
        real, z = batch(first)
        change, d_adam = adam.update(jax.grad(discriminator_loss)(d, g, real, z), d_adam)
        d = optax.apply_updates(d, change)
        _, z = batch(second)
        change, g_adam = adam.update(jax.grad(generator_loss)(g, d, z), g_adam)
        g = optax.apply_updates(g, change)
        return (g, d, g_adam, d_adam, key), None

    carry = (g, d, adam.init(g), adam.init(d), key)
    return jax.jit(lambda c: jax.lax.scan(step, c, None, length=steps)[0])(carry)[:2]


def distance(a, b):
    a, b = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in (a, b))
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.parametrize(
    ("case", "x64", "bound"),
    [
        ("mlp", True, 1e-10),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("mlp", False, 1e-2), ("conv", True, 1e-10), ("conv", False, 1e-2))
        ),
    ],
)
def test_the_actor_critic_takes_the_textbooks_steps(case, x64, bound):
    generator, discriminator, data = CASES[case]
    with jax.enable_x64(x64):
        adam = optax.adam(1e-3, b1=0.5)
        game = gan(generator, discriminator, data, batch_size=BATCH, noise=NOISE)
        rule = gacf.rules.alternating({"actor": adam, "critic": adam})
        algorithm = gacf.compose(game, rule)
        state = algorithm.init(jax.random.key(0))
        params = jax.tree.map(lambda x: x.astype(float), state.params)  # Flax's are float32
        state = state._replace(params=params, opt_state=rule.init(params))
        g, d = textbook_gan(
            generator, discriminator, data, *(state.params[p] for p in ("actor", "critic")),
            state.key, adam, STEPS,
        )  # fmt: skip
        steps = jax.jit(
            lambda s: jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), s, length=STEPS)[0]
        )
        end = steps(state)
        assert distance(state.params["actor"], g) > 0.1  # it did learn
        assert distance(end.params["actor"], g) < bound
        assert distance(end.params["critic"], d) < bound


@pytest.mark.long
def test_the_bernoulli_environment_has_half_the_textbooks_gradients_in_expectation():
    generator, discriminator, data = CASES["mlp"]
    game = gan(generator, discriminator, data, batch_size=BATCH, noise=NOISE, show="bernoulli")
    params, world = game.init(jax.random.key(1))
    textbook = dict(
        zip(("critic", "actor"), textbook_losses(generator, discriminator), strict=True)
    )
    draws = 16_000

    def flat(tree):
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])

    def shown(player, key):
        at = gacf.rules.field(game, world, game.sample(world, key), key)
        return flat(at.gradient(player, params)[0])

    def both(player, key):
        real_key, noise_key = jax.random.split(key)
        real, z = data(real_key, BATCH), jax.random.normal(noise_key, (BATCH, NOISE))
        g, d = params["actor"], params["critic"]
        if player == "critic":
            return flat(jax.grad(textbook["critic"])(d, g, real, z))
        return flat(jax.grad(textbook["actor"])(g, d, z))

    for player in ("actor", "critic"):
        keys = jax.random.split(jax.random.key(2), (2, draws))
        ours = np.asarray(jax.jit(jax.vmap(lambda k: shown(player, k)))(keys[0]))
        theirs = np.asarray(jax.jit(jax.vmap(lambda k: both(player, k)))(keys[1]))
        error = np.sqrt(4 * ours.var(0) / draws + theirs.var(0) / draws)
        alive = error > 0  # units that no example reaches have no gradient in either
        scores = (2 * ours.mean(0) - theirs.mean(0))[alive] / error[alive]
        assert np.all((ours == 0)[:, ~alive])
        assert np.abs(scores).max() < 5  # a few hundred coordinates: 5 standard errors
        assert np.square(scores).mean() < 2  # coordinates are correlated: no tighter bound
        # The bound can fail: the error is small against the gradient, and the factor ½ is seen.
        assert np.linalg.norm(error) < 0.2 * np.linalg.norm(theirs.mean(0))
        unscaled = (ours.mean(0) - theirs.mean(0))[alive] / error[alive]
        assert np.square(unscaled).mean() > 5
