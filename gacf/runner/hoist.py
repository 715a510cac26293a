"""Functions traced once, whose data become arguments, and checks of what was traced."""

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
