"""The three functions of an algorithm, traced once; their data become arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import numpy as np
from jax.sharding import AxisType, Mesh, use_abstract_mesh

from gacf.core.checks import shown
from gacf.core.types import Algorithm, PyTree, State
from gacf.runner.parallel import AXIS

Build = Callable[[Any], Algorithm]


class Traced(NamedTuple):
    """A function that was traced once; the arrays it closes over have become an argument."""

    call: Callable[..., PyTree]
    consts: list[jax.Array]
    shape: PyTree
    jaxpr: Any = None


def _hoist(function: Callable[..., PyTree], *args: PyTree) -> Traced:
    """Traces a function once; arrays it closes over become arguments, so data are held once."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    structure = jax.tree.structure(shape)

    def call(consts: Sequence[jax.Array], *args: PyTree) -> PyTree:
        leaves = jax.core.eval_jaxpr(closed.jaxpr, consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(structure, leaves)

    return Traced(call, list(closed.consts), shape, closed.jaxpr)


def _check_step(before: State, after: PyTree) -> None:
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


class Traces(NamedTuple):
    """The traced functions of an algorithm for one lane.

    Attributes:
        hyper: the shapes of one setting of the hyperparameters.
        init: `(hyper, key) -> State`.
        step: `(hyper, State) -> (State, metrics)`.
        evaluate: `(hyper, State) -> metrics`.
    """

    hyper: PyTree
    init: Traced
    step: Traced
    evaluate: Traced

    @property
    def consts(self) -> list[jax.Array]:
        """The data over which steps and evaluations close, each array once."""
        return list({id(c): c for c in (*self.step.consts, *self.evaluate.consts)}.values())


def builder(build: Algorithm | Build, hyper: PyTree) -> Build:
    """`hyper -> Algorithm`, made from such a function or from a plain algorithm.

    Raises:
        ValueError: `build` is neither of the two, or `hyper` was given for a plain algorithm, or
            missing for a function.
    """
    if isinstance(build, Algorithm):
        if hyper is not None:
            raise ValueError("hyper: needs a function `hyper -> Algorithm`; an Algorithm was given")
        return lambda hyper: build
    if not callable(build):
        raise ValueError(
            f"algorithm: {shown(build)} was given; allowed: an Algorithm, as "
            "compose(game, rule) makes one, or a function hyper -> Algorithm"
        )
    if hyper is None:
        raise ValueError(
            "hyper: None was given for a function `hyper -> Algorithm`; allowed: a pytree of floats"
        )
    return build


def trace(build: Build, hyper: PyTree, grid: np.ndarray, evaluate: bool) -> Traces:
    """Traces init, step and evaluation at the shapes of one lane.

    Args:
        build: `hyper -> Algorithm`.
        hyper: the shapes of one setting.
        grid: the devices, [rows, devices that share a lane].
        evaluate: whether evaluations are needed.

    Raises:
        ValueError: the algorithm changes the shapes of its state, or has no batch to spread over
            the devices that share a lane.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    init = _hoist(lambda hyper, key: build(hyper).init(key), hyper, key)
    if not isinstance(init.shape, State):
        raise ValueError("algorithm: `init` must return a State; make it with `compose`")
    with _on(grid):
        step = _hoist(lambda hyper, state: build(hyper).step(state), hyper, init.shape)
        _check_step(init.shape, step.shape[0])
        if evaluate:
            measure = _hoist(lambda hyper, state: build(hyper).evaluate(state), hyper, init.shape)
            if not isinstance(measure.shape, Mapping):
                raise ValueError(
                    f"evaluate: a {type(measure.shape).__name__} was returned; allowed: a dict "
                    "{metric: scalar}"
                )
        else:
            measure = Traced(lambda consts, hyper, state: {}, [], {})
    share = grid.shape[1]
    if share > 1 and "sharding_constraint" not in str(step.jaxpr):
        raise ValueError(
            f"mesh: an axis {AXIS!r} of {share} devices was given for a game that does not spread "
            "its batch; allowed: with such an axis, games made by data_parallel(game)"
        )
    return Traces(hyper, init, step, measure)


def _on(grid: np.ndarray) -> contextlib.AbstractContextManager[Any]:
    """A context that tells a game to spread its batches."""
    if grid.shape[1] == 1:
        return contextlib.nullcontext()
    mesh = Mesh(grid, ("lane", AXIS)).abstract_mesh
    manual = {"lane": AxisType.Manual} if len(grid) > 1 else {}
    return use_abstract_mesh(mesh.update_axis_types(manual))
