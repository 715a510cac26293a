"""Lanes and the devices over which they are spread.

A lane is one seed of one setting of the hyperparameters.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.core
import numpy as np
from jax.sharding import (
    Mesh,
    Sharding,
    SingleDeviceSharding,
)

from gacf.core.types import Key, PyTree
from gacf.runner.parallel import AXIS

MAPS = ("auto", "vmap", "loop", "sharded-vmap", "sharded-loop")


class Lanes(NamedTuple):
    """A batched state as the program holds it: one leading axis of (padded) lanes.

    Attributes:
        hyper: hyperparameters, leaves [L, …].
        body: params, world, opt_state and key, leaves [L, …].
        step: int32 scalar, the same for all lanes.
    """

    hyper: PyTree
    body: tuple[PyTree, PyTree, PyTree, Key]
    step: jax.Array


def on_one_device() -> Sharding:
    """Where this process's first device is meant, and no mesh.

    `device_put(x, device)` would leave the type of x on its mesh, and what closes over x, or over
    anything that is made of it, could not run on another.
    """
    return SingleDeviceSharding(jax.local_devices()[0])


def lane_grid(mesh: Mesh | None, map: str, lanes: int) -> np.ndarray:
    """Those that `map` may use, [rows, devices that share a lane].

    At most one row a lane, but all where there are several processes.
    """
    several = jax.process_count() > 1
    if mesh is None:
        grid = np.array(jax.devices() if several else jax.local_devices())[:, None]
    elif AXIS in mesh.axis_names:
        axis = mesh.axis_names.index(AXIS)
        grid = np.moveaxis(mesh.devices, axis, -1).reshape(-1, mesh.shape[AXIS])
    else:
        grid = mesh.devices.reshape(-1, 1)
    grid = grid[: None if several else lanes]
    spread = [m for m in MAPS if m == "auto" or m.startswith("sharded")]
    if (several or mesh is not None) and len(grid) > 1 and map not in spread:
        raise ValueError(
            f"map: {map!r} was given, for {len(grid)} devices; allowed: {', '.join(spread)}"
        )
    return grid
