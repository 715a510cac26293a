"""The pure core: games, how a rule plays them, and the small types that everything else uses."""

from gacf.core.checks import lookup
from gacf.core.types import Batch, Key, Outcome, Params, PyTree, World

__all__ = ["Batch", "Key", "Outcome", "Params", "PyTree", "World", "lookup"]
