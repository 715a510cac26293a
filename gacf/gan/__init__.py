"""Generative adversarial networks (L4): losses, penalties, the GAN."""

from gacf.gan.gan import gan, generate, normal
from gacf.gan.losses import LOSSES, GanLoss
from gacf.gan.penalties import PENALTIES, r1, slopes, zero_centred

__all__ = [
    "LOSSES",
    "PENALTIES",
    "GanLoss",
    "gan",
    "generate",
    "normal",
    "r1",
    "slopes",
    "zero_centred",
]
