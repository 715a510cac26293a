"""A toy experiment: actor and critic chase a noisy target. One seed may turn NaN on purpose."""

import os

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict, config_dict

import gacf

KEY_METRIC = "evaluate/distance"
GOAL = "min"


def get_config():
    return ConfigDict(
        {
            "seeds": 5,
            "steps": 40,
            "log_every": 2,
            "evaluate_every": 4,
            "checkpoint_every": 8,
            "actor": {"learning_rate": 0.1, "hidden": (3, 4)},
            "bad": -1,
            "rate": config_dict.placeholder(float),
            "flag": False,
            "label": "x",
            "nothing": None,
        }
    )


def build(config):
    # The key from which `compose` starts the game of the seed that is to turn bad.
    bad = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), max(config.bad, 0)))[1]

    def init(key):
        same = jnp.all(jax.random.key_data(key) == jax.random.key_data(bad))
        mark = jnp.where(same & (config.bad >= 0), 1.0, 0.0)
        start = 2.0 + jax.random.uniform(key, config.actor.hidden)
        return {"actor": {"w": start, "mark": mark}, "critic": jnp.zeros(config.actor.hidden)}

    def actor(params, batch, key):
        own = params["actor"]
        # Turns NaN once the weights have come below 1.
        trap = jnp.sqrt(jnp.where(own["mark"] > 0, own["w"] - 1.0, 1.0))
        return 0.25 * jnp.sum((own["w"] - batch) ** 2) + 1e-6 * jnp.mean(trap)

    def critic(params, batch, key):
        return jnp.mean((params["critic"] - params["actor"]["w"]) ** 2)

    game = gacf.from_losses(
        init,
        {"actor": actor, "critic": critic},
        sample=lambda key: 0.1 * jax.random.normal(key, config.actor.hidden),
    )
    game = game._replace(
        evaluate=lambda params, world, key: {
            "distance": jnp.mean(jnp.abs(params["actor"]["w"])),
            "vector": jnp.zeros(3),
        }
    )
    sgd = optax.sgd(config.actor.learning_rate, momentum=0.5)
    return gacf.compose(game, gacf.rules.alternating({"actor": sgd, "critic": sgd}))


def pictures(config, finals):
    if os.environ.get("TOY_KILL") == "pictures":
        os.kill(os.getpid(), 9)
    return {}


# Kills the process for real, in the middle of a write.
if os.environ.get("TOY_KILL", "").startswith("write "):
    from gacf.lab import checkpoint

    _, part, when = os.environ["TOY_KILL"].split()
    original, calls = getattr(checkpoint, part), []

    def deadly(path, *args, **kwargs):
        calls.append(path)
        if when in f"#{len(calls)} {path}":
            if part == "write_atomically":
                path.with_name(checkpoint._WRITING + path.name).write_bytes(args[0][:50])
            os.kill(os.getpid(), 9)
        return original(path, *args, **kwargs)

    setattr(checkpoint, part, deadly)
