"""From a config to traced programs: everything is checked before a file is written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gacf.core.checks import nearest
from gacf.lab import blame, config, experiment_file
from gacf.lab.config import Config
from gacf.lab.errors import BadInput
from gacf.lab.experiment_file import Experiment
from gacf.lab.run_directory import same_name
from gacf.runner import Program, bytes_free

BYTES = 100  # of memory that a logged number takes until it is in the table
UNNOTICED = 2**26  # bytes of metrics for which no run is refused


def prepare(experiment: Experiment, settings: Config) -> dict[str, Program]:
    """Builds and traces the programs of a run, and writes nothing.

    Returns:
        Cell -> program.

    Raises:
        BadInput: the experiment's code raised an error, which the message gives in one line.
    """
    jax.config.update("jax_enable_x64", settings.x64)
    programs = {}
    for cell, algorithm in _cells(experiment, settings).items():
        with blame.blame(experiment.path, f"cell {cell!r}"):
            programs[cell] = Program(algorithm, settings.seeds, map=settings.map, evaluate=True)
        _check_memory(programs[cell], settings)
    return _check_metrics(experiment, programs)


def prepare_group(
    experiment: Experiment, settings: Sequence[Config], traced: Sequence[str]
) -> dict[str, Program]:
    """Builds and traces one program per cell for several settings that differ only in floats.

    Args:
        experiment: a loaded file.
        settings: configs that differ only in the keys in `traced`.
        traced: dotted keys for which `build` gets tracers.

    Returns:
        Cell -> program.

    Raises:
        BadInput: the experiment's code raised an error, for instance because it branches on such a
            key; or the states have other shapes or types than with plain floats.
    """
    first = settings[0]
    jax.config.update("jax_enable_x64", first.x64)
    flat = [config.leaves(one) for one in settings]
    hyper = {key: np.array([one[key] for one in flat]) for key in traced}
    key = jax.eval_shape(lambda: jax.random.key(0))
    programs = {}
    for cell, algorithm in _cells(experiment, first).items():

        def build(hyper: Mapping[str, Any], cell: str = cell) -> Any:
            return experiment_file.build(experiment, config.replaced(first, hyper))[cell]

        with blame.blame(experiment.path, f"cell {cell!r}"):
            programs[cell] = Program(build, first.seeds, hyper, first.map, evaluate=True)
            plain = jax.eval_shape(algorithm.init, key)
        if programs[cell].one()[1] != plain:
            raise BadInput(
                f"cell {cell!r}: {', '.join(traced)}: they change the shapes or types of the state"
            )
    return _check_metrics(experiment, programs)


def _cells(experiment: Experiment, settings: Config) -> dict[str, Any]:
    """Cell -> algorithm; the names of the cells are distinct directories on any file system."""
    built = experiment_file.build(experiment, settings)
    distinct: dict[str, str] = {}
    for cell in built:
        try:
            other = distinct.setdefault(same_name(cell), cell)
        except UnicodeEncodeError:
            raise BadInput(
                f"CONFIG: build(config) named the cell {cell!r}; allowed: text"
            ) from None
        if other != cell:
            raise BadInput(
                f"CONFIG: build(config) named the cells {other!r} and {cell!r}; "
                "allowed: names that differ in more than capital letters"
            )
    return built


def _check_metrics(experiment: Experiment, programs: dict[str, Program]) -> dict[str, Program]:
    shapes = {k: v.shape for p in programs.values() for k, v in p.metrics_shape().items()}
    scalars = [name for name, shape in shapes.items() if shape == ()]
    stated = [
        ("KEY_METRIC", experiment.key_metric),
        *(("METRICS", m) for m in experiment.metrics or ()),
    ]
    for argument, name in stated:
        if name is None or name in scalars:
            continue
        if name in shapes:
            raise BadInput(
                f"{argument}: {name!r} has shape {shapes[name]}; allowed: a metric that is one "
                f"number, {nearest(name, scalars)}"
            )
        if not (name.startswith("final/") and getattr(experiment.module, "finish", None)):
            raise BadInput(f"{argument}: {name!r} is reported by no cell; {nearest(name, scalars)}")
    return programs


def memory(program: Program) -> tuple[int, int | None]:
    """The bytes that a program needs on a device, and those that are free there (None: unknown).

    Devices that share the machine's memory count as one.
    """
    devices = program.mesh.devices.flat
    shared = devices[0].platform == "cpu"
    return program.bytes_needed() // (1 if shared else len(devices)), bytes_free(devices[0])


def _check_memory(program: Program, settings: Config) -> None:
    """Raises a `BadInput` with the numbers if the state of all seeds or the metrics cannot fit."""
    needed, free = memory(program)
    free_here = bytes_free(jax.devices("cpu")[0])
    scalars = sum(not leaf.shape for leaf in program.metrics_shape().values())
    logged = -(-settings.steps // settings.log_every) * program.seeds * scalars * BYTES
    if free_here is not None and logged > max(free_here, UNNOTICED):
        least = -(-settings.log_every * logged // free_here)
        raise BadInput(
            f"steps: {settings.steps} with log_every {settings.log_every} produce about "
            f"{logged / 2**30:.3g} GiB of metrics, and {free_here / 2**30:.1f} GiB are free; "
            f"allowed: fewer steps, or log_every >= {least}"
        )
    if free is not None and needed > free:
        fits = program.seeds * free // needed
        raise BadInput(
            f"seeds: {program.seeds} need {needed / 2**30:.1f} GiB, "
            f"{program.bytes_a_lane() / 2**20:.1f} MiB of state each, and {free / 2**30:.1f} GiB "
            f"are free; allowed: at most about {fits} here, or less state (a smaller replay buffer)"
        )


def use_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX has a cache folder already.

    Each kind of processor has a folder of its own, because a program compiled for one may not run
    on another, and several machines may share a home directory.
    """
    jax_config: Any = jax.config
    if jax_config.jax_compilation_cache_dir:
        return
    home = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA", "~")}
    base = os.environ.get("XDG_CACHE_HOME") or home.get(sys.platform, "~/.cache")
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(kind.encode()).hexdigest()[:8]
    place = Path(base).expanduser() / "gacf" / f"xla-{digest}"
    with contextlib.suppress(OSError):  # the home directory may be read-only
        place.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(place))
