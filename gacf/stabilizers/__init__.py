"""Stabilisers. To add one, write a file in this folder and add a line here."""

from gacf.stabilizers.compatible import compatible
from gacf.stabilizers.ema import averaged, ema
from gacf.stabilizers.entropy import entropy, likeness, nearest_neighbours, pulled_away
from gacf.stabilizers.feature_matching import activations, feature_matching
from gacf.stabilizers.freeze import freeze
from gacf.stabilizers.historical_averaging import historical_averaging
from gacf.stabilizers.minibatch_discrimination import MinibatchDiscrimination, closeness
from gacf.stabilizers.noise import noisy
from gacf.stabilizers.normalise import Normalised, VirtualBatchNorm, with_reference
from gacf.stabilizers.replay import mixed, replay
from gacf.stabilizers.smooth import smooth
from gacf.stabilizers.spectral_norm import spectral_norm
from gacf.stabilizers.target_networks import target_networks, with_live_tangent
from gacf.stabilizers.weight_clip import weight_clip

STABILIZERS = {
    "compatible": compatible,
    "ema": ema,
    "entropy": entropy,
    "feature_matching": feature_matching,
    "freeze": freeze,
    "historical_averaging": historical_averaging,
    "minibatch_discrimination": MinibatchDiscrimination,
    "noisy": noisy,
    "normalised": Normalised,
    "replay": replay,
    "smooth": smooth,
    "spectral_norm": spectral_norm,
    "target_networks": target_networks,
    "virtual_batch_norm": with_reference,
    "weight_clip": weight_clip,
}

__all__ = [
    "STABILIZERS",
    "MinibatchDiscrimination",
    "Normalised",
    "VirtualBatchNorm",
    "activations",
    "averaged",
    "closeness",
    "compatible",
    "ema",
    "entropy",
    "feature_matching",
    "freeze",
    "historical_averaging",
    "likeness",
    "mixed",
    "nearest_neighbours",
    "noisy",
    "pulled_away",
    "replay",
    "smooth",
    "spectral_norm",
    "target_networks",
    "weight_clip",
    "with_live_tangent",
    "with_reference",
]
