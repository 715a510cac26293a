"""Networks: Flax Linen modules, Flax NNX modules and (init, apply) pairs behind one interface.

Every network becomes a `Model`: what one player computes. What it learns by gradient is its params.
What it keeps besides (batch statistics, the vector of a power iteration, a dropout stream) is its
statistics, which are in the world under `stats/<player>`.
"""

from gacf.networks import images
from gacf.networks.conv import Conv, ConvTranspose
from gacf.networks.encoded import Encoded, encoded
from gacf.networks.ensembles import Ensemble, column, ensemble
from gacf.networks.mlp import MLP
from gacf.networks.model import model
from gacf.networks.network import Model
from gacf.networks.precision import DTYPES, Computed, computed_in

__all__ = [
    "DTYPES",
    "MLP",
    "Computed",
    "Conv",
    "ConvTranspose",
    "Encoded",
    "Ensemble",
    "Model",
    "column",
    "computed_in",
    "encoded",
    "ensemble",
    "images",
    "model",
]
