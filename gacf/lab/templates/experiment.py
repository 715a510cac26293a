"""NAME: a generator learns to draw points from a noisy circle, as a start for an own experiment.

    gacf run FILE
    gacf run FILE --config.seeds=4 --config.actor.learning_rate=3e-3
    gacf sweep FILE --sweep.actor.learning_rate=1e-3,3e-3 --sweep.r1=0.0,0.1
    gacf resume DIR --config.steps=4000

Everything below is yours to change. Keep `get_config` and `build`; the rest is optional.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import gacf
from gacf.methods.gan import r1
from gacf.networks import MLP

# The metric in the progress bar, and whether more ("max") or less ("min") of it is better.
KEY_METRIC = "evaluate/distance"
GOAL = "min"


def get_config() -> ConfigDict:
    """Every key, with its default. The command line overrides them by --config.KEY=VALUE."""
    return ConfigDict(
        {
            "seeds": 8,  # trained at once, in one program
            "steps": 2_000,
            "batch_size": 128,
            "noise": 2,
            "r1": 0.01,
            "actor": {"hidden": (32, 32), "learning_rate": 2e-3},
            "critic": {"hidden": (32, 32), "learning_rate": 2e-3},
        }
    )


def circle(key: jax.Array, n: int) -> jax.Array:
    """The data: n points [n, 2] at distance 1 from the origin, give or take 0.05."""
    angle_key, radius_key = jax.random.split(key)
    angle = jax.random.uniform(angle_key, (n,), maxval=2 * jnp.pi)
    radius = 1 + 0.05 * jax.random.normal(radius_key, (n,))
    return radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def evaluate(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """The metrics, of samples made in evaluation mode; `gacf list metrics` has more."""
    real = circle(key, samples.shape[0])
    return {"distance": gacf.metrics.sliced_wasserstein(real, samples, key)}


def build(config: ConfigDict) -> gacf.Algorithm:
    """The game, the rule by which its players move, and their optimisers.

    Numbers of the config may be traced: write no Python `if` on a float, and a whole sweep runs in
    one program.
    """
    game = gacf.gan(
        MLP(config.actor.hidden, (2,)),
        MLP(config.critic.hidden),
        circle,
        batch_size=config.batch_size,
        noise=config.noise,
        penalty=r1(config.r1),
        evaluate=evaluate,
        samples=1_000,
    )
    optimizers = {player: optax.adam(config[player].learning_rate) for player in game.losses}
    return gacf.compose(game, gacf.rules.alternating(optimizers))


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """Pictures to keep beside the results: here 500 samples of the first seed."""
    ((cell, states),) = finals.items()
    state = gacf.take_seed(states, 0)
    samples = np.asarray(gacf.propose(build(config), state, 500, jax.random.key(0)))
    figure = Figure(figsize=(3, 3), layout="constrained")
    ax = figure.subplots()
    ax.scatter(*samples.T, s=3)
    ax.set(title=f"{cell}, seed 0", aspect="equal", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
    return {"samples": figure}
