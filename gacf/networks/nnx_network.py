"""Flax NNX modules as networks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from gacf.core.types import Key, PyTree
from gacf.networks.modes import (
    MODES,
    Options,
    hidden_mode,
    in_mode,
    mode_arguments,
    renewed,
    signature_of,
    takes_any_keyword,
)
from gacf.networks.network import Network


@functools.cache
def _class_in_mode(kind: type[nnx.Module], train: bool) -> type[nnx.Module]:
    """A subclass of NNX modules that get the mode as an argument, unless their caller passes it."""
    signature = signature_of(kind.__call__)

    def __call__(self: Any, *args: Any, **options: Any) -> Any:
        given = signature.bind_partial(self, *args, **options).arguments
        missing = {
            name: in_mode(name, train)
            for name in mode_arguments(signature)
            if name not in given and not isinstance(getattr(self, name, None), bool)
        }
        return kind.__call__(self, *args, **options, **missing)  # type: ignore[operator]

    return type(kind)(kind.__name__, (kind,), {"__call__": __call__})  # type: ignore[call-arg]


def _set_mode(module: nnx.Module, train: bool) -> None:
    """Sets whether the modules of an NNX network train, by `train()`, fields and arguments."""
    method: Any = getattr(module, "train" if train else "eval", None)
    if callable(method):
        method()
    for _, part in list(nnx.iter_modules(module)):
        for name in MODES:
            if isinstance(vars(part).get(name), bool):
                setattr(part, name, in_mode(name, train))
        if not hasattr(part, "__captures__"):
            setattr(part, "__captures__", ())  # noqa: B010 - no kinds: sown values are dropped
        if callable(part) and mode_arguments(signature_of(type(part).__call__)):
            object.__setattr__(part, "__class__", _class_in_mode(type(part), train))


def nnx_network(player: str, make: Callable[[Key], nnx.Module]) -> Network:
    """An NNX module as a network; `make` makes a new one from each key."""
    graph, _, abstract = nnx.split(nnx.eval_shape(lambda: make(jax.random.key(0))), nnx.Param, ...)
    keeps = bool(jax.tree.leaves(abstract))
    call = signature_of(type(nnx.merge(graph, _, abstract)).__call__)
    accepts_any = takes_any_keyword(call) and not mode_arguments(call)
    names: list[str] = []

    def applied(
        train: bool, params: PyTree, stats: PyTree, inputs: Any, mode: Options
    ) -> tuple[jax.Array, PyTree]:
        module = nnx.merge(graph, nnx.State(params), nnx.State(stats))
        _set_mode(module, train)
        output = module(*inputs, **mode)  # type: ignore[operator]
        rest: Any = nnx.split(module, nnx.Param, ...)[2]
        return output, renewed(stats, nnx.to_pure_dict(rest)) if keeps and train else stats

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        _, params, rest = nnx.split(make(key), nnx.Param, ...)
        initial = nnx.to_pure_dict(params), nnx.to_pure_dict(rest) if keeps else {}
        if accepts_any and inputs:

            def attempt(train: bool, mode: Options) -> Callable[..., PyTree]:
                return lambda params, stats, inputs: applied(train, params, stats, inputs, mode)

            needs = "a module whose `__call__` names the argument"
            names[:] = hidden_mode(player, attempt, needs, *initial, inputs)
        return initial

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        return applied(train, params, stats, inputs, {name: in_mode(name, train) for name in names})

    return Network(init, apply)
