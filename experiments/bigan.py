"""BiGAN on scikit-learn's digits: what an encoder learns without a reconstruction error.

    gacf run experiments/bigan.py

`reconstruction` is the squared error of A(E(x)) for held-out digits, in units of their variance
about their mean. `chance` is that of A(E(x')) with another digit x': near 1 for a generator of
blurred images, near 2 for a sharp one. `kept` is the share of digits for which a classifier gives
A(E(x)) the label of x. `final/probe` is the accuracy on held-out digits of ridge regression from
the codes to the labels, fitted on the training half. In the cell `random encoder` the encoder stays
as it is, and the actor and the critic are trained as before. Expected results and cost:
docs/information_flow.md.
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
from gacf.lab.report import image_rows
from gacf.methods.flows import bigan
from gacf.methods.gan import generate, r1
from gacf.networks import MLP, Model, model

KEY_METRIC = "evaluate/reconstruction"
GOAL = "min"
METRICS = [
    KEY_METRIC,
    "evaluate/chance",
    "evaluate/kept",
    "final/probe",
    "evaluate/coverage",
    "evaluate/kid",
]
SAMPLES = 898


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 8_000,
            "evaluate_every": 8_000,
            "batch_size": 64,
            "noise": 8,
            "hidden": (256, 256),
            "r1": 0.1,
            "learning_rate": 1e-3,
            "decay": 0.01,
        }
    )


def networks(config: ConfigDict) -> tuple[Model, Model]:
    """The generator and the encoder."""
    generator = MLP(config.hidden, (8, 8, 1), last=jnp.tanh)
    return model("actor", generator), model("encoder", MLP(config.hidden, (config.noise,)))


def encode(config: ConfigDict, params: Any, images: jax.Array) -> jax.Array:
    return networks(config)[1].apply(params["encoder"], {}, images)[0]


def reconstruct(config: ConfigDict, params: Any, images: jax.Array) -> jax.Array:
    return networks(config)[0].apply(params["actor"], {}, encode(config, params, images))[0]


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    actor, encoder = networks(config)

    def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
        images, labels = gacf.data.digits("test")
        features = metrics.digits_classifier().features
        fake = features(generate(actor, params, world, key, SAMPLES, config.noise))
        rebuilt = reconstruct(config, params, images)
        spread = jnp.mean(jnp.var(images, axis=0))
        guess = jnp.argmax(metrics.digits_classifier().logits(rebuilt), axis=-1)
        return {
            "reconstruction": jnp.mean(jnp.square(rebuilt - images)) / spread,
            "chance": jnp.mean(jnp.square(jnp.roll(rebuilt, 1, axis=0) - images)) / spread,
            "kept": jnp.mean(guess == labels),
            **metrics.prdc(features(images), fake),
            "kid": metrics.kid(features(images), fake),
        }

    game = bigan(
        actor,
        encoder,
        MLP(config.hidden),
        gacf.data.digits("train")[0],
        config.noise,
        config.batch_size,
        penalty=r1(config.r1),
        evaluate=evaluate,
    )
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps, config.decay)

    def play(*players: str) -> gacf.Algorithm:
        optimizers = {p: optax.adam(rate, b1=0.5) for p in players}
        still = tuple(player for player in game.losses if player not in players)
        return gacf.compose(game, gacf.rules.alternating(optimizers), still=still)

    return {"BiGAN": play("critic", "encoder", "actor"), "random encoder": play("critic", "actor")}


def finish(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Any]:
    """The linear probe; it runs here because it solves a linear system."""
    (images, labels), (unseen, answers) = gacf.data.digits("train"), gacf.data.digits("test")

    def accuracy(codes: np.ndarray, held_out: np.ndarray) -> float:
        x = np.column_stack([codes, np.ones(len(codes))])
        y = np.eye(10)[np.asarray(labels)]
        weights = np.linalg.solve(x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1]), x.T @ y)
        guess = np.column_stack([held_out, np.ones(len(held_out))]) @ weights
        return float(np.mean(guess.argmax(1) == np.asarray(answers)))

    def of_seeds(state: gacf.State) -> np.ndarray:
        codes = jax.vmap(lambda p: encode(config, p, images))(state.params)
        held_out = jax.vmap(lambda p: encode(config, p, unseen))(state.params)
        return np.array([accuracy(a, b) for a, b in zip(*map(np.asarray, (codes, held_out)))])  # noqa: B905

    return {cell: {"probe": of_seeds(state)} for cell, state in finals.items()}


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """Held-out digits above A(E(x)), of the first seed."""
    images = gacf.data.digits("test")[0][:16]
    rows = {"real": images}
    for cell, state in finals.items():
        params = jax.tree.map(lambda x: x[0], state.params)
        rows[cell] = reconstruct(config, params, images)
    return {"reconstructions": image_rows(rows)}
