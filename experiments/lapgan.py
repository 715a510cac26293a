"""LAPGAN on scikit-learn's digits, 2 × 2, 4 × 4 and 8 × 8, next to one GAN on whole images.

    gacf run experiments/lapgan.py

`coverage/…` and `kid` compare chained samples with the held-out half, at 2 × 2 and 4 × 4 in pixels,
and at 8 × 8 in the features of the small classifier. The cell `GAN` has one level and as many
steps; its samples are pooled for the coarser sizes. The cell `real images` is the training half,
scored like a generator. Expected results and cost: docs/information_flow.md.
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
from gacf.methods.flows import down, draw_pyramid, lapgan
from gacf.methods.gan import r1
from gacf.networks import MLP

SIZES = (2, 4, 8)
LEVELS = {size: f"{size}x{size}" for size in SIZES}
KEY_METRIC = "evaluate/kid"
GOAL = "min"
METRICS = [KEY_METRIC, *(f"evaluate/coverage/{level}" for level in LEVELS.values())]
SAMPLES = 898


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 2_000,
            "evaluate_every": 1_000,
            "batch_size": 64,
            "noise": 16,
            "hidden": (128, 128),
            "r1": 0.3,
            "learning_rate": 3e-3,
            "decay": 0.01,
        }
    )


def generators(config: ConfigDict, cell: str) -> dict[str, Any]:
    """The generators of a cell, coarsest first; the coarsest image has pixels in [−1, 1]."""
    sizes = SIZES if cell == "LAPGAN" else SIZES[-1:]
    return {
        LEVELS[size]: MLP(config.hidden, (size, size, 1), last=None if i else jnp.tanh)
        for i, size in enumerate(sizes)
    }


def of_sizes(images: jax.Array) -> dict[str, jax.Array]:
    small = down(images)
    return dict(zip(LEVELS.values(), (down(small), small, images), strict=True))


def measure(samples: dict[str, jax.Array]) -> dict[str, jax.Array]:
    features = metrics.digits_classifier().features
    real = of_sizes(gacf.data.digits("test")[0])
    flat = lambda level, x: features(x) if level == LEVELS[8] else x.reshape(len(x), -1)  # noqa: E731
    pairs = {level: (flat(level, real[level]), flat(level, samples[level])) for level in real}
    coverage = {
        f"coverage/{level}": metrics.prdc(*pair)["coverage"] for level, pair in pairs.items()
    }
    return {"kid": metrics.kid(*pairs[LEVELS[8]]), **coverage}


def real_images() -> gacf.Algorithm:
    def init(key: jax.Array) -> gacf.State:
        return gacf.State({}, {}, {}, key, jnp.zeros((), jnp.int32))

    def evaluate(state: gacf.State) -> dict[str, jax.Array]:
        del state
        return measure(of_sizes(gacf.data.digits("train")[0][:SAMPLES]))

    return gacf.Algorithm(init, lambda state: (state._replace(step=state.step + 1), {}), evaluate)


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps, config.decay)

    def of(cell: str) -> gacf.Algorithm:
        networks = generators(config, cell)

        def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
            samples = draw_pyramid(networks, params, world, key, SAMPLES, config.noise)
            return measure(samples if cell == "LAPGAN" else of_sizes(samples[LEVELS[8]]))

        game = lapgan(
            networks, {level: MLP(config.hidden) for level in networks},
            gacf.data.digits("train")[0], config.noise, batch_size=config.batch_size,
            penalty=r1(config.r1), evaluate=evaluate,
        )  # fmt: skip
        adam = lambda: optax.adam(rate, b1=0.5)  # noqa: E731
        turns = [
            gacf.rules.simultaneous({p: adam() for p in game.losses if p.endswith(name)})
            for name in ("/critic", "/actor")
        ]
        return gacf.compose(game, gacf.rules.sequence(*turns))

    return {"LAPGAN": of("LAPGAN"), "GAN": of("GAN"), "real images": real_images()}


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """Chained samples of the first seed, the coarsest at the top."""
    params = jax.tree.map(lambda x: x[0], finals["LAPGAN"].params)
    networks = generators(config, "LAPGAN")
    levels = draw_pyramid(networks, params, {}, jax.random.key(0), 16, config.noise)
    return {"samples": image_rows(levels)}
