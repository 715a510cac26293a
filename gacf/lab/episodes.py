"""What `gacf play` plays: episodes of a trained policy, and a film of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import animation
from matplotlib.figure import Figure

from gacf.core.types import Algorithm, Key, State
from gacf.envs import Box, Environment
from gacf.lab.errors import BadInput

FRAMES = 300  # of a film; of longer episodes every k-th step is shown


class Episodes(NamedTuple):
    """Some episodes, played side by side.

    Attributes:
        returns: [N]; NaN where an episode had not ended at the environment's horizon.
        lengths: steps of each, [N].
        observations: of the first one, leaves [T, …].
        actions: of the first one, [T, …].
        rewards: of the first one, [T].
        frames: pictures of the first one [T, H, W, 3], if the environment draws some.
    """

    returns: np.ndarray
    lengths: np.ndarray
    observations: Any
    actions: np.ndarray
    rewards: np.ndarray
    frames: np.ndarray | None


def environment_of(algorithm: Algorithm) -> Environment:
    """The environment in which the algorithm's actor acts.

    Raises:
        BadInput: its actor is not a policy.
    """
    env = getattr(algorithm.propose, "env", None)
    if env is None:
        raise BadInput(
            "DIR: the actor of this run acts in no environment; allowed: runs of actor-critic "
            "methods (for a generator see gacf sample)"
        )
    return env


def play(algorithm: Algorithm, state: State, key: Key, episodes: int) -> Episodes:
    """Plays episodes without exploration, side by side, until all have ended.

    Args:
        algorithm: whose actor plays.
        state: of one seed.
        key: of the start states and of what the environment draws.
        episodes: N.
    """
    env = environment_of(algorithm)
    reset_key, step_key, act_key = jax.random.split(key, 3)

    @jax.jit
    def once(t: jax.Array, states: Any, observations: Any) -> Any:
        act = jax.random.fold_in(act_key, t)
        actions = algorithm.propose(state, observations, act)
        keys = jax.random.split(jax.random.fold_in(step_key, t), episodes)
        states, timestep = jax.vmap(env.step)(keys, states, actions)
        return states, timestep, actions

    states, observations = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))
    returns, lengths = np.zeros(episodes), np.zeros(episodes, int)
    alive = np.ones(episodes, bool)
    seen, done, rewards, frames = [], [], [], []
    for t in range(int(env.horizon)):
        if alive[0]:
            seen.append(jax.tree.map(lambda x: np.asarray(x[0]), observations))
            if env.render is not None:
                frames.append(np.asarray(env.render(jax.tree.map(lambda x: x[0], states))))
        states, timestep, actions = once(jnp.asarray(t), states, observations)
        if alive[0]:
            done.append(np.asarray(actions[0]))
            rewards.append(float(timestep.reward[0]))
        observations = timestep.observation
        returns += np.where(alive, np.asarray(timestep.reward, float), 0)
        lengths += alive
        alive &= ~np.asarray(timestep.terminated | timestep.truncated)
        if not alive.any():
            break
    if env.release is not None:
        jax.block_until_ready(jax.vmap(env.release)(states))
    returns[alive] = np.nan
    whole = jax.tree.map(lambda *x: np.stack(x), *seen)
    pictures = np.stack(frames) if frames else None
    return Episodes(returns, lengths, whole, np.stack(done), np.array(rewards), pictures)


def check_writer(kind: str) -> None:
    """Raises a `BadInput` unless films of this kind, gif or mp4, can be written here."""
    if kind == "mp4" and not animation.FFMpegWriter.isAvailable():
        raise BadInput("--video: mp4 needs ffmpeg, which is not installed; allowed without it: gif")


def film(episodes: Episodes, env: Environment, path: Path) -> None:
    """Films the first episode, by the pictures that the environment draws, or of its observations.

    Observations that are pictures are shown as such, and all other numbers as curves over the steps
    so far, with the actions and the rewards below them.

    Args:
        episodes: of `play`.
        env: the environment.
        path: a file that ends in .gif or .mp4.
    """
    gif = path.suffix == ".gif"
    writer: Any = animation.PillowWriter(fps=30) if gif else animation.FFMpegWriter(fps=30)
    length = len(episodes.rewards)
    steps = np.unique(np.linspace(0, length - 1, min(length, FRAMES)).astype(int))
    figure, show = _screen(episodes, env)
    with writer.saving(figure, str(path), dpi=100):
        for t in steps:
            show(int(t))
            writer.grab_frame()


def _screen(episodes: Episodes, env: Environment) -> tuple[Figure, Callable[[int], None]]:
    """A figure, and what shows step t on it."""
    space = env.observation
    if episodes.frames is not None:
        return _pictures(episodes.frames, env.name)
    if isinstance(space, Box) and len(space.shape) == 3:
        x = np.asarray(episodes.observations, float)
        if x.shape[-1] not in (1, 3):  # channels of objects, as in MinAtar
            x = np.max(x * np.arange(1, x.shape[-1] + 1), axis=-1, keepdims=True)
        return _pictures(x / max(float(x.max()), 1e-12), env.name)
    return _curves(episodes, env.name)


def _pictures(frames: np.ndarray, title: str) -> tuple[Figure, Callable[[int], None]]:
    figure = Figure(figsize=(4, 4), layout="constrained")
    ax = figure.subplots()
    ax.set(xticks=[], yticks=[])
    picture = ax.imshow(frames[0], cmap="viridis", vmin=0, vmax=1)

    def show(t: int) -> None:
        picture.set_data(frames[t])
        ax.set_title(f"{title}, step {t}", fontsize=9)

    return figure, show


def _curves(episodes: Episodes, title: str) -> tuple[Figure, Callable[[int], None]]:
    def columns(tree: Any) -> np.ndarray:
        leaves = [np.asarray(x, float) for x in jax.tree.leaves(tree)]
        return np.concatenate([x.reshape(len(x), -1) for x in leaves], axis=1)

    rows = {
        "observation": columns(episodes.observations),
        "action": columns(episodes.actions),
        "reward": episodes.rewards[:, None],
    }
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    lines = []
    for ax, (name, values) in zip(axes, rows.items(), strict=True):
        low, high = float(values.min()), float(values.max())
        margin = 0.05 * (high - low) or 0.5
        ax.set(ylabel=name, xlim=(0, max(1, len(values) - 1)), ylim=(low - margin, high + margin))
        lines += [(ax.plot([], [], lw=1)[0], column) for column in values.T]
    axes[-1].set_xlabel("step")

    def show(t: int) -> None:
        for line, column in lines:
            line.set_data(np.arange(t + 1), column[: t + 1])
        axes[0].set_title(f"{title}, step {t}", fontsize=9)

    return figure, show
