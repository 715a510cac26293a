"""Every experiment builds, and trains end to end at a size that costs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import gacf
from gacf import rules
from gacf.lab import config, experiment_file, overrides, sweep
from gacf.lab.cli import main

ROOT = Path(__file__).parents[1]

# file -> (overrides, cells, pictures besides the learning curves)
TINY: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "ring_gan": (
        {"batch_size": 4, "noise": 2, "actor.hidden": (4,), "critic.hidden": (4,)},
        {"ring_gan"},
        {"samples"},
    ),
    "pendulum_ddpg": (
        {
            "batch_size": 4, "capacity": 16, "warmup": 8, "episodes": 2,
            "actor.hidden": (4,), "critic.hidden": (4,),
        },
        {"pendulum_ddpg"},
        {"policies"},
    ),
    "digits_gan": (
        {"batch_size": 4, "noise": 2, "actor.hidden": (4,), "critic.hidden": (4,)},
        {"gan", "real images"},
        {"samples"},
    ),
    "equivalence": (
        {
            "batch_size": 4, "noise": 2, "gradient_batches": 2,
            "actor.hidden": (4,), "critic.hidden": (4,),
        },
        {
            "textbook GAN", "actor-critic", "actor-critic, the paper's coin",
            "actor sees the state", "squared Bellman error", "actor moves at reward 1",
        },
        set(),
    ),
    "gan": (
        {"batch_size": 4, "noise": 2, "hidden": (4,), "data": "swiss_roll", "pack": 2, "ema": 0.9},
        {"gan"},
        {"samples"},
    ),
    "bilinear_rules": ({}, {"simultaneous", "lookahead"}, {"paths"}),
    "rules": (
        {"batch_size": 4, "hidden": (4,), "ring.noise": 2, "rule": "implicit_gmres"},
        {"rules"},
        set(),
    ),
    "control": (
        {
            "method": "td3", "batch_size": 4, "capacity": 16, "warmup": 8, "hidden": (4,),
            "episodes": 2,
        },
        {"control"},
        set(),
    ),
    "conditional_gan": (
        {"batch_size": 4, "noise": 2, "hidden": (4,)},
        {"projection", "concatenation"},
        {"samples"},
    ),
    "infogan": (
        {"batch_size": 4, "noise": 2, "hidden": (4,)},
        {"InfoGAN", "code not trained for"},
        {"samples"},
    ),
    "bigan": (
        {"batch_size": 4, "noise": 2, "hidden": (4,)},
        {"BiGAN", "random encoder"},
        {"reconstructions"},
    ),
    "autoencoders": (
        {"batch_size": 4, "noise": 2, "hidden": (4,)},
        {"adversarial autoencoder", "VAE-GAN", "autoencoder"},
        {"samples"},
    ),
    "energy_based": (
        {"batch_size": 4, "noise": 2, "hidden": (4,), "autoencoder": (4, 2)},
        {"EBGAN", "EBGAN-PT", "GAN"},
        {"samples"},
    ),
    "domain_adversarial": (
        {"batch_size": 4, "hidden": (4,), "features": 4},
        {"domain-adversarial", "source only"},
        set(),
    ),
    "imitation": (
        {"num_envs": 2, "length": 2, "hidden": (4,), "expert_steps": 2, "episodes": 2},
        {"GAIL", "AIRL"},
        set(),
    ),
    "seqgan": (
        {
            "pretrain": 1, "vocabulary": 5, "length": 3, "width": 4, "sequences": 8,
            "batch_size": 4, "rollouts": 1, "filters": 2, "samples": 4,
        },
        {"SeqGAN", "maximum likelihood"},
        set(),
    ),
    "lapgan": (
        {"batch_size": 4, "noise": 2, "hidden": (4,)},
        {"LAPGAN", "GAN", "real images"},
        {"samples"},
    ),
    "table1": (
        {"batch_size": 4, "hidden": (4,), "strategy": "minibatch_discrimination"},
        {"table1"},
        set(),
    ),
    "transfer": (
        {"num_envs": 2, "length": 2, "imitation_steps": 2, "trajectories": 2, "episodes": 2},
        {"AIRL's reward", "GAIL's reward", "true reward"},
        set(),
    ),
    "dirac_gan": ({"samples": 4}, {"saturating-simultaneous", "consensus-alternating"}, {"phase"}),
}  # fmt: skip
RUN = {"seeds": 2, "steps": 2, "log_every": 1, "evaluate_every": 2, "checkpoint_every": 2}


FILES = sorted((ROOT / "experiments").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_says_what_it_is_and_how_to_run_it(path):
    experiment = experiment_file.load(path)
    assert f"gacf run experiments/{path.name}" in (experiment.module.__doc__ or "")
    overrides.resolve(experiment)  # refuses an impossible default
    assert experiment.key_metric


def test_every_experiment_runs_tiny():
    assert set(TINY) == {path.stem for path in FILES}


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "ring_gan")) for n in TINY]
)
def test_it_trains_end_to_end(name, tmp_path, capsys):
    overrides, cells, pictures = TINY[name]
    where = tmp_path / "run"
    flags = [f"--config.{key}={value}" for key, value in {**overrides, **RUN}.items()]
    file = str(ROOT / "experiments" / f"{name}.py")
    code = main(["run", file, "--workdir", str(where), *flags])
    assert code == 0, capsys.readouterr().err
    found = pd.read_parquet(where / "metrics.parquet")
    assert cells <= set(found.cell.unique())
    assert sorted(found.seed.unique()) == [0, 1]
    summary = json.loads((where / "summary.json").read_text())
    assert summary["key_metric"] in set(found.metric)
    assert pictures <= {path.stem for path in where.glob("*.png")}


def test_every_method_and_row_of_control_builds():
    experiment = experiment_file.load(ROOT / "experiments" / "control.py")
    small = ["--config.episodes=1", "--config.hidden=(4,)", "--config.capacity=16"]
    for method in experiment.module.METHODS:
        built = experiment_file.build(
            experiment, overrides.resolve(experiment, [f"--config.method={method}", *small])
        )
        assert set(built) == {"control"}
    rows = experiment.module.get_sweep(overrides.resolve(experiment))
    for name, changes in rows.items():
        own = [f"--config.{key}={value}" for key, value in changes.items()]
        settings = overrides.resolve(experiment, [*own, *small])
        assert settings.steps * settings.num_envs * settings.length <= settings.env_steps, name
    known = {(row.get("env"), row["method"]) for row in rows.values()}
    assert set(experiment.module.ZOO) <= known


def test_the_sweep_of_rules_and_its_table(tmp_path):
    loaded = experiment_file.load(ROOT / "experiments" / "rules.py")
    found = sweep.variants(loaded)
    names = {name.partition("-")[2] for name in found}
    assert set(rules.SCHEDULES) <= names
    assert set(found) == {f"{game}-{name}" for game in ("ring", "pendulum") for name in names}
    stored = {"experiment": "rules", "variants": {}, "devices": {}}
    for i, (name, settings) in enumerate(found.items()):
        stored["variants"][name] = config.to_json(settings)
        metrics = {
            f"evaluate/{metric}": {"iqm": 0.5, "low": 0.25, "high": 0.75, "n": 15}
            for metric in loaded.module.SHOWN[settings.game]
        }
        cell = {"seeds": 16, "diverged": {"3": 10}, "train_seconds": 2.0 + i, "metrics": metrics}
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(
            json.dumps({"config": stored["variants"][name]})
        )
        (tmp_path / name / "summary.json").write_text(
            json.dumps({"cells": {"rules": cell}, "metrics": {}})
        )
    (tmp_path / "sweep.json").write_text(json.dumps(stored))
    made = loaded.module.table(tmp_path).splitlines()
    ends = "0.50 [0.25, 0.75]"
    assert f"| alternating | 2 | 0 | {ends} | 50 [25, 75] | {ends} | 1/16 | 1.5 |" in made
    # k(2g + h) + 2g with k = 5, on the game whose `simultaneous` took 21
    ratio = (2 + list(found).index("pendulum-unrolled")) / 21
    assert f"| unrolled | 12 | 5 | {ends} | 1/16 | {ratio:.1f} |" in made
    assert sum(line.startswith("| ") for line in made) == len(found) + 4


def toy():
    """Losses with the gradient 1 everywhere: under Adam each move is the learning rate."""
    losses = {p: lambda params, batch, key, p=p: params[p] for p in ("actor", "critic")}
    start = dict.fromkeys(losses, jnp.zeros(()))
    return gacf.from_losses(start, losses, lambda key: {"x": jnp.zeros(8)})


def moved(algorithm, steps):
    state = jax.jit(algorithm.init)(jax.random.key(0))
    state, _ = jax.jit(lambda s: jax.lax.scan(lambda s, _: algorithm.step(s), s, length=steps))(
        state
    )
    return {player: -float(way) for player, way in state.params.items()}


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ({"method": "a2c"}, {"actor": 8, "critic": 8}),
        ({"method": "a2c", "updates": 3}, {"actor": 24, "critic": 24}),
        ({"method": "a2c", "rule": "delayed", "delay": 4}, {"actor": 2, "critic": 8}),
        ({"method": "ppo", "epochs": 2, "pieces": 4, "updates": 2}, {"actor": 128, "critic": 128}),
    ],
)
def test_control_anneals_over_the_whole_run(settings, made):
    """The rates of M moves, 1 − k/M for k < M, add up to (M + 1)/2."""
    experiment = experiment_file.load(ROOT / "experiments" / "control.py")
    given = {"steps": 8, "learning_rate": 1.0, "max_norm": 1.0, **settings}
    own = overrides.resolve(experiment, [f"--config.{k}={v}" for k, v in given.items()])
    rule = experiment.module.rule_of(own, toy())
    way = moved(gacf.compose(toy(), rule, updates=own.updates), 8)
    assert way == pytest.approx({p: (n + 1) / 2 for p, n in made.items()}, rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "settings", "made"),
    [
        ("ring_gan", {"critic.steps": 3}, {"actor": 8, "critic": 24}),
        ("digits_gan", {"critic.steps": 2}, {"actor": 8, "critic": 16}),
        ("gan", {"critic_steps": 5}, {"actor": 8, "critic": 40}),
        ("gan", {"critic_steps": 5, "rule": "simultaneous"}, {"actor": 8, "critic": 8}),
        ("rules", {"rule": "extragradient_commit"}, {"actor": 8, "critic": 8}),
        ("rules", {"rule": "alternating"}, {"actor": 8, "critic": 8}),
    ],
)
def test_rates_decay_over_the_moves_that_a_player_makes(name, settings, made, monkeypatch):
    """The cosine's rates of M moves add up to M d + (1 − d)(M + 1)/2, d the last one's share.

    An extragradient step that keeps its look ahead counts two moves and makes the second of them.
    """
    experiment = experiment_file.load(ROOT / "experiments" / f"{name}.py")
    rates = {"ring_gan": ("actor.learning_rate", "critic.learning_rate"), "rules": ()}
    rates["digits_gan"] = rates["ring_gan"]
    given = {"steps": 8, **dict.fromkeys(rates.get(name, ("learning_rate",)), 1.0), **settings}
    own = overrides.resolve(experiment, [f"--config.{k}={v}" for k, v in given.items()])
    monkeypatch.setattr(gacf, "gan", lambda *args, **options: toy())
    if name == "rules":
        monkeypatch.setattr(experiment.module, "ring", lambda config: toy())
    algorithm = experiment.module.build(own)
    algorithm = algorithm["gan"] if isinstance(algorithm, dict) else algorithm
    last, rate = (own.ring.decay, own.ring.learning_rate) if name == "rules" else (own.decay, 1.0)

    def way(moves):
        if settings.get("rule") == "extragradient_commit":
            turns = np.arange(1, 2 * moves, 2) / (2 * moves)
            return rate * np.sum(last + (1 - last) * (1 + np.cos(np.pi * turns)) / 2)
        return rate * (moves * last + (1 - last) * (moves + 1) / 2)

    assert moved(algorithm, 8) == pytest.approx({p: way(n) for p, n in made.items()}, rel=1e-3)
