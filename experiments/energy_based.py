"""Energy-based GAN on scikit-learn's digits: the critic is an autoencoder.

    gacf run experiments/energy_based.py

The critic's verdict is its reconstruction error for an image. It learns to reconstruct real images,
and to reconstruct samples no better than the margin. The cells are `EBGAN`; `EBGAN-PT`, with the
pulling-away term; and `GAN`, the non-saturating loss with R1 and a critic of the same hidden
layers. `reconstruction` is the squared error of the critic's autoencoder on held-out digits, in
units of their variance about their mean. `energy_gap` is the energy of samples minus that of
held-out digits, in the same units. Expected results and cost: docs/information_flow.md.
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
from gacf.methods.gan import energy_based, generate, pulling_away, r1
from gacf.networks import MLP, Model, images, model

KEY_METRIC = "evaluate/coverage"
GOAL = "max"
METRICS = [f"evaluate/{m}" for m in ("coverage", "density", "kid", "reconstruction", "energy_gap")]
SAMPLES = 898


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 4_000,
            "evaluate_every": 2_000,
            "batch_size": 64,
            "noise": 16,
            "hidden": (128, 128),
            "autoencoder": (128, 32),
            "margin": 0.2,
            "pulling_away": 0.1,
            "r1": 0.3,
            "learning_rate": 1e-3,
            "decay": 0.01,
        }
    )


def generator(config: ConfigDict) -> Model:
    return model("actor", MLP(config.hidden, (8, 8, 1), last=jnp.tanh))


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    train, unseen = (gacf.data.digits(half)[0] for half in ("train", "test"))
    spread = jnp.mean(jnp.var(unseen, axis=0))
    actor = generator(config)
    judge = images.Autoencoder(config.autoencoder)
    critic = model("critic", judge)
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps, config.decay)

    def game_of(discriminator: Model, **settings: Any) -> gacf.Game:
        def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
            samples = generate(actor, params, world, key, SAMPLES, config.noise)
            features = metrics.digits_classifier().features
            measured = {
                **metrics.prdc(features(unseen), features(samples)),
                "kid": metrics.kid(features(unseen), features(samples)),
            }
            if discriminator is critic:
                real, fake = (
                    jnp.mean(critic.apply(params["critic"], world, x)[0]) / spread
                    for x in (unseen, samples)
                )
                measured |= {"reconstruction": real, "energy_gap": fake - real}
            return measured

        game = gacf.gan(
            actor, discriminator, train, batch_size=config.batch_size, noise=config.noise,
            **settings,
        )  # fmt: skip
        return game._replace(evaluate=evaluate)

    def play(game: gacf.Game) -> gacf.Algorithm:
        rule = gacf.rules.alternating({p: optax.adam(rate, b1=0.5) for p in game.losses})
        return gacf.compose(game, rule)

    def codes(params: Any, x: jax.Array) -> Any:
        return judge.apply({"params": params}, x, method="encode")

    plain = game_of(critic, loss=energy_based(config.margin))
    return {
        "EBGAN": play(plain),
        "EBGAN-PT": play(pulling_away(plain, actor, codes, config.pulling_away)),
        "GAN": play(game_of(model("critic", MLP(config.hidden)), penalty=r1(config.r1))),
    }


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """Samples of the first seed, one row per method."""
    rows = {}
    for cell, state in finals.items():
        params = jax.tree.map(lambda x: x[0], state.params)
        rows[cell] = generate(generator(config), params, {}, jax.random.key(0), 16, config.noise)
    return {"samples": image_rows(rows)}
