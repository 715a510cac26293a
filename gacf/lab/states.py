"""States and algorithms on disk: saved in a notebook, or left by a run."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.checks import nearest, shown
from gacf.core.types import Algorithm, State
from gacf.lab import experiment_file, run_directory
from gacf.lab.checkpoint import Checkpoint, cell_directory, newest_first, restore
from gacf.lab.checkpoint import save as save_checkpoint
from gacf.lab.errors import BadInput, check_text
from gacf.lab.files import temporary, writing
from gacf.lab.records import SWEEP
from gacf.lab.structure import build, describe
from gacf.runner.program import batched_shape

SAVED = "state"  # the folder that makes a directory one of `save`


def save(directory: str | Path, state: State) -> Path:
    """Saves a state, of one seed or of many, so that any process can load it.

    Params, world, optimiser states, keys and the step counter are all kept, to the bit: `gacf.run`
    goes on from the loaded state as from the one that was saved. The directory is replaced as a
    whole if it is one that `save` made before; a process that is killed leaves the old one.

    Args:
        directory: where to; its parent exists.
        state: a `State`; its nodes are dicts, lists, tuples, named tuples and dataclasses, as in
            all states made by gacf, Flax and optax.

    Returns:
        The directory.

    Raises:
        ValueError: something else is at that place, the state has a node of another kind, or it is
            no state.
        OSError: the file system refuses it.

    Example:
        >>> import gacf, jax, optax, tempfile
        >>> game = gacf.from_losses(
        ...     {"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] ** 2})
        >>> algorithm = gacf.compose(game, gacf.rules.simultaneous({"actor": optax.adam(0.1)}))
        >>> state, _ = gacf.run(algorithm, jax.random.key(0), 3, seeds=2)
        >>> place = gacf.save(tempfile.mkdtemp() + "/model", state)
        >>> gacf.load(place).params["actor"].shape
        (2,)
    """
    check_text("directory", str(directory), "the name of a directory")
    directory = Path(directory)
    if not isinstance(state, State):
        raise BadInput(f"state: {shown(state)} was given; allowed: a State, as gacf.run gives it")
    own = (directory / SAVED).is_dir()
    if not own and (directory.is_file() or (directory.is_dir() and any(directory.iterdir()))):
        raise BadInput(
            f"directory: {str(directory)!r} holds something else; allowed: a new directory, or one "
            "that gacf.save made"
        )
    state = jax.tree.map(jnp.asarray, state)
    manifest = {
        "structure": describe(state),
        "leaves": [_described(leaf) for leaf in jax.tree.leaves(state)],
        "versions": run_directory.versions(),
    }
    beside = temporary(directory)
    with writing():
        try:
            beside.mkdir()
            save_checkpoint(beside / SAVED, state, {}, manifest)
            if directory.exists():
                old = temporary(directory)
                directory.rename(old)
                beside.rename(directory)
                shutil.rmtree(old)
            else:
                beside.rename(directory)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return directory


def _described(leaf: jax.Array) -> list[Any]:
    """Shape and dtype of a leaf; of keys, the algorithm behind them."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return [list(leaf.shape), f"key {jax.random.key_impl(leaf)}"]
    return [list(leaf.shape), str(leaf.dtype)]


def _shape(shape: list[int], dtype: str) -> jax.ShapeDtypeStruct:
    if dtype.startswith("key "):
        kind: Any = jax.eval_shape(lambda: jax.random.key(0, impl=dtype[4:])).dtype
    else:
        kind = jnp.dtype(dtype)
    return jax.ShapeDtypeStruct(tuple(shape), kind)


def load(directory: str | Path, cell: str | None = None) -> State:
    """Loads the state that `save` wrote, or the newest one of a run.

    The state is on this process's first device, whichever devices it was made on. For a run,
    `gacf run` has trained all its seeds; `gacf.take_seed` takes one out.

    It executes the `experiment.py` of a run, which defines the structure of its states: load only
    what you would run. Of what `save` wrote nothing is executed.

    Args:
        directory: one that `save`, `gacf run` or `gacf sweep` (one variant) made.
        cell: which cell of a run; it may be left out if there is only one.

    Raises:
        ValueError: there is nothing of this kind, or no undamaged state; or the run has several
            cells and none was named.
    """
    check_text("directory", str(directory), "the name of a directory")
    directory = Path(directory)
    if (directory / SAVED).is_dir() and not (directory / "config.json").exists():
        if cell is not None:
            raise BadInput(f"cell: {cell!r} was given; allowed for a saved state: none")
        return _load_saved(directory)
    return load_cell(directory, cell)[1]


def load_algorithm(directory: str | Path, cell: str | None = None) -> Algorithm:
    """The algorithm that a run trained, built anew by its own `experiment.py` and config.

    With it, `gacf.propose` asks the run's actor, and `gacf.run(algorithm, …, state=…)` trains on.
    It executes the run's `experiment.py`: load only what you would run.

    Args:
        directory: one that `gacf run` or `gacf sweep` (one variant) made.
        cell: which cell of the run; it may be left out if there is only one.

    Raises:
        ValueError: there is no run; or it has several cells and none was named.

    Example:
        An actor of a run, in three lines:

        >>> algorithm = gacf.load_algorithm("runs/pendulum")               # doctest: +SKIP
        >>> state = gacf.take_seed(gacf.load("runs/pendulum"), 0)          # doctest: +SKIP
        >>> action = gacf.propose(algorithm, state, observations)          # doctest: +SKIP
    """
    run = _open(directory)
    with jax.enable_x64(run.config.x64):
        algorithms = experiment_file.build(run.experiment, run.config)
        return algorithms[_named(algorithms, cell, run.directory)]


def load_cell(directory: str | Path, cell: str | None = None) -> tuple[Algorithm, State]:
    """The algorithm of a run's cell and its newest batched state; see `load`."""
    run = _open(directory)
    with jax.enable_x64(run.config.x64):
        algorithms = experiment_file.build(run.experiment, run.config)
        name = _named(algorithms, cell, run.directory)
        return algorithms[name], _newest(run, name, algorithms[name])


def load_cells(directory: str | Path) -> dict[str, State]:
    """Cell -> the newest batched state of a run; see `load`."""
    run = _open(directory)
    with jax.enable_x64(run.config.x64):
        algorithms = experiment_file.build(run.experiment, run.config)
        return {name: _newest(run, name, made) for name, made in algorithms.items()}


def _newest(run: run_directory.Run, cell: str, algorithm: Algorithm) -> State:
    checkpoints = newest_first(cell_directory(run.directory, cell))
    checkpoint = next((c for c in checkpoints if isinstance(c, Checkpoint)), None)
    if checkpoint is None:
        raise ValueError(
            f"load: {str(run.directory)!r} has no undamaged checkpoint of {cell!r} yet"
        )
    one = jax.eval_shape(algorithm.init, jax.eval_shape(lambda: jax.random.key(0)))
    return restore(checkpoint, batched_shape(one, (run.config.seeds,)))[0]


def _open(directory: str | Path) -> run_directory.Run:
    check_text("directory", str(directory), "the name of a directory")
    if (Path(directory) / SWEEP).exists():
        raise BadInput(
            f"directory: {str(directory)!r} is a sweep; allowed: one of its variants, a directory "
            "inside it"
        )
    return run_directory.open_run(directory)


def _named(cells: Collection[str], cell: str | None, directory: Path) -> str:
    """The cell that is meant: the one that was named, or the only one."""
    if cell is None and len(cells) > 1:
        raise BadInput(
            f"cell: none was given, and {str(directory)!r} has several; allowed: {', '.join(cells)}"
        )
    if cell is not None and cell not in cells:
        raise BadInput(f"cell: {cell!r} is unknown; {nearest(cell, cells)}")
    return next(iter(cells)) if cell is None else cell


def _load_saved(directory: Path) -> State:
    for checkpoint in newest_first(directory / SAVED):
        if not isinstance(checkpoint, Checkpoint):
            raise BadInput(f"load: {checkpoint}")
        manifest = checkpoint.manifest
        shapes = [_shape(*leaf) for leaf in manifest["leaves"]]
        wide = any(str(shape.dtype).endswith("64") for shape in shapes)
        with jax.enable_x64(wide):
            state, _ = restore(checkpoint, build(manifest["structure"], iter(shapes)))
        return state
    raise BadInput(f"load: {str(directory)!r} holds no saved state")
