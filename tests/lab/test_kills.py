"""Killed again and again at random moments, every run and sweep ends as if nothing had happened.

`GACF_KILLS` says how often each of the three is killed; the default makes 100 together.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gacf.lab import states

from .common import ROOT, TOY
from .test_checkpoint import bits

KILLS = {"run": 50, "sweep": 30, "workers": 20}
LONG = ("--config.steps=120", "--config.checkpoint_every=4")
SWEPT = ("--sweep.actor.hidden=(2,),(3,)", "--sweep.actor.learning_rate=0.1,0.2")
COMMANDS = {
    "run": ("run", TOY, *LONG),
    "sweep": ("sweep", TOY, *LONG, *SWEPT),
    "workers": ("sweep", TOY, *LONG, *SWEPT, "--executor=processes", "--workers=2"),
}


def started(*call: object) -> subprocess.Popen[str]:
    """The command as a process of its own, with its workers in a group of their own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gacf", *map(str, call)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def completed(*call: object) -> None:
    child = started(*call)
    said, _ = child.communicate()
    assert child.returncode == 0, said


def runs(directory: Path) -> list[Path]:
    """The run, or the variants of the sweep."""
    found = sorted(path.parent for path in directory.rglob("config.json"))
    assert len(found) == (4 if (directory / "sweep.json").exists() else 1)
    return found


def same(one: Path, other: Path) -> None:
    for left, right in zip(runs(one), runs(other), strict=True):
        assert left.name == right.name or one == left
        name = "metrics.parquet"
        assert (left / name).read_bytes() == (right / name).read_bytes(), left.name
        assert bits(states.load_cells(left)) == bits(states.load_cells(right)), left.name
    assert not list(other.rglob(".writing-*")) and not list(other.rglob(".lock"))


def killed(kind: str, directory: Path, rng: random.Random, seconds: float) -> bool:
    """Starts or resumes it, and kills it at a random moment; whether it had not ended by then."""
    again = directory.exists()
    more = COMMANDS[kind][-2:] if kind == "workers" else ()
    call = ["resume", directory, *more] if again else [*COMMANDS[kind], "--workdir", directory]
    child = started(*call)
    assert child.stdout is not None
    # A third of the kills may come while it starts or compiles, the others while it trains.
    trains = threading.Event()
    said: list[str] = []

    def listen() -> None:
        for line in child.stdout or ():
            said.append(line)
            if "compiled in" in line or "running" in line:
                trains.set()
        trains.set()

    listener = threading.Thread(target=listen)
    listener.start()
    if rng.random() < 2 / 3:
        trains.wait()
    time.sleep(rng.uniform(0, seconds))
    alive = child.poll() is None
    # Workers whose driver alone is killed have to end by themselves.
    (os.kill if rng.random() < 0.5 else os.killpg)(child.pid, signal.SIGKILL) if alive else None
    child.wait()
    listener.join()
    child.stdout.close()
    assert alive or child.returncode == 0, "".join(said)
    return alive


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KILLS)
def test_what_is_killed_at_random_moments_ends_bit_for_bit(tmp_path: Path, kind: str):
    rng = random.Random(f"{kind} {os.environ.get('GACF_KILLS_SEED', 0)}")
    began = time.monotonic()
    completed(*COMMANDS[kind], "--workdir", tmp_path / "whole")
    seconds = time.monotonic() - began
    left = int(os.environ.get("GACF_KILLS", KILLS[kind]))
    directory = tmp_path / "killed"
    while left:
        if killed(kind, directory, rng, seconds / 2):
            left -= 1
        else:
            same(tmp_path / "whole", directory)
            shutil.rmtree(directory)
    again = directory.exists()
    completed(*(["resume", directory] if again else [*COMMANDS[kind], "--workdir", directory]))
    same(tmp_path / "whole", directory)
