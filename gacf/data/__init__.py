"""Data (L1). To add a set: a file beside these, and a line here."""

from gacf.data.digits import digits
from gacf.data.idx import read_idx
from gacf.data.mixtures import Mixture, grid, ring

DATA = {"digits": digits, "grid": grid, "ring": ring}

__all__ = ["DATA", "Mixture", "digits", "grid", "read_idx", "ring"]
