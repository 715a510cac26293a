"""experiments/gan.py: its rows build, and their results become tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from gacf.lab import experiment_file, overrides
from gacf.lab.errors import BadInput

FILE = Path(__file__).parents[3] / "experiments" / "gan.py"


@pytest.fixture(scope="module")
def experiment() -> Any:
    return experiment_file.load(FILE)


def resolved(experiment: Any, changes: dict[str, Any]) -> Any:
    return overrides.resolve(
        experiment, [f"--config.{key}={value}" for key, value in changes.items()]
    )


@pytest.mark.long
def test_every_row_of_the_sweep_builds(experiment):
    rows = experiment.module.get_sweep(overrides.resolve(experiment))
    for name, changes in rows.items():
        settings = resolved(experiment, changes)
        assert set(experiment_file.build(experiment, settings)) == {"gan"}
        assert name.startswith(f"{settings.data}-")
    module = experiment.module
    for data, names in module.PUBLISHED.items():
        assert {f"{data}-{name}" for name in names} <= set(rows)
    seeds = {rows[name].get("seeds", 16) for name in rows if name.startswith(("ring", "grid"))}
    assert seeds == {16}


@pytest.mark.long
def test_minibatch_discrimination_sees_the_company(experiment):
    settings = resolved(experiment, {"kernels": 2, "hidden": "(4,4)", "octaves": 1})
    judge = experiment.module.critic(settings)
    points = jax.random.normal(jax.random.key(0), (6, 2))
    params, world = judge.init(jax.random.key(0), points)
    alone = judge.apply(params, world, points[:1], train=True)[0]
    among = judge.apply(params, world, points, train=True)[0]
    assert not jnp.allclose(alone, among[:1])
    for other in ({"loss": "energy_based"}, {"data": "digits", "network": "dcgan"}):
        with pytest.raises(ValueError, match="kernels: 2 was given"):
            experiment.module.critic(resolved(experiment, {"kernels": 2, **other}))


def stored(place: Path, data: str, finals: dict[str, list[float]]) -> None:
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({"config": {"data": data, "steps": 2_000}}))
    metrics = {
        name: {"iqm": values[0], "low": min(values), "high": max(values), "finals": values}
        for name, values in finals.items()
    }
    cell = {"seeds": 2, "diverged": {}, "train_seconds": 5.0, "metrics": metrics}
    (place / "summary.json").write_text(json.dumps({"cells": {"gan": cell}, "metrics": []}))


def split(text: str) -> list[list[str]]:
    """Lines of each part; a table begins with its heading."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith(("###", "Without")):
            found.append([])
        found[-1].append(line)
    return [[*"\n".join(part).strip().splitlines()] for part in found]


def test_a_sweep_becomes_tables(experiment, tmp_path):
    names = ["ring-gan", "ring-best", "digits-hinge", "digits-minimax"]
    plane = {"evaluate/high_quality": [0.5, 0.25], "evaluate/reverse_kl": [0.0, 0.0]}
    stored(tmp_path / "ring-gan", "ring", {"evaluate/modes": [8, 6], **plane})
    stored(tmp_path / "ring-best", "ring", {"evaluate/modes": [8, 8], **plane})
    digits = {"final/fid": [3.0, 4.0], "final/classifier_accuracy": [0.971, 0.971]}
    stored(tmp_path / "digits-hinge", "digits", digits)
    sweep = {"experiment": "gan", "variants": {name: {} for name in names}, "devices": 1}
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    ring, digits, missing = split(experiment.module.table(tmp_path))
    assert ring[0] == "### ring, 8 modes"
    assert ring[2].startswith("| method | steps | modes | high quality [%] |")
    assert ring[4].startswith("| gan | 2,000 | 8.0 [6.0, 8.0] | 50 [25, 50] |")
    assert "| 1/2 | 0/2 | 2.5 | 1, 99.3 (VEEGAN paper); 6.3" in ring[4]
    assert ring[5].endswith("| 2/2 | 0/2 | 2.5 |  |")
    assert digits[0] == "### digits, by a classifier with an accuracy of 97.1 %"
    assert digits[4].startswith("| hinge | 2,000 | 3.0 [3.0, 4.0] | – |")
    assert missing == ["Without results yet: digits-minimax."]
    for part in (ring, digits):
        assert len({line.count("|") for line in part[2:]}) == 1


def test_what_is_left_open_follows_the_loss_and_explicit_keys_win(experiment):
    default = resolved(experiment, {})
    assert (default.penalty, default.weight, default.critic_steps) == ("r1", 0.01, 1)
    for data in ("ring", "grid", "swiss_roll", "digits", "stacked_digits"):
        open_keys = resolved(experiment, {"loss": "wasserstein", "data": data})
        assert (open_keys.penalty, open_keys.critic_steps) == ("wgan_gp", 5)
        usual = resolved(experiment, {"data": data})
        assert open_keys.weight > usual.weight
        given = {"loss": "wasserstein", "data": data, "penalty": "r1", "critic_steps": 2}
        explicit = resolved(experiment, given)
        assert (explicit.penalty, explicit.critic_steps) == ("r1", 2)
        assert explicit.weight == usual.weight  # R1's, not that of the penalty left out
        assert resolved(experiment, {**given, "weight": 3.0}).weight == 3.0


def test_minibatch_discrimination_takes_no_penalty_by_itself(experiment):
    assert overrides.resolve(experiment, ["--config.kernels=4"]).penalty == "none"
    with pytest.raises(
        BadInput, match="kernels: 4 was given, and the critic of loss='wasserstein'"
    ):
        overrides.resolve(experiment, ["--config.kernels=4", "--config.loss=wasserstein"])
