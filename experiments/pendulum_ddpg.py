"""DDPG on Pendulum-v1, 16 seeds at once.

    gacf run experiments/pendulum_ddpg.py

It uses a replay buffer, slow copies and Gaussian exploration, and bootstraps the value of truncated
episodes. Each seed is evaluated on 100 episodes without noise, from start states that all seeds
share.
Expected: return −146, interval ±1.4. Cost: minutes on 2 cores.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import gacf
from gacf.networks import MLP, model

KEY_METRIC = "evaluate/return"
GOAL = "max"


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 16,
            "seed": 0,
            "steps": 10_000,
            "log_every": 100,
            "evaluate_every": 1_000,
            "checkpoint_every": 1_000,
            "map": "auto",
            "env": "Pendulum-v1",
            "discount": 0.99,
            "exploration": 0.1,
            "batch_size": 128,
            "capacity": 20_000,
            "warmup": 1_000,
            "target_rate": 0.01,
            "episodes": 100,
            "actor": {"hidden": (64, 64), "learning_rate": 1e-3},
            "critic": {"hidden": (64, 64), "learning_rate": 1e-3},
        }
    )


def build(config: ConfigDict) -> gacf.Algorithm:
    env = gacf.envs.make(config.env)
    game = gacf.ddpg(
        env,
        actor=MLP(config.actor.hidden, env.action.shape),
        critic=MLP(config.critic.hidden),
        discount=config.discount,
        exploration=config.exploration,
        target_rate=config.target_rate,
        rollout=gacf.Rollout(episodes=config.episodes),
        replay=gacf.Replay(config.capacity, config.batch_size, config.warmup),
    )
    optimizers = {player: optax.adam(config[player].learning_rate) for player in game.losses}
    return gacf.compose(game, gacf.rules.alternating(optimizers))


def pictures(config: ConfigDict, finals: dict[str, gacf.State]) -> dict[str, Figure]:
    """The torque that each seed's policy applies, over angle and speed."""
    if config.env != "Pendulum-v1":
        return {}
    (state,) = finals.values()
    actor = model("actor", MLP(config.actor.hidden, (1,)))
    angle, speed = np.meshgrid(np.linspace(-np.pi, np.pi, 61), np.linspace(-8, 8, 61))
    observations = np.stack([np.cos(angle), np.sin(angle), speed], axis=-1).reshape(-1, 3)
    columns = min(8, config.seeds)
    rows = -(-config.seeds // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.6 * columns, 1.7 * rows), squeeze=False, layout="constrained",
        sharex=True, sharey=True,
    )  # fmt: skip
    for ax in axes.flat[config.seeds :]:
        ax.axis("off")
    for seed, ax in zip(range(config.seeds), axes.flat, strict=False):
        params = gacf.take_seed(state, seed).params["actor"]
        torque = 2 * jax.numpy.tanh(actor.apply(params, {}, observations)[0])
        image = ax.pcolormesh(
            angle, speed, np.asarray(torque).reshape(angle.shape), cmap="coolwarm", vmin=-2, vmax=2
        )
        ax.set_title(f"seed {seed}", fontsize=8)
    figure.supxlabel("angle from upright [rad]")
    figure.supylabel("angular speed [rad/s]")
    figure.colorbar(image, ax=axes, label="torque [N m]", shrink=0.8)
    return {"policies": figure}
