"""Lanes, and where they lie: spread over devices, gathered, padded to fill every device.

A lane is one seed of one setting of the hyperparameters.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from gacf.core.tracing import through_data
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


def _check_placed(consts: Sequence[jax.Array]) -> None:
    """Raises a ValueError for an array of the user's that is spread over a mesh of its own."""
    for c in consts:
        mesh = jax.typeof(c).sharding.mesh
        if not mesh.empty:
            raise ValueError(
                f"algorithm: it uses an array {c.dtype}{list(c.shape)} that lies on "
                f"a mesh of {mesh.size} devices; allowed where lanes are spread over "
                "devices: arrays without one, x = jax.numpy.asarray(numpy.asarray(x))"
            )


class Placement:
    """Which lanes lie on which devices.

    Args:
        grid: devices, [rows, devices that share a lane].
        lanes: how many lanes.
        consts: data that every device holds.

    Attributes:
        mesh: the devices, with an axis "lane", and one "batch" where devices share a lane.
        rows: devices, or groups that share a lane, among which lanes are spread.
        share: devices that share a lane.
        padded: lanes with those that are added so that each row has as many.
    """

    def __init__(self, grid: np.ndarray, lanes: int, consts: Sequence[jax.Array]):
        self.lanes, (self.rows, self.share) = lanes, grid.shape
        self.mesh = Mesh(grid, ("lane", AXIS)) if self.share > 1 else Mesh(grid[:, 0], ("lane",))
        if self.mesh.size > 1:
            _check_placed(consts)
        self.padded = -(-lanes // self.rows) * self.rows
        own = [any(d.process_index == jax.process_index() for d in row) for row in grid]
        self.own = np.repeat(own, self.padded // self.rows)  # the lanes of this process

    def index(self) -> np.ndarray:
        """The lanes that this process holds; the last one stands in for those added as padding."""
        return np.minimum(np.arange(self.padded), self.lanes - 1)[self.own]

    def sharding(self, spec: PartitionSpec) -> Sharding:
        """The sharding of that partition."""
        if self.mesh.size == 1:  # what a run returns may be closed over by another, on any devices
            return SingleDeviceSharding(self.mesh.devices.item())
        return NamedSharding(self.mesh, spec)

    def put(self, tree: PyTree, spec: PartitionSpec) -> PyTree:
        """What this process holds of arrays, on the devices."""
        sharding = self.sharding(spec)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)

        def put(x: jax.Array) -> jax.Array:
            return jax.make_array_from_process_local_data(sharding, np.asarray(x))

        return jax.tree.map(functools.partial(through_data, put), tree)

    def place(self, hyper: PyTree, body: PyTree, step: jax.Array) -> Lanes:
        """Puts the lanes of this process where they belong."""
        hyper, body = self.put((hyper, body), PartitionSpec("lane"))
        return Lanes(hyper, body, self.put(step, PartitionSpec()))

    def place_empty(self, body: PyTree) -> PyTree:
        """Puts leaves without elements where the program takes them; XLA leaves them anywhere."""
        if self.mesh.size == 1:
            return body
        sharding = self.sharding(PartitionSpec("lane"))
        return jax.tree.map(lambda x: x if x.size else jax.device_put(x, sharding), body)

    def gather(self, tree: PyTree) -> PyTree:
        """Arrays of all lanes, whole on each process, and those of CPUs on its first device.

        Indexing or reshaping an array that is spread over host devices is a collective of these,
        and the wait for one of them may end the process.
        """
        if jax.process_count() > 1:

            def gather(x: jax.Array) -> jax.Array:
                return jnp.asarray(multihost_utils.process_allgather(x, tiled=True))

        elif self.mesh.devices.flat[0].platform == "cpu":

            def gather(x: jax.Array) -> jax.Array:
                if len(x.devices()) == 1 or x.is_fully_replicated:
                    return jax.device_put(x.addressable_data(0), on_one_device())
                whole = np.empty(x.shape, x.dtype)  # `device_put` of x would keep a copy with x
                for shard in x.addressable_shards:
                    whole[shard.index] = np.asarray(shard.data)
                return jax.device_put(whole, on_one_device())

        else:
            return tree
        return jax.tree.map(functools.partial(through_data, gather), tree)

    def gather_step(self, step: jax.Array) -> jax.Array:
        """The step counter, which is the same everywhere."""
        if jax.process_count() == 1:
            return self.gather(step)
        return jnp.asarray(step.addressable_data(0))
