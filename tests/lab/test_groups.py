"""One program a shape: what is batched, what splits, and that nobody's numbers depend on it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from gacf.lab import checkpoint, experiment_file, files, overrides, preparation, states, sweep
from gacf.lab.cli import main
from gacf.lab.sweep import units, vocabulary
from gacf.runner import Program

from .common import ROOT, TOY, metrics, process, run

SHORT = ("--config.steps=16", "--config.seeds=3")
MORE = """
_build = build

def build(config):
    if config.clip:
        config = config.copy_and_resolve_references()
        config.actor.learning_rate = config.actor.learning_rate * (1 - config.clip)
    algorithm = _build(config)
    game_init = algorithm.init
    return algorithm

_get_config = get_config

def get_config():
    config = _get_config()
    config.clip = 0.0
    config.shift = 0.0
    return config

def finish(config, finals):
    ((cell, state),) = finals.items()
    return {cell: {"rate": np.full(len(state.key), config.actor.learning_rate)}}
"""


def file(directory: Path, more: str = "") -> Path:
    path = directory / "swept.py"
    path.write_text(TOY.read_text().replace("import jax\n", "import jax\nimport numpy as np\n", 1))
    with path.open("a") as end:
        end.write(MORE + more)
    return path


def command(directory: Path, path: Path, *more: str) -> int:
    return main(["sweep", str(path), "--workdir", str(directory), *SHORT, *more])


def summary(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "sweep-summary.json").read_text())


def close(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert one.drop(columns="value").equals(other.drop(columns="value"))
    np.testing.assert_allclose(one.value, other.value, rtol=2e-5, atol=1e-6)


RATES = "--sweep.actor.learning_rate=0.05,0.1,0.3"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rates times two values of a float that `build` branches on."""
    place = tmp_path_factory.mktemp("grid")
    assert command(place / "sweep", file(place), RATES, "--sweep.clip=0.0,0.5") == 0
    return place / "sweep"


@pytest.mark.long
def test_floats_are_batched_and_one_that_is_branched_on_splits_with_a_note(grid: Path):
    found = summary(grid)
    assert found["finished"] == found["variants"] == 6
    assert found["compilations"] == len(found["units"]) == 2
    (note,) = found["notes"]
    assert note.startswith("clip: one program for each of its values") and "bool" in note.lower()
    for unit in found["units"].values():
        assert unit["traced"] == ["actor.learning_rate"] and len(unit["variants"]) == 3


@pytest.mark.long
def test_a_variant_of_a_group_is_what_run_makes(grid: Path, tmp_path: Path):
    overrides = ("--config.actor.learning_rate=0.3", "--config.clip=0.5")
    path = grid.parent / "swept.py"
    assert run(tmp_path / "run", *SHORT, *overrides, experiment=path) == 0
    variant = grid / "learning_rate=0.3,clip=0.5"
    assert {p.name for p in variant.iterdir()} == {p.name for p in (tmp_path / "run").iterdir()}
    for name in ("config.json", "experiment.py"):
        assert (variant / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name
    close(metrics(variant), metrics(tmp_path / "run"))
    rates = metrics(variant).query("metric == 'final/rate'").value
    assert list(rates) == [0.3] * 3  # `finish` saw this setting's config and state
    one, other = (states.load_cells(d)["swept"] for d in (variant, tmp_path / "run"))
    np.testing.assert_allclose(one.params["actor"]["w"], other.params["actor"]["w"], rtol=1e-5)
    assert int(one.step) == 16
    assert main(["resume", str(variant)]) == 0


@pytest.mark.long
def test_the_tidy_table_holds_all_of_it(grid: Path):
    whole = pd.read_parquet(grid / "sweep.parquet")
    assert list(whole.columns[:3]) == ["variant", "actor.learning_rate", "clip"]
    part = whole[(whole["actor.learning_rate"] == 0.1) & (whole["clip"] == 0.5)]
    part = part[["cell", "seed", "step", "metric", "value"]].reset_index(drop=True)
    for column in ("cell", "metric"):
        part[column] = part[column].astype(str)
    one = metrics(grid / "learning_rate=0.1,clip=0.5")
    assert list(part.value.fillna(-1)) == list(one.value.fillna(-1))
    assert len(whole) == 6 * len(one)


@pytest.mark.long
def test_numbers_depend_neither_on_the_others_nor_on_the_cut(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    needed, _ = preparation.memory(
        preparation.prepare_group(
            experiment_file.load(grid.parent / "swept.py"),
            [
                overrides.resolve(
                    experiment_file.load(grid.parent / "swept.py"),
                    [*SHORT, f"--config.actor.learning_rate={r}"],
                )
                for r in (0.05, 0.1, 0.3)
            ],
            ["actor.learning_rate"],
        )["swept"]
    )
    monkeypatch.setattr(preparation, "bytes_free", lambda device: needed - 1)
    assert command(tmp_path / "cut", grid.parent / "swept.py", RATES) == 0
    sizes = [len(unit["variants"]) for unit in summary(tmp_path / "cut")["units"].values()]
    assert sorted(sizes) == [1, 2]
    for rate in ("0.05", "0.1", "0.3"):
        cut = metrics(tmp_path / "cut" / f"learning_rate={rate}")
        close(cut, metrics(grid / f"learning_rate={rate},clip=0.0"))


@pytest.mark.long
def test_one_compilation_and_one_dispatch_a_window(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Nine settings cost the compilations and calls of one; counted where XLA is called."""
    calls = []
    advance = Program.advance

    def counted(self: Any, *args: Any) -> Any:
        calls.append(self.lanes)
        return advance(self, *args)

    monkeypatch.setattr(Program, "advance", counted)
    shift = TOY.read_text().replace("- batch) ** 2", "- batch - config.shift) ** 2")
    path = tmp_path / "swept.py"
    path.write_text(shift.replace('"flag": False,', '"flag": False, "shift": 0.0,'))
    with caplog.at_level(logging.WARNING), jax.log_compiles(True):
        assert command(tmp_path / "nine", path, RATES, "--sweep.shift=0.0,0.1,0.2") == 0
    compiled = [r.getMessage() for r in caplog.records]
    assert sum("Finished XLA compilation of jit(_all)" in text for text in compiled) == 1
    assert len(list((tmp_path / "nine").glob("*/summary.json"))) == 9
    assert set(calls) == {27} and len(calls) == 8
    assert summary(tmp_path / "nine")["compilations"] == 1


@pytest.mark.long
def test_a_killed_group_goes_on_from_its_checkpoint(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = grid.parent / "swept.py"
    save = checkpoint.save

    def interrupted(place: Path, state: Any, *rest: Any) -> Path:
        if int(state.step) == 16:
            raise KeyboardInterrupt
        return save(place, state, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", interrupted)
        assert command(tmp_path / "sweep", path, RATES) == 130
    (halfway,) = (tmp_path / "sweep").glob("units/*/checkpoints/swept/*")
    assert halfway.name == "0000000008"
    init = Program.init
    monkeypatch.setattr(Program, "init", lambda *args: pytest.fail("it began anew"))
    assert main(["sweep", str(tmp_path / "sweep"), "--resume"]) == 0
    monkeypatch.setattr(Program, "init", init)
    for rate in ("0.05", "0.1", "0.3"):
        one = tmp_path / "sweep" / f"learning_rate={rate}"
        other = grid / f"learning_rate={rate},clip=0.0"  # the same group, undisturbed
        name = "metrics.parquet"
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert not list((tmp_path / "sweep").glob("units/*/checkpoints"))


@pytest.mark.long
def test_results_half_written_are_written_the_rest(grid: Path, tmp_path: Path, monkeypatch: Any):
    """Killed between the variants of a group: those that are there stay, the others are made."""
    write = files.write_atomically

    def deadly(path: Path, data: bytes) -> None:
        if path == tmp_path / "sweep" / "learning_rate=0.1" / "summary.json":
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", deadly)
        assert command(tmp_path / "sweep", grid.parent / "swept.py", RATES) == 130
    first = tmp_path / "sweep" / "learning_rate=0.05" / "summary.json"
    before = first.stat().st_mtime_ns
    variant = tmp_path / "sweep" / "learning_rate=0.1"
    left = variant / "checkpoints" / "swept" / f"{files.WRITING}0000000016-1-ab"
    left.mkdir()  # as by a process that is killed in the middle of a checkpoint
    assert main(["resume", str(tmp_path / "sweep")]) == 0
    assert first.stat().st_mtime_ns == before
    assert len(list((tmp_path / "sweep").glob("*/summary.json"))) == 3
    assert not left.exists()


@pytest.mark.long
def test_a_picture_that_fails_leaves_the_variants_before_it_complete(tmp_path: Path):
    more = """
def pictures(config, finals):
    if config.actor.learning_rate > 0.2:
        raise ValueError("nothing to see")
    return {}
"""
    assert command(tmp_path / "sweep", file(tmp_path, more), RATES) == 1
    made = {path.parent.name for path in (tmp_path / "sweep").glob("*/summary.json")}
    assert made == {"learning_rate=0.05", "learning_rate=0.1"}


@pytest.mark.slow
def test_compiled_programs_are_kept_in_the_users_cache_folder(tmp_path: Path):
    """A second process takes the program from there, and gets the same numbers."""
    seconds = []
    for i in range(2):
        call = ["run", ROOT / "experiments" / "ring_gan.py", "--workdir", tmp_path / str(i)]
        small = ["--config.steps=4", "--config.seeds=2", "--config.batch_size=8"]
        made = process(
            *call, *small, XDG_CACHE_HOME=str(tmp_path / "cache"), JAX_COMPILATION_CACHE_DIR=""
        )
        assert made.returncode == 0, made.stderr
        assert "arning" not in made.stderr and "machine" not in made.stderr, made.stderr
        found = json.loads((tmp_path / str(i) / "summary.json").read_text())
        seconds.append(found["cells"]["ring_gan"]["compile_seconds"])
    kept = list((tmp_path / "cache" / "gacf").glob("xla-*/jit__all-*"))
    assert len(kept) == 1
    assert seconds[1] < 0.7 * seconds[0]
    one, other = (tmp_path / str(i) / "metrics.parquet" for i in range(2))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.long
def test_a_refused_value_fails_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    more = """
_other = build

def build(config):
    gacf.core.checks.require("shift", config.shift, lambda x: x < 1, "less than 1")
    return _other(config)
"""
    path = file(tmp_path, more)
    assert command(tmp_path / "sweep", path, "--sweep.shift=0.0,0.5,2.0") == 1
    assert "variant 'shift=2.0' failed: build(config)" in capsys.readouterr().err
    found = summary(tmp_path / "sweep")
    assert found["finished"] == 2 and found["compilations"] == 1


@pytest.mark.long
def test_the_gan_of_a_ring_is_one_program():
    loaded = experiment_file.load(ROOT / "experiments" / "gan.py")
    small = ["--config.hidden=(4,)", "--config.batch_size=4", "--config.noise=2"]
    swept = ["--sweep.learning_rate=1e-4,1e-3,1e-2", "--sweep.smoothing=0.0,0.1,0.25"]
    found = sweep.variants(loaded, [*small, "--config.seeds=64"], swept)
    plan = units.plan(loaded, found)
    (unit,) = plan.units
    assert len(unit.variants) == 9 and not plan.notes
    (program,) = plan.programs[unit.name].values()
    assert program.lanes == 9 * 64
    plan = units.plan(loaded, found, workers=2)
    assert [len(unit.variants) for unit in plan.units] == [4, 5]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--sweep.actor.learning_rte=1,2", "sweep.actor.learning_rte: is not a key of this config; "
         "did you mean 'actor.learning_rate'?"),
        ("--sweep.actor=1,2", "sweep.actor: is a group of keys"),
        ("--sweep.actor.learning_rate", "sweep.actor.learning_rate: no value was given"),
        ("--sweep.actor.learning_rate=0.1,x", "sweep.actor.learning_rate: 'x' was given"),
        ("--sweep.actor.learning_rate=-1", "sweep.actor.learning_rate: -1.0 was given; allowed:"),
        ("--sweep.rate=log_uniform(0,1)", "sweep.rate: log_uniform(0,1) was given; allowed: log"),
        ("--sweep.rate,bad=1:2,3", "sweep.rate,bad: '3' was given; allowed: 2 values separated by"),
        ("--sweep.steps=4,8", "steps: was given, but variant 'steps=4' sets it too"),
    ],
)  # fmt: skip
def test_a_bad_sweep_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
):
    assert command(tmp_path / "sweep", TOY, given) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.removeprefix("gacf: ").startswith(message)
    assert not list(tmp_path.iterdir())


def test_the_vocabulary_on_the_line():
    parse = vocabulary.parse
    found = parse(["--sweep.hidden=(4,),(8,8)", "--sweep.a,b=1:2,3:4"], 1, 0)
    assert found["hidden=8x8,a=3,b=4"] == {"hidden": "(8,8)", "a": "3", "b": "4"}
    drawn = parse(["--sweep.rate=log_uniform(1e-4,1e-2)", "--sweep.n=integers(1,3)"], 200, 0)
    rates = np.array([row["rate"] for row in drawn.values()])
    assert ((rates >= 1e-4) & (rates <= 1e-2)).all()
    assert 0.4 < np.mean(rates < 1e-3) < 0.6  # half of them below the geometric mean
    assert {row["n"] for row in drawn.values()} == {1, 2, 3}
    same = parse(["--sweep.rate=log_uniform(1e-4,1e-2)", "--sweep.n=integers(1,3)"], 200, 0)
    assert same == drawn
