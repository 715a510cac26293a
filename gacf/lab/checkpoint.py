"""Checkpoints: the whole batched State, saved by Orbax and checked byte by byte when restored.

    DIR/checkpoints/<cell>/<step>/state/          Orbax: params, world, opt_state, key, step
                                  metrics.npz     every metric from step 0 on, [S, windows]
                                  manifest.json   config, seconds, SHA-256 of every file above
                                  manifest.sha256

A checkpoint is written under a temporary name and then renamed, so a killed process leaves a
complete checkpoint or none; the next writer removes leftovers. Each checkpoint holds the metrics so
far, so that falling back to an older one loses nothing.

If JAX runs in several processes, all of them call `save` and `restore` with the whole state and see
the same directory. Its contents are the same as from one process, and any number of processes can
go on from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from gacf.core.tracing import through_data
from gacf.core.types import State
from gacf.lab.files import WRITING, shortened, temporary, writing

KEEP = 3


class Damaged(Exception):
    """The bytes of a checkpoint differ from those that were written."""


class Checkpoint(NamedTuple):
    """A checkpoint on disk that is known to be undamaged.

    Attributes:
        path: its directory.
        step: the number of steps made.
        manifest: the manifest that `save` was given.
    """

    path: Path
    step: int
    manifest: dict[str, Any]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps Orbax from printing every failure of its many threads: the first one is raised anyway.

    After a failure it stays quiet, because the work still running in the background fails as well.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio", "concurrent.futures")]
    hook = sys.excepthook

    def nothing(record: logging.LogRecord) -> bool:
        return False

    def report(kind: Any, error: BaseException, trace: Any) -> None:
        if not (isinstance(error, RuntimeError) and "Event loop is closed" in str(error)):
            hook(kind, error, trace)

    for logger in loggers:
        logger.addFilter(nothing)
    sys.excepthook = report
    yield
    for logger in loggers:
        logger.removeFilter(nothing)
    sys.excepthook = hook


def cell_directory(run: Path, cell: str) -> Path:
    """The directory of a cell's checkpoints; it lies inside the run's, whatever the cell's name."""
    name = quote(cell, safe=" ,()=+")
    name = "%2E" + name[1:] if name.startswith(".") else name
    return run / "checkpoints" / shortened(name)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(state: State) -> dict[str, Any]:
    """Path -> leaf, without leaves that have no elements, which Orbax does not accept."""
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in flat if leaf.size}


def _meet(where: str) -> None:
    """Waits for the other processes."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"gacf checkpoint {where}")


def _everywhere() -> Sharding:
    """A sharding that keeps an array whole on one device of each process."""
    if jax.process_count() == 1:
        return SingleDeviceSharding(jax.local_devices()[0])
    one = {d.process_index: d for d in reversed(jax.devices())}
    return NamedSharding(Mesh(np.array([one[i] for i in sorted(one)]), "process"), PartitionSpec())


def _shared(state: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Makes a state that each process holds whole into arrays that span all processes."""
    if jax.process_count() == 1:
        return state

    def put(x: jax.Array) -> jax.Array:
        return jax.make_array_from_process_local_data(_everywhere(), np.asarray(x))

    return {name: through_data(put, x) for name, x in state.items()}


def _own(state: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The reverse of `_shared`."""
    if jax.process_count() == 1:
        return state

    def take(x: jax.Array) -> jax.Array:
        return jax.numpy.asarray(x.addressable_data(0))

    return {name: through_data(take, x) for name, x in state.items()}


def save(
    directory: Path, state: State, metrics: Mapping[str, np.ndarray], manifest: dict[str, Any]
) -> Path:
    """Saves a batched state and the metrics so far; keeps the last `KEEP` checkpoints.

    Args:
        directory: the cell's directory.
        state: leaves [S, …], the step a scalar.
        metrics: name -> [S, windows].
        manifest: what else to store, as JSON.

    Returns:
        The checkpoint's directory.

    Raises:
        Unwritable: the file system refuses it.
    """
    place = directory / f"{int(state.step):010d}"
    # Only processes of the same run write into one directory.
    several = jax.process_count() > 1
    unfinished = directory / f"{WRITING}{place.name}" if several else temporary(place)
    with writing():
        try:
            return _save(place, unfinished, state, metrics, manifest)
        except BaseException:
            if not several:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise


def _save(
    place: Path,
    unfinished: Path,
    state: State,
    metrics: Mapping[str, np.ndarray],
    manifest: dict[str, Any],
) -> Path:
    directory, step = place.parent, int(state.step)
    first = jax.process_index() == 0
    if first:
        shutil.rmtree(unfinished, ignore_errors=True)
        # Folders further up are not created: a run's directory that was removed must stay removed.
        for path in (directory.parent, directory, unfinished):
            path.mkdir(exist_ok=True)
    _meet("begun")
    with _quietly(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((unfinished / "state").resolve(), _shared(_named(state)))
    _meet("written")
    if not first:
        return place
    # The prefix keeps a metric's name from being read as an argument of savez.
    named: dict[str, Any] = {f"metric:{name}": x for name, x in metrics.items()}
    np.savez(unfinished / "metrics.npz", **named)
    files = {
        str(p.relative_to(unfinished)): _digest(p) for p in unfinished.rglob("*") if p.is_file()
    }
    text = json.dumps({**manifest, "step": step, "files": files}, indent=1).encode()
    (unfinished / "manifest.json").write_bytes(text)
    (unfinished / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest())
    shutil.rmtree(place, ignore_errors=True)
    os.replace(unfinished, place)
    for old in _places(directory)[KEEP:]:
        shutil.rmtree(old)
    return place


def _places(directory: Path) -> list[Path]:
    return sorted((p for p in directory.glob("[0-9]*") if p.name.isdigit()), reverse=True)


def verify(path: Path) -> Checkpoint:
    """Reads a checkpoint's manifest and checks every byte that it lists.

    Raises:
        Damaged: a file is missing or its bytes differ.
    """
    try:
        text = (path / "manifest.json").read_bytes()
        if (path / "manifest.sha256").read_text() != hashlib.sha256(text).hexdigest():
            raise Damaged("manifest.json: checksum differs")
        manifest = json.loads(text)
        for name, digest in manifest["files"].items():
            if _digest(path / name) != digest:
                raise Damaged(f"{name}: checksum differs")
    except (OSError, UnicodeDecodeError) as error:
        name = getattr(error, "filename", None) or "manifest.sha256"
        raise Damaged(f"{os.path.relpath(name, path)}: cannot be read") from error
    return Checkpoint(path, manifest["step"], manifest)


def newest_first(directory: Path) -> Iterator[Checkpoint | Damaged]:
    """The checkpoints of a cell, newest first; a damaged one is yielded as its `Damaged` error."""
    for path in _places(directory):
        try:
            yield verify(path)
        except Damaged as damaged:
            yield Damaged(f"{path.parent.name}/{path.name} is damaged ({damaged})")


def restore(checkpoint: Checkpoint, shape: State) -> tuple[State, dict[str, np.ndarray]]:
    """The state, on one device of each process, and the metrics so far.

    Args:
        checkpoint: a checkpoint that `verify` has checked.
        shape: shapes and dtypes of the batched state.
    """
    everywhere = _everywhere()
    target = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)
        for name, leaf in _named(shape).items()
    }
    with ocp.StandardCheckpointer() as checkpointer:
        restored = _own(checkpointer.restore((checkpoint.path / "state").resolve(), target))
    flat, structure = jax.tree_util.tree_flatten_with_path(shape)
    leaves = [
        restored[jax.tree_util.keystr(path)]
        if leaf.size
        else jax.numpy.zeros(leaf.shape, leaf.dtype)
        for path, leaf in flat
    ]
    with np.load(checkpoint.path / "metrics.npz") as file:
        metrics = {name.removeprefix("metric:"): file[name] for name in file.files}
    return jax.tree.unflatten(structure, leaves), metrics
