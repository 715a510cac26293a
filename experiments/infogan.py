"""InfoGAN on scikit-learn's digits: does a code of ten values find the ten digits by itself?

    gacf run experiments/infogan.py

The posterior sorts the held-out digits into ten clusters, and each cluster gets the digit that fits
it best. `final/accuracy` is the accuracy if each digit is used once (Hungarian method), and
`evaluate/majority` if digits may be used several times. The cell `code not trained for` differs in
one number: its actor is not rewarded if the code can be read. Expected results and cost:
docs/information_flow.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from scipy.optimize import linear_sum_assignment

import gacf
from gacf import metrics
from gacf.lab.report import image_grids
from gacf.methods.flows import infogan
from gacf.methods.gan import generate, r1
from gacf.networks import MLP, model

KEY_METRIC = "evaluate/majority"
GOAL = "max"
METRICS = ["final/accuracy", KEY_METRIC, "evaluate/coverage", "evaluate/kid"]
CODES, SAMPLES = 10, 898


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 3_000,
            "batch_size": 64,
            "noise": 32,
            "hidden": (128, 128),
            "weight": 1.0,
            "r1": 0.3,
            "learning_rate": 3e-3,
            "decay": 0.01,
        }
    )


def generator(config: ConfigDict) -> Any:
    return model("actor", MLP(config.hidden, (8, 8, 1), last=jnp.tanh))


def posterior(config: ConfigDict) -> Any:
    return model("posterior", MLP(config.hidden, (CODES,)))


def counts(config: ConfigDict, params: Any) -> jax.Array:
    """How many held-out digits of each class lie in each cluster, [cluster, class]."""
    images, labels = gacf.data.digits("test")
    logits, _ = posterior(config).apply(params["posterior"], {}, images, train=False)
    cluster, digit = jax.nn.one_hot(jnp.argmax(logits, -1), CODES), jax.nn.one_hot(labels, 10)
    return cluster.T @ digit


def measure(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    features = metrics.digits_classifier().features
    real, fake = features(gacf.data.digits("test")[0]), features(samples)
    return {**metrics.prdc(real, fake), "kid": metrics.kid(real, fake)}


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    def of(weight: float) -> gacf.Algorithm:
        game = infogan(
            generator(config),
            MLP(config.hidden),
            posterior(config),
            gacf.data.digits("train")[0],
            CODES,
            weight,
            noise=config.noise,
            batch_size=config.batch_size,
            penalty=r1(config.r1),
            evaluate=measure,
            samples=SAMPLES,
        )
        of_samples = game.evaluate

        def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
            table = counts(config, params)
            majority = jnp.sum(jnp.max(table, 1)) / jnp.sum(table)
            return {"majority": majority, **of_samples(params, world, key)}

        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps, config.decay)
        rule = gacf.rules.alternating({p: optax.adam(rate, b1=0.5) for p in game.losses})
        return gacf.compose(game._replace(evaluate=evaluate), rule)

    return {"InfoGAN": of(config.weight), "code not trained for": of(0.0)}


def finish(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Any]:
    def accuracy(table: np.ndarray) -> float:
        pairs = linear_sum_assignment(table, maximize=True)
        return float(table[pairs].sum() / table.sum())

    def of_seeds(state: gacf.State) -> np.ndarray:
        tables = jax.vmap(lambda params: counts(config, params))(state.params)
        return np.array([accuracy(table) for table in np.asarray(tables)])

    return {cell: {"accuracy": of_seeds(state)} for cell, state in finals.items()}


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """Four samples of each code from the first seed, one column per code."""
    codes = jnp.tile(jnp.eye(CODES), (4, 1))

    def draw(key: jax.Array, n: int) -> jax.Array:
        return jnp.concatenate([jax.random.normal(key, (n, config.noise)), codes], axis=-1)

    grids = {}
    for cell, state in finals.items():
        params = jax.tree.map(lambda x: x[0], state.params)
        drawn = generate(generator(config), params, {}, jax.random.key(0), len(codes), draw)
        grids[cell] = drawn.reshape(4, CODES, 8, 8, 1)
    return {"samples": image_grids(grids)}
