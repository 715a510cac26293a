"""Games whose solutions are known in closed form."""

from gacf.games.bilinear import bilinear, bilinear_modes
from gacf.games.dirac_gan import dirac_gan, project
from gacf.games.lqr import LQR, gain_gradient, lqr, optimal_gain, q_function, value
from gacf.games.quadratic import Quadratic, equilibrium, field_jacobian, quadratic

__all__ = [
    "LQR",
    "Quadratic",
    "bilinear",
    "bilinear_modes",
    "dirac_gan",
    "equilibrium",
    "field_jacobian",
    "gain_gradient",
    "lqr",
    "optimal_gain",
    "project",
    "q_function",
    "quadratic",
    "value",
]
