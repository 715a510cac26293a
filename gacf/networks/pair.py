"""Pairs of functions `(init, apply)` as networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax

from gacf.core.types import Key, PyTree
from gacf.networks.modes import (
    MODES,
    Options,
    hidden_mode,
    in_mode,
    mode_arguments,
    takes_any_keyword,
)
from gacf.networks.network import Network


def pair_network(
    player: str, init: Callable[..., PyTree], apply: Callable[..., jax.Array]
) -> Network:
    """A pair of functions as a network."""
    accepted = inspect.signature(init).parameters.values()
    variadic = any(p.kind is p.VAR_POSITIONAL for p in accepted)
    needed = [
        p
        for p in accepted
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is p.empty
        and p.name not in MODES
    ]
    only_key = not variadic and len(needed) <= 1
    start, call = inspect.signature(init), inspect.signature(apply)
    accepts_any = takes_any_keyword(call) and not mode_arguments(call)
    names = mode_arguments(call)

    def make(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        def begin(key: Key, inputs: Any, train: bool, mode: Options) -> PyTree:
            named = {name: in_mode(name, train) for name in mode_arguments(start)}
            named |= mode if takes_any_keyword(start) else {}
            return init(key, **named) if only_key else init(key, *inputs, **named)

        if accepts_any:

            def attempt(train: bool, mode: Options) -> Callable[..., PyTree]:
                return lambda key, inputs: apply(begin(key, inputs, train, mode), *inputs, **mode)

            needs = "the module itself in place of a pair of its functions"
            names[:] = hidden_mode(player, attempt, needs, key, inputs)
        return begin(key, inputs, True, {name: in_mode(name, True) for name in names}), {}

    def evaluate(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        return apply(params, *inputs, **{name: in_mode(name, train) for name in names}), stats

    return Network(make, evaluate)
