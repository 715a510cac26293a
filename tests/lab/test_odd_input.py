"""Errors that cannot say what they are, names that terminals would obey, paths too long."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from gacf.lab import provenance, records
from gacf.lab.cli import main

from .common import TOY, edited, run
from .test_failures import CALLBACK, written

SHORT = ("--config.steps=4", "--config.seeds=2")
ODD = """class Odd(Exception):
    def __str__(self):
        raise ValueError("inner")


def build(config):
"""
LONG = "a" * 300


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    (line,) = capfd.readouterr().err.splitlines()
    return line


@pytest.mark.long
def test_an_error_whose_text_fails_is_named_by_its_kind(tmp_path, capfd):
    path = edited(tmp_path, "def build(config):\n", ODD + "    raise Odd()\n")
    assert run(tmp_path / "run", experiment=path) == 2
    assert re.fullmatch(r"gacf: build\(config\) \(edited.py:\d+\): Odd", one_line(capfd))
    assert not (tmp_path / "run").exists()
    finish = ODD.replace("build(config)", "finish(config, finals)") + "    raise Odd()\n\n\n"
    path = edited(tmp_path, "def build(config):\n", finish + "def build(config):\n")
    assert run(tmp_path / "run", *SHORT, experiment=path) == 1
    assert "): Odd; what was trained is kept" in one_line(capfd)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"metrics.parquet", "curves-training.png"} <= left and "summary.json" not in left


@pytest.mark.long
@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("assert x is None", 1, "AssertionError: assert x is None"),
        ("raise RuntimeError('\\n first\\nsecond')", 1, "RuntimeError: first"),
        ("raise KeyError('a b')", 1, "KeyError: 'a b'"),
        ("raise KeyboardInterrupt", 130, "stopped"),
    ],
)
def test_what_a_callback_raises_is_said_in_full(
    tmp_path, monkeypatch, capfd, statement, code, said
):
    monkeypatch.chdir(tmp_path)
    callback = CALLBACK.replace('raise RuntimeError("the sensor is gone")', statement)
    path, _ = written(tmp_path, callback)
    assert main(["run", str(path), "--workdir", "W", "--config.steps=24", *SHORT[1:]]) == code
    assert said in one_line(capfd)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ('"seed": None, "seeds": 5', "seed: None was given; allowed: a whole number >= 0"),
        ('"seeds": None', "seeds: None was given; allowed: a whole number >= 1 and <= 16777216"),
        ('"x64": "no", "seeds": 5', "x64: 'no' was given; allowed: true or false"),
        ('"x64": 1, "seeds": 5', "x64: 1 was given; allowed: true or false"),
        ('3: 4, "seeds": 5', "3: is a key in edited.py; allowed: keys that are text"),
        ('"actor2": {4: 5}, "seeds": 5', "4: is a key in edited.py; allowed: keys that are text"),
    ],
)
def test_defaults_that_are_none_or_of_another_kind(tmp_path, capfd, new, said):
    path = edited(tmp_path, '"seeds": 5', new)
    assert run(tmp_path / "run", "--config.steps=4", experiment=path) == 2
    assert one_line(capfd).startswith(f"gacf: {said}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seeds", [2**24 + 1, 10**12, 10**23])
def test_more_seeds_than_any_machine_holds(tmp_path, capfd, seeds):
    assert run(tmp_path / "run", f"--config.seeds={seeds}") == 2
    assert f"seeds: {seeds} was given; allowed: a whole number >= 1 and <=" in one_line(capfd)


def test_an_evaluation_that_returns_no_dict(tmp_path, capfd):
    path = edited(
        tmp_path, "evaluate=lambda params, world, key: {", "evaluate=lambda p, w, k: 3) #{"
    )
    path.write_text(
        re.sub(
            r"(?s)evaluate=lambda p, w, k: 3\).*?\n    \)",
            "evaluate=lambda p, w, k: None)",
            path.read_text(),
        )
    )
    assert run(tmp_path / "run", experiment=path) == 2
    assert "evaluate: a NoneType was returned; allowed: a dict" in one_line(capfd)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"{LONG}.py"), ("sweep", f"{LONG}.py"), ("draw", f"{LONG}.py"), ("resume", LONG),
        ("watch", LONG), ("report", LONG), ("run", str(TOY), "--workdir", LONG),
        ("sweep", str(TOY), "--workdir", LONG, "--sweep.label=a,b"),
        ("run", str(TOY), "--workdir", "/".join("a" * 300)),
    ],
)  # fmt: skip
def test_paths_that_are_too_long(capfd, arguments):
    assert main(list(arguments)) == 2
    assert "of at most 255 bytes a part" in one_line(capfd)


@pytest.mark.long
def test_names_do_not_speak_to_the_terminal(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    path = edited(tmp_path, '"evaluate/distance"', '"evaluate/\\x1b[31mred | $x$"')
    text = path.read_text().replace('"distance":', '"\\x1b[31mred | $x$":')
    assert text.count("x1b") == 2
    path.write_text(text.replace("KEY_METRIC", "CELL = 'a\\x1b[32m'\nKEY_METRIC", 1))
    named = path.rename(tmp_path / "t\x1b[31moy.py")
    assert run(Path("W"), *SHORT, experiment=named) == 0
    for more in (["report", "W"], ["report", "W", "--markdown"], ["report", "W", "--latex"],
                 ["watch", "W", "--once"]):  # fmt: skip
        assert main(more) == 0
    named.write_text("1/0")
    assert run(Path("V"), experiment=named) == 2
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err
    assert "red" in out and "ZeroDivisionError" in err


@pytest.mark.long
def test_a_damaged_summary_is_written_anew(tmp_path, capfd):
    directory = tmp_path / "run"
    assert run(directory, *SHORT) == 0
    before = (directory / "summary.json").read_bytes()
    for damage in (b"", b"[", b"null", b"[" * 100_000):
        (directory / "summary.json").write_bytes(damage)
        assert main(["report", str(directory)]) == 2
        assert not records.finished(directory)
    assert main(["resume", str(directory)]) == 0
    assert (directory / "summary.json").read_bytes() == before


def test_the_commit_is_that_of_the_file_also_within_a_hook_of_git(tmp_path, monkeypatch):
    other, place = tmp_path / "other", tmp_path / "place"
    for directory in (other, place):
        directory.mkdir()
        (directory / "x.py").write_text("")

    def run_git(*call: str) -> None:
        subprocess.run(["git", *call], cwd=other, check=True, capture_output=True)

    run_git("init", "-q")
    run_git("add", ".")
    run_git("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x")
    assert provenance.commit(other / "x.py") is not None
    monkeypatch.setenv("GIT_DIR", os.fspath(other / ".git"))
    assert provenance.commit(place / "x.py") is None
    (other / "x*.py").write_text("")  # a name, and no pattern
    found = provenance.commit(other / "x*.py")
    assert found is not None and found["dirty"]


@pytest.mark.parametrize("name", ["table.json", "Progress.json", "a.", "a "])
def test_names_of_variants_that_are_no_directories(tmp_path, capfd, name):
    path = tmp_path / "swept.py"
    path.write_text(
        TOY.read_text() + f"\n\ndef get_sweep(config):\n    return {{{name!r}: {{}}}}\n"
    )
    assert main(["sweep", str(path), "--workdir", str(tmp_path / "S")]) == 2
    assert "the variant" in one_line(capfd)
    assert not (tmp_path / "S").exists()
