"""Trackers are told what happened, and are never waited for."""

from __future__ import annotations

import importlib.util
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gacf.lab.cli import main
from gacf.lab.sweep import track

from .common import TOY, metrics, process

SHORT = ("--config.steps=8", "--config.seeds=3", "--config.evaluate_every=4")
RATES = "--sweep.actor.learning_rate=0.1,0.2"
SCALARS = {"evaluate/x": np.array([[np.nan, 1.0], [np.nan, 3.0]]), "loss": np.ones((2, 2))}
ENDS = np.array([2, 4])


def test_each_seed_and_all_of_them_are_told(tmp_path: Path):
    told: list[Any] = []

    def make(place: Path) -> Any:
        assert place == tmp_path / "track" / "tensorboard"
        return lambda *row: told.append(row), lambda: told.append("closed")

    made = track.Tracker("tensorboard", tmp_path, Console(), make)
    made("a", "cell", ENDS, SCALARS)
    made.close()
    (run, step, means, seeds), closed = told
    assert (run, step, closed) == ("a/cell", 4, "closed")
    assert means == {"evaluate/x": 2.0, "loss": 1.0}
    np.testing.assert_array_equal(seeds["evaluate/x"], [1.0, 3.0])


def test_a_slow_tracker_is_not_waited_for_and_what_it_missed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(track, "PATIENCE", 0.2)
    make: Any = lambda place: (lambda *row: time.sleep(60), lambda: None)  # noqa: E731
    made = track.Tracker("wandb", tmp_path, Console(stderr=True, width=200), make)
    began = time.monotonic()
    for _ in range(track.WAITING + 50):
        made("a", "cell", ENDS, SCALARS)
    made.close()
    assert time.monotonic() - began < 5
    assert 49 <= made.dropped <= 50
    said = capsys.readouterr().err
    assert "does not answer; left behind" in said
    assert f"{made.dropped} updates were dropped" in said


@pytest.mark.long
def test_a_dead_tracker_kills_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def dead(place: Path) -> Any:
        def log(*row: Any) -> None:
            raise ConnectionError("gone")

        return log, lambda: None

    monkeypatch.setitem(track.TRACKERS, "tensorboard", ("numpy", dead))
    assert (
        main(["run", str(TOY), "--workdir", str(tmp_path / "run"), *SHORT, "--track=tensorboard"])
        == 0
    )
    said = capsys.readouterr().err
    assert said.count("--track tensorboard: ConnectionError: gone; training goes on") == 1
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_tracker_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(track.TRACKERS, "wandb", ("no_such_package", None))
    call = ["run", str(TOY), "--workdir", str(tmp_path / "run"), "--track=wandb"]
    assert main(call) == 2
    assert "wandb needs no_such_package; pip install 'gacf[track]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def last(directory: Path, variant: str) -> Mapping[int, float]:
    found = metrics(directory / variant).query("metric == 'evaluate/distance' and step == 8")
    return dict(zip(found.seed, found.value, strict=True))


def tracked(tmp_path: Path, kind: str) -> Path:
    directory = tmp_path / "sweep"
    if kind == "tensorboard":
        assert (
            main(["sweep", str(TOY), "--workdir", str(directory), *SHORT, RATES, "--track", kind])
            == 0
        )
        return directory
    # In a process of its own: what a tracker warns of at its import is its own affair.
    call = ["sweep", TOY, "--workdir", directory, *SHORT, RATES, "--track", kind]
    made = process(*call, HOME=str(tmp_path))
    assert made.returncode == 0 and "--track" not in made.stderr, made.stderr
    return directory


@pytest.mark.slow
def test_tensorboard(tmp_path: Path):
    pytest.importorskip("tensorboardX")
    directory = tracked(tmp_path, "tensorboard")
    place = directory / "track" / "tensorboard" / "learning_rate=0.2" / "toy"
    assert {p.name for p in place.iterdir()} == {"all", "seed 0", "seed 1", "seed 2"}
    from tensorboardX import proto

    values = {}
    for seed in range(3):
        (file,) = (place / f"seed {seed}").glob("events*")
        for record in records(file.read_bytes()):
            event = proto.event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.tag == "evaluate/distance":
                    values[seed, event.step] = value.simple_value
    wanted = last(directory, "learning_rate=0.2")
    assert {seed for seed, step in values if step == 8} == set(wanted)
    for seed, value in wanted.items():
        assert values[seed, 8] == pytest.approx(value)


def records(data: bytes) -> Any:
    while data:
        length = int.from_bytes(data[:8], "little")
        yield data[12 : 12 + length]
        data = data[16 + length :]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra `track`")
def test_mlflow(tmp_path: Path):
    directory = tracked(tmp_path, "mlflow")
    with sqlite3.connect(directory / "track" / "mlflow" / "mlflow.db") as base:
        rows = base.execute(
            "select r.name, m.key, m.value from metrics m join runs r using (run_uuid)"
            " where m.step = 8"
        ).fetchall()
    found = {(name, key): value for name, key, value in rows}
    for seed, value in last(directory, "learning_rate=0.2").items():
        key = "learning_rate=0.2/toy", f"seed {seed}/evaluate/distance"
        assert found[key] == pytest.approx(value)
    assert ("learning_rate=0.1/toy", "evaluate/distance") in found


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="the extra `track`")
def test_wandb(tmp_path: Path):
    directory = tracked(tmp_path, "wandb")
    runs = list((directory / "track" / "wandb").glob("wandb/offline-run-*/*.wandb"))
    assert len(runs) == 2
    assert all(b"seed 2/evaluate/distance" in path.read_bytes() for path in runs)
