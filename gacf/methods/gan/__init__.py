"""Generative adversarial networks: losses, penalties, and the constructor `gan`."""

from gacf.methods.gan.constructor import gan, generate, normal
from gacf.methods.gan.losses import (
    F_DIVERGENCES,
    LOSSES,
    FDivergence,
    GanLoss,
    energy_based,
    f_gan,
    relativistic,
)
from gacf.methods.gan.penalties import (
    PENALTIES,
    between,
    dragan,
    r1,
    r2,
    slopes,
    wgan_gp,
    zero_centred,
    zero_centred_between,
)
from gacf.methods.gan.pulling_away import pulling_away
from gacf.networks import images as networks
from gacf.stabilizers import likeness

__all__ = [
    "F_DIVERGENCES",
    "LOSSES",
    "PENALTIES",
    "FDivergence",
    "GanLoss",
    "between",
    "dragan",
    "energy_based",
    "f_gan",
    "gan",
    "generate",
    "likeness",
    "networks",
    "normal",
    "pulling_away",
    "r1",
    "r2",
    "relativistic",
    "slopes",
    "wgan_gp",
    "zero_centred",
    "zero_centred_between",
]
