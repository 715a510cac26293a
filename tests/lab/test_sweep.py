from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from gacf.lab import checkpoint, experiment_file, run_directory, sweep
from gacf.lab.cli import main
from gacf.lab.errors import BadInput
from gacf.lab.sweep import directory as sweep_directory

from .common import TOY, run

OWN = {"sweep.json", "experiment.py", "sweep.parquet", "sweep-summary.json", "units"}
SHORT = ("--config.steps=16", "--config.seeds=2")
GET_SWEEP = """
_build = build

def build(config):
    if config.label == "broken":
        raise ValueError("label: broken was given\\nand more")
    return _build(config)

def get_sweep(config):
    return {
        "slow": {},
        "broken": {"label": "broken"},
        "fast, 0.5": {"actor.learning_rate": 0.5, "actor.hidden": (4,)},
    }
"""


def file(directory: Path, more: str = GET_SWEEP) -> Path:
    """The toy with variants."""
    path = directory / "swept.py"
    path.write_text(TOY.read_text() + more)
    return path


def command(directory: Path, path: Path, *overrides: str) -> int:
    return main(["sweep", str(path), "--workdir", str(directory), *SHORT, *overrides])


def touched(directory: Path) -> dict[Path, int]:
    """When each file of results was written; those of the sweep itself may be written anew."""
    files = [p for p in directory.rglob("*") if p.is_file()]
    return {p: p.stat().st_mtime_ns for p in files if not OWN & {p.name, p.parent.parent.name}}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep, one variant of which has failed; beside it the experiment's file."""
    place = tmp_path_factory.mktemp("swept")
    assert command(place / "sweep", file(place)) == 1
    return place / "sweep"


def copied(swept: Path, directory: Path) -> Path:
    shutil.copytree(swept, directory / "sweep")
    return directory / "sweep"


@pytest.mark.long
def test_a_variant_is_what_run_makes(swept: Path, tmp_path: Path):
    own = {"sweep.json", "experiment.py", "sweep.parquet", "sweep-summary.json", "units"}
    assert {p.name for p in swept.iterdir()} == {*own, "slow", "fast, 0.5"}
    overrides = ("--config.actor.learning_rate=0.5", "--config.actor.hidden=(4,)")
    assert run(tmp_path / "run", *SHORT, *overrides, experiment=swept.parent / "swept.py") == 0
    variant = swept / "fast, 0.5"
    assert {p.name for p in variant.iterdir()} == {p.name for p in (tmp_path / "run").iterdir()}
    for name in ("config.json", "experiment.py", "metrics.parquet"):
        assert (variant / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name


@pytest.mark.long
def test_finished_variants_are_left_alone_and_failing_ones_told(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    directory = copied(swept, tmp_path)
    before = touched(directory)
    for again in (
        lambda: command(directory, swept.parent / "swept.py"),
        lambda: main(["resume", str(directory)]),
    ):
        assert again() == 1
        said = capsys.readouterr()
        assert touched(directory) == before
        first, last = said.err.splitlines()
        assert first.startswith("gacf: variant 'broken' failed: build(config) (")
        assert first.endswith("label: broken was given")
        assert last.startswith("gacf: failed: broken;") and f"gacf resume {directory}" in last
        assert "variants left to train: 1\n" in said.out
        assert re.search(r"^ *slow +swept +.* 2/2 +none", said.out, flags=re.MULTILINE)
        assert re.search(r"^ *fast, 0.5 +swept +.* 2/2 +none", said.out, flags=re.MULTILINE)


@pytest.mark.long
def test_a_mended_file_trains_what_had_failed_alone(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    directory = copied(swept, tmp_path)
    before = touched(directory / "slow")
    mended = file(tmp_path, GET_SWEEP.replace('== "broken"', '== "mended"'))
    assert command(directory, mended) == 0
    said = capsys.readouterr()
    assert "experiment.py has changed since the sweep began" in said.err
    assert "slow (" not in said.out and "broken (1/1)" in said.out
    assert touched(directory / "slow") == before
    assert (directory / "broken" / "experiment.py").read_text() == mended.read_text()
    assert main(["resume", str(directory)]) == 0
    assert "variants left to train: 0\n" in capsys.readouterr().out


@pytest.mark.long
def test_an_interrupted_sweep_goes_on_from_the_checkpoint(
    swept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    directory, path = tmp_path / "sweep", swept.parent / "swept.py"
    save = checkpoint.save

    def interrupted(place: Path, state: object, *rest: object) -> Path:
        if place.is_relative_to(directory / "fast, 0.5") and getattr(state, "step") == 16:  # noqa: B009
            raise KeyboardInterrupt
        return save(place, state, *rest)  # type: ignore

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", interrupted)
        assert command(directory, path) == 130
    assert capsys.readouterr().err.strip().endswith(f"gacf resume {directory}")
    (halfway,) = directory.glob("fast, 0.5/checkpoints/swept/*")
    before = touched(halfway)
    assert main(["report", str(directory)]) == 0
    assert "not finished: broken, fast, 0.5; go on with" in capsys.readouterr().err

    assert main(["resume", str(directory)]) == 1
    assert touched(halfway) == before, "it began anew"
    for name in ("slow", "fast, 0.5"):
        one, other = (d / name / "metrics.parquet" for d in (swept, directory))
        assert one.read_bytes() == other.read_bytes()


def test_another_config_is_refused_with_the_keys(
    swept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    before = touched(swept)
    path = swept.parent / "swept.py"
    monkeypatch.setattr(sweep_directory, "WAIT", 0.1)
    assert command(swept, path, "--config.steps=24") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "variant 'slow' in" in said and "differing: steps (16, here 24)" in said
    other = tmp_path / "other.py"
    shutil.copyfile(path, other)
    assert command(swept, other) == 2
    assert "is a sweep of 'swept'; 'other' was given" in capsys.readouterr().err
    assert command(swept / "slow", path) == 2
    assert "is not empty" in capsys.readouterr().err
    with run_directory.alone(swept):
        assert command(swept, path) == 2
    assert "by another process" in capsys.readouterr().err
    assert touched(swept).keys() == before.keys()
    assert not (swept / "broken").exists()


def test_a_report_of_a_sweep_is_one_of_its_runs(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for form in ("--markdown", "--latex"):
        assert main(["report", str(swept), form]) == 0
        whole = capsys.readouterr().out
        assert main(["report", str(swept / "slow"), str(swept / "fast, 0.5"), form]) == 0
        assert whole == capsys.readouterr().out
        assert "slow" in whole and "fast, 0.5" in whole
    assert main(["report", str(swept), str(swept / "slow"), "--markdown"]) == 0
    said = capsys.readouterr().out
    assert said.count(f"| {swept / 'slow'} |") == 2 and "| fast, 0.5 |" in said
    (tmp_path / "sweep.json").write_bytes((swept / "sweep.json").read_bytes())
    assert main(["report", str(tmp_path)]) == 2
    assert "not finished: slow, broken, fast, 0.5" in capsys.readouterr().err
    (tmp_path / "sweep.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_variants_follow_the_command_line(tmp_path: Path):
    path = file(
        tmp_path,
        "\ndef get_sweep(config):\n"
        "    return {f'n={n}': {'steps': n * config.bad, 'rate': 1} for n in (100, 200)}\n",
    )
    found = sweep.variants(
        experiment_file.load(path), ["--config.bad=10", "--config.checkpoint_every=20"]
    )
    assert list(found) == ["n=100", "n=200"]
    made = found["n=200"]
    assert (made.steps, made.rate, made.checkpoint_every) == (2000, 1.0, 20)
    assert isinstance(made.rate, float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{'a': {'sedes': 3}}", "get_sweep(config): variant 'a': sedes: is not a key of this config"
         "; did you mean 'seeds'?"),
        ("{'a': {'actor': 3}}", "get_sweep(config): variant 'a': actor: is a group of keys"),
        ("{'a': {}, 'b': {'seed': -3}}", "get_sweep(config): variant 'b': seed: -3 was given"),
        ("{'a': {'actor.hidden': 'x'}}", "get_sweep(config): variant 'a': actor.hidden: 'x' was"),
        ("{'a': {'steps': 3}}", "steps: was given, but variant 'a' sets it too"),
        ("{'a/b': {}}", "get_sweep(config): the variant 'a/b' was given; allowed: names of dir"),
        ("{'.a': {}}", "get_sweep(config): the variant '.a' was given; allowed: names of dir"),
        ("{}", "CONFIG: get_sweep(config) of swept.py returned {}; allowed: a dict {variant: {dot"),
        ("{'a': 3}", "CONFIG: get_sweep(config) of swept.py returned {'a': 3}; allowed: a dict"),
        ("{3: {}}", "CONFIG: get_sweep(config) of swept.py returned {3: {}}; allowed: a dict"),
        ("config.akter", "get_sweep(config) (swept.py:"),
    ],
)  # fmt: skip
def test_a_bad_variant_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
):
    path = file(tmp_path, f"\ndef get_sweep(config):\n    return {given}\n")
    assert command(tmp_path / "sweep", path) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.removeprefix("gacf: ").startswith(message)
    assert [p.name for p in tmp_path.iterdir()] == ["swept.py"]


def test_bad_calls_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", str(TOY), "--workdir", str(tmp_path / "sweep")]) == 2
    assert "toy.py does not define the function get_sweep(config)" in capsys.readouterr().err
    assert main(["sweep", str(TOY), "--seeds=3"]) == 2
    assert "as in --config.seeds=3" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
    with pytest.raises(BadInput, match="cannot be read"):
        sweep.open_sweep(tmp_path)


@pytest.mark.long
def test_the_sweep_says_what_it_holds(swept: Path):
    stored = json.loads((swept / "sweep.json").read_text())
    assert list(stored["variants"]) == ["slow", "broken", "fast, 0.5"]
    assert stored["variants"]["fast, 0.5"]["actor"] == {"hidden": [4], "learning_rate": 0.5}
    assert stored["devices"] == {"platform": "cpu", "count": 4}
    words = ["gacf", "sweep", str(swept.parent / "swept.py"), "--workdir", str(swept), *SHORT]
    assert stored["commands"] == [shlex.join(words)]
