"""Metrics of samples (L2). To add one: a file beside these, and a line here."""

from gacf.metrics.classifier import Classifier, digits_classifier
from gacf.metrics.fid import fid
from gacf.metrics.kernels import kid, mmd
from gacf.metrics.modes import modes
from gacf.metrics.prdc import prdc
from gacf.metrics.sliced import sliced_wasserstein

METRICS = {
    "fid": fid,
    "kid": kid,
    "mmd": mmd,
    "modes": modes,
    "prdc": prdc,
    "sliced_wasserstein": sliced_wasserstein,
}

__all__ = [
    "METRICS",
    "Classifier",
    "digits_classifier",
    "fid",
    "kid",
    "mmd",
    "modes",
    "prdc",
    "sliced_wasserstein",
]
