from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gacf.lab import config, experiment_file, overrides
from gacf.lab.errors import BadInput

from .common import TOY, edited

TOY_KEYS = (
    "actor.hidden, actor.learning_rate, bad, checkpoint_every, evaluate_every, flag, label, "
    "log_every, map, nothing, rate, seed, seeds, steps, x64"
)


def resolve(*given: str, path: Path = TOY) -> Any:
    return overrides.resolve(experiment_file.load(path), given)


def test_overrides_parse_as_users_of_config_flags_expect():
    made = resolve(
        "--config.seeds=7",
        "--config.steps",
        "1000",
        "--config.actor.hidden=(8, 8, 8)",
        "--config.actor.learning_rate=1",
        "--config.flag",
        "--config.rate=.5",
        "--config.label=a=b",
        "--config.bad",
        "-1",
    )
    assert (made.seeds, made.steps, made.actor.hidden) == (7, 1000, (8, 8, 8))
    assert isinstance(made.actor.learning_rate, float)
    assert (made.flag, made.rate, made.label, made.bad) == (True, 0.5, "a=b", -1)
    assert resolve("--noconfig.flag", "--config.seeds=2", "--config.seeds=3").seeds == 3
    assert resolve("--config.actor.hidden=8").actor.hidden == (8,)


def test_keys_that_the_file_leaves_out_have_defaults_that_follow_the_overrides(tmp_path: Path):
    path = tmp_path / "short.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(): return ConfigDict({'steps': 1000})\n"
        "def build(config): pass\n"
    )
    made = resolve(path=path)
    assert (made.seeds, made.seed, made.map) == (16, 0, "auto")
    assert (made.log_every, made.evaluate_every, made.checkpoint_every) == (10, 100, 100)
    made = resolve("--config.steps=50", "--config.evaluate_every=5", path=path)
    assert (made.log_every, made.evaluate_every, made.checkpoint_every) == (1, 5, 5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "sedes=3",
            f"sedes: is not a key of this config; did you mean 'seeds'? allowed: {TOY_KEYS}",
        ),
        (
            "learning_rate=1",
            "learning_rate: is not a key of this config; did you mean 'actor.learnin",
        ),
        ("actor=1", "actor: is a group of keys; allowed: actor.hidden, actor.learning_rate"),
        ("seeds=0", "seeds: 0 was given; allowed: a whole number >= 1"),
        ("seeds=abc", "seeds: 'abc' was given; allowed: a whole number >= 1"),
        ("seeds=1.5", "seeds: '1.5' was given; allowed: a whole number >= 1"),
        ("seeds", "seeds: no value was given; allowed: a whole number >= 1"),
        ("seed=-1", "seed: -1 was given; allowed: a whole number >= 0"),
        ("steps=-5", "steps: -5 was given; allowed: a whole number >= 1"),
        ("bad=x", "bad: 'x' was given; allowed: a whole number"),
        ("rate=x", "rate: 'x' was given; allowed: a number"),
        ("rate=nan", "rate: nan was given; allowed: a number"),
        ("flag=maybe", "flag: 'maybe' was given; allowed: true or false"),
        ("actor.learning_rate=-1", "actor.learning_rate: -1.0 was given; allowed: a number > 0"),
        ("actor.learning_rate=inf", "actor.learning_rate: inf was given; allowed: a number > 0"),
        ("actor.hidden=ab", "actor.hidden: 'ab' was given; allowed: a tuple such as (3, 4)"),
        ("map=vmapp", "map: 'vmapp' was given; allowed: one of auto, vmap, loop, "),
        ("log_every=3", "evaluate_every: 4 was given; allowed: a multiple of log_every, which is "),
        (
            "nothing=1",
            "nothing: cannot be overridden, because its default None does not tell its type",
        ),
        ("log_every=0", "log_every: 0 was given; allowed: a whole number >= 1"),
    ],
)
def test_a_bad_override_is_one_line_that_names_key_value_and_what_is_allowed(
    override: str, message: str
):
    with pytest.raises(BadInput) as caught:
        resolve(f"--config.{override}")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def get_config", "def config", "CONFIG: edited.py does not define the function get_conf"),
        ("def build", "def make", "CONFIG: edited.py does not define the function build()"),
        ("import os\n", "import os os\n", "CONFIG (edited.py:3): SyntaxError: invalid syntax"),
        ("import gacf", "import gcaf", "CONFIG (edited.py:10): ModuleNotFoundError: No module nam"),
        (
            "return ConfigDict",
            "return dict",
            "CONFIG: get_config() of edited.py returned a dict; allo",
        ),
        ('"steps": 40,', "", "steps: get_config() of edited.py does not set it"),
        ('"seeds": 5', '"seeds": "5"', "seeds: '5' was given; allowed: a whole number >= 1"),
        ('"label": "x"', '"label": object()', "label: a object was given; allowed: numbers, text,"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, old: str, new: str, message: str):
    with pytest.raises(BadInput) as caught:
        resolve(path=edited(tmp_path, old, new))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told_with_the_nearest_one(tmp_path: Path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "ring_gan.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"did you mean 'experiments/ring_gan.py'\?"):
        experiment_file.load("experiments/ring_gen.py")


def test_a_stored_config_comes_back_as_it_was():
    experiment = experiment_file.load(TOY)
    made = overrides.resolve(experiment, ["--config.actor.hidden=(8,)", "--config.rate=0.1"])
    back = config.from_json(experiment, config.to_json(made))
    assert config.leaves(back) == config.leaves(made)
    assert isinstance(back.actor.hidden, tuple)


def test_a_stored_config_of_another_experiment_is_refused():
    experiment = experiment_file.load(TOY)
    stored = config.to_json(overrides.resolve(experiment))
    with pytest.raises(BadInput, match=r"^extra: get_config\(\) does not have it"):
        config.from_json(experiment, {**stored, "extra": 1})
    with pytest.raises(BadInput, match=r"^seeds: 'x' was given in config.json; allowed: a whole"):
        config.from_json(experiment, {**stored, "seeds": "x"})


@pytest.mark.parametrize("key", sorted(config.LIMITS))
def test_every_limit_refuses_something(key: str):
    limit = config.LIMITS[key]
    wrong = (-1, float("nan"), "?", None, 1 if key == "x64" else True)
    assert not any(config._holds(limit, one) for one in wrong)
