"""The runner: step, scanned over time, mapped over seeds and hyperparameters, jitted once (L5).

A LANE is one seed of one setting of the hyperparameters. How the lanes' axis runs is a strategy:

    vmap            all lanes in one batched program; best on accelerators and for tiny games
    loop            one lane after the other; its state stays in the cache
    sharded-vmap    the lanes spread over all local devices, batched on each
    sharded-loop    the lanes spread over all local devices, one after the other on each;
                    best on CPUs, where one host device keeps about one core busy

All give the same numbers to tolerance. Initialisation runs on one device, outside the sharded
program: LAPACK calls (orthogonal initialisers) can hang when several host devices run them at once.

A mesh with an axis "batch" spreads one lane over several devices, see `gacf.runner.parallel`; its other
axes are for the lanes. Then devices that share a lane do wait for each other.

Where JAX runs in several processes (`jax.distributed`), the lanes are spread over the devices of
all of them, and each process initialises its own. All make the same calls; states and metrics come
back whole to each. No device waits for another within a step, unless they share a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core

from gacf.core.types import PyTree, State


class Traced(NamedTuple):
    """A function traced once, its closed-over arrays hoisted into an argument."""

    call: Callable[..., PyTree]
    consts: list[jax.Array]
    shape: PyTree
    jaxpr: Any = None


def hoist(function: Callable[..., PyTree], *args: PyTree) -> Traced:
    """Traces once; closed-over arrays become arguments, so that a data set is held once."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    structure = jax.tree.structure(shape)

    def call(consts: Sequence[jax.Array], *args: PyTree) -> PyTree:
        leaves = jax.core.eval_jaxpr(closed.jaxpr, consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(structure, leaves)

    return Traced(call, list(closed.consts), shape, closed.jaxpr)


def check_step(before: State, after: PyTree) -> None:
    """Raises a ValueError that names the first leaf whose shape or dtype a step changes."""

    def leaves(tree: PyTree) -> dict[str, str]:
        flat, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in flat}

    old, new = leaves(before), leaves(after)
    for path in dict.fromkeys([*old, *new]):
        was, becomes = old.get(path, "nothing"), new.get(path, "nothing")
        if was != becomes:
            raise ValueError(
                f"algorithm: `step` turns state{path} from {was} into {becomes}; "
                "allowed: the same shape and dtype"
            )


def check_placed(consts: Sequence[jax.Array]) -> None:
    """Raises a ValueError for an array of the user's that is spread over a mesh of its own."""
    for c in consts:
        mesh = jax.typeof(c).sharding.mesh
        if not mesh.empty:
            raise ValueError(
                f"algorithm: it uses an array {c.dtype}{list(c.shape)} that lies on "
                f"a mesh of {mesh.size} devices; allowed where lanes are spread over "
                "devices: arrays without one, x = jax.numpy.asarray(numpy.asarray(x))"
            )
