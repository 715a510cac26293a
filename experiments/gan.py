"""Any GAN on any data that need no download: losses, penalties, networks, stabilisers.

    gacf run experiments/gan.py --config.loss=hinge --config.penalty=r1 --config.data=grid
    gacf run experiments/gan.py --config.data=stacked_digits --config.pack=2 --config.network=dcgan
    gacf sweep experiments/gan.py --workdir runs/gan
    python experiments/gan.py runs/gan     # the tables in docs/results.md

`data`: ring, grid, swiss_roll, digits, stacked_digits. `loss` and `penalty`: the names in
`gacf.methods.gan.LOSSES` and `gacf.methods.gan.PENALTIES`, or "none" for no penalty. `network`:
mlp, dcgan, resnet (the last two for digits). `kernels`: those of minibatch discrimination (mlp); 0
is without it. `rule`: alternating, simultaneous, or one with an actor that looks ahead: unrolled,
implicit, lola. `critic_rate`: None is the actor's rate.

The critic of a dcgan uses batch normalisation as published, or layer normalisation if there is a
penalty, which batch statistics would make meaningless. All other keys left at None follow the data
and the loss: the penalty is R1, except for a Wasserstein critic, which R1 would leave unbounded;
its slope is held at 1, and it makes five steps for each of the actor's. Mixtures are in units of
their own deviation. Critics in the plane see `octaves` of sines in addition to the point itself,
because modes are a hundredth as wide as the picture, which a plain network is slow to resolve.

Each kind of data has metrics of its own, the first of which is `score`: modes and high quality
(ring, grid), the negative sliced Wasserstein distance (swiss_roll; negative, because higher scores
are better), distances in the features of a small classifier (digits), modes of 1,000 and KL by that
classifier (stacked_digits). Cost: half a minute per seed in the plane, more for convolutions; the
sweep takes three quarters of an hour on one core. Expected results: docs/results.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

import gacf
from gacf import metrics, rules, stabilizers
from gacf.core import lookup
from gacf.lab.report import finished_runs, image_rows, interval_text, read_summary, sample_tiles
from gacf.methods.gan import LOSSES, PENALTIES, generate
from gacf.networks import MLP, Model, images, model

KEY_METRIC = "evaluate/score"
GOAL = "max"
PAIR = ("actor", "critic")


class Task(NamedTuple):
    """One kind of data.

    Attributes:
        shape: of an example.
        data: `() -> ` what `gacf.gan` takes.
        samples: how many the metrics see.
        measure: `(samples [n, *shape], key) -> metrics`; the first is the score, or minus the
            score if it is a distance.
        defaults: of the config's keys that were left at None.
    """

    shape: tuple[int, ...]
    data: Callable[[], Any]
    samples: int
    measure: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
    defaults: dict[str, Any]


def ring() -> gacf.data.Mixture:
    return gacf.data.ring().standardised()


def grid() -> gacf.data.Mixture:
    return gacf.data.grid().standardised()


class Waves(linen.Module):
    """A network over points [B, D] and their sines and cosines at 1, 2, 4, … radians a unit."""

    network: linen.Module
    octaves: int

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        angles = x[..., None] * jnp.exp2(jnp.arange(self.octaves))[None, None]
        angles = angles.reshape(x.shape[0], -1)
        return self.network(jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], axis=-1))


def of_mixture(make: Callable[[], gacf.data.Mixture]) -> Callable[..., dict[str, jax.Array]]:
    def measure(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        mixture = make()
        return metrics.modes(samples, mixture.means, mixture.scale)

    return measure


def of_roll(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    real_key, key = jax.random.split(key)
    real = gacf.data.swiss_roll().sample(real_key, samples.shape[0])
    return {"sliced_wasserstein": metrics.sliced_wasserstein(real, samples, key)}


def of_digits(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    features = metrics.digits_classifier().features
    real, fake = features(gacf.data.digits("test")[0]), features(samples)
    measured = metrics.prdc(real, fake)
    return {"coverage": measured.pop("coverage"), **measured, "kid": metrics.kid(real, fake)}


def of_stacked(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    return metrics.stacked_modes(samples, metrics.digits_classifier().logits)


# Noise blurs modes into one another over the first half: without it some modes are never found.
PLANE = {
    "steps": 6_000, "batch_size": 256, "noise": 2, "network": "mlp", "hidden": (64, 64, 64),
    "octaves": 2, "learning_rate": 4e-3, "weight": 0.01, "ema": 0.998, "instance_noise": 0.5,
}  # fmt: skip
# More modes need a steeper generator, because few samples may fall between them.
GRID = {"steps": 10_000, "actor_hidden": (128, 128, 128)}
IMAGES = {
    "steps": 10_000, "batch_size": 64, "noise": 32, "network": "mlp", "hidden": (128, 128),
    "octaves": 0, "learning_rate": 3e-3, "weight": 0.3, "ema": 0.0, "instance_noise": 0.0,
}  # fmt: skip

TASKS = {
    "ring": Task((2,), ring, 2_500, of_mixture(ring), PLANE),
    "grid": Task((2,), grid, 2_500, of_mixture(grid), {**PLANE, **GRID}),
    "swiss_roll": Task((2,), gacf.data.swiss_roll, 2_500, of_roll, PLANE),
    "digits": Task((8, 8, 1), lambda: gacf.data.digits("train")[0], 898, of_digits, IMAGES),
    "stacked_digits": Task((8, 8, 3), gacf.data.stacked_digits, 26_000, of_stacked, IMAGES),
}


# What a loss needs that differs from its data's defaults, in the plane and for images.
# A Wasserstein critic of limited slope needs no noise, and averages of its actor are blurred:
# on the ring, `--config.seed=1` at 1,500 steps, 1 % of samples are sharp with them, 88 % without.
LIPSCHITZ = {"penalty": "wgan_gp", "critic_steps": 5, "ema": 0.0, "instance_noise": 0.0}
OF_LOSS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "wasserstein": ({**LIPSCHITZ, "weight": 0.1}, {**LIPSCHITZ, "weight": 10.0}),
    # Their generators' losses grow faster than linearly with the verdicts. On digits with the
    # weight of the other losses, 0.3, `--config.seed=1` at 2,000 steps covers 0 and .25; with 10
    # it covers .64 and .58.
    "kl": ({}, {"weight": 10.0}),
    "pearson": ({}, {"weight": 10.0}),
}


# The actor differentiates through the critic's response; the critic follows its own gradient.
AHEAD: dict[str, Callable[[ConfigDict], rules.Direction]] = {
    "unrolled": lambda config: rules.unrolled(*PAIR, config.lookahead_steps),
    "implicit": lambda config: rules.implicit(
        *PAIR, "gmres", config.lookahead_steps, config.damping
    ),
    "lola": lambda config: rules.lola(config.lookahead_rate),
}


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 16,
            "seed": 0,
            "steps": placeholder(int),
            "map": "auto",
            "data": "ring",
            "loss": "non_saturating",
            "penalty": placeholder(str),
            "weight": placeholder(float),
            "network": placeholder(str),
            "hidden": placeholder(tuple),
            "actor_hidden": placeholder(tuple),
            "octaves": placeholder(int),
            "width": 32,
            "spectral_norm": False,
            "batch_size": placeholder(int),
            "noise": placeholder(int),
            "pack": 1,
            "kernels": 0,
            "instance_noise": placeholder(float),
            "smoothing": 0.0,
            "clip": 0.0,
            "ema": placeholder(float),
            "learning_rate": placeholder(float),
            "critic_rate": placeholder(float),
            "decay": 0.01,
            "b1": 0.5,
            "critic_steps": placeholder(int),
            "rule": "alternating",
            "lookahead_steps": 5,
            "lookahead_rate": 0.1,
            "damping": 1.0,
        }
    )


# One size for all rows but `best`, so that they differ only in what their names say.
PLAIN = {
    "penalty": "none", "ema": 0.0, "instance_noise": 0.0, "steps": 2_000, "batch_size": 128,
    "hidden": (64, 64), "actor_hidden": (64, 64), "critic_steps": 1,
}  # fmt: skip
# A critic that is as fast as the actor leaves the minimax loss almost no gradient.
SLOW = {"critic_rate": 4e-4}
ROWS: dict[str, dict[str, Any]] = {
    "gan": {**PLAIN, "loss": "minimax", **SLOW},
    "non_saturating": {**PLAIN, "loss": "non_saturating"},
    "least_squares": {**PLAIN, "loss": "least_squares"},
    "wgan_gp": {
        **PLAIN, "loss": "wasserstein", "penalty": "wgan_gp", "weight": 0.1, "critic_steps": 5,
    },
    "hinge": {**PLAIN, "loss": "hinge"},
    "r1": {**PLAIN, "loss": "non_saturating", "penalty": "r1"},
    "unrolled": {**PLAIN, "loss": "minimax", **SLOW, "rule": "unrolled"},
    "minibatch_discrimination": {**PLAIN, "loss": "non_saturating", "kernels": 4},
    "pack2": {**PLAIN, "loss": "non_saturating", "pack": 2},
    "best": {},
}  # fmt: skip
DIGITS = {"data": "digits", "steps": 1_000, "penalty": "r1", "weight": 0.3, "critic_steps": 1}
STACKED = {"data": "stacked_digits", "steps": 1_000, "seeds": 8}


def get_sweep(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """The rows of docs/results.md: methods in the plane, losses on digits with R1."""
    losses = ("minimax", "non_saturating", "least_squares", "wasserstein", "hinge", "pearson")
    rows = {
        f"{data}-{name}": {"data": data, **changes}
        for data in ("ring", "grid")
        for name, changes in ROWS.items()
    }
    rows |= {f"digits-{loss}": {**DIGITS, "loss": loss} for loss in (*losses, "relativistic")}
    rows |= {
        "stacked_digits-non_saturating": {**STACKED, "penalty": "none"},
        "stacked_digits-r1": STACKED,
        "stacked_digits-minibatch_discrimination": {**STACKED, "penalty": "none", "kernels": 4},
        "stacked_digits-pack2": {**STACKED, "penalty": "none", "pack": 2},
    }
    return rows


def complete(config: Any) -> None:
    """Fills in keys that are left open: first what the loss needs, then what the data need."""
    task = lookup("data", config.data, TASKS)
    of_loss = dict(OF_LOSS.get(config.loss, ({}, {}))[len(task.shape) == 3])
    if config.penalty not in (None, of_loss.get("penalty", "r1")):
        of_loss.pop("weight", None)  # it belongs to another penalty
    usual = {"penalty": "r1", "critic_steps": 1}
    if config.kernels and config.penalty is None:
        # A critic that compares the examples of a batch has no slope per example.
        if "penalty" in of_loss:
            raise ValueError(
                f"kernels: {config.kernels} was given, and the critic of loss={config.loss!r} is "
                "limited by its slope at each example, which minibatch discrimination makes "
                "meaningless; allowed: 0, or another loss"
            )
        usual["penalty"] = "none"
    for key, value in {**usual, **task.defaults, **of_loss}.items():
        if config[key] is None:
            config[key] = value


def generator(config: ConfigDict) -> Model:
    shape = TASKS[config.data].shape
    if config.network == "mlp":
        last = jnp.tanh if len(shape) == 3 else None
        return model("actor", MLP(config.actor_hidden or config.hidden, shape, last=last))
    kind = lookup("network", config.network, {"mlp": MLP, **images.GENERATORS})
    if len(shape) != 3:
        raise ValueError(f"network: {config.network!r} was given; allowed in the plane: mlp")
    return model("actor", kind(shape, config.width))


def crowd(hidden: tuple[int, ...], kernels: int) -> linen.Module:
    """An MLP with minibatch discrimination before its last layer."""
    features = MLP(hidden[:-1], hidden[-1:], last=linen.relu)
    near = stabilizers.MinibatchDiscrimination(kernels)
    return linen.Sequential([features, near, linen.Dense(1)])


def critic(config: ConfigDict) -> Model:
    if config.kernels and (config.network != "mlp" or config.loss == "energy_based"):
        raise ValueError(
            f"kernels: {config.kernels} was given with network={config.network!r} and "
            f"loss={config.loss!r}; allowed there: 0"
        )
    if config.loss == "energy_based":
        network = images.Autoencoder(config.hidden)
    elif config.network == "mlp":
        network = crowd(config.hidden, config.kernels) if config.kernels else MLP(config.hidden)
        network = Waves(network, config.octaves) if config.octaves else network
    else:
        # A penalty needs verdicts that depend on one example alone, unlike batch normalisation.
        layer = config.network == "dcgan" and config.penalty != "none"
        settings = {"norm": "layer"} if layer else {}
        network = images.CRITICS[config.network](config.width, **settings)
    return stabilizers.spectral_norm(network) if config.spectral_norm else model("critic", network)


def build(config: ConfigDict) -> gacf.Algorithm:
    task = lookup("data", config.data, TASKS)
    lookup("loss", config.loss, LOSSES)
    named = lookup("penalty", config.penalty, {"none": None, **PENALTIES})

    def measure(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        measured = task.measure(samples, key)
        name, first = next(iter(measured.items()))
        return {"score": -first if name == "sliced_wasserstein" else first, **measured}

    def blur(step: jax.Array) -> Any:
        """Falls linearly to 0 over the first half of training."""
        return config.instance_noise * jnp.maximum(0.0, 1 - 2 * step / config.steps)

    game = gacf.gan(
        generator(config),
        critic(config),
        task.data(),
        loss=config.loss,
        batch_size=config.batch_size,
        noise=config.noise,
        penalty=None if named is None else named(config.weight),
        pack=config.pack,
        instance_noise=blur if config.instance_noise else None,
        transform_target=stabilizers.smooth(config.smoothing, one_sided=True),
        real_term=config.rule in AHEAD,
        evaluate=measure,
        samples=task.samples,
    )
    if config.ema:
        game = stabilizers.ema(game, config.ema)
    same = config.critic_rate is None
    rates = config.learning_rate, config.learning_rate if same else config.critic_rate
    steps = steps_of(config)
    # Rules that differentiate through Adam need a derivative of its root at 0.
    optimizers = {
        player: optax.adam(
            # A schedule counts the player's own moves.
            optax.cosine_decay_schedule(rate, config.steps * steps[player], config.decay),
            b1=config.b1,
            eps_root=1e-10,
        )
        for player, rate in zip(PAIR, rates, strict=True)
    }
    if config.clip:
        clip = stabilizers.weight_clip(config.clip)
        optimizers["critic"] = optax.chain(optimizers["critic"], clip)
    return gacf.compose(game, rule_of(config, optimizers))


def steps_of(config: Any) -> dict[str, int]:
    """How often each player moves in a step of the rule."""
    return {"actor": 1, "critic": 1 if config.rule == "simultaneous" else config.critic_steps}


def rule_of(config: ConfigDict, optimizers: dict[str, Any]) -> gacf.Rule:
    schedules = {"alternating": None, "simultaneous": None, **AHEAD}
    ahead = lookup("rule", config.rule, schedules)
    if config.rule == "simultaneous":
        return rules.simultaneous(optimizers)
    direction = None if ahead is None else {"actor": ahead(config)}
    return rules.alternating(optimizers, steps=steps_of(config), direction=direction)


def samples(config: ConfigDict, state: gacf.State, n: int) -> jax.Array:
    """n examples of each seed [S, n, …], from the same noise."""

    def of_seed(params: Any, world: Any) -> jax.Array:
        params = stabilizers.averaged(params, world) if config.ema else params
        return generate(generator(config), params, world, jax.random.key(0), n, config.noise)

    return jax.vmap(of_seed)(state.params, state.world)


def finish(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, dict[str, Any]]:
    """FID, which needs eigenvalues, and the accuracy on which numbers of digits depend."""
    if not config.data.endswith("digits"):
        return {}
    ((cell, state),) = finals.items()
    classifier = metrics.digits_classifier()
    measured = {"classifier_accuracy": np.full(len(state.key), classifier.accuracy)}
    if config.data == "digits":
        real = classifier.features(gacf.data.digits("test")[0])
        images_of_seeds = samples(config, state, TASKS["digits"].samples)
        measured["fid"] = np.array(
            [metrics.fid(real, classifier.features(x)) for x in images_of_seeds]
        )
    return {cell: measured}


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """Samples of each seed's generator."""
    (state,) = finals.values()
    task = TASKS[config.data]
    if len(task.shape) == 3:
        rows = enumerate(samples(config, state, 16))
        figure = image_rows({f"seed {seed}": row for seed, row in rows})
    else:
        points = samples(config, state, 500)
        figure = sample_tiles(points, marks=getattr(task.data(), "means", None))
    return {"samples": figure}


# The metrics that a table shows for each kind of data, with their units.
PRDC = ("precision", "recall", "density", "coverage")
PLANE_SHOWN = (
    ("evaluate/modes", "modes", 1),
    ("evaluate/high_quality", "high quality [%]", 100),
    ("evaluate/reverse_kl", "reverse KL", 1),
)
SHOWN: dict[str, tuple[tuple[str, str, int], ...]] = {
    "ring": PLANE_SHOWN,
    "grid": PLANE_SHOWN,
    "digits": (
        ("final/fid", "FID", 1),
        ("evaluate/kid", "KID", 1),
        *((f"evaluate/{name}", name, 1) for name in PRDC),
    ),
    "stacked_digits": (("evaluate/modes", "modes", 1), ("evaluate/kl", "KL", 1)),
}
MODES = {"ring": 8, "grid": 25, "stacked_digits": 1_000}
# Modes and high quality [%] of other networks and settings, of 10 runs or fewer.
PUBLISHED = {
    "ring": {
        "gan": "1, 99.3 (VEEGAN paper); 6.3 ± .5, 98.2 (PacGAN paper)",
        "unrolled": "7.6, 35.6 (VEEGAN paper)",
        "pack2": "7.9 ± .1, 95.6 (PacGAN paper)",
    },
    "grid": {
        "gan": "3.3, .5 (VEEGAN paper); 17.3 ± .8, 94.8 (PacGAN paper)",
        "unrolled": "23.6, 16 (VEEGAN paper)",
        "pack2": "23.8 ± .7, 91.3 (PacGAN paper)",
    },
}


def row(data: str, name: str, config: dict[str, Any], cell: dict[str, Any]) -> list[str]:
    """The row of a run in a table."""
    line = [name, f"{config['steps']:,}"]
    for metric, _, unit in SHOWN[data]:
        value = cell["metrics"].get(metric, {})
        ends = {end: value.get(end) for end in ("iqm", "low", "high")}
        ends = {end: None if x is None else unit * x for end, x in ends.items()}
        line.append(interval_text(ends))
    if data in MODES:
        finals = cell["metrics"]["evaluate/modes"]["finals"]
        line.append(f"{sum(n == MODES[data] for n in finals)}/{cell['seeds']}")
    line.append(f"{len(cell['diverged'])}/{cell['seeds']}")
    line.append(f"{cell['train_seconds'] / cell['seeds']:.1f}")
    return [*line, PUBLISHED[data].get(name, "")] if data in PUBLISHED else line


def table(directory: str | Path) -> str:
    """The runs of a sweep's directory as Markdown, one table per kind of data."""
    parts: dict[str, list[str]] = {}
    runs, missing = finished_runs(directory)
    for variant, place in runs:
        config = json.loads((place / "config.json").read_text())["config"]
        (cell,) = read_summary(place)["cells"].values()
        data = config["data"]
        if data not in parts:
            heads = ["method", "steps", *(head for _, head, _ in SHOWN[data])]
            heads += ["all modes"] * (data in MODES) + ["diverged", "s a seed"]
            heads += ["published: modes, high quality"] * (data in PUBLISHED)
            title = f"### {data}" + (f", {MODES[data]:,} modes" if data in MODES else "")
            if "final/classifier_accuracy" in cell["metrics"]:
                accuracy = 100 * cell["metrics"]["final/classifier_accuracy"]["iqm"]
                title += f", by a classifier with an accuracy of {accuracy:.1f} %"
            parts[data] = [title, "", _line(heads), _line(["---"] * len(heads))]
        name = variant.removeprefix(f"{data}-")
        parts[data].append(_line(row(data, name, config, cell)))
    notes = [f"Without results yet: {', '.join(missing)}."] if missing else []
    return "\n\n".join(["\n".join(lines) for lines in parts.values()] + notes)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table(sys.argv[1]))
