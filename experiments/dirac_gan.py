"""The Dirac-GAN under nine methods and two schedules: which converge, circle or diverge.

    gacf run experiments/dirac_gan.py

The protocol is that of Mescheder, Geiger & Nowozin 2018: data at 0, generator θ, discriminator ψx,
and 500 gradient steps of size .2 from (1, 1), at distance 1.414 from the equilibrium. The
alternating schedule moves the generator first. Cost: two minutes on 2 cores, nearly all of it
compilation.

Expected distance after 500 steps:

    method                     simultaneous     alternating
    saturating                 3.10             1.42          diverges; circles
    non-saturating             .640             .284          stalls
    WGAN, clipped to 1         1.00             1.02          circles
    WGAN-GP λ = .7, target 1   1.80             1.22          circles
    instance noise σ = .7      5.7e-5           4.0e-6        converges
    the same, 512 draws        .02              .016          converges up to the draws' noise
    R1 γ = .3                  2.6e-6           2.3e-7        converges, turning
    R1 γ = 1 (critical)        9.5e-22          7.5e-17       converges, without turning
    consensus γ = 1            2.6e-10          1.7e-11       converges

`phase.png` shows the paths, and `spectrum.png` the eigenvalues of the players' field at the
equilibrium (points) and those of theory (circles).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import gacf
from gacf.games import dirac_gan, project
from gacf.metrics import draw_spectrum, game_spectrum

KEY_METRIC = "evaluate/distance"
GOAL = "min"
SCHEDULES = {
    "simultaneous": gacf.rules.simultaneous,
    "alternating": functools.partial(gacf.rules.alternating, order=("actor", "critic")),
}


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 16,
            "seed": 0,
            "steps": 500,
            "log_every": 10,
            "evaluate_every": 10,
            "checkpoint_every": 500,
            "map": "auto",
            "learning_rate": 0.2,
            "clip": 1.0,
            "noise": 0.7,
            "samples": 512,
            "gradient_penalty": 0.7,
            "r1": (0.3, 1.0),
            "consensus": 1.0,
        }
    )


def methods(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """Name -> the game's arguments, and `direction` or `clip` where the rule differs."""
    return {
        "saturating": {},
        "non_saturating": {"loss": "non_saturating"},
        "wgan": {"loss": "wasserstein", "clip": config.clip},
        "wgan_gp": {
            "loss": "wasserstein",
            "gradient_penalty": config.gradient_penalty,
            "target": 1.0,
        },
        "noise": {"noise": config.noise},
        "noise_drawn": {"noise": config.noise, "samples": config.samples},
        **{f"r1_{weight:g}": {"gradient_penalty": weight} for weight in config.r1},
        "consensus": {"direction": gacf.rules.consensus(config.consensus)},
    }


def theory(config: ConfigDict) -> dict[str, np.ndarray]:
    """Eigenvalues at θ = ψ = 0 of J = ((0, c), (−c, p)), p the critic's curvature, c = f'(0)."""

    def roots(coupling: float, own: float) -> np.ndarray:
        return np.roots([1.0, -own, coupling**2])

    # −f''(0) = 1/4, once for real and once for fake samples
    noisy = 2 * config.noise**2 / 4
    eigenvalues = {
        "saturating": roots(0.5, 0.0),
        "non_saturating": roots(0.5, 0.0),
        "wgan": roots(1.0, 0.0),
        "noise": roots(0.5, noisy),
        **{f"r1_{weight:g}": roots(0.5, weight) for weight in config.r1},
    }
    # v + γJᵀv has the Jacobian J + γJᵀJ = ((c²γ, c), (−c, c²γ))
    eigenvalues["consensus"] = config.consensus * 0.25 + np.array([0.5j, -0.5j])
    return eigenvalues


def game_of(**method: Any) -> gacf.Game:
    settings = {name: x for name, x in method.items() if name not in ("direction", "clip")}

    def evaluate(params: Any, world: Any, key: Any) -> dict[str, jax.Array]:
        return {"distance": jnp.hypot(params["actor"], params["critic"])}

    return dirac_gan(**settings)._replace(evaluate=evaluate)


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    cells = {}
    for schedule, make in SCHEDULES.items():
        for name, method in methods(config).items():
            optimizers = {player: optax.sgd(config.learning_rate) for player in ("actor", "critic")}
            if "clip" in method:
                clipped = optax.chain(optimizers["critic"], project(method["clip"]))
                optimizers["critic"] = clipped
            rule = make(optimizers, direction=method.get("direction"))
            cells[f"{name}-{schedule}"] = gacf.compose(game_of(**method), rule)
    return cells


def path(algorithm: gacf.Algorithm, steps: int) -> np.ndarray:
    """θ and ψ along the path, [T + 1, 2]; the seed makes no difference."""

    def once(state: gacf.State, _: None) -> tuple[gacf.State, jax.Array]:
        point = jnp.stack([state.params["actor"], state.params["critic"]])
        return algorithm.step(state)[0], point

    run = jax.jit(lambda state: jax.lax.scan(once, state, length=steps + 1)[1])
    return np.asarray(run(algorithm.init(jax.random.key(0))))


def pictures(config: ConfigDict, finals: Any) -> dict[str, Figure]:
    names, cells = list(methods(config)), build(config)
    phase, axes = plt.subplots(3, 3, figsize=(11, 11), layout="constrained")
    for ax, name in zip(axes.flat, names, strict=True):
        for schedule in SCHEDULES:
            points = path(cells[f"{name}-{schedule}"], config.steps)
            ax.plot(*points.T, linewidth=0.7, label=schedule)
            ax.plot(*points[-1], "o", markersize=4, color=ax.lines[-1].get_color())
        ax.plot(1, 1, "k+")
        ax.plot(0, 0, "kx")
        ax.set(title=name, xlabel="θ", ylabel="ψ", aspect="equal")
    axes.flat[0].legend(loc="lower left", fontsize="small")

    expected = theory(config)
    spectrum, axes = plt.subplots(3, 3, figsize=(11, 11), layout="constrained")
    start = {"start": (0.0, 0.0)}
    for ax, name in zip(axes.flat, names, strict=True):
        if name not in expected:
            ax.set_axis_off()
            ax.text(0.5, 0.5, f"{name}: no derivative at 0, or a random one", ha="center")
            continue
        method = methods(config)[name]
        game = game_of(**method, **start)
        params, world = game.init(jax.random.key(0))
        key = jax.random.key(0)
        eigenvalues = game_spectrum(game, params, world, key, direction=method.get("direction"))
        draw_spectrum(ax, eigenvalues, expected[name], title=name)
    return {"phase": phase, "spectrum": spectrum}
