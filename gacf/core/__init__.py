"""The pure core: games, how a rule plays them, and the small types that everything else uses."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gacf.core.checks import lookup
    from gacf.core.types import Batch, Key, Outcome, Params, PyTree, World

__all__ = ["Batch", "Key", "Outcome", "Params", "PyTree", "World", "lookup"]


def __getattr__(name: str) -> Any:
    # Imported at first use, so that `gacf.core.names` does not wait for JAX.
    if name not in __all__:
        raise AttributeError(f"module 'gacf.core' has no attribute {name!r}")
    home = "checks" if name == "lookup" else "types"
    value = getattr(importlib.import_module(f"gacf.core.{home}"), name)
    globals()[name] = value
    return value
