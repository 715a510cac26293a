"""Workers that die, drivers that die, two at once, full disks: no unit twice, nothing corrupt."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gacf.lab import locks, training
from gacf.lab.cli import main
from gacf.lab.errors import BadInput
from gacf.lab.files import Unwritable
from gacf.lab.sweep import Sweep, Unit, claims, executors, watch

from .common import ROOT, TOY, process

SHORT = ("--config.steps=16", "--config.seeds=2")
# Two groups of two: floats are batched, shapes are not.
SWEPT = ("--sweep.actor.hidden=(2,),(3,)", "--sweep.actor.learning_rate=0.1,0.2")
NAMES = {f"hidden={n},learning_rate={r}" for n in (2, 3) for r in (0.1, 0.2)}
# Every variant that is finished leaves a line, so that none can be trained twice unseen.
COUNT = """
def finish(config, finals):
    with open(os.environ["TOY_LOG"], "a") as log:
        log.write(f"{config.actor.hidden} {config.actor.learning_rate}\\n")
    return {}
"""
# Dies once, in the middle of the group (3,).
DEADLY = """
_build = build

def build(config):
    if config.actor.hidden == (3,) and not os.path.exists(os.environ["TOY_LOG"] + ".dead"):
        from gacf.lab import checkpoint
        save = checkpoint.save
        def deadly(*args):
            made = save(*args)
            open(os.environ["TOY_LOG"] + ".dead", "w").close()
            os.kill(os.getpid(), 9)
        checkpoint.save = deadly
    return _build(config)
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def file(directory: Path, more: str = "") -> Path:
    path = directory / "swept.py"
    path.write_text(TOY.read_text() + COUNT + more)
    return path


def arguments(directory: Path, path: Path, *more: str) -> list[str]:
    return ["sweep", str(path), "--workdir", str(directory), *SHORT, *SWEPT, *more]


def started(*call: Any, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gacf", *map(str, call)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, **options)


def complete(directory: Path, log: Path) -> None:
    """All is there, and was made once."""
    assert {p.parent.name for p in directory.glob("*/summary.json")} == NAMES
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == len(NAMES)
    assert not list(directory.rglob(".writing-*"))


def test_a_unit_has_one_worker_at_a_time(tmp_path: Path):
    got, ready = [], threading.Barrier(8)

    def taker() -> None:
        ready.wait()
        got.append(claims.take(tmp_path / "0000"))

    threads = [threading.Thread(target=taker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (claim,) = filter(None, got)
    assert claims.status(tmp_path / "0000") == claims.Status(0, True, None)
    claim.release()
    assert not any((tmp_path / "0000").iterdir())
    again = claims.take(tmp_path / "0000")
    assert again is not None and again.number == 1
    again.release()


@pytest.mark.parametrize("how", ["process", "silence"])
def test_a_lost_workers_unit_is_taken_over_and_counts_as_an_attempt(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
):
    place = tmp_path / "0000"
    for number in range(1, claims.ATTEMPTS + 1):
        claim = claims.take(place)
        assert claim is not None and claim.number == number
        claim._stop()
        if how == "process":
            owner = json.loads(claim.path.read_text())
            claim.path.write_text(json.dumps({**owner, "started": "before"}))
        else:
            owner = json.loads(claim.path.read_text())
            claim.path.write_text(json.dumps({**owner, "boot": "elsewhere"}))
            assert claims.status(place).live
            os.utime(claim.path, (time.time() - 2 * claims.STALE,) * 2)
        assert claims.status(place) == claims.Status(number, False, None)
    assert claims.take(place) is None, "a fourth attempt"
    claims.reset(place)
    claim = claims.take(place)
    assert claim is not None and claim.number == 1
    claim.release()


def test_who_was_overtaken_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    claim = claims.take(tmp_path / "0000")
    assert claim is not None
    claim.check()
    (tmp_path / "0000" / "claim.2").write_text("{}")
    deadline = time.monotonic() + 10
    while not claim.lost and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(claims.Lost):
        claim.check()
    claim.release()
    assert (tmp_path / "0000" / "claim.2").exists()


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 80, b"[]", b"3", b"null", b"{", b'{"pid": "x", "started": []}']
)
def test_garbage_in_a_claim_is_judged_by_its_age(tmp_path: Path, data: bytes):
    (tmp_path / "claim.1").write_bytes(data)
    assert claims.status(tmp_path).live, "it may be a newer version's"
    for age in (2 * claims.STALE, -2 * claims.STALE):
        os.utime(tmp_path / "claim.1", (time.time() - age,) * 2)
        assert claims.status(tmp_path) == claims.Status(1, False, None)
    claim = claims.take(tmp_path)
    assert claim is not None and claim.number == 2
    claim.release()


@pytest.mark.parametrize("other", ["namespace", "boot"])
def test_a_process_number_of_another_container_means_nothing(tmp_path: Path, other: str):
    """Containers on one file system may share a host name, and count processes from one."""
    owner = {**locks.identity(), other: "elsewhere", "started": "0", "pid": os.getpid()}
    (tmp_path / "claim.1").write_text(json.dumps(owner))
    assert claims.status(tmp_path).live and claims.take(tmp_path) is None
    os.utime(tmp_path / "claim.1", (time.time() - 2 * claims.STALE,) * 2)
    assert not claims.status(tmp_path).live


def test_a_worker_that_makes_no_progress_lets_its_claim_grow_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    monkeypatch.setattr(claims, "PATIENCE", 0.2)
    claim = claims.take(tmp_path)
    assert claim is not None

    def is_live() -> bool:
        os.utime(claim.path, (time.time() - 2 * claims.STALE,) * 2)
        time.sleep(0.1)
        return claims.status(tmp_path).live

    assert is_live()
    time.sleep(0.3)
    assert not is_live()
    claim.check()  # progress, after a pause of which ten times as much may come again
    assert is_live()
    time.sleep(0.3)
    assert is_live()
    claim.release()


def test_who_was_stopped_notices_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "BEAT", 100.0)  # its thread has not looked yet
    claim = claims.take(tmp_path)
    assert claim is not None
    (tmp_path / "claim.2").write_text("{}")
    with pytest.raises(claims.Lost):
        claim.check()


def planned(directory: Path) -> Sweep:
    """A sweep of one variant, as far as drivers know it."""
    config = {"seeds": 1, "steps": 1}
    unit = Unit("0000", ["a"], [])
    text = {"experiment": "x", "variants": {"a": config}, "units": [unit._asdict()], "devices": {}}
    directory.mkdir()
    (directory / "sweep.json").write_text(json.dumps(text))
    (directory / "units" / "0000").mkdir(parents=True)
    return Sweep(directory, None, {"a": config}, [unit], [], {})  # type: ignore


def sleeper() -> subprocess.Popen[bytes]:
    """A process that is stopped, and so neither ends when asked nor touches anything."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    return process


def handle(process: subprocess.Popen[bytes]) -> executors.Handle:
    return executors.Handle(process.poll, process.terminate, process.kill, process.pid)


def finish(sweep: Sweep) -> None:
    place = sweep.directory / "a"
    place.mkdir(exist_ok=True)
    (place / "metrics.parquet").touch()
    (place / "summary.json").write_text("{}")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK", 0.02), ("SILENT", 0.1), ("REST", 0.2), ("GRACE", 0.2)):
        monkeypatch.setattr(executors, name, seconds)


def test_a_stopped_workers_unit_goes_to_another_one(tmp_path: Path, soon: None):
    sweep, made = planned(tmp_path / "sweep"), []

    def start(number: int) -> executors.Handle:
        if made:
            finish(sweep)
            return executors.Handle(lambda: 0, lambda: None, lambda: None)
        made.append(sleeper())
        owner = {**locks.identity(), "pid": made[0].pid, "started": locks._started(made[0].pid)}
        claim = sweep.place(sweep.units[0]) / "claim.1"
        claim.write_text(json.dumps(owner))
        os.utime(claim, (time.time() - 2 * claims.STALE,) * 2)
        return handle(made[0])

    err = io.StringIO()
    executors.drive(sweep, start, 1, Console(file=io.StringIO()), Console(file=err))
    assert "worker 0 was lost, exit code -9" in err.getvalue()
    assert made[0].poll() == -signal.SIGKILL


def test_a_stopped_worker_does_not_hold_the_driver(tmp_path: Path, soon: None):
    """Another process has trained everything meanwhile."""
    sweep, made = planned(tmp_path / "sweep"), []

    def start(number: int) -> executors.Handle:
        made.append(sleeper())
        finish(sweep)
        return handle(made[0])

    executors.drive(sweep, start, 1, Console(file=io.StringIO()), Console(file=io.StringIO()))
    assert made[0].wait(10) == -signal.SIGKILL


def test_ctrl_c_ends_a_worker_that_does_not_listen(tmp_path: Path, soon: None):
    sweep, made = planned(tmp_path / "sweep"), []

    def start(number: int) -> executors.Handle:
        made.append(sleeper())

        def poll() -> int | None:
            polls.append(1)
            if len(polls) == 1:
                raise KeyboardInterrupt
            return made[0].poll()

        return handle(made[0])._replace(poll=poll)

    polls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        executors.drive(sweep, start, 1, Console(file=io.StringIO()), Console(file=io.StringIO()))
    assert made[0].wait(10) == -signal.SIGKILL


def test_a_sweep_that_is_removed_ends_its_driver(tmp_path: Path, soon: None):
    sweep, made = planned(tmp_path / "sweep"), []

    def start(number: int) -> executors.Handle:
        made.append(sleeper())
        shutil.rmtree(sweep.directory)
        return handle(made[0])

    with pytest.raises(Unwritable):
        executors.drive(sweep, start, 1, Console(file=io.StringIO()), Console(file=io.StringIO()))
    assert made[0].wait(10) == -signal.SIGKILL
    assert not sweep.directory.exists()


@pytest.mark.long
def test_a_unit_that_fails_thrice_is_told_with_its_traceback_and_the_rest_goes_on(
    tmp_path: Path,
    log: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    train_group = training.train_group

    def unlucky(runs: Any, *rest: Any) -> None:
        if runs[0].config.actor.hidden == (2,):
            raise RuntimeError("no luck")
        train_group(runs, *rest)

    directory = tmp_path / "sweep"
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_group", unlucky)
        assert main(arguments(directory, file(tmp_path), "--traceback")) == 1
    said = capsys.readouterr().err
    name = "variants 'hidden=2,learning_rate=0.1', 'hidden=2,learning_rate=0.2' failed"
    assert said.count(f"{name}: RuntimeError: no luck") == 3
    assert "Traceback" in said and "in unlucky" in said
    assert len(list(directory.glob("*/summary.json"))) == 2
    found = watch.snapshot(directory)
    assert (found.units, found.done, found.failed, found.running) == (2, 1, 1, 0)
    assert watch.over(found)
    assert main(["resume", str(directory)]) == 0
    complete(directory, log)


def test_settings_of_an_executor():
    assert executors.parse("ray", ["--executor.cores=2"]) == {"cores": "2"}
    assert executors.parse("slurm", ["--executor.partition=a"]) == {"partition": "a"}
    with pytest.raises(BadInput, match=r"executor\.core: was given for ray; allowed: .*cores"):
        executors.parse("ray", ["--executor.core=2"])
    with pytest.raises(BadInput, match="no value was given"):
        executors.parse("slurm", ["--executor.partition"])


def test_cores_are_divided():
    own = executors.cores()
    for workers in range(1, 2 * len(own)):
        found = executors.shares(workers)
        assert len(found) == workers and all(found)
        assert {core for share in found for core in share} <= set(own)
        if workers <= len(own):
            assert sorted(core for share in found for core in share) == own


def test_what_executors_are_told_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for more, message in (
        (["--workers=2"], "--workers: was given for inline"),
        (["--executor.address=x"], "--executor.address: was given for inline"),
        (["--executor=processes", "--workers=0"], "--workers: 0 was given"),
        (["--executor=processes", "--executor.cores=1"], "--executor.cores: was given for proc"),
    ):
        assert main(arguments(tmp_path / "sweep", file(tmp_path), *more)) == 2
        assert message in capsys.readouterr().err
    for executor, package in (("ray", "ray"), ("slurm", "submitit")):
        if importlib.util.find_spec(package) is None:
            assert main(arguments(tmp_path / "none", file(tmp_path), f"--executor={executor}")) == 2
            assert f"{executor} needs {package}" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["swept.py"]


@pytest.mark.long
def test_watching_from_elsewhere(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]):
    directory = tmp_path / "sweep"
    assert main(arguments(directory, file(tmp_path))) == 0
    capsys.readouterr()
    assert main(["watch", str(directory)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("100 %  units 2/2, 0 running  variants 4/4  seeds 8/8  best distance")
    assert main(["watch", str(tmp_path)]) == 2
    best = json.loads((directory / "sweep.json").read_text())
    assert best["goal"] == "min"
    values = {
        p.parent.name: json.loads(p.read_text())["cells"]["swept"]["metrics"]["evaluate/distance"]
        for p in directory.glob("*/summary.json")
    }
    assert min(values, key=lambda name: values[name]["iqm"]) in said


@pytest.mark.slow
def test_a_killed_workers_unit_is_finished_by_another(tmp_path: Path, log: Path):
    directory = tmp_path / "sweep"
    made = process(
        *arguments(directory, file(tmp_path, DEADLY), "--executor=processes", "--workers=2")
    )
    assert made.returncode == 0, made.stderr
    assert "was lost, exit code -9" in made.stderr
    complete(directory, log)
    assert (tmp_path / "log.dead").exists()


@pytest.mark.slow
def test_a_killed_drivers_workers_stop_and_the_rest_is_done_later(tmp_path: Path, log: Path):
    directory = tmp_path / "sweep"
    slow = "\nimport time\nfrom gacf import checkpoint\n_save = checkpoint.save\n"
    slow += "def save(*args):\n    time.sleep(2)\n    return _save(*args)\ncheckpoint.save = save\n"
    call = arguments(directory, file(tmp_path, slow), "--config.checkpoint_every=4")
    driver = started(*call, "--executor=processes", "--workers=2")
    deadline = time.monotonic() + 100
    while not list(directory.glob("units/*/checkpoints/*/0*")):
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    while watch.snapshot(directory).running:
        assert time.monotonic() < deadline, "the workers go on"
        time.sleep(0.1)
    assert not watch.over(watch.snapshot(directory))
    before = list(directory.glob("units/*/checkpoints/*/0*"))
    made = process("sweep", directory, "--resume")
    assert made.returncode == 0, made.stderr
    assert before
    complete(directory, log)


@pytest.mark.slow
def test_two_drivers_at_once_do_no_unit_twice(tmp_path: Path, log: Path):
    directory = tmp_path / "sweep"
    call = arguments(directory, file(tmp_path))
    first = started(*call)
    deadline = time.monotonic() + 100
    while not list(directory.glob("units/*/claim.1")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    second = started("resume", directory)
    for driver in (first, second):
        _, said = driver.communicate(timeout=120)
        assert driver.returncode == 0, said
    complete(directory, log)


@pytest.mark.slow
def test_a_full_disk_is_told_and_nothing_is_corrupt(tmp_path: Path, log: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        shutil.which("mount") is not None
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    try:
        call = arguments(disk / "sweep", file(tmp_path))
        if mounted:
            made = process(*call)
        else:
            limited = f"ulimit -f 8; exec {sys.executable} -m gacf " + '"$@"'
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            made = subprocess.run(
                ["bash", "-c", limited, "gacf", *call],
                env=env, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        assert made.returncode == 1, made.stderr
        assert "Traceback" not in made.stderr
        last = made.stderr.splitlines()[-1]
        assert last.startswith("gacf: the disk is full (") and f"resume {disk / 'sweep'}" in last
        for path in disk.glob("sweep/*.json"):
            json.loads(path.read_text())
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        made = process("resume", disk / "sweep")
        assert made.returncode == 0, made.stderr
        assert {p.parent.name for p in disk.glob("sweep/*/summary.json")} == NAMES
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_ray_workers(tmp_path: Path, log: Path):
    pytest.importorskip("ray")
    directory = tmp_path / "sweep"
    more = ("--executor=ray", "--workers=2", "--executor.cores=1")
    made = started(*arguments(directory, file(tmp_path, DEADLY), *more))
    _, said = made.communicate(timeout=280)
    assert made.returncode == 0, said
    assert "was lost" in said
    complete(directory, log)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_slurm_workers(tmp_path: Path, log: Path, cluster: str):
    pytest.importorskip("submitit")
    directory = tmp_path / "sweep"
    more = ("--executor=slurm", "--workers=2", f"--executor.cluster={cluster}")
    killed = DEADLY if cluster == "local" else ""
    made = process(*arguments(directory, file(tmp_path, killed), *more))
    assert made.returncode == 0, made.stderr
    assert ("was lost" in made.stderr) == bool(killed)
    complete(directory, log)
