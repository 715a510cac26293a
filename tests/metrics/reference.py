"""What the reference packages find on given features: writes reference.json beside this file.

    pip install --no-deps prdc==0.2 pytorch-fid==0.3.0 POT==0.9.7.post1
    python -m tests.metrics.reference

In an environment of its own that has gacf and PyTorch; the tests read the numbers alone.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np

FILE = Path(__file__).with_suffix(".json")
ORDERS = (1, 2)
NEIGHBOURS = (3, 5)
PROJECTIONS = 50


def features(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Real and fake: of a few or many dimensions, on a plane of theirs, of unequal number."""
    random = np.random.RandomState(0)
    n, m, size, rank = {
        "few": (300, 300, 3, 3), "many": (400, 400, 64, 64), "flat": (200, 200, 16, 2),
        "unequal": (150, 250, 8, 8),
    }[case]  # fmt: skip
    mix = random.randn(rank, size)
    # softplus, not ReLU: exact zeros would tie, and a tie is rounding's to decide
    real = np.logaddexp(0, random.randn(n, rank) @ mix)
    fake = np.logaddexp(0, 1.2 * random.randn(m, rank) @ mix + 0.3)
    return real.astype(np.float32), fake.astype(np.float32)


CASES = ("few", "many", "flat", "unequal")


def directions(size: int) -> np.ndarray:
    """Those that `sliced_wasserstein` draws under key 0, [D, projections]."""
    drawn = np.asarray(jax.random.normal(jax.random.key(0), (size, PROJECTIONS), np.float32))
    return drawn / np.linalg.norm(drawn, axis=0, keepdims=True)


def main() -> None:
    # pytorch-fid imports networks and pictures, of which its formula needs none
    networks = ("torchvision", "torchvision.transforms", "pytorch_fid.inception")
    sys.modules.update({name: mock.MagicMock() for name in networks})
    import ot  # pyright: ignore
    from prdc import compute_prdc  # pyright: ignore
    from pytorch_fid.fid_score import calculate_frechet_distance  # pyright: ignore

    found = {}
    for case in CASES:
        real, fake = (x.astype(np.float64) for x in features(case))
        moments = [part for x in (real, fake) for part in (x.mean(0), np.cov(x, rowvar=False))]
        found[case] = {
            "fid": float(calculate_frechet_distance(*moments)),
            "prdc": {
                str(k): {n: float(v) for n, v in compute_prdc(real, fake, k).items()}
                for k in NEIGHBOURS
            },
        }
        if len(real) == len(fake):
            found[case]["sliced_wasserstein"] = {
                str(p): float(
                    ot.sliced_wasserstein_distance(
                        real, fake, projections=directions(real.shape[1]), p=p
                    )
                )
                for p in ORDERS
            }
    packages = ("prdc", "pytorch-fid", "POT")
    found["made by"] = {name: importlib.metadata.version(name) for name in packages}
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
