"""Several processes as one run: joining, agreeing, ending when one of them is lost.

All processes make the same calls and see one directory; process 0 alone prints, and writes what is
not a checkpoint's arrays. Lanes never wait for each other within a step, so nothing is exchanged
but metrics after each call of the compiled program, and states at checkpoints.

JAX's runtime aborts a process when another one is gone, wherever it is. So each process of a run
is the child of one that only waits, and tells in a line what happened:

    gacf run … --coordinator HOST:PORT --processes N --process I
      └─ the same as a child: joins the others, trains
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from gacf.lab import children
from gacf.lab.errors import BadInput, Failed

CHILD = "GACF_PARENT_PIPE"  # environment: the child's end of a pipe that closes with its parent
LOST = 75  # exit code of a child that could not reach another process
SILENCE = 60  # seconds without a heartbeat after which a process counts as lost
LONGEST = 4096  # bytes of what processes agree on

_GONE = re.compile(
    r"Gloo|NCCL|Connection (closed|reset|refused)|Socket closed|UNAVAILABLE|DEADLINE_EXCEEDED"
    r"|heartbeat|unhealthy|Barrier|CoordinationService"
)
_LOGGED = re.compile(r"[IWE]\d{4} \d\d:")  # as XLA logs
_FATAL = re.compile(r"F\d{4} \d\d:")
_MORE = re.compile(r"Additional GRPC|:UNKNOWN|The tasks have crashed|RPC: |\d+$|$")


class Group(NamedTuple):
    """The processes of a run.

    Attributes:
        coordinator: HOST:PORT of process 0; None: the cluster's environment tells all three.
        processes: how many.
        process: which one this is, from 0 on.
    """

    coordinator: str | None
    processes: int | None
    process: int | None

    def flags(self, process: str | None = None) -> str:
        """What the command line says of it."""
        if self.coordinator is None:
            return "--distributed"
        which = self.process if process is None else process
        return f"--coordinator {self.coordinator} --processes {self.processes} --process {which}"


def group(
    distributed: bool, coordinator: str | None, processes: int | None, process: int | None
) -> Group | None:
    """The group that the command line asks for; None: a run of one process.

    Raises:
        BadInput: arguments that do not go together.
    """
    if coordinator is None:
        for name, value in (("--processes", processes), ("--process", process)):
            if value is not None:
                raise BadInput(f"{name}: {value} was given; allowed: with --coordinator HOST:PORT")
        return Group(None, None, None) if distributed else None
    if not re.fullmatch(r".+:\d+", coordinator):
        raise BadInput(f"--coordinator: {coordinator!r} was given; allowed: HOST:PORT")
    if processes is None or processes < 1:
        raise BadInput(f"--processes: {processes} was given; allowed: a whole number >= 1")
    if process is None or not 0 <= process < processes:
        raise BadInput(f"--process: {process} was given; allowed: 0 to {processes - 1}")
    return Group(coordinator, processes, process)


def join(found: Group) -> None:
    """Connects this process with the others, before JAX's backend starts.

    Raises:
        BadInput: there is no cluster's environment to tell who the others are.
    """
    try:
        jax.distributed.initialize(
            found.coordinator, found.processes, found.process, heartbeat_timeout_seconds=SILENCE
        )
    except ValueError as error:
        raise BadInput(
            f"--distributed: no job of SLURM, Open MPI or Kubernetes was found ({error}); "
            "allowed: in one, or with --coordinator HOST:PORT --processes N --process I"
        ) from error


def first() -> bool:
    """Whether this process prints and writes."""
    return jax.process_index() == 0


def agreed(choose: Callable[[], str]) -> str:
    """What process 0 chooses, on each process; a `BadInput` or a `Failed` that it raises, too.

    Args:
        choose: called on process 0 alone.
    """
    if jax.process_count() == 1:
        return choose()
    said = np.zeros(LONGEST, np.uint8)
    if first():
        try:
            text = "+" + choose()
        except BadInput as error:
            text = f"-{error}"
        except Failed as error:
            text = f"!{error}"
        data = text.encode()[:LONGEST]
        said[: len(data)] = np.frombuffer(data, np.uint8)
    heard = np.asarray(multihost_utils.broadcast_one_to_all(said), np.uint8)
    text = heard.tobytes().rstrip(b"\0").decode(errors="ignore")
    if text.startswith("-"):
        raise BadInput(text[1:])
    if text.startswith("!"):
        raise Failed(text[1:])
    return text[1:]


def child() -> bool:
    """Whether this process is one that `supervise` started."""
    return CHILD in os.environ


def supervise(arguments: Sequence[str], lost: str) -> int:
    """Runs the command as a child and waits for it.

    Args:
        arguments: of the command.
        lost: the line to print when another process was lost.

    Returns:
        The exit code: the child's; 1 if a process was lost.
    """
    theirs, ours = os.pipe()
    started = subprocess.Popen(
        [*children.python("gacf.lab.cli:main"), *arguments],
        env={**os.environ, CHILD: str(theirs)},
        pass_fds=(theirs,),
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # signals of the terminal come here alone, and are passed on once
    )
    os.close(theirs)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: started.send_signal(number))
    assert started.stderr is not None
    for line in without_logs(started.stderr):
        sys.stderr.write(line)
        sys.stderr.flush()
    code = started.wait()
    os.close(ours)
    if code in (LOST, -signal.SIGABRT):
        print(lost, file=sys.stderr)
        return 1
    return code if code >= 0 else 128 - code


def without_logs(lines: Iterable[str]) -> Iterator[str]:
    """The lines but for what XLA logs, and for all that comes once it aborts.

    Example:
        >>> list(without_logs(["W0101 10:00:00.1 a.cc:1] x", "hello", "F0101 10:00:01.2 y", "@"]))
        ['hello']
    """
    logged = fatal = False
    for line in lines:
        fatal = fatal or bool(_FATAL.match(line))
        logged = bool(_LOGGED.match(line)) or (logged and bool(_MORE.match(line)))
        if not (logged or fatal):
            yield line


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process of the run is gone."""
    return bool(_GONE.search("".join(traceback.format_exception_only(error))))


def guarded(work: Callable[[], int]) -> int:
    """A child's work.

    Unless all goes well the process ends here, at once: leaving in order would wait for processes
    that are gone, or that wait for this one.

    Args:
        work: returns the exit code.
    """
    pipe = int(os.environ[CHILD])

    def orphaned() -> None:
        os.read(pipe, 1)
        os._exit(1)

    threading.Thread(target=orphaned, daemon=True).start()
    try:
        code = work()
    except BaseException as error:
        code = LOST if is_loss(error) else 1
        if code != LOST:
            traceback.print_exc()
    if code == 0:
        return 0
    sys.stdout.flush()
    sys.stderr.flush()
    if first():
        time.sleep(1)  # who lives here coordinates: the others are to end by themselves
    os._exit(code)
