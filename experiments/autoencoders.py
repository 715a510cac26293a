"""Adversarial autoencoder and VAE-GAN on scikit-learn's digits, next to a plain autoencoder.

    gacf run experiments/autoencoders.py

`reconstruction` is the squared error on held-out digits, in units of their variance about their
mean. `latent_mmd` is the squared MMD of their codes to the prior N(0, 1). `kid` and `coverage` are
those of samples from the prior, in the features of the small classifier. The plain autoencoder is
the adversarial one with weight 0. Expected results and cost: docs/information_flow.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import gacf
from gacf import metrics
from gacf.lab.report import image_rows
from gacf.methods.flows import WithFeatures, adversarial_autoencoder, vae_gan
from gacf.methods.gan import generate, r1
from gacf.networks import MLP, Model, model

KEY_METRIC = "evaluate/kid"
GOAL = "min"
METRICS = [f"evaluate/{m}" for m in ("kid", "coverage", "reconstruction", "latent_mmd")]
SAMPLES = 898


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 3_000,
            "evaluate_every": 3_000,
            "batch_size": 64,
            "noise": 8,
            "hidden": (128, 128),
            "learning_rate": 1e-3,
            "decay": 0.01,
            "autoencoder": {"weight": 2.0, "r1": 0.1},
            "vae_gan": {"weight": 0.09, "prior_weight": 0.57, "r1": 0.3},
        }
    )


def decoder(config: ConfigDict) -> Model:
    return model("actor", MLP(config.hidden, (8, 8, 1), last=jnp.tanh))


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    images, size = gacf.data.digits("train")[0], config.noise
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps, config.decay)
    actor = decoder(config)

    def measured(game: gacf.Game, encoder: Model) -> gacf.Algorithm:
        def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
            noise_key, code_key, prior_key = jax.random.split(key, 3)
            unseen = gacf.data.digits("test")[0]
            output, _ = encoder.apply(params["encoder"], world, unseen)
            mean, log_scale = output[:, :size], output[:, size:]
            rebuilt, _ = actor.apply(params["actor"], world, mean)
            noise = jax.random.normal(code_key, mean.shape)
            codes = mean + jnp.exp(log_scale) * noise if log_scale.size else mean
            prior = jax.random.normal(prior_key, (SAMPLES, size))
            features = metrics.digits_classifier().features
            fake = features(generate(actor, params, world, noise_key, SAMPLES, size))
            error = jnp.mean(jnp.square(rebuilt - unseen)) / jnp.mean(jnp.var(unseen, axis=0))
            return {
                "reconstruction": error,
                "latent_mmd": metrics.mmd(prior, codes),
                **metrics.prdc(features(unseen), fake),
                "kid": metrics.kid(features(unseen), fake),
            }

        rule = gacf.rules.alternating(
            {p: optax.adam(rate, b1=0.5) for p in ("critic", "encoder", "actor")}
        )
        return gacf.compose(game._replace(evaluate=evaluate), rule)

    def of_weight(weight: float) -> gacf.Algorithm:
        encoder = model("encoder", MLP(config.hidden, (size,)))
        game = adversarial_autoencoder(
            actor, encoder, MLP(config.hidden), images, size, weight, config.batch_size,
            penalty=r1(config.autoencoder.r1),
        )  # fmt: skip
        return measured(game, encoder)

    own = config.vae_gan
    encoder = model("encoder", MLP(config.hidden, (2 * size,)))
    game = vae_gan(
        actor, encoder, WithFeatures(config.hidden), images, size, own.weight, own.prior_weight,
        config.batch_size, penalty=r1(own.r1),
    )  # fmt: skip
    return {
        "adversarial autoencoder": of_weight(config.autoencoder.weight),
        "VAE-GAN": measured(game, encoder),
        "autoencoder": of_weight(0.0),
    }


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """Samples of the first seed, one row per method."""
    rows = {}
    for cell, state in finals.items():
        params = jax.tree.map(lambda x: x[0], state.params)
        rows[cell] = generate(decoder(config), params, {}, jax.random.key(0), 16, config.noise)
    return {"samples": image_rows(rows)}
