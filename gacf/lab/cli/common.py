"""What several commands share: cores, processes, trackers, and messages to the user."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from gacf.core.types import Algorithm, Key, State
from gacf.lab import processes, provenance, records, run_directory, states
from gacf.lab.console import console
from gacf.lab.errors import BadInput
from gacf.lab.records import SWEEP
from gacf.lab.sweep import track
from gacf.runner import take_seed


def processes_of(args: argparse.Namespace) -> Any:
    """The group of processes that the command line describes; None: a run of one process."""
    if not args.several:
        return None
    group = processes.group(args.distributed, args.coordinator, args.processes, args.process)
    assert group is not None
    if args.command == "run" and args.profile:
        raise BadInput("--profile: was given for several processes; allowed: for one")
    if args.command == "resume" and (Path(args.directory) / SWEEP).exists():
        raise BadInput(f"{group.flags()}: {args.directory!r} is a sweep; allowed: for runs")
    return group


def join(args: argparse.Namespace) -> None:
    """Joins the group of processes that the command line describes, if there is one."""
    if group := processes_of(args):
        processes.join(group)


def use_all_cores(count: int | None = None) -> None:
    """Sets up one host device per core, which makes many seeds fast on a CPU.

    Args:
        count: the number of devices, for a run that is resumed; None: the number of usable cores.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A caller in the same process may have started the backend already.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count or cores or 1)


def check_track(kind: str | None) -> None:
    """Raises a `BadInput` if the requested tracker is not installed."""
    if kind:
        track.check(kind)


def use_cores_of(stored: Path, processes: int | None = 1) -> None:
    """Sets up as many devices as the resumed run had, before JAX starts.

    Args:
        stored: the file that records them.
        processes: how many processes share them; None: as many as before.
    """
    try:
        devices = json.loads(stored.read_text())["devices"]
        share = max(1, devices["count"] // (processes or devices.get("processes", 1)))
        use_all_cores(share if devices["platform"] == "cpu" else None)
    except (OSError, ValueError, LookupError, TypeError):
        use_all_cores()


def report_changes(stored: dict[str, Any]) -> None:
    """Reports in which ways code, devices or versions differ from those at the beginning."""
    if processes.first() and (differences := provenance.changes(stored.get("code"))):
        print(f"gacf: the code has changed since the run began: {'; '.join(differences)}; "
              "its numbers may differ", file=sys.stderr)  # fmt: skip
    for name, now in (("devices", run_directory.devices()), ("versions", run_directory.versions())):
        if processes.first() and now != stored.get(name):
            print(
                f"gacf: {name} are not those that the run began with; "
                "its numbers may differ in the last bits",
                file=sys.stderr,
            )


def announce_execution(directory: Path) -> None:
    """Names the code that is about to be executed, because somebody else may have written it."""
    text = f"executing {directory / 'experiment.py'}, as it is now"
    console().print(text, markup=False, soft_wrap=True)


def load_trained(args: argparse.Namespace) -> tuple[Algorithm, State, Key]:
    """What a run trained, one seed's newest state, and a key; says what is executed."""
    if not 0 <= args.key < 2**32:
        raise BadInput(f"--key: {args.key} was given; allowed: 0 to {2**32 - 1}")
    directory = Path(args.directory)
    records.read_stored(directory)
    announce_execution(directory)
    algorithm, batched = states.load_cell(directory, args.cell)
    (seeds,) = batched.key.shape
    if not 0 <= args.seed < seeds:
        raise BadInput(f"--seed: {args.seed} was given; allowed: 0 to {seeds - 1}")
    return algorithm, take_seed(batched, args.seed), jax.random.key(args.key)


def consoles() -> tuple[Any, Any]:
    """The consoles of standard output and error; of several processes only the first prints."""
    if processes.first():
        return console(), console(stderr=True)
    return Console(quiet=True), Console(quiet=True)


@contextlib.contextmanager
def tracker_of(kind: str | None, directory: Path, err: Any) -> Iterator[Any]:
    """The tracker of a kind, which is closed at the end; None if none is requested."""
    if kind is None:
        yield None
        return

    tracker = track.Tracker(kind, directory, err)
    try:
        yield tracker
    finally:
        tracker.close()


def unwritable(directory: Path, error: Any) -> int:
    """Prints in one line why nothing could be written and how to go on; returns the exit code."""
    why = str(error.strerror or error).splitlines()[0][:120]
    if error.full:
        text = f"the disk is full ({why}); complete files are intact; make room, then run:"
    elif directory.is_dir():
        text = (
            f"{directory} cannot be written ({why}); complete files are intact; go on later with:"
        )
    else:
        text = f"{directory} is no longer there; if it was moved, go on at its new place, as in:"
    print(f"gacf: {text} gacf resume {directory}", file=sys.stderr)
    return 1
