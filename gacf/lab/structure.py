"""The structure of a pytree as JSON, from which it can be built again without running any code.

A node is None, a leaf ("*"), or a list: its kind, its class where the kind has several, its
children, and its static fields where a class has such:

    ["dict", {key: node}]                  ["list", [node]]     ["tuple", [node]]
    ["named", "module:Class", {field: node}]
    ["data", "module:Class", {field: node}, {static field: value}]

Classes are looked up by name, in modules that are loaded already or belong to the packages on which
gacf is built; their own code is not called.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import jax

PACKAGES = ("gacf", "jax", "flax", "optax", "chex", "gymnax", "brax")
LEAF = "*"


class Indescribable(ValueError):
    """A structure cannot be described, or cannot be built from its description."""


def _name(kind: type) -> str:
    if "<locals>" in kind.__qualname__:
        raise Indescribable(
            f"state: it holds a {kind.__qualname__.rpartition('.')[2]}, a class that is defined "
            "inside a function and cannot be found again; allowed: classes of a module"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def describe(node: Any) -> Any:
    """The structure of a pytree, as JSON; its leaves are not looked at.

    Raises:
        Indescribable: a node is of another kind than the ones listed above.

    Example:
        >>> describe({"a": (1.0, None), "b": [2.0]})
        ['dict', {'a': ['tuple', ['*', None]], 'b': ['list', ['*']]}]
    """
    if node is None:
        return None
    kind = type(node)
    if kind is dict:
        if not all(isinstance(key, str) for key in node):
            raise Indescribable("state: a dict has keys that are not text; allowed: text")
        return ["dict", {key: describe(child) for key, child in node.items()}]
    if kind in (list, tuple):
        return [kind.__name__, [describe(child) for child in node]]
    names = getattr(node, "_fields", None)
    if isinstance(node, tuple) and names is not None:
        fields = zip(names, node, strict=True)
        return ["named", _name(kind), {name: describe(child) for name, child in fields}]
    if jax.tree_util.all_leaves([node]):
        return LEAF
    if dataclasses.is_dataclass(node):
        values = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
        parts: dict[str, Any] = {}  # in the order in which JAX flattens the class
        for child in jax.tree.leaves(node, is_leaf=lambda x: x is not node):
            name = next(n for n, x in values.items() if x is child and n not in parts)
            parts[name] = child
        static = {name: _frozen(x) for name, x in values.items() if name not in parts}
        described = {name: describe(child) for name, child in parts.items()}
        return ["data", _name(kind), described, static]
    raise Indescribable(
        f"state: it holds a {kind.__module__}.{kind.__qualname__}; allowed: dicts, lists, tuples, "
        "named tuples and dataclasses"
    )


def _frozen(value: Any) -> Any:
    """A static field as JSON: a number, text, bytes, or a tuple of such."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is bytes:
        return {"bytes": value.hex()}
    if type(value) is tuple:
        return {"tuple": [_frozen(x) for x in value]}
    raise Indescribable(
        f"state: a class in it has a fixed field of type {type(value).__name__}; allowed: numbers, "
        "text, bytes, and tuples of such"
    )


def _thawed(value: Any) -> Any:
    """The reverse of `_frozen`."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    return bytes.fromhex(content) if kind == "bytes" else tuple(map(_thawed, content))


def _class_of(name: Any) -> type:
    module, _, path = str(name).partition(":")
    if module not in sys.modules and module.partition(".")[0] in PACKAGES:
        importlib.import_module(module)
    found: Any = sys.modules.get(module)
    if found is None:
        raise Indescribable(f"load: the state holds a {name}; import {module} first")
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise Indescribable(f"load: the state holds a {name}, and {module} has no such class")
    return found


def build(structure: Any, leaves: Iterator[Any]) -> Any:
    """The pytree of a structure, with its leaves taken one after the other.

    Raises:
        Indescribable: a class cannot be found, or has other fields than it had.
    """
    if structure is None:
        return None
    if structure == LEAF:
        return next(leaves)
    kind, *rest = structure
    if kind == "dict":
        # in the order in which JAX flattens a dict
        built = {key: build(rest[0][key], leaves) for key in sorted(rest[0])}
        return {key: built[key] for key in rest[0]}
    if kind in ("list", "tuple"):
        children = [build(child, leaves) for child in rest[0]]
        return children if kind == "list" else tuple(children)
    if kind not in ("named", "data"):
        raise Indescribable(f"load: {kind!r} is no kind of node")
    cls, parts = _class_of(rest[0]), rest[1]
    if kind == "named":
        if not issubclass(cls, tuple) or list(getattr(cls, "_fields", ())) != list(parts):
            raise Indescribable(f"load: {rest[0]} has other fields than when the state was saved")
        return tuple.__new__(cls, [build(child, leaves) for child in parts.values()])
    static = rest[2]
    if not dataclasses.is_dataclass(cls) or {f.name for f in dataclasses.fields(cls)} != {
        *parts,
        *static,
    }:
        raise Indescribable(f"load: {rest[0]} has other fields than when the state was saved")
    node = object.__new__(cls)
    values = {name: build(part, leaves) for name, part in parts.items()}
    for name in (field.name for field in dataclasses.fields(cls)):
        value = values[name] if name in values else _thawed(static[name])
        object.__setattr__(node, name, value)
    return node
