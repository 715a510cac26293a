"""Whether a network trains: the names of arguments and fields that say so, and their values."""

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
"""Names of arguments and fields that say whether a network trains, with their values if it does."""


@functools.cache
def signature_of(call: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function, looked up once."""
    return inspect.signature(call)


def mode_arguments(signature: inspect.Signature) -> list[str]:
    """The arguments of a call that say whether the network trains."""
    return [
        name
        for name, parameter in signature.parameters.items()
        if name in MODES
        and parameter.kind is not parameter.VAR_POSITIONAL
        and (parameter.default in (parameter.empty, None) or isinstance(parameter.default, bool))
    ]


def takes_any_keyword(signature: inspect.Signature) -> bool:
    """Whether a call takes keywords of any name, so that its signature hides the mode's."""
    return any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


def in_mode(name: str, train: bool) -> bool:
    """The value of an argument or a field of that name in training, or in evaluation."""
    return MODES[name] == train


Options = dict[str, bool]


def hidden_mode(
    player: str, attempt: Callable[[bool, Options], PyTree], needs: str, *arguments: PyTree
) -> list[str]:
    """The keyword that tells a network whether it trains, if it takes keywords of any name.

    Its signature does not show the keyword. So each usual name is tried, and the first one that
    changes the network's program is the right one. The list is empty if none does.

    Args:
        player: the player to whom the network belongs.
        attempt: `(train, options) -> (*arguments) -> output`.
        needs: what is allowed instead of a network that cannot train, for the message.
        *arguments: arguments to trace with.

    Raises:
        ValueError: with one of the names the network works in evaluation, but not in training.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)

    def program(train: bool, options: Options) -> str:
        return str(jax.make_jaxpr(attempt(train, options))(*shapes))

    plain: tuple[str, str] | None = None
    for name in MODES:
        try:
            resting = program(False, {name: in_mode(name, False)})
        except Exception:  # whatever was raised, the network does not take this name
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
            except Exception:  # it does not work without a keyword
                plain = "", ""
        if (resting, training) != plain:
            return [name]
    return []


def renewed(old: PyTree, new: PyTree) -> PyTree:
    """The old statistics with their new values; entries that only `new` has are dropped."""
    if not isinstance(old, Mapping):
        return new
    return {name: renewed(part, new[name]) if name in new else part for name, part in old.items()}
