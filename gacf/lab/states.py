"""Loads the states of a run, for use in notebooks."""

from __future__ import annotations

from pathlib import Path

import jax

from gacf.core.types import State
from gacf.lab import experiment_file, run_directory
from gacf.lab.checkpoint import Checkpoint, cell_directory, newest_first, restore
from gacf.runner.program import batched_shape


def load(run: str | Path) -> dict[str, State]:
    """The newest states of a run, which are the final ones after training.

    It executes the run's `experiment.py`, which defines the structure of the states: load only what
    you would run.

    Args:
        run: a directory that `gacf run` made.

    Returns:
        Cell -> batched `State`; `gacf.take_seed` takes one seed out of it.

    Raises:
        ValueError: there is no run, or a cell has no undamaged checkpoint.
    """
    opened = run_directory.open_run(run)
    states = {}
    with jax.enable_x64(opened.config.x64):
        for cell, algorithm in experiment_file.build(opened.experiment, opened.config).items():
            directory = cell_directory(opened.directory, cell)
            newest = next((c for c in newest_first(directory) if isinstance(c, Checkpoint)), None)
            if newest is None:
                raise ValueError(f"load: {str(run)!r} has no undamaged checkpoint of {cell!r} yet")
            one = jax.eval_shape(algorithm.init, jax.eval_shape(lambda: jax.random.key(0)))
            states[cell], _ = restore(newest, batched_shape(one, (opened.config.seeds,)))
    return states
