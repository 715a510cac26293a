"""Flax Linen modules as networks."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import errors, linen

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


def _lifted(module: linen.Module, method: str) -> bool:
    """Whether the method is wrapped by `nn.remat`, `nn.jit`, …, which call the real method."""
    call = getattr(type(module), method)
    while hasattr(call, "__wrapped__"):
        call = call.__wrapped__
        if getattr(call, "method_handler_wrapped", False):
            return True
    return False


def _mode_setter(player: str, outermost: linen.Module, train: bool) -> Callable[..., Any]:
    """An interceptor that passes the mode to each module of a network, unless its caller does.

    It acts at the call of the real method, inside lifted transformations. There the mode is a plain
    `bool`, and it reaches modules whose callers pass nothing on.
    """

    def set_mode(call: Callable[..., Any], args: Any, options: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        for field in dataclasses.fields(module):
            value = getattr(module, field.name, None)
            if (
                field.name in MODES
                and isinstance(value, bool)
                and field.default is not None  # in Flax's own modules, None leaves it to the caller
                and value != in_mode(field.name, train)
            ):
                raise ValueError(
                    f"{player}: {'/'.join(module.path) or type(module).__name__} has "
                    f"{field.name}={value} as a field, whatever the mode; allowed: an argument of "
                    f"`__call__`, or a field of the outermost module, {type(outermost).__name__}, "
                    "that it passes on"
                )
        if not hasattr(type(module), method) or _lifted(module, method):
            return call(*args, **options)
        signature = signature_of(getattr(type(module), method))
        names = mode_arguments(signature)
        if names:
            given = signature.bind_partial(module, *args, **options).arguments
            missing = {
                name: in_mode(name, train)
                for name in names
                if name not in given and getattr(module, name, None) is None
            }
            options = {**options, **missing}
        return call(*args, **options)

    return set_mode


def linen_network(player: str, module: linen.Module) -> Network:
    """A Linen module as a network."""
    fields = [
        field.name
        for field in dataclasses.fields(module)
        if field.name in MODES
        and field.default is not None
        and isinstance(getattr(module, field.name), bool)
    ]
    accepts_any = takes_any_keyword(signature_of(type(module).__call__)) and not mode_arguments(
        signature_of(type(module).__call__)
    )
    streams: set[str] = set()
    names: list[str] = []
    tried: list[bool] = []

    def run(
        train: bool, method: str, given: Any, key: Key | None, *inputs: Any, **options: Any
    ) -> Any:
        """Runs `init` or `apply` in one mode, with a key for each random stream that is used."""
        mode_fields: Any = {name: in_mode(name, train) for name in fields}
        own = module.clone(**mode_fields) if fields else module
        mode = {name: in_mode(name, train) for name in names} | options.pop("mode", {})
        while True:
            rngs = dict(given["rngs"])
            if key is not None:
                rngs |= {
                    name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in streams
                }
            try:
                with linen.intercept_methods(_mode_setter(player, module, train)):
                    if method == "init":
                        return own.init(rngs, *inputs, **mode)
                    return own.apply(given["variables"], *inputs, rngs=rngs, **options, **mode)
            except errors.InvalidRngError as error:
                stream = re.search(r'PRNG for "([^"]+)"', str(error))
                if stream is None or stream[1] in rngs:
                    raise
                if key is None:
                    raise ValueError(
                        f"{player}: key: None was given; allowed: a key, since its network draws "
                        f"from the stream {stream[1]!r}"
                    ) from None
                streams.add(stream[1])

    def applied(
        train: bool, params: PyTree, stats: PyTree, key: Key | None, *inputs: PyTree, **options: Any
    ) -> tuple[jax.Array, PyTree]:
        given = {
            "variables": {"params": params, **stats},
            "rngs": {} if key is None else {"dropout": key},
        }
        # `nn.jit` caches its programs by which collections are mutable. The extra name keeps the
        # program for training apart from the one for evaluation.
        mutable = [*stats, *(["training"] if train else [])]
        return run(train, "apply", given, key, *inputs, mutable=mutable, **options)

    def state(params: PyTree, stats: PyTree, key: Key, inputs: Any) -> PyTree:
        """The collections that the network reads; values that it sows are not among them."""

        def traced(stats: PyTree) -> PyTree:
            return jax.eval_shape(
                lambda p, s, k, x: applied(True, p, s, k, *x)[1], params, stats, key, inputs
            )

        for name in list(stats):
            others = {other: part for other, part in stats.items() if other != name}
            try:
                traced(others)
            except Exception:  # the network reads it
                continue
            stats = others
        if any(isinstance(x, tuple) for x in jax.tree.leaves(stats, is_leaf=_is_tuple)):
            stats = _lasting(stats, traced(stats))
        return stats

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        params_key, dropout_key = jax.random.split(key)
        given = {"rngs": {"params": params_key, "dropout": dropout_key}}
        if accepts_any and not tried:
            tried.append(True)

            def attempt(train: bool, mode: Options) -> Callable[..., PyTree]:
                def output(key: Key, inputs: Any) -> PyTree:
                    variables = dict(run(train, "init", given, dropout_key, *inputs, mode=mode))
                    params = variables.pop("params", {})
                    return applied(train, params, variables, key, *inputs, mode=mode)

                return output

            needs = "a module whose `__call__` names the argument"
            names[:] = hidden_mode(player, attempt, needs, dropout_key, inputs)
        variables = dict(run(True, "init", given, dropout_key, *inputs))
        params = variables.pop("params", {})
        return params, state(params, variables, dropout_key, inputs) if variables else {}

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        output, news = applied(train, params, stats, key, *inputs)
        return output, renewed(stats, news) if train else stats

    return Network(init, apply)


def _is_tuple(x: Any) -> bool:
    return isinstance(x, tuple)


def _lasting(old: PyTree, new: PyTree) -> PyTree:
    """Statistics without the tuples that grow with each evaluation, which `sow` makes."""
    if not isinstance(old, Mapping):
        return old
    return {
        name: _lasting(part, new[name])
        for name, part in old.items()
        if not (_is_tuple(part) and len(part) != len(new[name]))
    }
