"""Readers for CIFAR-10 and CIFAR-100, in both of their formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gacf.core.checks import lookup
from gacf.data.pickled import read_pickle

PIXELS = 3 * 32 * 32
# name -> number of bytes before the pixels of a record, and of classes
KINDS = {"cifar10": (1, 10), "cifar100": (2, 100)}
LABELS = {"cifar10": "labels", "cifar100": "fine_labels"}

Paths = str | Path | Sequence[str | Path]


def _paths(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int32)


def _check_labels(where: str, labels: np.ndarray, classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        record = int(wrong[0])
        raise ValueError(
            f"{where}: record {record}: label {labels[record]}; allowed: 0 to {classes - 1}"
        )


def read_cifar_binary(paths: Paths, kind: str = "cifar10") -> tuple[np.ndarray, np.ndarray]:
    """Images and labels from the binary version of CIFAR, with a label and 3,072 pixels per record.

    Args:
        paths: a file, or several that are joined in this order.
        kind: "cifar10", or "cifar100" (of whose two labels the fine one is read).

    Returns:
        Images [n, 32, 32, 3], uint8, and labels [n], int32.

    Raises:
        ValueError: a file is empty, truncated or corrupt; the message names it and the record.
        FileNotFoundError: no such file.

    Reference:
        Krizhevsky 2009.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "data_batch_1.bin"
        >>> _ = path.write_bytes(bytes([7]) + bytes(3072))
        >>> images, labels = read_cifar_binary(path)
        >>> images.shape, labels.tolist()
        ((1, 32, 32, 3), [7])
    """
    before, classes = lookup("kind", kind, KINDS)
    parts = []
    for path in _paths(paths):
        where, raw = f"read_cifar_binary: {path}", path.read_bytes()
        size = before + PIXELS
        whole, left = divmod(len(raw), size)
        if left or not whole:
            raise ValueError(f"{where}: truncated: record {whole} has {left} of {size} bytes")
        records = np.frombuffer(raw, np.uint8).reshape(whole, size)
        labels = records[:, before - 1]
        _check_labels(where, labels, classes)
        parts.append((records[:, before:], labels))
    return _joined(parts)


def read_cifar_pickle(paths: Paths, kind: str = "cifar10") -> tuple[np.ndarray, np.ndarray]:
    """Images and labels from the Python version of CIFAR; no code in its pickles is run.

    Args:
        paths: a file, or several that are joined in this order.
        kind: "cifar10", or "cifar100" (of whose two labels the fine one is read).

    Returns:
        Images [n, 32, 32, 3], uint8, and labels [n], int32.

    Raises:
        ValueError: a file is truncated or corrupt, or holds more than plain data; the message
            names it, and the byte or the record.
        FileNotFoundError: no such file.

    Reference:
        Krizhevsky 2009.

    Example:
        >>> import pathlib, pickle, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "data_batch_1"
        >>> batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [7, 3]}
        >>> _ = path.write_bytes(pickle.dumps(batch, protocol=2))
        >>> images, labels = read_cifar_pickle(path)
        >>> images.shape, labels.tolist()
        ((2, 32, 32, 3), [7, 3])
    """
    _, classes = lookup("kind", kind, KINDS)
    parts = []
    for path in _paths(paths):
        where, batch = f"read_cifar_pickle: {path}", read_pickle(path)
        if not isinstance(batch, dict):
            raise ValueError(f"{where}: a {type(batch).__name__} was read; allowed: a dict")
        named = {_text(name): value for name, value in batch.items()}
        pixels = lookup(f"{where}: entry", "data", named)
        labels = lookup(f"{where}: entry", LABELS[kind], named)
        if not isinstance(pixels, np.ndarray) or pixels.shape[1:] != (PIXELS,):
            raise ValueError(f"{where}: data of shape {np.shape(pixels)}; allowed: [n, {PIXELS}]")
        if pixels.dtype != np.uint8:
            raise ValueError(f"{where}: data of {pixels.dtype}; allowed: uint8")
        numbers = np.asarray(labels)
        if numbers.shape != (len(pixels),) or not np.issubdtype(numbers.dtype, np.integer):
            raise ValueError(
                f"{where}: labels of shape {numbers.shape} for {len(pixels)} images; "
                "allowed: a whole number each"
            )
        _check_labels(where, numbers, classes)
        parts.append((pixels, numbers))
    return _joined(parts)


def _text(name: Any) -> Any:
    return name.decode("latin-1") if isinstance(name, bytes) else name
