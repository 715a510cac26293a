"""What the documents show runs, and what they name exists."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

import gacf
import gacf.core.game
from gacf import rules
from tests.contract_cases import quadratic
from tests.test_contract import check

ROOT = Path(__file__).parents[1]


def blocks(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def execute(document: str) -> dict[str, Any]:
    found = blocks(document)
    assert found
    names: dict[str, Any] = {}
    for code in found:
        exec(compile(code, document, "exec"), names)
    return names


def sgd(game: gacf.Game) -> dict[str, Any]:
    return {player: optax.sgd(0.01) for player in game.losses}


@pytest.mark.long
def test_the_skeletons_for_contributors_run_and_keep_the_contract() -> None:
    names = execute("CONTRIBUTING.md")
    check(gacf.compose(quadratic(), names["rule"]), 1e-5)
    check(names["algorithm"], 1e-5)
    # E[data] = 1; the critic's fixed point is E[data] / (1 - 0.5) less what its penalty takes.
    np.testing.assert_allclose(names["state"].params["actor"], 2.0, atol=0.3)
    assert names["metrics"]["critic/weight_penalty"].shape == (2, 2)
    check(gacf.compose(names["method"], rules.alternating(sgd(names["method"]))), 1e-5)
    assert names["points"].shape == (8, 2)
    check(names["experiment"], 1e-5)


@pytest.mark.long
def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = execute("README.md")
    assert isinstance(names["state"], gacf.State)
    assert names["samples"].shape == (50_000, 2)


@pytest.mark.long
def test_the_guide_to_data_runs() -> None:
    state = execute("docs/data.md")["algorithm"].init(jax.random.key(0))
    assert state.world["data"]["held"].shape == (512, 8, 8, 1)


def test_the_guide_to_sweeps_runs() -> None:
    assert callable(execute("docs/sweeps.md")["get_sweep"])


def test_the_pod_of_the_guide_to_scaling() -> None:
    pod = execute("docs/scaling.md")["pod"]
    shown = {"lane": "5.5", "chip": "0.26", "whole": "22", "metrics": "82", "seconds": "2.2"}
    assert {name: f"{value:.2g}" for name, value in pod.items()} == shown


def test_the_guide_to_actor_critic_methods_runs() -> None:
    names = execute("docs/actor_critic.md")
    assert set(names["optimizers"]) == {"actor", "critic", "temperature"}
    assert isinstance(names["algorithm"], gacf.Algorithm)


def test_the_guide_to_information_flow_runs() -> None:
    assert isinstance(execute("docs/information_flow.md")["algorithm"], gacf.Algorithm)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_paths_and_links_that_documents_name_exist(document: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    paths = re.findall(r"`((?:gacf|tests|experiments|notebooks|docs|benchmarks)/[\w/.]*)`", text)
    paths += [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if ":" not in link]
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_experiments_tell_their_command() -> None:
    for path in sorted((ROOT / "experiments").glob("[!_]*.py")):
        text = path.read_text(encoding="utf-8")
        assert f"gacf run experiments/{path.name}" in text.split('"""')[1], path.name


@pytest.mark.parametrize("module", [gacf.core.game, gacf.rules, gacf.stabilizers])
def test_public_functions_are_documented_with_an_example(module: Any) -> None:
    for name in getattr(module, "__all__", gacf.__all__):
        thing = getattr(module, name, None)
        if inspect.isfunction(thing):
            assert thing.__doc__, f"{name} has no docstring"
            is_constructor = any(word in thing.__doc__ for word in ("Args:", "Raises:"))
            assert not is_constructor or ">>> " in thing.__doc__, f"{name} shows no example"


def test_pins_name_no_place_to_fetch_from() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert f"jax=={jax.__version__}" in pins
    assert f"optax=={optax.__version__}" in pins
