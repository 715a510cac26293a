"""The placement of lanes: spread over devices, gathered, padded to fill every device.

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
    """A batched state as the program holds it, with one leading axis of (padded) lanes.

    Attributes:
        hyper: hyperparameters, leaves [L, …].
        body: params, world, opt_state and key, leaves [L, …].
        step: int32 scalar, the same for all lanes.
    """

    hyper: PyTree
    body: tuple[PyTree, PyTree, PyTree, Key]
    step: jax.Array


def on_one_device() -> Sharding:
    """The placement on this process's first device, without a mesh.

    `device_put(x, device)` would keep the mesh in the type of x, and a function that closes over x,
    or over anything computed from it, could then not run on another mesh.
    """
    return SingleDeviceSharding(jax.local_devices()[0])


def lane_grid(mesh: Mesh | None, map: str, lanes: int) -> np.ndarray:
    """The devices that `map` may use, [rows, devices that share a lane].

    There is at most one row per lane, unless there are several processes: then all devices count.
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
    """Raises a ValueError if an array that the algorithm uses lies on a mesh of its own."""
    for c in consts:
        mesh = jax.typeof(c).sharding.mesh
        if not mesh.empty:
            raise ValueError(
                f"algorithm: it uses an array {c.dtype}{list(c.shape)} that lies on "
                f"a mesh of {mesh.size} devices; allowed where lanes are spread over "
                "devices: arrays without a mesh, such as jax.numpy.asarray(numpy.asarray(x))"
            )


class Placement:
    """Which lanes are on which devices.

    Args:
        grid: the devices, [rows, devices that share a lane].
        lanes: the number of lanes.
        consts: data that every device holds.

    Attributes:
        mesh: the devices, with an axis "lane", and an axis "batch" if devices share a lane.
        rows: the number of devices, or groups of devices that share a lane, for the lanes.
        share: the number of devices that share a lane.
        padded: the number of lanes, padded so that each row has equally many.
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
        """The lanes that this process holds; padding repeats the last lane."""
        return np.minimum(np.arange(self.padded), self.lanes - 1)[self.own]

    def sharding(self, spec: PartitionSpec) -> Sharding:
        """The sharding with the given partition."""
        if self.mesh.size == 1:  # another run, on any devices, may close over the result
            return SingleDeviceSharding(self.mesh.devices.item())
        return NamedSharding(self.mesh, spec)

    def put(self, tree: PyTree, spec: PartitionSpec) -> PyTree:
        """Puts this process's part of some arrays on the devices."""
        sharding = self.sharding(spec)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)

        def put(x: jax.Array) -> jax.Array:
            return jax.make_array_from_process_local_data(sharding, np.asarray(x))

        return jax.tree.map(functools.partial(through_data, put), tree)

    def place(self, hyper: PyTree, body: PyTree, step: jax.Array) -> Lanes:
        """Puts the lanes of this process on their devices."""
        hyper, body = self.put((hyper, body), PartitionSpec("lane"))
        return Lanes(hyper, body, self.put(step, PartitionSpec()))

    def place_empty(self, body: PyTree) -> PyTree:
        """Puts leaves without elements where the program expects them; XLA leaves them anywhere."""
        if self.mesh.size == 1:
            return body
        sharding = self.sharding(PartitionSpec("lane"))
        return jax.tree.map(lambda x: x if x.size else jax.device_put(x, sharding), body)

    def gather(self, tree: PyTree) -> PyTree:
        """The arrays of all lanes, complete on each process; on CPUs, on its first device.

        Indexing or reshaping an array that is spread over host devices is a collective operation,
        and if one device waits too long for another, XLA may end the process.
        """
        if jax.process_count() > 1:

            def gather(x: jax.Array) -> jax.Array:
                return jnp.asarray(multihost_utils.process_allgather(x, tiled=True))

        elif self.mesh.devices.flat[0].platform == "cpu":

            def gather(x: jax.Array) -> jax.Array:
                if len(x.devices()) == 1 or x.is_fully_replicated:
                    return jax.device_put(x.addressable_data(0), on_one_device())
                whole = np.empty(x.shape, x.dtype)  # `device_put` of x would cache a copy inside x
                for shard in x.addressable_shards:
                    whole[shard.index] = np.asarray(shard.data)
                return jax.device_put(whole, on_one_device())

        else:
            return tree
        return jax.tree.map(functools.partial(through_data, gather), tree)

    def gather_step(self, step: jax.Array) -> jax.Array:
        """The step counter, which is the same for all lanes."""
        if jax.process_count() == 1:
            return self.gather(step)
        return jnp.asarray(step.addressable_data(0))
