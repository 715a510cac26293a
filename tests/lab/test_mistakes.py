"""Wrong inputs of every command: one line that names what is wrong, exit 2, nothing written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from gacf.lab.cli import main

from .common import TOY

TEXT = TOY.read_text()
SHORT = ("--config.steps=8", "--config.seeds=2")


def said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, list[str]]:
    """The exit code and what came on standard error."""
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as left:
        code = int(left.code or 0)
    return code, capsys.readouterr().err.splitlines()


def refused(capsys: pytest.CaptureFixture[str], arguments: Any, *words: str) -> None:
    code, lines = said(capsys, *arguments)
    assert code == 2, lines
    assert len(lines) == 1 and lines[0].startswith("gacf"), lines
    for word in words:
        assert re.search(word, lines[0]), lines[0]


def edited(old: str, new: str) -> str:
    """The toy with one text replaced, and the line of what is marked in it."""
    assert old in TEXT
    return TEXT.replace(old, new)


def marked(text: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if "# here" in line)


# Overrides, or whole arguments, and words of the line.
ARGUMENTS: list[tuple[list[str], list[str]]] = [
    (["--config.seed=4294967296"], ["seed: 4294967296", "<= 4294967295"]),
    (["--config.seed=-1"], ["seed: -1", ">= 0"]),
    (["--config.seed=1e3"], ["seed: '1e3'"]),
    (["--config.seed=99999999999999999999999"], ["seed: 9999"]),
    (["--config.steps=2147483648"], ["steps: 2147483648", "<= 2147483647"]),
    (["--config.steps=999999999999"], ["steps: 999999999999"]),
    (["--config.steps=0"], ["steps: 0"]),
    (["--config.steps=True"], ["steps: 'True'"]),
    (["--config.steps=1e6"], ["steps: '1e6'"]),
    (["--config.steps="], ["steps: ''"]),
    (["--config.steps=None"], ["steps: 'None'"]),
    (["--config.steps=nan"], ["steps: 'nan'"]),
    (["--config.steps=2147483647", "--config.log_every=1", "--config.evaluate_every=1"],
     ["steps: 2147483647 with log_every 1", "log_every >= "]),
    (["--config.seeds=2.0"], ["seeds: '2.0'"]),
    (["--config.seeds=-3"], ["seeds: -3"]),
    (["--config.seeds=(2,)"], ["seeds: '\\(2,\\)'"]),
    (["--config.seeds=[2]"], ["seeds: '\\[2\\]'"]),
    (["--config.log_every=99999999999"], ["log_every: 99999999999"]),
    (["--config.evaluate_every=99999999999"], ["evaluate_every: 99999999999"]),
    (["--config.checkpoint_every=3"], ["checkpoint_every: 3", "multiple of log_every"]),
    (["--config.actor.learning_rate=inf"], ["learning_rate: inf"]),
    (["--config.actor.learning_rate=nan"], ["learning_rate: nan"]),
    (["--config.actor.learning_rate=-0.1"], ["learning_rate: -0.1"]),
    (["--config.actor.learning_rate=0"], ["learning_rate: 0"]),
    (["--config.actor.learning_rate=abc"], ["learning_rate: 'abc'"]),
    (["--config.actor.learning_rate=(0.1,)"], ["learning_rate: '\\(0.1,\\)'"]),
    (["--config.rate=inf"], ["rate: inf", "finite"]),
    (["--config.rate=-inf"], ["rate: -inf", "finite"]),
    (["--config.rate=nan"], ["rate: nan"]),
    (["--config.actor.hidden=3.5"], ["hidden: "]),
    (["--config.actor.hidden=(3,x)"], ["hidden: "]),
    (["--config.actor.hidden=(-3,4)"], [r"toy.py:\d+\): ", "got \\(-3, 4\\)"]),
    (["--config.actor.hidden=(True,4)"], ["hidden: "]),
    (["--config.actor.hidden=((3,),4)"], ["hidden: "]),
    (["--config.actor.hidden=(1,"], ["hidden: "]),
    (["--config.actor.hiden=(3,)"], ["did you mean 'actor.hidden'"]),
    (["--config.actor=1"], ["actor: is a group"]),
    (["--config.flag=2"], ["flag: '2'"]),
    (["--config.=1"], ["is not a key"]),
    (["--config.steps.x=1"], ["steps.x: is not a key"]),
    (["--config.map=fast"], ["map: 'fast'", "vmap"]),
    (["--config.x64=maybe"], ["x64: 'maybe'"]),
    (["--config.nothing=3"], ["nothing: cannot be overridden"]),
    (["--config.label"], ["label: no value"]),
    (["--config.steps", "8", "9"], ["steps: '9' follows|'9'"]),
    (["--steps=8"], ["as in --config.steps=8"]),
    (["--unknown"], ["'--unknown'"]),
    (["--track=paper"], ["--track"]),
    (["extra"], ["'extra'"]),
    (["--sweep.rate=1,2"], ["only `gacf sweep`"]),
    (["--executor.x=1"], ["only sweeps"]),
    (["--processes=2"], ["process"]),
    (["--processes=x"], ["--processes"]),
    (["--workdir="], ["--workdir: ''"]),
    (["--workdir", ""], ["--workdir: ''"]),
    (["--workdir=a\0b"], ["--workdir: 'a\\\\x00b'"]),
    (["--workdir"], ["--workdir"]),
    (["--workdir=/proc/nowhere/x"], ["workdir: '/proc/nowhere/x'"]),
]  # fmt: skip


@pytest.mark.parametrize(("more", "words"), ARGUMENTS, ids=[" ".join(a) for a, _ in ARGUMENTS])
def test_a_wrong_argument_of_a_run_is_one_line(
    more: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["run", TOY, *more], *words)
    assert not list(tmp_path.iterdir())


SWEEPS: list[tuple[list[str], str]] = [
    (["--sweep.rate=uniform(0,inf)"], "rate: uniform\\(0,inf\\).*finite"),
    (["--sweep.rate=uniform(nan,1)"], "rate: uniform"),
    (["--sweep.rate=uniform(-1e308,1e308)"], "rate: uniform"),
    (["--sweep.rate=uniform(1,0)"], "LOW < HIGH"),
    (["--sweep.rate=uniform(0)"], "rate: uniform"),
    (["--sweep.rate=log_uniform(0,1)"], "LOW > 0"),
    (["--sweep.rate=log_uniform(1,inf)"], "rate: log_uniform"),
    (["--sweep.seed=integers(0,99999999999999999999)"], "seed: integers"),
    (["--sweep.seed=integers(0.5,2)"], "seed: integers.*whole"),
    (["--sweep.seed=4294967296,1"], "seed: 4294967296"),
    (["--sweep.seeds=2.0,3"], "seeds: '2.0'"),
    (["--sweep.rate=inf,1"], "rate: inf"),
    (["--sweep.rate="], "rate"),
    (["--sweep.rate"], "rate"),
    (["--sweep.rata=1,2"], "did you mean 'rate'"),
    (["--sweep.rate=1,2", "--sweep.rate=3,4"], "rate: "),
    (["--sweep.rate=1,2", "--config.rate=3"], "rate: was given"),
    (["--sweep.rate,seed=1:2:3"], "2 values"),
    (["--sweep.rate=uniform(0,1)", "--samples=0"], "--samples: 0"),
    (["--sweep.rate=uniform(0,1)", "--samples=x"], "--samples"),
    (["--sweep.rate=uniform(0,1)", "--sample-seed=-1"], "--sample-seed: -1"),
    (["--sweep.rate=1,2", "--workers=2"], "--workers"),
    (["--sweep.rate=1,2", "--executor=cloud"], "--executor"),
    (["--sweep.rate=1,2", "--executor=processes", "--workers=0"], "--workers: 0"),
    (["--sweep.rate=1,2", "--workdir="], "--workdir: ''"),
    ([], "get_sweep"),
]


@pytest.mark.parametrize(("more", "word"), SWEEPS, ids=[" ".join(a) for a, _ in SWEEPS])
def test_a_wrong_argument_of_a_sweep_is_one_line(
    more: list[str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["sweep", TOY, *more], word)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["resume", "nowhere"], "nowhere"),
        (["resume", ""], "DIR: ''"),
        (["resume", "a\0"], "DIR: "),
        (["resume"], "DIR"),
        (["report"], "DIR"),
        (["report", ""], "DIR: ''"),
        (["report", "nowhere"], "nowhere"),
        (["report", ".", "--markdown", "--latex"], "--latex"),
        (["watch", "nowhere"], "nowhere"),
        (["watch", ""], "DIR: ''"),
        (["watch", ".", "--always"], "--always"),
        (["draw", "nowhere.py"], "nowhere.py"),
        (["draw", "."], "CONFIG"),
        (["draw", TOY, "--workdir="], "--workdir: ''"),
        (["run", ""], "CONFIG: ''"),
        (["run", "a\0.py"], "CONFIG: "),
        (["run", "."], "CONFIG"),
        (["run"], "CONFIG"),
        (["list", "everything"], "everything"),
        (["--fast"], "--fast"),
        (["nwe"], "allowed: run, "),
        ([""], "allowed: run, "),
        (["--traceback"], "--traceback|COMMAND"),
        (["sweep", "nowhere", "--resume"], "nowhere"),
    ],
    ids=lambda x: " ".join(map(str, x)) if isinstance(x, list) else None,
)
def test_a_wrong_call_of_another_command_is_one_line(
    arguments: list[str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    refused(capsys, arguments, word)
    assert not list(tmp_path.iterdir())


BUILD = "def build(config):\n"
INIT = "    def init(key):\n"
# What is put into the file, and words of the line beside the file and the marked line's number.
CODE: dict[str, tuple[str, str, str]] = {
    "RuntimeError": (BUILD, BUILD + "    raise RuntimeError('no data')  # here\n", "RuntimeE.*no"),
    "ZeroDivisionError": (BUILD, BUILD + "    1 // 0  # here\n", "ZeroDivisionError"),
    "AssertionError": (BUILD, BUILD + "    assert config.seed  # here\n", "Assert.*config.seed"),
    "NotImplementedError": (BUILD, BUILD + "    raise NotImplementedError  # here\n", "NotImplem"),
    "OverflowError": (BUILD, BUILD + "    2.0 ** 10000  # here\n", "OverflowError"),
    "RecursionError": (BUILD, BUILD + "    return build(config)  # here\n", "RecursionError"),
    "StopIteration": (BUILD, BUILD + "    next(iter([]))  # here\n", "StopIteration"),
    "MemoryError": (BUILD, BUILD + "    raise MemoryError  # here\n", "MemoryError"),
    "SystemExit": (BUILD, BUILD + "    raise SystemExit(3)  # here\n", "SystemExit: 3"),
    "OSError": (BUILD, BUILD + "    open('no-such-file')  # here\n", "FileNotFound.*no-such-file"),
    "KeyError": (BUILD, BUILD + "    {}['a']  # here\n", "KeyError: 'a'"),
    "of its own": (BUILD, "class Odd(Exception): pass\n\n" + BUILD + "    raise Odd('x')  # here\n",
                   "Odd: x"),
    "two lines": (BUILD, BUILD + "    raise ValueError('one\\ntwo')  # here\n", "ValueError: one"),
    "escapes": (BUILD, BUILD + "    raise ValueError('\\x1b[31m')  # here\n", r"\\x1b"),
    "misspelt key": (BUILD, BUILD + "    config.r2  # here\n", "r2"),
    "in init": (INIT, INIT + "        raise RuntimeError('no')  # here\n", "cell.*Runtime.*no"),
    "in a loss": ("    def critic(params, batch, key):\n",
                  "    def critic(params, batch, key):\n        assert 0  # here\n", "Assertion"),
    "in get_config": ("def get_config():\n", "def get_config():\n    1 / 0  # here\n", "ZeroDivis"),
    "at its top": ("import gacf\n", "import gacf\nraise RuntimeError('x')  # here\n", "RuntimeErr"),
    "leaves at its top": ("import gacf\n", "import gacf\nexit(1)  # here\n", "SystemExit"),
    "import": ("import gacf\n", "import gacf\nimport nowhere.at.all  # here\n", "ModuleNotFound"),
    "name": ("import gacf\n", "import gacf\nfrom gacf import gann  # here\n", "ImportError.*gann"),
    "syntax": ("import gacf\n", "import gacf\nx = = 3  # here\n", "SyntaxError"),
    "indentation": ("import gacf\n", "import gacf\n  x = 3  # here\n", "IndentationError"),
    "complete": (BUILD, "def complete(config):\n    1 / 0  # here\n\n" + BUILD, "complete.*Zero"),
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_what_the_users_code_raises_is_one_line_with_its_place(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    old, new, word = CODE[name]
    text = edited(old, new)
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(text)
    refused(capsys, ["run", "own.py", *SHORT], rf"own\.py:{marked(text)}\b", word)
    shutil.rmtree("__pycache__", ignore_errors=True)
    assert [p.name for p in tmp_path.iterdir()] == ["own.py"]


def test_a_helper_beside_the_experiment_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside_the_toy.py").write_text("\n\nx = = 3\n")
    path = tmp_path / "own.py"
    path.write_text("import beside_the_toy\n" + TEXT)
    refused(capsys, ["run", path, "--workdir", tmp_path / "W"], r"beside_the_toy\.py:3\b", "Syntax")


GOAL = 'GOAL = "min"\n'
STATED: dict[str, tuple[str, str, str]] = {
    "minimize": (GOAL, 'GOAL = "minimize"\n', "GOAL: 'minimize'.*did you mean 'min'"),
    "MAX": (GOAL, 'GOAL = "MAX"\n', "GOAL: 'MAX'.*allowed: max, min"),
    "-1": (GOAL, "GOAL = -1\n", "GOAL: -1"),
    "empty": (GOAL, 'GOAL = ""\n', "GOAL: ''"),
    "goals": (GOAL, 'GOAL = ["min"]\n', "GOAL: "),
    "goal alone": ('KEY_METRIC = "evaluate/distance"\n', "", "GOAL: 'min'.*KEY_METRIC"),
    "number": (GOAL, GOAL + "KEY_METRIC = 3\n", "KEY_METRIC: 3"),
    "list": (GOAL, GOAL + "KEY_METRIC = ['evaluate/distance']\n", "KEY_METRIC: "),
    "bytes": (GOAL, GOAL + "KEY_METRIC = b'evaluate/distance'\n", "KEY_METRIC: "),
    "no text": (GOAL, GOAL + "KEY_METRIC = ''\n", "KEY_METRIC: ''"),
    "misspelt": (GOAL, GOAL + "KEY_METRIC = 'evaluate/distanse'\n", "KEY_METRIC: .*did you mean"),
    "vector": (GOAL, GOAL + "KEY_METRIC = 'evaluate/vector'\n", r"KEY_METRIC: .*shape \(3,\)"),
    "no finish": (GOAL, GOAL + "KEY_METRIC = 'final/distance'\n", "KEY_METRIC: 'final/distance'"),
    "metrics": (GOAL, GOAL + "METRICS = 'evaluate/distance'\n", "METRICS: 'evaluate/distance'"),
    "of numbers": (GOAL, GOAL + "METRICS = [1]\n", r"METRICS: \[1\]"),
    "finish": (GOAL, GOAL + "finish = 3\n", "finish: 3"),
    "get_sweep": (GOAL, GOAL + "get_sweep = {'a': {}}\n", "get_sweep: "),
    "steps": ('"steps": 40,', '"steps": True,', "steps: True"),
    "seeds": ('"seeds": 5,', '"seeds": 2.0,', "seeds: 2.0"),
    "text": ('"steps": 40,', '"steps": "40",', "steps: '40'"),
    "group": ('"seeds": 5,', '"seeds": {"n": 5},', "seeds"),
    "tuple": ('"steps": 40,', '"steps": (40,),', "steps: "),
    "gives None": ("    return ConfigDict(", "    ConfigDict(", "get_config.*None"),
    "gives a game": ("return gacf.compose(game, ", "return game, (", r"build\(config\)"),
    "gives nothing": ("return gacf.compose(", "gacf.compose(", "build.*NoneType"),
    "swapped": ("gacf.compose(game, gacf.rules.alternating({\"actor\": sgd, \"critic\": sgd}))",
                "gacf.compose(gacf.rules.alternating({\"actor\": sgd, \"critic\": sgd}), game)",
                "game: .*compose"),
    "no dict": ("gacf.rules.alternating({\"actor\": sgd, \"critic\": sgd})",
                "gacf.rules.alternating(sgd)", "optimizers: .*dict"),
    "unknown player": ("\"critic\": sgd})", "\"critc\": sgd})", "did you mean 'critic'"),
    "NUL": ("import gacf\n", "import gacf\n\0", "CONFIG"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATED)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_what_a_file_states_wrongly_is_one_line(
    command: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    early = ("GOAL", "KEY_METRIC: [^.]*allowed: the name", "METRICS", "finish", "get_sweep")
    old, new, word = STATED[name]
    if command == "sweep" and not word.startswith(early):
        pytest.skip("found when a variant is built, which is then told as failed")
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(edited(old, new))
    more = ["--sweep.rate=1.0,2.0"] if command == "sweep" else []
    refused(capsys, [command, "own.py", *more], word)
    shutil.rmtree("__pycache__", ignore_errors=True)
    assert [p.name for p in tmp_path.iterdir()] == ["own.py"]


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("config.json", "null", "config.json"),
        ("config.json", "[]", "config.json"),
        ("config.json", "", "config.json"),
        ("config.json", "{}", "config.json"),
        ("config.json", {"config": None}, "config"),
        ("config.json", {"config": []}, "config"),
        ("config.json", {"experiment": 3}, "experiment"),
        ("config.json", {"experiment": None}, "experiment"),
        ("config.json", {"devices": None}, "devices"),
        ("config.json", {"config.steps": None}, "steps: null"),
        ("config.json", {"config.seeds": None}, "seeds: null"),
        ("config.json", {"config.log_every": None}, "log_every: null"),
        ("config.json", {"config.seed": 2**32}, "seed: 4294967296"),
        ("config.json", {"config.seeds": True}, "seeds: True"),
        ("config.json", {"config.seeds": 2.5}, "seeds: 2.5"),
        ("config.json", {"config.actor": 3}, "actor"),
        ("config.json", {"config.extra": 3}, "extra"),
        ("experiment.py", "", "get_config"),
    ],
)
def test_a_damaged_run_directory_is_one_line(
    file: str,
    change: Any,
    word: str,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    place = tmp_path / "run"
    place.mkdir()
    for name in ("config.json", "experiment.py"):
        shutil.copyfile(whole / name, place / name)
    if isinstance(change, dict):
        stored = json.loads((place / file).read_text())
        for key, value in change.items():
            head, _, last = key.rpartition(".")
            (stored[head] if head else stored)[last] = value
        change = json.dumps(stored)
    (place / file).write_text(change)
    before = sorted(p.name for p in place.iterdir())
    refused(capsys, ["resume", place], word)
    shutil.rmtree(place / "__pycache__", ignore_errors=True)
    assert sorted(p.name for p in place.iterdir()) == before


@pytest.mark.parametrize("text", ["null", "[]", "{}", "", '{"cells": 3, "metrics": []}'])
@pytest.mark.parametrize("command", ["report", "watch"])
def test_a_damaged_summary_is_one_line(
    command: str, text: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    place = tmp_path / "run"
    shutil.copytree(whole, place, ignore=shutil.ignore_patterns("checkpoints"))
    (place / "summary.json").write_text(text)
    refused(capsys, [command, place], "summary.json")


def test_the_command_alone_prints_its_help_and_its_version(capsys: pytest.CaptureFixture[str]):
    from importlib import metadata

    assert main([]) == 0
    assert "usage: gacf" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code in (0, None)
    assert metadata.version("gacf") in capsys.readouterr().out
