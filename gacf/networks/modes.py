"""Whether a network trains: the names by which networks ask, and how each is answered."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from gacf.core.types import PyTree

MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "is_train": True,
    "update_stats": True,
    "deterministic": False,
    "use_running_average": False,
    "is_eval": False,
    "inference": False,
}
"""Names of an argument or a field that says whether a network trains, and what it is then."""


@functools.cache
def signature_of(call: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function, looked up once."""
    return inspect.signature(call)


def mode_arguments(signature: inspect.Signature) -> list[str]:
    """The arguments by which a call wants to be told whether it trains."""
    return [
        name
        for name, parameter in signature.parameters.items()
        if name in MODES
        and parameter.kind is not parameter.VAR_POSITIONAL
        and (parameter.default in (parameter.empty, None) or isinstance(parameter.default, bool))
    ]


def takes_any_keyword(signature: inspect.Signature) -> bool:
    """Whether it takes keywords of any name, so that it does not show what it wants to be told."""
    return any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


def in_mode(name: str, train: bool) -> bool:
    """The value of an argument or a field of that name in training, or in evaluation."""
    return MODES[name] == train


Options = dict[str, bool]


def hidden_mode(
    player: str, attempt: Callable[[bool, Options], PyTree], needs: str, *arguments: PyTree
) -> list[str]:
    """The keyword by which a network that takes any wants to be told whether it trains, if one is.

    Signatures do not show it, so each usual name is tried: one that changes the program is it.

    Args:
        player: whose network it is.
        attempt: `(train, options) -> (*arguments) -> output`.
        needs: what to do about a network that cannot train.
        *arguments: to trace with.

    Raises:
        ValueError: a network that one of the names puts into evaluation mode alone.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)

    def program(train: bool, options: Options) -> str:
        return str(jax.make_jaxpr(attempt(train, options))(*shapes))

    plain: tuple[str, str] | None = None
    for name in MODES:
        try:
            resting = program(False, {name: in_mode(name, False)})
        except Exception:  # whatever it raises, it does not take the name
            continue
        try:
            training = program(True, {name: in_mode(name, True)})
        except Exception as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise ValueError(
                f"{player}: its network fails with {name}={in_mode(name, True)}, in training "
                f"({type(error).__name__}: {line}); allowed: {needs}"
            ) from None
        if plain is None:
            try:
                plain = program(False, {}), program(True, {})
            except Exception:  # it cannot do without
                plain = "", ""
        if (resting, training) != plain:
            return [name]
    return []


def renewed(old: PyTree, new: PyTree) -> PyTree:
    """The news of what is kept; what a network merely leaves behind is dropped."""
    if not isinstance(old, Mapping):
        return new
    return {name: renewed(part, new[name]) if name in new else part for name, part in old.items()}
