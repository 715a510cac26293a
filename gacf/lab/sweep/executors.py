"""Where a sweep's workers run: local processes, Ray, SLURM.

All of them start the same command, `gacf.lab.sweep.worker`, and pass it only the sweep's directory,
in which a worker finds everything else. So an executor only starts workers, polls them, and stops
them.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from gacf.core.distribution import install
from gacf.lab import children, files, locks
from gacf.lab.errors import BadInput
from gacf.lab.sweep import claims, watch, worker
from gacf.lab.sweep.claims import ATTEMPTS
from gacf.lab.sweep.directory import Sweep

LOOK = 0.3  # seconds between looks at the workers
GRACE = 20.0  # seconds that a worker has to release its unit
SILENT = 5.0  # seconds that a worker may live on after losing its unit before it is replaced
REST = 25.0  # seconds that workers have to end once no unit is left


class Handle(NamedTuple):
    """A worker that was started.

    Attributes:
        poll: returns its exit code; None as long as it runs.
        stop: asks it to stop.
        kill: ends it, even if it is stopped or hangs.
        pid: its process number, if it is a process on this machine.
    """

    poll: Callable[[], int | None]
    stop: Callable[[], None]
    kill: Callable[[], None]
    pid: int | None = None


Start = Callable[[int], Handle]
"""Starts the worker with the given number."""


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def shares(workers: int) -> list[list[int]]:
    """Divides the cores among the workers; if there are fewer cores, several workers share one.

    Example:
        >>> {len(shares(n)) for n in (1, 2, 3)} == {1, 2, 3}
        True
    """
    own = cores()
    if workers >= len(own):
        return [[own[i % len(own)]] for i in range(workers)]
    return [own[i * len(own) // workers : (i + 1) * len(own) // workers] for i in range(workers)]


def environment(devices: int, workers: int = 1) -> dict[str, str]:
    """Environment variables that JAX reads when a worker starts: host devices, its GPU share."""
    flags = re.sub(
        r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
    )
    part = os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / workers:.2f}")
    return {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}".strip(),
        "XLA_PYTHON_CLIENT_MEM_FRACTION": part,
        # What starts a worker imports nothing from its folder either.
        "PYTHONSAFEPATH": "1",
    }


def command(directory: Path, more: Sequence[str] = (), parent: int = children.ANY) -> list[str]:
    """The command that starts a worker, which ends when its parent ends."""
    start = children.python("gacf.lab.sweep.worker:main", parent)
    return [*start, str(directory.resolve()), *more]


def _log(directory: Path, number: int) -> Path:
    place = directory / "workers"
    with files.writing():
        place.mkdir(exist_ok=True)
    return place / f"{number}.log"


def processes(
    directory: Path, workers: int, more: Sequence[str], settings: Mapping[str, str]
) -> Start:
    """Workers as processes on this machine, which share its cores."""
    divided = shares(workers)

    def start(number: int) -> Handle:
        own = divided[number]
        cores = ["--cores", ",".join(map(str, own))]
        call = command(directory, [*cores, *more], os.getpid())
        with files.writing():
            log = _log(directory, number).open("ab")
        with log:
            process = subprocess.Popen(
                call,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment(len(own), workers)},
            )
        return Handle(process.poll, process.terminate, process.kill, process.pid)

    return start


def _on_ray(call: list[str], added: dict[str, str], log: str) -> int:
    import os
    import subprocess

    with open(log, "ab") as file:
        result = subprocess.run(
            call, stdout=file, stderr=file, env={**os.environ, **added}, check=False
        )
    return result.returncode


def with_ray(
    directory: Path, workers: int, more: Sequence[str], settings: Mapping[str, str]
) -> Start:
    """Workers as Ray tasks, on this machine or on a running cluster with the same file system."""
    ray: Any = __import__("ray")
    if not ray.is_initialized():
        here = {} if "address" in settings else {"include_dashboard": False}
        with warnings.catch_warnings():
            # Ray forks only to start another program, which is safe with JAX's threads.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            ray.init(
                address=settings.get("address"), log_to_driver=False, logging_level="error", **here
            )
    each = int(settings.get("cores", max(1, len(cores()) // workers)))
    # Pickled by value, because Ray's own processes may not have gacf on their path.
    cloudpickle: Any = __import__("ray.cloudpickle").cloudpickle
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    remote = ray.remote(num_cpus=each, max_retries=0)(_on_ray)

    def start(number: int) -> Handle:
        log = str(_log(directory, number).resolve())
        task = remote.remote(command(directory, more), environment(each, workers), log)

        def poll() -> int | None:
            ready, _ = ray.wait([task], timeout=0)
            if not ready:
                return None
            try:
                return ray.get(task)
            except Exception:  # the task's process, or its machine, is gone
                return 1

        def stop() -> None:
            with contextlib.suppress(Exception):
                ray.cancel(task, force=True)

        return Handle(poll, stop, stop)

    return start


def slurm(directory: Path, workers: int, more: Sequence[str], settings: Mapping[str, str]) -> Start:
    """Workers as SLURM jobs by submitit; `cluster=local` or `debug` runs them on this machine."""
    submitit: Any = __import__("submitit")
    helpers: Any = __import__("submitit.helpers").helpers
    parameters = {k: int(v) if v.isdigit() else v for k, v in settings.items()}
    executor = submitit.AutoExecutor(
        folder=directory.resolve() / "workers" / "slurm", cluster=parameters.pop("cluster", None)
    )
    each = int(parameters.setdefault("cpus_per_task", max(1, len(cores()) // workers)))
    parameters.setdefault("timeout_min", 24 * 60)
    try:
        executor.update_parameters(**parameters)
    except (TypeError, ValueError, NameError) as error:
        raise BadInput(f"--executor.KEY: {str(error).splitlines()[0]}") from error

    def start(number: int) -> Handle:
        # `env` adds to the job's environment; an argument would replace it.
        added = [f"{key}={value}" for key, value in environment(each, workers).items()]
        call = helpers.CommandFunction(["env", *added, *command(directory, more)], verbose=False)
        job = executor.submit(call)

        def poll() -> int | None:
            if not job.done():
                return None
            try:
                job.result()
                return 0
            except Exception as error:
                return worker.UNWRITABLE if f"exit code {worker.UNWRITABLE}" in str(error) else 1

        def stop() -> None:
            with contextlib.suppress(Exception):
                job.cancel()

        return Handle(poll, stop, stop)

    return start


ALLOWED: dict[str, tuple[str, ...]] = {
    "inline": (),
    "processes": (),
    "ray": ("address", "cores"),
}  # slurm takes whatever submitit takes


def parse(executor: str, tokens: Sequence[str]) -> dict[str, str]:
    """The settings in arguments of the form `--executor.KEY=VALUE`.

    Raises:
        BadInput: no value, or a key that the executor does not take.
    """
    settings = {}
    for token in tokens:
        key, equals, value = token.removeprefix("--executor.").partition("=")
        if not equals:
            raise BadInput(f"--executor.{key}: no value was given; allowed: --executor.{key}=VALUE")
        settings[key] = value
    allowed = ALLOWED.get(executor)
    for key in settings:
        if allowed is not None and key not in allowed:
            raise BadInput(
                f"--executor.{key}: was given for {executor}; "
                f"allowed: {', '.join(f'--executor.{a}' for a in allowed) or 'none'}"
            )
    return settings


EXECUTORS = {
    "processes": ("subprocess", processes),
    "ray": ("ray", with_ray),
    "slurm": ("submitit", slurm),
}


def check(executor: str) -> None:
    """Raises a `BadInput` if an executor is not installed."""
    package, _ = EXECUTORS[executor]
    if importlib.util.find_spec(package) is None:
        raise BadInput(f"--executor: {executor} needs {package}; {install(executor)}")


def drive(sweep: Sweep, start: Start, workers: int, out: Console, err: Console) -> None:
    """Keeps workers running until no unit is left, and replaces workers that are lost.

    A worker that is stopped or hangs counts as lost, like one that has ended: once its claim is too
    old it is killed. When nothing is left to train, no worker is waited for.

    Raises:
        Unwritable: the file system refuses to be written.
        BadInput: workers end before they take a unit.
    """
    stored = watch.read_sweep(sweep.directory).get("key_metric")
    running: dict[int, Handle] = {}
    patience = GRACE
    try:
        for i in range(min(workers, len(sweep.left()))):
            running[i] = start(i)
        lost_in_a_row, attempts, printed, printed_at = 0, None, "", 0.0
        silent: dict[int, float] = {}
        idle: float | None = None
        with out.status("") if out.is_terminal else contextlib.nullcontext() as status:
            while running:
                if not sweep.directory.is_dir():
                    raise files.Unwritable(errno.ENOENT, "it was removed or moved")
                for i, handle in list(running.items()):
                    code = handle.poll()
                    if code is None:
                        continue
                    del running[i]
                    silent.pop(i, None)
                    if code == worker.UNWRITABLE:
                        raise _refused(sweep.directory, i)
                    if code == 0:
                        continue
                    err.print(f"gacf: worker {i} was lost, exit code {code}", markup=False)
                    now = [(u.name, claims.status(sweep.place(u)).attempts) for u in sweep.left()]
                    lost_in_a_row, attempts = (
                        (lost_in_a_row + 1, attempts) if now == attempts else (1, now)
                    )
                    if lost_in_a_row > ATTEMPTS * workers:
                        raise BadInput(
                            f"workers end as soon as they start: {_tail(sweep.directory, i)}"
                        )
                    if any(n < ATTEMPTS for _, n in now):
                        running[i] = start(i)
                _end_silent(sweep, running, silent)
                now_idle = _nothing_left(sweep)
                idle = (idle or time.monotonic()) if now_idle else None
                if idle and time.monotonic() - idle > REST:
                    patience = LOOK
                    return
                text = watch.line(watch.snapshot(sweep.directory), stored)
                if status is not None:
                    status.update(escape(text))
                elif text != printed and time.monotonic() - printed_at > 5:
                    out.print(text, markup=False, soft_wrap=True)
                    printed, printed_at = text, time.monotonic()
                time.sleep(LOOK)
    finally:
        _end(running.values(), patience)


def _nothing_left(sweep: Sweep) -> bool:
    """Whether every unit has been trained or given up."""
    statuses = [claims.status(sweep.place(unit)) for unit in sweep.left()]
    return all(not status.live and status.attempts >= ATTEMPTS for status in statuses)


def _end_silent(sweep: Sweep, running: Mapping[int, Handle], silent: dict[int, float]) -> None:
    """Kills workers that lost their claims a while ago and have not ended.

    Args:
        sweep: the sweep that they train.
        running: the workers.
        silent: worker -> the time since which it has been without a claim; updated here.
    """
    owners = [owner for unit in sweep.left() for owner in claims.losers(sweep.place(unit))]
    quiet = {owner.get("pid") for owner in owners if locks.in_sight(owner)}
    for i, handle in running.items():
        if handle.pid is None or handle.pid not in quiet:
            silent.pop(i, None)
        elif time.monotonic() - silent.setdefault(i, time.monotonic()) > SILENT:
            handle.kill()


def _end(handles: Collection[Handle], patience: float) -> None:
    """Ends workers: asks them first, and kills those that do not end in time."""
    try:
        for handle in handles:
            handle.stop()
        until = time.monotonic() + patience
        while time.monotonic() < until and any(h.poll() is None for h in handles):
            time.sleep(LOOK / 3)
    finally:  # also if the user interrupts the waiting
        for handle in handles:
            if handle.poll() is None:
                handle.kill()


def _refused(directory: Path, number: int) -> files.Unwritable:
    """Why a worker could not write, from the last line of its output."""
    line = _tail(directory, number).removeprefix("gacf: ")
    return files.unwritable(Exception(line)) or files.Unwritable(errno.EIO, line)


def _tail(directory: Path, number: int) -> str:
    try:
        return _log(directory, number).read_text(errors="replace").strip().splitlines()[-1]
    except (OSError, IndexError):
        return f"see {directory / 'workers'}"
