"""Every rule on the bilinear game F = xy, f = −xy: paths, and contraction against theory.

    gacf run experiments/bilinear_rules.py

Cost: one minute on 2 cores, nearly all of it compilation. Expected: the distances below, after 60
steps of size .2 from (1, 1); `paths.png` gives each rule's factor per step by its formula.
Simultaneous steps spiral outwards (1.0198 per step), alternating ones circle, all others converge.

    simultaneous 4.59      alternating 1.46       extragradient .437     optimistic .412
    competitive .436       lookahead .404         consensus .0108        symplectic .0108
    lola exact 2.1e-4      lola Taylor .0380      unrolled .0391         finite difference .0391
    implicit .0124         single loop .0342      follow the ridge .00502
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import gacf
from gacf import rules
from gacf.games import bilinear, bilinear_modes

KEY_METRIC = "evaluate/distance"
GOAL = "min"
PAIR = ("actor", "critic")


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 1,
            "seed": 0,
            "steps": 60,
            "log_every": 5,
            "evaluate_every": 5,
            "checkpoint_every": 60,
            "map": "auto",
            "learning_rate": 0.2,
            "weight": 0.5,
            "damping": 1.0,
            "rate": 0.4,
            "unrolled_steps": 2,
            "period": 6,
        }
    )


def cases(config: ConfigDict) -> dict[str, tuple[gacf.Rule, str, dict[str, Any]]]:
    """Name -> the rule, the name of its closed form, and the hyperparameters of that form."""
    eta, rate = config.learning_rate, config.rate
    o = {player: optax.sgd(eta) for player in PAIR}
    ogd = {player: optax.optimistic_gradient_descent(eta) for player in PAIR}
    weight, damping = {"weight": config.weight}, {"damping": config.damping}
    looks, loops = {"period": config.period, "rate": 0.5}, {"rate": rate, **damping}
    steps, one = {"steps": config.unrolled_steps}, rules.simultaneous
    ridge = rules.follow_the_ridge(o, *PAIR, iterations=1, **damping)
    return {
        "simultaneous": (one(o), "simultaneous", {}),
        "alternating": (rules.alternating(o), "alternating", {}),
        "extragradient": (rules.extragradient(o), "extragradient", {}),
        "optimistic": (one(ogd), "optimistic", {}),
        "competitive": (rules.competitive(dict.fromkeys(PAIR, eta), "cg", 1), "competitive", {}),
        "lookahead": (rules.lookahead(one(o), **looks), "lookahead", looks),
        "consensus": (one(o, rules.consensus(**weight)), "consensus", weight),
        "symplectic": (one(o, rules.symplectic(**weight)), "symplectic", weight),
        "lola_exact": (one(o, rules.lola(rate)), "lola", {"rate": rate}),
        "lola_taylor": (one(o, rules.lola(rate, False)), "lola", {"rate": rate, "exact": False}),
        "unrolled": (one(o, rules.unrolled(*PAIR, **steps)), "unrolled", steps),
        "finite_difference": (
            one(o, rules.finite_difference(*PAIR, rate=rate)),
            "finite_difference",
            {"rate": rate},
        ),
        "implicit": (one(o, rules.implicit(*PAIR, iterations=1, **damping)), "implicit", damping),
        "single_loop": (one(o, rules.single_loop(*PAIR, **loops)), "single_loop", loops),
        "follow_the_ridge": (ridge, "follow_the_ridge", damping),
    }


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    def evaluate(params: Any, world: Any, key: Any) -> dict[str, jax.Array]:
        return {"distance": jnp.hypot(params["actor"], params["critic"])}

    game = bilinear()._replace(evaluate=evaluate)
    return {name: gacf.compose(game, rule) for name, (rule, _, _) in cases(config).items()}


def path(algorithm: gacf.Algorithm, steps: int) -> np.ndarray:
    """x and y, [T + 1, 2]."""

    def once(state: gacf.State, _: None) -> tuple[gacf.State, jax.Array]:
        point = jnp.stack([state.params[player] for player in PAIR])
        return algorithm.step(state)[0], point

    run = jax.jit(lambda state: jax.lax.scan(once, state, length=steps + 1)[1])
    return np.asarray(run(algorithm.init(jax.random.key(0))))


def pictures(config: ConfigDict, finals: Any) -> dict[str, Figure]:
    formulas, cells = cases(config), build(config)
    figure, axes = plt.subplots(3, 5, figsize=(15, 9.5), sharex=True, sharey=True)
    for ax, (name, (_, form, hyper)) in zip(axes.flat, formulas.items(), strict=True):
        points = path(cells[name], config.steps)
        factor = abs(bilinear_modes(form, (config.learning_rate,) * 2, **hyper)).max()
        factor = factor ** (1 / config.period) if name == "lookahead" else factor
        ax.plot(*points.T, ".-", linewidth=0.7, markersize=3)
        ax.plot(0, 0, "kx")
        ax.plot(1, 1, "k+")
        ax.set(title=f"{name}: {factor:.4f}", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    figure.supxlabel("x")
    figure.supylabel("y")
    figure.tight_layout()
    return {"paths": figure}
