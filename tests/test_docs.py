"""What the documents show runs, and what they name exists."""

from __future__ import annotations

import importlib
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
from gacf.lab.cli import main
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


def pages(folder: str) -> list[str]:
    return [f"docs/{folder}/{path.name}" for path in sorted((ROOT / "docs" / folder).glob("*.md"))]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `gacf.run` train two seeds for four steps, whatever a page asks for."""
    run = gacf.run

    def short(*args: Any, **settings: Any) -> Any:
        bound = inspect.signature(run).bind(*args, **settings).arguments
        bound.update(steps=4, log_every=2, seeds=min(bound.get("seeds", 1), 2))
        if bound.get("evaluate_every") is not None:
            bound["evaluate_every"] = 4
        return run(**bound)

    monkeypatch.setattr(gacf, "run", short)


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


@pytest.mark.long
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


# Those of which nothing is compiled are quick.
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(page, marks=() if page.startswith("docs/choosing/") else pytest.mark.long)
        for page in [
            "docs/index.md",
            "docs/trained.md",
            *pages("choosing"),
            *(page for page in pages("coming_from") if "index" not in page),
        ]
    ],
)
def test_the_pages_of_the_site_run(document: str, few_steps: None) -> None:
    assert isinstance(execute(document).get("gacf"), type(gacf))


@pytest.mark.long
@pytest.mark.parametrize("document", ["docs/concepts.md", "docs/games.md"])
def test_the_pages_that_state_numbers_run(document: str) -> None:
    execute(document)


@pytest.mark.long
@pytest.mark.parametrize("document", pages("methods"))
def test_the_page_of_a_method_runs_and_lists_what_is_logged(document: str, few_steps: None) -> None:
    names = execute(document)
    if document.endswith("index.md"):
        return
    section = (ROOT / document).read_text(encoding="utf-8").split("## What it logs")[1]
    listed = re.findall(r"^\| `([\w/]+)` \|", section.split("##")[0], flags=re.MULTILINE)
    assert set(listed) == set(names["metrics"])


def test_every_method_has_a_page() -> None:
    methods = {*gacf.methods.actor_critic.METHODS, *gacf.flows.FLOWS, "gan"}
    missing = [name for name in methods if f"docs/methods/{name}.md" not in pages("methods")]
    assert not missing


@pytest.mark.long
def test_the_experiment_of_the_guide_is_trained(tmp_path: Path) -> None:
    experiment, reader = blocks("docs/experiments.md")
    (tmp_path / "mine.py").write_text(experiment, encoding="utf-8")
    few = ["--config.steps=20", "--config.seeds=2", "--config.log_every=10"]
    place = tmp_path / "run"
    assert main(["run", str(tmp_path / "mine.py"), "--workdir", str(place), *few]) == 0
    assert (place / "policies.png").exists()
    names: dict[str, Any] = {}
    exec(reader, names)
    largest = names["finals"](place, "final/largest_action")
    assert len(largest) == 2
    assert largest.between(0, 2).all()
    exec(experiment, names)
    assert len(names["get_sweep"](None)) == 8


PACKAGES = {
    "rules": "gacf.rules",
    "stabilizers": "gacf.stabilizers",
    "actor_critic": "gacf.methods.actor_critic",
    "gan": "gacf.methods.gan",
    "flows": "gacf.methods.flows",
    "games": "gacf.games",
    "networks": "gacf.networks",
    "envs": "gacf.envs",
    "data": "gacf.data",
    "metrics": "gacf.metrics",
    "runner": "gacf.runner",
    "sweep": "gacf.lab.sweep",
    "report": "gacf.lab.report",
    "index": "gacf",
}


@pytest.mark.parametrize("page", [path.removesuffix(".md") for path in pages("api")])
def test_every_public_name_is_on_its_page_of_the_reference(page: str) -> None:
    package = PACKAGES[Path(page).name]
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    shown = set(re.findall(rf"^::: {package}\.(\w+)$", text, flags=re.MULTILINE))
    elsewhere = set(re.findall(rf"`{package}\.(\w+)`", text))
    public = set(importlib.import_module(package).__all__)
    assert not public - shown - elsewhere
    assert not shown - public


def test_scores_on_the_pages_of_methods_are_those_of_the_results() -> None:
    """A figure stands on a method's page and among the results, and must not differ."""
    results = "".join(
        (ROOT / "docs" / name).read_text(encoding="utf-8")
        for name in ("results.md", "information_flow.md")
    )
    scores = [
        score
        for page in sorted((ROOT / "docs" / "methods").glob("*.md"))
        for score in re.findall(r"[−.\d]+ \[−?[.\d]+, −?[.\d]+\]", page.read_text(encoding="utf-8"))
    ]
    assert len(scores) > 50
    assert not [score for score in scores if score not in results]


def test_the_reference_has_a_page_for_every_package() -> None:
    assert {Path(page).stem for page in pages("api")} == set(PACKAGES)
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"api/{name}.md" in menu for name in PACKAGES)


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
