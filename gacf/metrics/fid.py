"""Fréchet distance between two samples of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def fid(real: ArrayLike, fake: ArrayLike) -> float:
    """Fréchet distance of the Gaussians fitted to two samples of features.

        ‖μ_r − μ_f‖² + tr(Σ_r + Σ_f) − 2 tr (Σ_r^½ Σ_f Σ_r^½)^½

    It is computed on the host in float64, because the trace needs eigenvalues, which float32 gives
    to three digits at best, and LAPACK calls can hang inside a program on several host devices. So
    it cannot be traced. Its bias depends on the number of samples: compare only equal numbers.

    Args:
        real: features [n, D], n > D.
        fake: features [m, D], m > D.

    Returns:
        The distance, >= 0; NaN if a feature is not finite.

    Raises:
        ValueError: there are not more samples than dimensions, or the dimensions differ.

    Reference:
        Heusel et al. 2017, eq. 6.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> round(fid(x, x + 3), 6)
        18.0
    """
    first, second = (np.asarray(sample, np.float64) for sample in (real, fake))
    if first.ndim != 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"real, fake: shapes {first.shape} and {second.shape} were given; "
            "allowed: [n, D] and [m, D]"
        )
    least = min(first.shape[0], second.shape[0])
    if least <= first.shape[1]:
        raise ValueError(
            f"real, fake: {least} samples of {first.shape[1]} features were given; "
            "allowed: more samples than features"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    covariances = [np.atleast_2d(np.cov(sample, rowvar=False)) for sample in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root)
    apart = np.sum((first.mean(0) - second.mean(0)) ** 2)
    spread = np.trace(covariances[0]) + np.trace(covariances[1])
    return float(max(apart + spread - 2 * np.sqrt(np.clip(cross, 0, None)).sum(), 0.0))
