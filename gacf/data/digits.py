"""scikit-learn's handwritten digits: real images that come with a package."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import lookup


@functools.cache
def _arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    from sklearn.datasets import load_digits  # its import takes a second

    raw, classes = load_digits(return_X_y=True)
    images = np.asarray(raw / 8 - 1, np.float32).reshape(-1, 8, 8, 1)
    labels = np.asarray(classes, np.int32)
    shuffled = np.random.RandomState(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    parts = {"all": np.arange(len(labels))}
    parts["train"], parts["test"] = np.sort(by_class[::2]), np.sort(by_class[1::2])
    return {name: (images[part], labels[part]) for name, part in parts.items()}


def digits(split: str = "train") -> tuple[jax.Array, jax.Array]:
    """1,797 handwritten digits of 8 × 8 pixels.

    Args:
        split: "train" and "test", the halves of a fixed stratified split, or "all".

    Returns:
        Images [n, 8, 8, 1], float32 in [-1, 1], and labels [n], int32.

    Raises:
        ValueError: another split.

    Reference:
        Alpaydin & Kaynak 1998, as bundled with scikit-learn.

    Example:
        >>> images, labels = digits("test")
        >>> images.shape, labels.shape
        ((898, 8, 8, 1), (898,))
    """
    lookup("split", split, dict.fromkeys(("train", "test", "all")))
    with jax.ensure_compile_time_eval():
        images, labels = _arrays()[split]
        return jnp.asarray(images), jnp.asarray(labels)
