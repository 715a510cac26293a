"""One writer for each directory: among threads, processes, containers, machines."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gacf.lab import children, locks, run_directory
from gacf.lab.files import Unwritable

# Holds DIR/.lock as another process does, and says so; gacf itself takes seconds to import.
HOLD = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(100)
"""


def at_once(count: int, call: Any) -> list[Any]:
    """What so many threads get or raise that call at the same moment."""
    got: list[Any] = []
    ready = threading.Barrier(count)

    def one(i: int) -> None:
        ready.wait()
        try:
            got.append((i, call(i)))
        except (locks.Taken, locks.Held) as error:
            got.append((i, error))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the directory."""
    call = [sys.executable, "-c", HOLD, str(tmp_path / locks.FILE)]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def owned(directory: Path, age: float = 0.0, **changes: Any) -> None:
    """A lock file that another process has left, or holds where flock does not tell."""
    path = directory / locks.FILE
    path.write_text(json.dumps({**locks.identity(), **changes}))
    os.utime(path, (time.time() - age,) * 2)


@pytest.mark.parametrize("empty", [False, True])
def test_of_several_that_make_one_directory_one_succeeds(tmp_path: Path, empty: bool):
    directory = tmp_path / "a" / "run"
    if empty:
        directory.mkdir(parents=True)
    got = at_once(8, lambda i: locks.make(directory, {"one": b"%d" % i, "two": b"%d" % i}))
    ((i, lock),) = [(i, x) for i, x in got if isinstance(x, locks.Lock)]
    assert (directory / "one").read_text() == (directory / "two").read_text() == str(i)
    lock.check()
    with pytest.raises(locks.Held):
        locks.acquire(directory)
    lock.release()
    assert sorted(p.name for p in directory.iterdir()) == ["one", "two"]
    assert [p.name for p in directory.parent.iterdir()] == ["run"], "something was left"


def test_default_names_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "now")

    def make(i: int) -> Path:
        for place in run_directory.fresh("x"):
            try:
                return locks.make(place, {"file": b"%d" % i}).directory
            except (locks.Taken, locks.Held):
                continue
        raise AssertionError

    got = dict(at_once(6, make))
    assert len(set(got.values())) == 6
    assert Path("runs/x-now") in got.values() and Path("runs/x-now-2") in got.values()
    assert all((place / "file").read_text() == str(i) for i, place in got.items())


def test_a_directory_that_another_process_holds(tmp_path: Path, other: subprocess.Popen[str]):
    began = time.monotonic()
    with pytest.raises(locks.Held, match="is being trained by another process"):
        locks.acquire(tmp_path, wait=0.5)
    assert time.monotonic() - began >= 0.5
    with pytest.raises(locks.Held):
        locks.make(tmp_path, {"file": b""})
    other.kill()
    other.wait()
    with locks.acquire(tmp_path) as lock:  # at once: the system has let go of it
        lock.check()
    assert not any(tmp_path.iterdir())


def test_a_lock_that_outlives_its_process_is_taken_over(
    tmp_path: Path, other: subprocess.Popen[str]
):
    """A process that the holder has started may keep the system's lock alive."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owned(tmp_path, pid=gone.pid, started="0")
    with locks.acquire(tmp_path) as lock:
        lock.check()
        assert locks.held(tmp_path)
        with pytest.raises(locks.Held):
            locks.acquire(tmp_path)
    assert not locks.held(tmp_path)


@pytest.mark.parametrize(
    ("changes", "age", "held"),
    [
        ({"boot": "elsewhere", "pid": 1}, 0, True),  # another machine: its sign of life counts
        ({"boot": "elsewhere", "pid": 1}, 2 * locks.STALE, False),
        ({"boot": "elsewhere", "pid": 1}, -2 * locks.STALE, False),
        ({"boot": None}, 0, True),
        # This machine: its lock would be there, whatever the file says and however fresh it is.
        ({"namespace": "elsewhere"}, 0, False),
        ({}, 0, False),
    ],
)
def test_what_a_lock_file_says(tmp_path: Path, changes: dict[str, Any], age: float, held: bool):
    owned(tmp_path, age, **changes)
    if held:
        with pytest.raises(locks.Held, match=rf"number {changes.get('pid', os.getpid())} on "):
            locks.acquire(tmp_path)
    else:
        locks.acquire(tmp_path).release()


@pytest.mark.parametrize("data", [b"", b"\0" * 80, b"[]", b"3", b'"x"', b"{", b'{"pid": "x"}'])
def test_garbage_in_a_lock_file_does_not_hold(tmp_path: Path, data: bytes):
    (tmp_path / locks.FILE).write_bytes(data)
    os.utime(tmp_path / locks.FILE, (time.time() - 2 * locks.STALE,) * 2)
    locks.acquire(tmp_path).release()


@pytest.mark.parametrize(
    ("changes", "age", "held"),
    [
        ({}, 2 * locks.STALE, True),  # it can be seen to live
        ({"started": "0"}, 0, False),
        ({"namespace": "elsewhere", "started": "0"}, 0, True),  # its number means nothing here
        ({"namespace": "elsewhere"}, 2 * locks.STALE, False),
    ],
)
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], age: float, held: bool
):
    def none(handle: int, what: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(locks, "PAUSE", 0.01)
    owned(tmp_path, age, **changes)
    assert locks.held(tmp_path) is held
    if held:
        with pytest.raises(locks.Held):
            locks.acquire(tmp_path)
    else:
        with locks.acquire(tmp_path), pytest.raises(locks.Held):
            locks.acquire(tmp_path)


def test_who_has_lost_the_directory_notices(tmp_path: Path):
    directory = tmp_path / "run"
    for loss in ("removed", "moved", "taken over", "written over"):
        directory.mkdir()
        lock = locks.acquire(directory)
        lock.check()
        if loss == "removed":
            shutil.rmtree(directory)
        elif loss == "moved":
            directory.rename(tmp_path / "elsewhere")
        elif loss == "taken over":
            (tmp_path / "new").write_text("{}")
            (tmp_path / "new").rename(directory / locks.FILE)
        else:
            (directory / locks.FILE).write_text("{}")
        with pytest.raises(Unwritable):
            lock.check()
        lock.release()
        assert directory.exists() == loss.endswith("over"), "it has come back"
        shutil.rmtree(directory, ignore_errors=True)


def test_the_lock_is_touched_and_not_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with locks.acquire(tmp_path) as lock:
        os.utime(tmp_path / locks.FILE, (0, 0))
        deadline = time.monotonic() + 10
        while locks.silence(tmp_path / locks.FILE) > 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert locks.silence(tmp_path / locks.FILE) < 5
        # A disk with a file open for writing could not be made read-only.
        assert fcntl.fcntl(lock._handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def test_a_child_searches_for_modules_where_its_parent_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither in the folder that it is started in, nor elsewhere in another order."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(
        "import json, sys\ndef main():\n    print(json.dumps([sys.path, sys.argv[1:]]))\n"
    )
    (tmp_path / "here").mkdir()
    for name in ("json", "mine", "sitecustomize", "threading"):
        (tmp_path / "here" / f"{name}.py").write_text("raise SystemExit(5)\n")
    monkeypatch.syspath_prepend(tmp_path / "own")
    monkeypatch.chdir(tmp_path / "here")
    call = [*children.python("mine:main"), "an argument"]
    made = subprocess.run(call, capture_output=True, text=True, check=True)
    path, arguments = json.loads(made.stdout)
    assert path == [os.path.abspath(p) if os.path.exists(p) else p for p in sys.path if p]
    assert arguments == ["an argument"]


@pytest.mark.parametrize("known", [True, False])
def test_a_child_ends_with_its_parent_whatever_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
):
    """Also while it imports, and if its parent has ended before it began to look."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(100)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(children, "_START", children._START.replace("sleep(5.0)", "sleep(0.1)"))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    call = children.python("slow:main", gone.pid if known else children.ANY)
    between = "import subprocess, sys, time; p = subprocess.Popen(sys.argv[1:]); "
    between += "print(p.pid, flush=True); time.sleep(1 if sys.argv[1:] else 0)"
    made = subprocess.run(
        [sys.executable, "-c", between, *call], capture_output=True, text=True, check=True
    )
    pid, deadline = int(made.stdout), time.monotonic() + 20
    while locks._started(pid) is not None and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            break
        time.sleep(0.05)
    else:
        assert locks._started(pid) is None, "it lives on"
