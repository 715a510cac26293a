"""Every rule on the ring GAN and on Pendulum DDPG: one key of the config chooses between them.

    gacf run experiments/rules.py --config.game=pendulum --config.rule=unrolled
    gacf sweep experiments/rules.py --workdir runs/rules
    python experiments/rules.py runs/rules

The sweep trains all rules on both games, and the last command prints its table, which docs/rules.md
shows and explains. Networks, optimisers and rates are smaller versions of those in ring_gan.py and
pendulum_ddpg.py. They are the same for all rules but `competitive`, which takes plain step sizes.
The ring has no gradient penalty here (`ring.r1`), because it would remove the difficulty by which
the rules are compared. The actor's loss holds the real examples too (`ring.real_term`), because
leaders differentiate it with respect to the critic. Expected results: docs/rules.md. Cost of the
sweep: half an hour on 2 cores.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import gacf
from gacf import rules
from gacf.core import lookup
from gacf.lab.report import finished_runs, interval_text, read_summary
from gacf.methods.gan import r1
from gacf.networks import MLP, model

KEY_METRIC = "evaluate/score"
GOAL = "max"
PAIR = ("actor", "critic")
# The metrics of each game that a table shows, with their units; the first is the score.
SHOWN = {
    "ring": {
        "modes": ("modes of 8", 1),
        "high_quality": ("high quality [%]", 100),
        "reverse_kl": ("reverse KL", 1),
    },
    "pendulum": {"return": ("return", 1)},
}


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 16,
            "seed": 0,
            "steps": 3_000,
            "log_every": 100,
            "evaluate_every": 1_000,
            "checkpoint_every": 1_000,
            "map": "auto",
            "game": "ring",
            "rule": "alternating",
            "hidden": (64, 64),
            "batch_size": 128,
            "iterations": 5,
            "unrolled_steps": 5,
            "period": 5,
            "ring": {
                "learning_rate": 4e-3,
                "decay": 0.01,
                "b1": 0.5,
                "noise": 16,
                "r1": 0.0,
                "real_term": True,
                "weight": 0.1,
                "damping": 1.0,
                "neumann": 0.02,
                "single_loop": 0.02,
                "rate": 0.1,
                "competitive": 0.1,
            },
            "pendulum": {
                "learning_rate": 1e-3,
                "decay": 1.0,
                "b1": 0.9,
                "discount": 0.99,
                "exploration": 0.1,
                "capacity": 20_000,
                "warmup": 1_000,
                "target_rate": 0.01,
                "episodes": 100,
                "weight": 1e-3,
                "damping": 1.0,
                "neumann": 1e-3,
                "single_loop": 1e-3,
                "rate": 0.01,
                "competitive": 3e-3,
            },
        }
    )


def get_sweep(config: ConfigDict) -> dict[str, dict[str, Any]]:
    return {
        f"{game}-{rule}": {"game": game, "rule": rule} for game in SHOWN for rule in choices(config)
    }


class Choice(NamedTuple):
    """A rule, and what one step of both players costs: gradients, and products with a Jacobian."""

    rule: gacf.Rule
    gradients: int
    products: int


def choices(config: ConfigDict) -> dict[str, Choice]:
    """Name -> rule and cost; the formulas are those of docs/rules.md."""
    own = config[config.game]
    m, k, damped = config.iterations, config.unrolled_steps, {"damping": own.damping}

    def decaying(rate: float, moves: int = 1) -> optax.Schedule:
        """A schedule counts moves, of which a step of the rule may make several."""
        return optax.cosine_decay_schedule(rate, config.steps * moves, own.decay)

    # `unrolled` differentiates through Adam, whose root has no derivative at 0.
    settings = {"b1": own.b1, "eps_root": 1e-10}
    rate = decaying(own.learning_rate)
    o = {player: optax.adam(rate, **settings) for player in PAIR}
    # With `commit` the optimiser's state of the look ahead is kept, so a step counts as two moves.
    twice = {p: optax.adam(decaying(own.learning_rate, 2), **settings) for p in PAIR}
    optimistic = {
        player: optax.optimistic_adam_v2(rate, nesterov=False, **settings) for player in PAIR
    }
    one = rules.simultaneous

    def implicit(solver: str, products: int, leader: str, follower: str) -> Choice:
        direction = rules.implicit(leader, follower, solver, m, own.damping, own.neumann)
        return Choice(one(o, direction), 3, products)

    return {
        "simultaneous": Choice(one(o), 2, 0),
        "alternating": Choice(rules.alternating(o), 2, 0),
        "extragradient": Choice(rules.extragradient(o), 4, 0),
        "extragradient_commit": Choice(rules.extragradient(twice, commit=True), 4, 0),
        "optimistic": Choice(one(optimistic), 2, 0),
        "lookahead": Choice(rules.lookahead(one(o), config.period), 2, 0),
        "competitive": Choice(
            rules.competitive(dict.fromkeys(PAIR, decaying(own.competitive)), iterations=m),
            2,
            2 * m + 4,
        ),
        "follow_the_ridge": Choice(
            rules.follow_the_ridge(o, *PAIR, "gmres", m, **damped), 2, m + 2
        ),
        "consensus": Choice(one(o, rules.consensus(own.weight)), 2, 2),
        "symplectic": Choice(one(o, rules.symplectic(own.weight)), 2, 4),
        "unrolled": Choice(one(o, rules.unrolled(*PAIR, k)), 2 * k + 2, k),
        "implicit_gmres": implicit("gmres", m + 1, *PAIR),
        "implicit_normal": implicit("normal", 2 * m + 2, *PAIR),
        "implicit_neumann": implicit("neumann", m + 1, *PAIR),
        "implicit_gmres_critic_leads": implicit("gmres", m + 1, *reversed(PAIR)),
        "single_loop": Choice(one(o, rules.single_loop(*PAIR, own.single_loop, **damped)), 3, 2),
        "finite_difference": Choice(one(o, rules.finite_difference(*PAIR, own.rate)), 5, 0),
        "lola_exact": Choice(one(o, rules.lola(own.rate)), 4, 2),
        "lola_taylor": Choice(one(o, rules.lola(own.rate, False)), 4, 2),
    }


def ring(config: ConfigDict) -> gacf.Game:
    data, critic = gacf.data.ring(), model("critic", MLP(config.hidden))
    game = gacf.gan(
        MLP(config.hidden, (2,)),
        critic,
        data,
        batch_size=config.batch_size,
        noise=config.ring.noise,
        penalty=r1(config.ring.r1) if config.ring.r1 else None,
        evaluate=lambda samples, key: gacf.metrics.modes(samples, data.means, data.scale),
    )

    def real_term(own: Any, params: Any, world: Any, batch: Any, key: Any) -> jax.Array:
        verdict, _ = critic.apply(params["critic"], world, batch["real"])
        return jnp.mean(jax.nn.softplus(verdict))

    return gacf.add_loss(game, "actor", real_term) if config.ring.real_term else game


def pendulum(config: ConfigDict) -> gacf.Game:
    env, own = gacf.envs.make("Pendulum-v1"), config.pendulum
    return gacf.ddpg(
        env,
        actor=MLP(config.hidden, env.action.shape),
        critic=MLP(config.hidden),
        discount=own.discount,
        exploration=own.exploration,
        target_rate=own.target_rate,
        rollout=gacf.Rollout(episodes=own.episodes),
        replay=gacf.Replay(own.capacity, config.batch_size, own.warmup),
    )


def build(config: ConfigDict) -> gacf.Algorithm:
    game = lookup("game", config.game, {"ring": ring, "pendulum": pendulum})(config)
    name, measure = next(iter(SHOWN[config.game])), game.evaluate

    def evaluate(params: Any, world: Any, key: Any) -> dict[str, jax.Array]:
        measured = measure(params, world, key)
        return {"score": measured[name], **measured}

    rule = lookup("rule", config.rule, choices(config)).rule
    return gacf.compose(game._replace(evaluate=evaluate), rule)


def table(directory: str | Path) -> str:
    """The sweep's tables as Markdown, one per game.

    g and h: gradients and products with a Jacobian in one step of both players. Time is that of
    training, relative to `simultaneous`.
    """
    runs, _ = finished_runs(directory)
    cells: dict[str, list[tuple[ConfigDict, Mapping[str, Any]]]] = {}
    for _, place in runs:
        config = ConfigDict(json.loads((place / "config.json").read_text())["config"])
        (cell,) = read_summary(place)["cells"].values()
        cells.setdefault(config.game, []).append((config, cell))
    parts = []
    for game, entries in cells.items():
        seconds = {config.rule: cell["train_seconds"] for config, cell in entries}
        base = seconds.get("simultaneous", float("nan"))
        heads = [head for head, _ in SHOWN[game].values()]
        lines = [["rule", "g", "h", *heads, "diverged", "time"]]
        lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
        for config, cell in entries:
            cost = choices(config)[config.rule]
            scores = [
                interval_text(
                    {
                        end: None if value is None else unit * value
                        for end, value in cell["metrics"][f"evaluate/{name}"].items()
                        if end in ("iqm", "low", "high")
                    }
                )
                for name, (_, unit) in SHOWN[game].items()
            ]
            diverged = f"{len(cell['diverged'])}/{cell['seeds']}"
            ratio = f"{cell['train_seconds'] / base:.1f}"
            counts = [str(cost.gradients), str(cost.products)]
            lines.append([config.rule, *counts, *scores, diverged, ratio])
        steps = f"{game}, {entries[0][0].steps:,} steps; `simultaneous` takes {base:.1f} s"
        parts.append("\n".join([steps, "", *(f"| {' | '.join(line)} |" for line in lines)]))
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(table(sys.argv[1]))
