"""What becomes of a directory: sweeps that meet in it, names, a file system that refuses."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from gacf.lab import (
    checkpoint,
    experiment_file,
    files,
    finishing,
    overrides,
    preparation,
    run_directory,
    sweep,
)
from gacf.lab.cli import main
from gacf.lab.errors import BadInput
from gacf.lab.inspect.progress import Display
from gacf.lab.report import page, table
from gacf.lab.sweep import claims, vocabulary

from .common import TOY, edited, run

ERR = Console(file=io.StringIO())
SHORT = ["--config.steps=16", "--config.seeds=2"]


def started(directory: Path, names: str, path: Path = TOY, *more: str) -> sweep.Sweep:
    """A sweep of variants that share no program, so that planning traces nothing."""
    loaded = experiment_file.load(path, "toy")
    rows = {n: {"actor.hidden": (ord(n) - 95,)} for n in names}
    found = {
        name: overrides.resolve(
            loaded, [*SHORT, *more, *(f"--config.{k}={v}" for k, v in row.items())]
        )
        for name, row in rows.items()
    }
    return sweep.start(directory, loaded, found, ERR)


def stored(directory: Path) -> Any:
    return json.loads((directory / "sweep.json").read_text())


# Two sweeps into one directory


def test_sweeps_that_meet_in_a_directory_lose_nothing(tmp_path: Path):
    directory, failed = tmp_path / "a" / "sweep", []
    ready = threading.Barrier(4)

    def one(names: str) -> None:
        ready.wait()
        try:
            started(directory, names)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(names,)) for names in ("ab", "cd", "ef", "ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    found = stored(directory)
    assert set(found["variants"]) == set("abcdef")
    trained = [name for unit in found["units"] for name in unit["variants"]]
    assert sorted(trained) == list("abcdef"), "each is trained once"
    assert len({unit["name"] for unit in found["units"]}) == len(found["units"])
    assert {p.name for p in directory.iterdir()} == {"sweep.json", "experiment.py"}
    assert [p.name for p in directory.parent.iterdir()] == ["sweep"]
    sweep.open_sweep(directory)


def test_the_default_name_of_a_sweep_is_its_own(tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_directory.time, "strftime", lambda form: "now")
    for _ in range(2):
        started(None, "a")  # type: ignore
    assert sorted(p.name for p in Path("runs").iterdir()) == ["toy-now", "toy-now-2"]


def test_a_variant_of_another_config_is_refused_while_somebody_means_to_train_it(tmp_path: Path):
    started(tmp_path / "sweep", "ab")
    before = stored(tmp_path / "sweep")
    with pytest.raises(BadInput, match=r"differing: b: steps \(16, here 24\)"):
        started(tmp_path / "sweep", "bc", TOY, "--config.steps=24")
    assert stored(tmp_path / "sweep") == before
    # Once it has failed, it may be given another config, and the old one is trained by nobody.
    old = tmp_path / "sweep" / "units" / "0001"
    claim = claims.take(old)
    assert claim is not None
    claim.fail("no luck", "", claims.ATTEMPTS)
    again = started(tmp_path / "sweep", "bc", TOY, "--config.steps=24")
    assert [(u.name, u.variants) for u in again.units] == [
        ("0000", ["a"]), ("0002", ["b"]), ("0003", ["c"]),
    ]  # fmt: skip
    steps = {name: made["steps"] for name, made in stored(tmp_path / "sweep")["variants"].items()}
    assert steps == {"a": 16, "b": 24, "c": 24}
    assert claims.take(old) is None


def test_a_changed_file_takes_over_what_nobody_trains(tmp_path: Path):
    started(tmp_path / "sweep", "ab")
    changed = edited(tmp_path, "import os\n", "import os\n\n# A comment.\n")
    live = claims.take(tmp_path / "sweep" / "units" / "0000")
    assert live is not None
    with pytest.raises(BadInput, match="is being trained by another process"):
        started(tmp_path / "sweep", "c", changed)
    live.release()
    again = started(tmp_path / "sweep", "c", changed)
    assert [u.name for u in again.units] == ["0002", "0003", "0004"]
    assert set(stored(tmp_path / "sweep")["variants"]) == set("abc")
    for name in ("0000", "0001"):
        place = tmp_path / "sweep" / "units" / name
        assert claims.take(place) is None, "another process trains it by the old file"
        failure = claims.status(place).failure
        assert failure is not None and "has replaced it" in failure["message"]
    fewer = edited(tmp_path, '"nothing": None,', "")
    with pytest.raises(BadInput, match=r"variant 'a' in .* has not finished.*nothing: get_config"):
        started(tmp_path / "sweep", "d", fewer)


def test_a_variant_that_a_sweep_trains_is_not_resumed_alone(tmp_path: Path):
    started(tmp_path, "ab")
    (tmp_path / "a").mkdir()
    sweep.check_idle(tmp_path / "a")
    claim = claims.take(tmp_path / "units" / "0000")
    assert claim is not None
    with pytest.raises(BadInput, match="by another process, as a variant of the sweep"):
        sweep.check_idle(tmp_path / "a")
    sweep.check_idle(tmp_path / "b")
    claim.release()


# What was executed


def test_the_copy_of_the_experiment_is_what_was_executed(tmp_path: Path):
    path = tmp_path / "changing.py"
    path.write_text(TOY.read_text() + "\nimport pathlib\npathlib.Path(__file__).write_text('')\n")
    before = path.read_bytes()
    loaded = experiment_file.load(path)
    assert path.read_bytes() != before
    made, lock = run_directory.begin(tmp_path / "run", loaded, overrides.resolve(loaded))
    lock.release()
    assert (made.directory / "experiment.py").read_bytes() == before


@pytest.mark.long
def test_resuming_says_what_it_executes_and_a_finished_run_executes_nothing(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(whole, tmp_path / "run")
    harm = f"open({str(tmp_path / 'executed')!r}, 'w').close()\nraise ValueError('so far')\n"
    (tmp_path / "run" / "experiment.py").write_text(harm)
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "executed").exists()
    capsys.readouterr()
    (tmp_path / "run" / "summary.json").unlink()
    assert main(["resume", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert said.out.startswith(f"executing {tmp_path / 'run' / 'experiment.py'}")
    assert "so far" in said.err and (tmp_path / "executed").exists()


# Names


BAD_NAMES = [
    "../x", "/tmp/x", "a/b", "", ".", "..", ".a", "a\n", "a\0b", "a" * 181, "é" * 100,
    "sweep.json", "Sweep.JSON", "experiment.py", "units", "UNITS", "config.json", "summary.json",
    "metrics.parquet", "checkpoints", "sweep.parquet", "report.md", "report-sensitivity.png",
    "$x$", "[/red]", "a|b", "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_variants_name_is_a_directorys(tmp_path: Path, name: str):
    path = tmp_path / "swept.py"
    path.write_text(TOY.read_text() + f"\ndef get_sweep(config):\n    return {{{name!r}: {{}}}}\n")
    with pytest.raises(BadInput, match="variant") as error:
        sweep.variants(experiment_file.load(path))
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 500
    assert "\x1b" not in str(error.value)


def test_variants_that_differ_in_capitals_alone(tmp_path: Path):
    path = tmp_path / "swept.py"
    for one, other in (("a", "A"), ("é", "e\u0301"), ("straße", "STRASSE")):
        more = f"\ndef get_sweep(config):\n    return {{{one!r}: {{}}, {other!r}: {{}}}}\n"
        path.write_text(TOY.read_text() + more)
        with pytest.raises(BadInput, match="variant"):
            sweep.variants(experiment_file.load(path))
    # What the line asks for gets names that can be told apart.
    assert list(vocabulary.parse(["--sweep.label=a,A,b"], 1, 0)) == [
        "label=a",
        "label=A+",
        "label=b",
    ]


def test_many_keys_do_not_make_a_name_too_long():
    keys = {f"key_of_some_length_{i}": [0.123456, 0.654321] for i in range(9)}
    names = list(vocabulary.grid(keys))
    assert len(names) == len(set(names)) == 512
    assert max(len(name.encode()) for name in names) <= files.LONGEST


NAMES = ["../x", "..", ".", "/tmp/x", "a/b", "a\\b", "a" * 300, "é" * 300, "\0", "\x1b[31m", "a b"]


def test_cells_stay_in_their_runs_directory(tmp_path: Path):
    inside = tmp_path / "run" / "checkpoints"
    inside.mkdir(parents=True)
    places = [checkpoint.cell_directory(tmp_path / "run", name) for name in NAMES]
    for place in places:
        place.mkdir()
        assert place.resolve().parent == inside.resolve()
        (place / f".writing-{0:010d}-{os.getpid()}-01234567").mkdir()
    assert len(list(inside.iterdir())) == len(NAMES)
    assert checkpoint.cell_directory(Path("run"), "GAN, β=(0.5)").name == "GAN, %CE%B2=(0.5)"


def test_cells_that_differ_in_capitals_alone_are_refused(tmp_path: Path):
    cells = "built = gacf.compose(game, gacf.rules.alternating({'actor': sgd, 'critic': sgd}))\n"
    cells += "    return {'a': built, 'A': built}\n    return "
    path = edited(tmp_path, "    return gacf.compose(game", f"    {cells}gacf.compose(game")
    loaded = experiment_file.load(path)
    with pytest.raises(BadInput, match="the cells 'a' and 'A'"):
        preparation.prepare(loaded, overrides.resolve(loaded))


def test_pictures_stay_in_their_runs_directory(tmp_path: Path):
    given: dict[Any, int] = dict.fromkeys([*NAMES, "", "A B", 3, "curves-training", "x. "], 0)
    made = finishing.named_pictures(given, ["curves-training"])
    assert len(made) == len(given)
    for stem in made:
        place = tmp_path / f"{stem}.png"
        place.write_bytes(b"")
        assert place.resolve().parent == tmp_path.resolve()
    assert len({p.name.casefold() for p in tmp_path.iterdir()}) == len(given)
    assert {"a b", "A B-2", "3", "curves-training-2"} <= set(made)


MARKS = "[/red] $x_1^{ |a|b| \x1b[31m `*`"


def test_names_are_shown_as_they_are(tmp_path: Path):
    shown = MARKS.replace("\x1b", "\\x1b")
    made = table.Table(["cell", "n"], [[MARKS, "2/2"]], "Note.")
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=200, color_system=None).print(table.terminal(made))
    assert shown in out.getvalue()
    escaped = r"[/red] \$x_1^{ \|a\|b\| \\x1b[31m \`\*\`"
    assert f"| {escaped} | 2/2 |" in table.markdown(made)
    latex = table.latex(made)
    assert "{[}/red] \\$x\\_1\\textasciicircum{}\\{ |a|b|" in latex and "\x1b" not in latex
    section = page.Section(MARKS, MARKS, ["cell"], [[MARKS]])
    results: Any = page.analysis.Results(
        **{**dict.fromkeys(page.analysis.Results._fields), "directory": tmp_path, "cells": [],
           "keys": [], "missing": []}
    )  # fmt: skip
    assert f"| {escaped} |" in page.as_markdown(results, [section])
    assert "\x1b" not in page.as_html(results, [section])


def test_a_progress_bar_shows_any_name():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200, color_system=None)
    with Display(console, MARKS, 10, 2, 0, None):
        pass
    assert "[/red] $x_1^{" in out.getvalue() and "\\x1b[31m" in out.getvalue()


def test_figures_show_any_name():
    import numpy as np

    from gacf.lab import curves
    from gacf.lab.painter import png

    curve = curves.Curve(np.arange(2), np.ones((2, 2)), [])
    figure = curves.draw({MARKS: {MARKS: curve, "_": curve}, "$": {MARKS: curve}})
    assert isinstance(figure, Figure) and png(figure)


# A file system that refuses


def full(*call: Any, **more: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def in_a_text(*call: Any, **more: Any) -> None:
    """As libraries hand it on."""
    raise ValueError("INTERNAL: Error writing '/x/y': OS error 30: Read-only file system [a='b']")


def in_a_chain(*call: Any, **more: Any) -> None:
    try:
        raise OSError(errno.EROFS, "Read-only file system")
    except OSError as error:
        raise RuntimeError("Checkpoint was not saved") from error


REFUSALS: dict[str, tuple[Callable[..., None], str]] = {
    "full": (full, "the disk is full (No space left on device)"),
    "text": (in_a_text, "cannot be written (Read-only file system)"),
    "chain": (in_a_chain, "cannot be written (Read-only file system)"),
}


@pytest.mark.long
@pytest.mark.parametrize("how", REFUSALS)
def test_a_run_that_cannot_be_written_ends_in_one_line_and_goes_on_later(
    whole: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, how: str
):
    refuse, words = REFUSALS[how]
    digest = checkpoint._digest

    def at_16(path: Path) -> str:
        if "0000000016" in str(path):
            refuse()
        return digest(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_digest", at_16)
        assert run(tmp_path / "run") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("gacf: ") and words in said
    assert said.endswith(f"gacf resume {tmp_path / 'run'}")
    assert [p.name for p in tmp_path.glob("run/checkpoints/toy/*")] == ["0000000008"]
    assert main(["resume", str(tmp_path / "run")]) == 0
    name = "metrics.parquet"
    assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("moved", [False, True])
def test_a_run_whose_directory_goes_does_not_bring_it_back(
    whole: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, moved: bool
):
    save = checkpoint.save

    def gone(place: Path, state: Any, *rest: Any) -> Path:
        if int(state.step) == 16:
            if moved:
                (tmp_path / "run").rename(tmp_path / "moved")
            else:
                shutil.rmtree(tmp_path / "run")
        return save(place, state, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", gone)
        assert run(tmp_path / "run") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"gacf: {tmp_path / 'run'} is no longer there")
    assert not (tmp_path / "run").exists()
    if moved:
        assert main(["resume", str(tmp_path / "moved")]) == 0
        name = "metrics.parquet"
        assert (tmp_path / "moved" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("how", ["full", "text", "gone"])
def test_a_sweep_that_cannot_be_written_ends_in_one_line(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, how: str
):
    directory = tmp_path / "sweep"

    def refuse(*call: Any) -> Any:
        if how == "gone":
            shutil.rmtree(directory)
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        REFUSALS[how][0]()

    call = [
        "sweep",
        str(TOY),
        "--workdir",
        str(directory),
        *SHORT,
        "--sweep.actor.hidden=(2,),(3,)",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_digest", refuse)
        assert main(call) == 1
    (said,) = capsys.readouterr().err.splitlines()
    words = "is no longer there" if how == "gone" else REFUSALS[how][1]
    assert said.startswith("gacf: ") and words in said
    assert directory.exists() == (how != "gone"), "it has come back"
    if how == "text":
        assert main(["resume", str(directory)]) == 0
        assert len(list(directory.glob("*/summary.json"))) == 2
