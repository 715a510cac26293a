"""Conditional GAN on scikit-learn's digits: is a sample the requested digit?

    gacf run experiments/conditional_gan.py

It compares two critics: one gets the label together with the image, the other by a projection of
its features. `accuracy` is the share of samples that an independent classifier recognises as the
requested digit; the classifier's own accuracy on real digits is `classifier_accuracy`. Expected
results and cost: docs/information_flow.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import gacf
from gacf import metrics
from gacf.lab.report import image_grids
from gacf.methods.flows import Labelled, conditional_critic
from gacf.methods.gan import generate, r1
from gacf.networks import model

KEY_METRIC = "evaluate/accuracy"
GOAL = "max"
METRICS = [KEY_METRIC, "evaluate/coverage", "evaluate/kid", "final/classifier_accuracy"]
CLASSES, SAMPLES = 10, 898


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 3_000,
            "batch_size": 64,
            "noise": 32,
            "hidden": (128, 128),
            "r1": 0.3,
            "learning_rate": 3e-3,
            "decay": 0.01,
        }
    )


def generator(config: ConfigDict) -> Any:
    return model("actor", Labelled(config.hidden, CLASSES, (8, 8, 1), last=jnp.tanh))


def measure(samples: tuple[jax.Array, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
    images, labels = samples
    classifier = metrics.digits_classifier()
    right = jnp.argmax(classifier.logits(images), -1) == labels
    real, fake = classifier.features(gacf.data.digits("test")[0]), classifier.features(images)
    return {
        "accuracy": jnp.mean(right),
        **metrics.prdc(real, fake),
        "kid": metrics.kid(real, fake),
    }


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    def of(condition: str) -> gacf.Algorithm:
        game = gacf.gan(
            generator(config),
            conditional_critic(condition, config.hidden, CLASSES),
            gacf.data.digits("train"),
            batch_size=config.batch_size,
            noise=config.noise,
            penalty=r1(config.r1),
            evaluate=measure,
            samples=SAMPLES,
        )
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps, config.decay)
        rule = gacf.rules.alternating({p: optax.adam(rate, b1=0.5) for p in game.losses})
        return gacf.compose(game, rule)

    return {condition: of(condition) for condition in ("projection", "concatenation")}


def finish(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Any]:
    accuracy = np.full(int(config.seeds), metrics.digits_classifier().accuracy)
    return {cell: {"classifier_accuracy": accuracy} for cell in finals}


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """Four samples of each digit from the first seed, one column per digit."""
    labels = jnp.tile(jnp.arange(CLASSES), 4)

    def draw(key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        return jax.random.normal(key, (n, config.noise)), labels

    grids = {}
    for cell, state in finals.items():
        params = jax.tree.map(lambda x: x[0], state.params)
        drawn = generate(generator(config), params, {}, jax.random.key(0), len(labels), draw)
        grids[cell] = drawn.reshape(4, CLASSES, 8, 8, 1)
    return {"samples": image_grids(grids)}
