"""Labels as classes 0 … K − 1, and what a network does with a number that is not a class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

_READ: ContextVar[set[int] | None] = ContextVar("classes that networks have read", default=None)


@contextmanager
def classes_read() -> Iterator[set[int]]:
    """Collects the numbers of classes K of all networks that read labels while this is active.

    A constructor traces its networks inside, so that it can check the data's labels against their
    K, in whatever wrappers the networks are.
    """
    counts: set[int] = set()
    token = _READ.set(counts)
    try:
        yield counts
    finally:
        _READ.reset(token)


def check_labels(labels: Any, classes: int | None = None) -> None:
    """Refuses labels that are not classes.

    Args:
        labels: an array; if its values are not known yet (a tracer, or a shape), they are not
            checked.
        classes: K; None if it is not known.

    Raises:
        ValueError: the labels are not whole numbers [n] in 0 … K − 1.
    """
    last = "" if classes is None else f" … {classes - 1}, since classes={classes}"
    allowed = f"allowed: whole numbers [n] from 0{last}"
    if len(labels.shape) != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels: {labels.dtype}{list(labels.shape)} was given; {allowed}")
    if isinstance(labels, jax.core.Tracer | jax.ShapeDtypeStruct) or not labels.shape[0]:
        return
    numbers = np.asarray(labels)  # on the host, also where a program is being traced
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or (classes is not None and high >= classes):
        raise ValueError(f"labels: numbers in {low} … {high} were given; {allowed}")


def class_labels(labels: jax.Array, classes: int) -> jax.Array:
    """The labels [B], int32, with K in place of every number that is not a class.

    An embedding yields NaN for row K, whereas row −1 would silently be that of another class.

    Raises:
        ValueError: as `check_labels`.

    Example:
        >>> import jax.numpy as jnp
        >>> class_labels(jnp.array([0, 2]), 3).tolist()
        [0, 2]
    """
    check_labels(labels, classes)
    counts = _READ.get()
    if counts is not None:
        counts.add(classes)
    labels = labels.astype(jnp.int32)
    return jnp.where((labels < 0) | (labels >= classes), classes, labels)


def one_hot(labels: jax.Array, classes: int, dtype: Any) -> jax.Array:
    """The labels' one-hot code [B, K]; the code of a number that is not a class is NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> one_hot(jnp.array([0, 2]), 3, jnp.float32).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    rows = class_labels(labels, classes)
    code = jax.nn.one_hot(rows, classes, dtype=dtype)
    return jnp.where((rows == classes)[:, None], jnp.nan, code)
