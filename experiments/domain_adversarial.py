"""Domain-adversarial training: from labelled digits to shifted ones without labels.

    gacf run experiments/domain_adversarial.py

In the target domain the digits are shifted one pixel to the right, and have noise of deviation 0.3.
`accuracy` is that on the target's held-out half. `source only` differs in one number, the weight of
the critic. Expected results and cost: docs/information_flow.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import gacf
from gacf.methods.flows import domain_adversarial, ramp
from gacf.networks import MLP, model

KEY_METRIC = "evaluate/accuracy"
GOAL = "max"
METRICS = [KEY_METRIC, "evaluate/source_accuracy"]
CLASSES = 10


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 3_000,
            "evaluate_every": 3_000,
            "batch_size": 64,
            "hidden": (128, 128),
            "features": 64,
            "weight": 0.3,
            "learning_rate": 1e-3,
        }
    )


def shifted(images: jax.Array) -> jax.Array:
    """The images one pixel to the right, with a blank column at the left and fixed noise."""
    moved = jnp.roll(images, 1, axis=2).at[:, :, 0].set(-1.0)
    return moved + 0.3 * jax.random.normal(jax.random.key(0), images.shape)


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    encoder = model("encoder", MLP(config.hidden, (config.features,), last=jax.nn.relu))
    posterior = model("posterior", MLP((), (CLASSES,)))
    source = gacf.data.digits("train")

    def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
        images, labels = gacf.data.digits("test")

        def accuracy(x: jax.Array) -> jax.Array:
            features, _ = encoder.apply(params["encoder"], world, x)
            logits, _ = posterior.apply(params["posterior"], world, features)
            return jnp.mean(jnp.argmax(logits, -1) == labels)

        return {"accuracy": accuracy(shifted(images)), "source_accuracy": accuracy(images)}

    def of(weight: float) -> gacf.Algorithm:
        game = domain_adversarial(
            encoder, posterior, MLP(config.hidden), source, shifted(source[0]),
            ramp(config.steps, weight), config.batch_size, evaluate,
        )  # fmt: skip
        optimizers = {player: optax.adam(config.learning_rate) for player in game.losses}
        return gacf.compose(game, gacf.rules.simultaneous(optimizers))

    return {"domain-adversarial": of(config.weight), "source only": of(0.0)}
