"""Several processes as one run: joining, agreeing, ending when one of them is lost.

All processes make the same calls and see the same directory. Only process 0 prints, and writes
everything but the arrays of checkpoints. Lanes never wait for each other within a step, so only
metrics after each call of the compiled program and states at checkpoints are exchanged.

JAX's runtime aborts a process when another one is gone, whatever it is doing. So each process of a
run is the child of a process that only waits, and reports in one line what happened:

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
LONGEST = 4096  # bytes of a text on which processes agree

_GONE = re.compile(
    r"Gloo|NCCL|Connection (closed|reset|refused)|Socket closed|UNAVAILABLE|DEADLINE_EXCEEDED"
    r"|heartbeat|unhealthy|Barrier|CoordinationService"
)
_LOGGED = re.compile(r"[IWE]\d{4} \d\d:")  # the form of XLA's log lines
_FATAL = re.compile(r"F\d{4} \d\d:")
_MORE = re.compile(r"Additional GRPC|:UNKNOWN|The tasks have crashed|RPC: |\d+$|$")


class Group(NamedTuple):
    """The processes of a run.

    Attributes:
        coordinator: HOST:PORT of process 0; None: the cluster's environment gives all three.
        processes: how many there are.
        process: the number of this one, counted from 0.
    """

    coordinator: str | None
    processes: int | None
    process: int | None

    def flags(self, process: str | None = None) -> str:
        """The command-line arguments that describe the group to one process."""
        if self.coordinator is None:
            return "--distributed"
        which = self.process if process is None else process
        return f"--coordinator {self.coordinator} --processes {self.processes} --process {which}"


def group(
    distributed: bool, coordinator: str | None, processes: int | None, process: int | None
) -> Group | None:
    """The group that the command line describes; None: a run of one process.

    Raises:
        BadInput: the arguments do not fit together.
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


def join(members: Group) -> None:
    """Connects this process with the others before JAX's backend starts.

    Raises:
        BadInput: no environment of a cluster says which processes there are.
    """
    try:
        jax.distributed.initialize(
            members.coordinator,
            members.processes,
            members.process,
            heartbeat_timeout_seconds=SILENCE,
        )
    except ValueError as error:
        raise BadInput(
            f"--distributed: no job of SLURM, Open MPI or Kubernetes was found ({error}); "
            "allowed: inside such a job, or with --coordinator HOST:PORT --processes N --process I"
        ) from error


def first() -> bool:
    """Whether this is the process that prints and writes."""
    return jax.process_index() == 0


def agreed(choose: Callable[[], str]) -> str:
    """Gives each process the text that process 0 chooses, or raises the error that it raises.

    Args:
        choose: called on process 0 alone; only a `BadInput` or a `Failed` is passed on.
    """
    if jax.process_count() == 1:
        return choose()
    message = np.zeros(LONGEST, np.uint8)
    if first():
        try:
            text = "+" + choose()
        except BadInput as error:
            text = f"-{error}"
        except Failed as error:
            text = f"!{error}"
        data = text.encode()[:LONGEST]
        message[: len(data)] = np.frombuffer(data, np.uint8)
    received = np.asarray(multihost_utils.broadcast_one_to_all(message), np.uint8)
    text = received.tobytes().rstrip(b"\0").decode(errors="ignore")
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
        arguments: the arguments of the command.
        lost: the line to print if another process was lost.

    Returns:
        The child's exit code, or 1 if a process was lost.
    """
    theirs, ours = os.pipe()
    process = subprocess.Popen(
        [*children.python("gacf.lab.cli:main"), *arguments],
        env={**os.environ, CHILD: str(theirs)},
        pass_fds=(theirs,),
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # signals of the terminal arrive only here, and are passed on once
    )
    os.close(theirs)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: process.send_signal(number))
    assert process.stderr is not None
    for line in without_logs(process.stderr):
        sys.stderr.write(line)
        sys.stderr.flush()
    code = process.wait()
    os.close(ours)
    if code in (LOST, -signal.SIGABRT):
        print(lost, file=sys.stderr)
        return 1
    return code if code >= 0 else 128 - code


def without_logs(lines: Iterable[str]) -> Iterator[str]:
    """The lines without XLA's log lines and without everything that follows once it aborts.

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
    """Does the work of a child.

    If anything fails, the process ends here at once: a clean exit would wait for processes that are
    gone, or that wait for this one.

    Args:
        work: does the work and returns the exit code.
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
        time.sleep(1)  # this process coordinates: let the others end by themselves
    os._exit(code)
