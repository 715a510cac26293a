"""Metrics of samples. To add one, write a file in this folder and add a line here."""

from gacf.metrics.classifier import Classifier, digits_classifier
from gacf.metrics.fid import fid
from gacf.metrics.game_spectrum import draw_spectrum, game_jacobian, game_spectrum
from gacf.metrics.kernels import kid, mmd
from gacf.metrics.modes import modes
from gacf.metrics.prdc import prdc
from gacf.metrics.sliced import sliced_wasserstein
from gacf.metrics.stacked import stacked_modes

METRICS = {
    "fid": fid,
    "game_spectrum": game_spectrum,
    "kid": kid,
    "mmd": mmd,
    "modes": modes,
    "prdc": prdc,
    "sliced_wasserstein": sliced_wasserstein,
    "stacked_modes": stacked_modes,
}

__all__ = [
    "METRICS",
    "Classifier",
    "digits_classifier",
    "draw_spectrum",
    "fid",
    "game_jacobian",
    "game_spectrum",
    "kid",
    "mmd",
    "modes",
    "prdc",
    "sliced_wasserstein",
    "stacked_modes",
]
