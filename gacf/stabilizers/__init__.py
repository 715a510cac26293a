"""Stabilisers (L2). To add one: a file beside these, and a line here."""

from gacf.stabilizers.freeze import freeze
from gacf.stabilizers.historical_averaging import historical_averaging
from gacf.stabilizers.replay import replay
from gacf.stabilizers.smooth import smooth
from gacf.stabilizers.target_networks import target_networks, with_live_tangent

STABILIZERS = {
    "freeze": freeze,
    "historical_averaging": historical_averaging,
    "replay": replay,
    "smooth": smooth,
    "target_networks": target_networks,
}

__all__ = [
    "STABILIZERS",
    "freeze",
    "historical_averaging",
    "replay",
    "smooth",
    "target_networks",
    "with_live_tangent",
]
