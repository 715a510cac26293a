"""Data sets and readers. To add one, write a file in this folder and add a line here."""

from gacf.data.cifar import read_cifar_binary, read_cifar_pickle
from gacf.data.digits import digits
from gacf.data.feed import Feed
from gacf.data.folders import ImageFiles, read_datasets, read_images
from gacf.data.idx import read_idx
from gacf.data.mixtures import Mixture, grid, ring
from gacf.data.pickled import read_pickle
from gacf.data.stacked_digits import StackedDigits, stacked_digits
from gacf.data.swiss_roll import SwissRoll, swiss_roll

DATA = {
    "digits": digits,
    "grid": grid,
    "ring": ring,
    "stacked_digits": stacked_digits,
    "swiss_roll": swiss_roll,
}

__all__ = [
    "DATA",
    "Feed",
    "ImageFiles",
    "Mixture",
    "StackedDigits",
    "SwissRoll",
    "digits",
    "grid",
    "read_cifar_binary",
    "read_cifar_pickle",
    "read_datasets",
    "read_idx",
    "read_images",
    "read_pickle",
    "ring",
    "stacked_digits",
    "swiss_roll",
]
