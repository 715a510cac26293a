"""`gacf new`, experiments by their names, `gacf sample` and `gacf play`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from matplotlib import animation
from PIL import Image

import gacf
from gacf import envs
from gacf.lab import episodes, sampling, shipped
from gacf.lab.cli import main
from gacf.lab.errors import BadInput

KEY = jax.random.key(0)
TINY = ("--config.seeds=2", "--config.steps=4", "--config.log_every=2")


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the experiment that `gacf new` writes."""
    place = tmp_path_factory.mktemp("new")
    assert main(["new", str(place / "circle")]) == 0
    assert main(["run", str(place / "circle.py"), "--workdir", str(place / "run"), *TINY]) == 0
    return place / "run"


@pytest.mark.long
def test_a_new_experiment_trains_sweeps_and_draws(circle: Path, tmp_path: Path):
    assert (circle / "samples.png").exists() and (circle / "summary.json").exists()
    file = str(circle.parent / "circle.py")
    rates = "--sweep.actor.learning_rate=1e-3,3e-3"
    assert main(["sweep", file, "--workdir", str(tmp_path / "sweep"), rates, *TINY]) == 0
    assert len(list((tmp_path / "sweep").glob("*/summary.json"))) == 2
    import json

    summary = json.loads((tmp_path / "sweep" / "sweep-summary.json").read_text())
    assert summary["compilations"] == 1  # its `build` branches on no float


def test_new_refuses_names_that_are_taken_or_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine"]) == 0
    text = (tmp_path / "mine.py").read_text()
    assert text.startswith('"""mine:') and "gacf run mine.py" in text and "FILE" not in text
    compile(text, "mine.py", "exec")
    capsys.readouterr()
    for name, says in (
        ("mine", "NAME: 'mine.py' exists; allowed: a new name"),
        ("3x", "NAME: '3x' was given; allowed: letters"),
        ("my.exp", "NAME: 'my.exp' was given; allowed: letters"),
        ("", "NAME: '' was given; allowed: letters"),
        (".", "NAME: '.' was given; allowed: letters"),
        ("no/such/place", "NAME: 'no/such/place.py': No such file or directory"),
    ):
        assert main(["new", name]) == 2
        assert says in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]
    assert (tmp_path / "mine.py").read_text() == text


def test_an_experiment_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.find("ring_gan").read_text() == (shipped.directory() / "ring_gan.py").read_text()
    assert "table1" in shipped.names()
    (tmp_path / "ring_gan").write_text("own")
    assert shipped.find("ring_gan") == Path("ring_gan")  # a file goes first
    with pytest.raises(BadInput, match=r"no file 'ring_gun'; did you mean 'ring_gan'\?"):
        shipped.find("ring_gun")


@pytest.mark.slow
def test_the_wheel_has_the_experiments(tmp_path: Path):
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), str(root)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("gacf-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        "gacf/experiments/ring_gan.py",
        "gacf/py.typed",
        "gacf/lab/templates/experiment.py",
    } <= {*names}


@pytest.mark.long
def test_samples_are_what_propose_makes(circle: Path, capsys: pytest.CaptureFixture[str]):
    call = ["sample", str(circle), "--seed", "1", "-n", "6", "--key", "3", "--files"]
    assert main(call) == 0
    assert "6 samples [2] of seed 1" in capsys.readouterr().out
    with np.load(circle / "sample" / "samples.npz") as file:
        samples, noise = file["samples"], file["noise"]
    state = gacf.take_seed(gacf.load(circle), 1)
    expected = gacf.propose(gacf.load_algorithm(circle), state, noise)
    np.testing.assert_allclose(samples, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.load(circle / "sample" / "3.npy"), samples[3])
    assert (circle / "sample" / "samples.png").exists()


@pytest.mark.long
def test_interpolations_and_truncations(circle: Path, tmp_path: Path):
    more = [
        "--interpolate",
        "4",
        "--truncation",
        "0.5",
        "-n",
        "10",
        "--workdir",
        str(tmp_path / "i"),
    ]
    assert main(["sample", str(circle), *more]) == 0
    with np.load(tmp_path / "i" / "samples.npz") as file:
        assert file["samples"].shape == (10, 2)
        assert np.abs(file["noise"][[0, 3, 4, 7, 8]]).max() <= 0.5


def test_a_great_circle_goes_from_end_to_end_at_constant_speed():
    noise = jnp.array([[2.0, 0.0], [0.0, 4.0], [1.0, 1.0], [1.0, 1.0]])
    rows, labels = sampling.interpolated((noise, jnp.array([5, 6, 7, 8])), 3)
    third = 3 * np.array([np.cos(np.pi / 4), np.sin(np.pi / 4)])
    np.testing.assert_allclose(rows[:3], [[2, 0], third, [0, 4]], atol=1e-5)
    np.testing.assert_allclose(rows[3:], np.ones((3, 2)), rtol=1e-5)
    assert labels.tolist() == [5, 5, 5, 7, 7, 7]


@pytest.mark.long
def test_a_run_without_samples_or_episodes_says_so(
    circle: Path, capsys: pytest.CaptureFixture[str]
):
    for call, says in (
        (["play", str(circle)], "DIR: the actor of this run acts in no environment"),
        (["sample", str(circle), "--seed", "2"], "--seed: 2 was given; allowed: 0 to 1"),
        (["sample", str(circle), "-n", "0"], "-n: 0 was given"),
        (["sample", str(circle), "--key", "4294967296"], "--key: 4294967296 was given; allowed: 0"),
        (["play", str(circle), "--key", "-1"], "--key: -1 was given; allowed: 0 to 4294967295"),
        (["sample", str(circle), "--truncation", "0"], "--truncation: 0.0 was given"),
        (["sample", str(circle), "--interpolate", "1"], "--interpolate: 1 was given"),
        (["sample", str(circle), "--cell", "x"], "cell: 'x' is unknown; allowed: circle"),
        (["sample", "nowhere"], "'nowhere' is not the directory of a run"),
        (["sample", str(circle), "--truncation", "1e-9"], "some noise beyond it"),
    ):
        assert main(call) == 2, call
        assert says in capsys.readouterr().err


POLICY = """
import gacf, optax
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"seeds": 2, "steps": 2, "log_every": 1})

def build(config):
    game = gacf.a2c("Catch-bsuite", rollout=gacf.Rollout(num_envs=2, length=2, episodes=2))
    moves = dict.fromkeys(game.losses, optax.adam(1e-3))
    return gacf.compose(game, gacf.rules.simultaneous(moves))
"""


@pytest.mark.long
def test_episodes_are_played_and_filmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "catch.py").write_text(POLICY)
    place = tmp_path / "run"
    assert main(["run", str(tmp_path / "catch.py"), "--workdir", str(place)]) == 0
    assert main(["play", str(place), "--episodes", "5", "--video", "gif"]) == 0
    assert "over 5 episodes" in capsys.readouterr().out
    played = pd.read_csv(place / "play" / "episodes.csv")
    assert set(played["return"]) <= {-1.0, 1.0}  # the ball is caught, or it is not
    assert set(played["length"]) == {9}
    with Image.open(place / "play" / "episode.gif") as film:
        assert getattr(film, "n_frames", 1) == 9
    assert main(["sample", str(place)]) == 2
    assert "draws no samples" in capsys.readouterr().err
    if not animation.FFMpegWriter.isAvailable():
        other = str(tmp_path / "other")
        assert main(["play", str(place), "--video", "mp4", "--workdir", other]) == 2
        assert not Path(other).exists()
        assert "mp4 needs ffmpeg" in capsys.readouterr().err


@pytest.mark.long
def test_returns_are_those_of_the_environment():
    """A probe pays 1 for every step that it counts; the picture is the environment's own."""
    env = envs.make("CartPole-v1")
    env = env._replace(render=lambda state: jnp.zeros((4, 4, 3)))
    game = gacf.a2c(env, rollout=gacf.Rollout(num_envs=2, length=2))
    import optax

    rule = gacf.rules.simultaneous(dict.fromkeys(game.losses, optax.adam(1e-3)))
    algorithm = gacf.compose(game, rule)
    played: Any = episodes.play(algorithm, algorithm.init(KEY), KEY, 4)
    np.testing.assert_array_equal(played.returns, played.lengths)  # 1 a step
    assert len(played.rewards) == len(played.actions) == len(played.observations)
    assert played.lengths[0] == len(played.rewards) == len(played.frames)
