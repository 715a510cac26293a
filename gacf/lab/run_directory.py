"""Run directories: created complete or not at all, held by one process, opened again."""

from __future__ import annotations

import contextlib
import itertools
import json
import platform
import time
import unicodedata
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gacf import __version__
from gacf.lab import config, experiment_file, locks, provenance
from gacf.lab.config import Config
from gacf.lab.errors import BadInput
from gacf.lab.experiment_file import Experiment
from gacf.lab.locks import Lock
from gacf.lab.records import read_stored


class Run(NamedTuple):
    """A run directory, opened.

    Attributes:
        directory: its path.
        experiment: its copy of the experiment file.
        config: the resolved config.
        stored: the contents of config.json.
    """

    directory: Path
    experiment: Experiment
    config: Config
    stored: dict[str, Any]


def same_name(name: str) -> str:
    """A key that is equal for names that some file system does not distinguish.

    Example:
        >>> same_name("A") == same_name("a"), same_name("A") == same_name("b")
        (True, False)
    """
    name.encode()
    return unicodedata.normalize("NFC", name).casefold()


def versions() -> dict[str, str]:
    """The versions of the packages on which the numbers depend."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "gacf": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def describe(directory: Path, experiment: Experiment, settings: Config, code: Any = None) -> Run:
    """A run whose directory does not exist yet.

    Args:
        directory: where it will be.
        experiment: a loaded file.
        settings: its resolved config.
        code: where the file's code comes from; None: from where the file lies.
    """
    stored = {
        "experiment": experiment.name,
        "key_metric": experiment.key_metric,
        "goal": experiment.goal,
        "config": config.to_json(settings),
        "versions": versions(),
        "code": code or provenance.code(experiment.path),
        "devices": devices(),
    }
    return Run(directory, experiment, settings, stored)


def devices() -> dict[str, Any]:
    """The devices on which the run is computed."""
    local = {"platform": jax.local_devices()[0].platform, "count": jax.device_count()}
    several = {"processes": jax.process_count()} if jax.process_count() > 1 else {}
    return {**local, **several}


def begin(
    directory: Path | None, experiment: Experiment, settings: Config, code: Any = None
) -> tuple[Run, Lock]:
    """Makes the run directory, completely or not at all, and holds it for this process.

    Args:
        directory: its path; None: a new name in `runs`.
        experiment: a loaded file.
        settings: its resolved config.
        code: where the file's code comes from; None: from where the file lies.

    Raises:
        BadInput: the place is taken or cannot be written.
    """
    for place in (directory,) if directory else fresh(experiment.name):
        run = describe(place, experiment, settings, code)
        text = json.dumps(run.stored, indent=2).encode()
        files = {"experiment.py": experiment.source, "config.json": text}
        try:
            with refusing(place):
                return run, locks.make(place, files)
        except (locks.Taken, locks.Held):
            if directory:
                raise
    raise AssertionError


def create(directory: Path, experiment: Experiment, settings: Config, code: Any = None) -> Run:
    """Like `begin`, for a directory that this process holds by other means."""
    run, lock = begin(directory, experiment, settings, code)
    lock.release()
    return run


def fresh(name: str) -> Iterator[Path]:
    """Names for a directory in `runs`: with the time, and from the second on with a number."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        yield Path("runs", f"{name}-{stamp}" + (f"-{number}" if number > 1 else ""))


class Refused(BadInput):
    """The file system refuses to make or write a directory."""


@contextlib.contextmanager
def refusing(directory: Path) -> Iterator[None]:
    """Turns a file system's refusal into a `BadInput`."""
    try:
        yield
    except OSError as error:
        raise Refused(f"workdir: {str(directory)!r}: {error.strerror or error}") from error


def check_free(directory: Path) -> None:
    """Raises a `BadInput` unless the path is free or an empty directory."""
    with refusing(directory):
        locks.check_free(directory)


@contextlib.contextmanager
def alone(directory: Path, wait: float = 0.0) -> Iterator[Lock]:
    """Holds an existing directory for this process.

    Args:
        directory: the directory.
        wait: seconds to wait for the process that holds it.

    Raises:
        BadInput: another process has it, or it cannot be written.
    """
    with refusing(directory):
        lock = locks.acquire(directory, wait)
    with lock:
        yield lock


def open_run(directory: str | Path) -> Run:
    """Opens a run directory.

    Raises:
        BadInput: there is no run, or its config does not fit its experiment.
    """
    directory = Path(directory)
    stored = read_stored(directory)
    experiment = experiment_file.load(directory / "experiment.py", stored["experiment"])
    return Run(directory, experiment, config.from_json(experiment, stored["config"]), stored)
