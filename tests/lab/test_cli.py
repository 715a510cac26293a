from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict
from scipy import stats

from gacf.lab import checkpoint, run_directory, schedule, states
from gacf.lab.cli import main

from .common import ROOT, TOY, edited, metrics, process, run

SAID: dict[str, str] = {}
SHORT = ("--config.steps=8", "--config.seeds=2")


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, but that its seed 3 turns NaN."""
    directory = tmp_path_factory.mktemp("bad") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run(directory, "--config.bad=3") == 0
    SAID["bad"] = said.getvalue()
    return directory


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line on stderr of a command that exits with 2."""
    capsys.readouterr()
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(said) == 1
    return said[0]


def test_a_run_leaves_config_table_summary_and_pictures(whole: Path):
    assert {p.name for p in whole.iterdir()} == {
        "checkpoints",
        "config.json",
        "curves-evaluation.png",
        "curves-training.png",
        "experiment.py",
        "metrics.parquet",
        "summary.json",
    }
    stored = json.loads((whole / "config.json").read_text())
    assert stored["config"]["actor"] == {"hidden": [3, 4], "learning_rate": 0.1}
    assert stored["devices"] == {"platform": "cpu", "count": 4}
    frame = metrics(whole)
    assert list(frame.columns) == ["cell", "seed", "step", "metric", "value"]
    counts = frame.groupby("metric").size().to_dict()
    logged, evaluated = 5 * 20, 5 * 10
    assert counts == {
        "actor/loss": logged,
        "critic/loss": logged,
        "diverged": logged,
        "evaluate/distance": evaluated,
    }
    summary = json.loads((whole / "summary.json").read_text())
    (cell,) = summary["cells"].values()
    assert cell["seeds"] == 5 and cell["diverged"] == {}
    assert all(cell[f"{kind}_seconds"] > 0 for kind in ("wall", "compile", "train"))
    last = frame[(frame.metric == "evaluate/distance") & (frame.step == 40)].value
    entry = cell["metrics"]["evaluate/distance"]
    assert entry["finals"] == last.tolist() and entry["n"] == 5
    assert entry["iqm"] == stats.trim_mean(last, 0.25)
    assert entry["low"] < entry["iqm"] < entry["high"]


@pytest.mark.long
def test_one_bad_seed_is_flagged_and_changes_no_other(whole: Path, bad: Path):
    one, other = metrics(whole), metrics(bad)
    pd.testing.assert_frame_equal(
        one.query("seed != 3"), other.query("seed != 3"), check_exact=True
    )
    lane = other[(other.seed == 3) & (other.metric == "evaluate/distance")]
    assert lane.value.isna().any() and not lane.value.isna().all()
    summary = json.loads((bad / "summary.json").read_text())
    (cell,) = summary["cells"].values()
    flagged = other[(other.metric == "diverged") & (other.value == 1)]
    assert set(flagged.seed) == {3}
    assert cell["diverged"] == {"3": int(flagged.step.min())}
    entry = cell["metrics"]["evaluate/distance"]
    kept = one[(one.metric == "evaluate/distance") & (one.step == 40) & (one.seed != 3)].value
    assert entry["iqm"] == stats.trim_mean(kept, 0.25)
    assert entry["n"] == 4 and entry["finals"][3] is None


@pytest.mark.long
def test_reports_compare_runs(whole: Path, bad: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(whole), str(bad), "--markdown"]) == 0
    said = capsys.readouterr().out
    assert "| run | cell | distance | n | diverged |" in said
    assert "| 4/5 | seed 3 at " in said and "| 5/5 | none |" in said
    assert main(["report", str(bad), "--latex"]) == 0
    assert r"\bottomrule" in capsys.readouterr().out
    assert main(["report", str(bad)]) == 0
    assert "4/5" in capsys.readouterr().out


@pytest.mark.long
def test_windows_need_not_fit_and_the_last_step_is_always_measured(tmp_path: Path):
    directory = tmp_path  # an empty directory will do
    overrides = ("--config.steps=11", "--config.log_every=4", "--config.evaluate_every=8")
    assert run(directory, *overrides, "--config.checkpoint_every=8", "--config.seeds=3") == 0
    frame = metrics(directory)
    steps = {name: sorted(set(rows.step)) for name, rows in frame.groupby("metric")}
    assert steps["actor/loss"] == [4, 8, 11]
    assert steps["evaluate/distance"] == [8, 11]
    (state,) = states.load_cells(directory).values()
    assert int(state.step) == 11


@pytest.mark.parametrize(
    ("steps", "log_every", "checkpoint_every", "width"),
    [(10_000, 100, 1_000, 1), (1_000_000, 100, 10_000, 100), (1_000, 1, 12, 6), (4, 2, 100, 1)],
)
def test_calls_end_at_checkpoints_and_are_about_a_hundred(
    steps: int, log_every: int, checkpoint_every: int, width: int
):
    settings = ConfigDict(
        {
            "steps": steps,
            "log_every": log_every,
            "evaluate_every": checkpoint_every,
            "checkpoint_every": checkpoint_every,
        }
    )
    plan = schedule.plan(settings)
    assert plan.width == width
    assert sum(plan.counts) == steps == plan.grid.ends[-1]
    assert plan.grid.due[-1]


@pytest.mark.long
def test_cells_finish_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "two.py"
    path.write_text(
        TOY.read_text().replace("def build", "def one").replace("def pictures", "def unused")
        + """
import matplotlib.pyplot as plt

METRICS = ["final/spread", "evaluate/distance"]

def build(config):
    import ml_collections
    fast = ml_collections.ConfigDict(config.to_dict())
    fast.actor.learning_rate = 0.5
    return {"slow, 0.1": one(config), "fast/0.5": one(fast)}

def finish(config, finals):
    # A LAPACK call, which would hang on a state that is spread over several devices.
    def largest(state):
        return jax.vmap(lambda w: jnp.linalg.eigvalsh(w @ w.T)[-1])(state.params["actor"]["w"])
    return {cell: {"spread": largest(state)} for cell, state in finals.items()}

def pictures(config, finals):
    figure, ax = plt.subplots()
    ax.plot([len(finals)])
    return {"own": figure}
"""
    )
    directory = tmp_path / "run"
    assert run(directory, *SHORT, experiment=path) == 0
    said = capsys.readouterr().out
    assert "slow, 0.1" in said and "fast/0.5" in said
    heading = next(line for line in said.splitlines() if "distance" in line and "cell" in line)
    # The key metric first, then the others in their order.
    assert heading.split() == ["cell", "distance", "spread", "n", "diverged"]
    assert (directory / "own.png").read_bytes().startswith(b"\x89PNG")
    frame = metrics(directory)
    spread = frame[frame.metric == "final/spread"]
    assert spread.groupby("cell").size().to_dict() == {"slow, 0.1": 2, "fast/0.5": 2}
    assert set(spread.step) == {8}
    assert set(states.load_cells(directory)) == {"slow, 0.1", "fast/0.5"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def init(key):", "def init(key):\n        raise ValueError('hinje: no')", "hinje: no"),
        (
            'params["critic"] - params["actor"][\'w\']'.replace("'", '"'),
            'params["critic"] - jnp.ones(7)',
            "cell 'edited' (edited.py:",
        ),
        ("sgd = optax.sgd(config.actor", "sgd = optax.sgd(config.akter", "AttributeError"),
        ("return gacf.compose(", "return (", "build(config) of edited.py returned a tuple"),
        ('"evaluate/distance"', '"evaluate/distanse"', "did you mean 'evaluate/distance'?"),
    ],
)
def test_what_the_experiment_raises_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
):
    path = edited(tmp_path, old, new)
    assert message in refused(capsys, "run", path, "--workdir", tmp_path / "run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["edited.py"]


def test_a_step_that_changes_the_state_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = edited(
        tmp_path,
        "return gacf.compose(game",
        "game = game._replace(settle=lambda p, w, o: {'new': jnp.zeros(2)})\n"
        "    return gacf.compose(game",
    )
    said = refused(capsys, "run", path, "--workdir", tmp_path / "run")
    assert "`step` turns state.world['new'] from nothing into float32[2]" in said
    assert not (tmp_path / "run").exists()


def test_a_bad_call_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run_dir = tmp_path / "run"
    seeds = refused(capsys, "run", TOY, "--workdir", run_dir, "--config.seeds", "0")
    assert seeds == "gacf: seeds: 0 was given; allowed: a whole number >= 1 and <= 16777216"
    assert "did you mean 'run'?" in refused(capsys, "rnu")
    assert "CONFIG" in refused(capsys, "run")
    assert "allowed: --workdir" in refused(capsys, "run", TOY, "--wrokdir", run_dir)
    assert "as in --config.seeds=3" in refused(capsys, "run", TOY, "--seeds=3")
    assert "see gacf report --help" in refused(capsys, "report", tmp_path, "--wide")
    assert "not the directory of a run" in refused(capsys, "resume", run_dir)
    assert "only `gacf run`" in refused(capsys, "watch", run_dir, "--config.seeds=2")
    (tmp_path / "file").touch()
    assert "is a file" in refused(capsys, "run", TOY, "--workdir", tmp_path / "file")
    taken = refused(capsys, "run", TOY, "--workdir", tmp_path)
    assert f"is not empty; allowed: a new directory, or go on with: gacf resume {tmp_path}" in taken
    assert not run_dir.exists()


def test_resuming_a_finished_run_says_so(whole: Path, capsys: pytest.CaptureFixture[str]):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")}
    assert main(["resume", str(whole)]) == 0
    assert "is finished" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in whole.rglob("*")}


def test_a_run_in_progress_is_left_alone(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("config.json", "experiment.py"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    with run_directory.alone(tmp_path):
        assert "by another process" in refused(capsys, "resume", tmp_path)


@pytest.mark.long
def test_an_interrupted_run_says_how_to_go_on_and_does(
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    directory = tmp_path / "run"
    save = checkpoint.save

    def interrupted(place: Path, state: object, *rest: object) -> Path:
        if getattr(state, "step") == 24:  # noqa: B009
            raise KeyboardInterrupt
        return save(place, state, *rest)  # type: ignore

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", interrupted)
        assert run(directory) == 130
    assert f"gacf resume {directory}" in capsys.readouterr().err
    assert main(["resume", str(directory)]) == 0
    assert (directory / "metrics.parquet").read_bytes() == (whole / "metrics.parquet").read_bytes()


def test_elsewhere_than_in_a_terminal_progress_is_a_few_lines(bad: Path):
    said = [line for line in SAID["bad"].splitlines() if line.startswith("toy: ")]
    assert len(said) == 21
    assert "40/40" in said[-1] and "distance " in said[-1] and "diverged 1/5" in said[-1]


def test_list_names_everything(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("experiments/ring_gan.py", "gan", "ddpg", "alternating", "gradient", "freeze"):
        assert name in said
    assert "Pendulum-v1" in said


@pytest.mark.slow
def test_the_command_uses_all_cores_unless_told_otherwise(tmp_path: Path):
    done = process("run", TOY, "--workdir", tmp_path / "run", *SHORT, XLA_FLAGS="")
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["devices"]["count"] == len(os.sched_getaffinity(0))


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_can_be_resumed(tmp_path: Path):
    directory = tmp_path / "run"
    child = subprocess.Popen(
        [*f"{sys.executable} -m gacf run {TOY} --config.steps=40000 --workdir".split(), directory],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(directory.glob("checkpoints/toy/[0-9]*")):
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.strip().splitlines()[-1].endswith(f"gacf resume {directory}")
    assert not (directory / "summary.json").exists()


def test_numbers_in_the_table_are_finite_or_null(bad: Path):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((bad / "summary.json").read_text(), parse_constant=refuse)
    assert np.isfinite(metrics(bad).query("metric == 'diverged'").value).all()
