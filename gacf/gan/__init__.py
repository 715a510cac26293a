"""Generative adversarial networks (L4): losses, penalties, networks, the GAN."""

from gacf.gan import networks
from gacf.gan.gan import gan, generate, normal
from gacf.gan.losses import (
    F_DIVERGENCES,
    LOSSES,
    FDivergence,
    GanLoss,
    energy_based,
    f_gan,
    relativistic,
)
from gacf.gan.penalties import (
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
from gacf.gan.pulling_away import pulling_away
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
