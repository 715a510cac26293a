"""A reader for pickles of plain data that runs no code from them.

A pickle is a program: unpickling one that somebody else wrote can call any function that can be
imported. Here the five names that arrays and bytes need are replaced by classes and functions of
this file, every other name is refused, and the result is checked to be plain data.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np


class _Dtype:
    """Replaces `numpy.dtype`: the type of an array of numbers."""

    def __init__(self, code: Any = None, *others: Any) -> None:
        if not isinstance(code, str) or code[:1] not in ("u", "i", "f", "b") or len(code) > 3:
            raise ValueError(f"arrays of {code!r}; allowed: of numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, …)
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError(f"a dtype's state {state!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Replaces `numpy.ndarray`: an array whose contents may follow later."""

    value: np.ndarray | None = None

    def __init__(self) -> None:
        raise ValueError("a call that plain data do not need")

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array's state that is not a tuple of five")
        _, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(raw, str):
        raw = raw.encode("latin-1")  # bytes in a pickle of Python 2
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise ValueError("an array that is not of bytes and a dtype")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array of shape {shape!r}")
    if order not in ("C", "F"):
        raise ValueError(f"an array in the order {order!r}")
    needed = math.prod(shape) * dtype.dtype.itemsize
    if len(raw) != needed:
        raise ValueError(f"an array that needs {needed} bytes, of which there are {len(raw)}")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _reconstruct(kind: Any, *others: Any) -> _Array:
    """An array whose contents follow as its state."""
    if kind is not _Array:
        raise ValueError("a call that plain data do not need")
    return _Array.__new__(_Array)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any, *others: Any) -> _Array:
    """An array in a pickle of protocol 5."""
    array = _Array.__new__(_Array)
    array.value = _array(raw, dtype, shape, order)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes in a pickle of protocols 0 to 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a call that plain data do not need")
    return text.encode("latin-1")


NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle._Unpickler):  # type: ignore[name-defined]
    """The unpickler written in Python: that in C allocates as much as an index in the file says."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in NAMES:
            name = f"{module_name}.{global_name}"
            raise ValueError(f"the name {name!r}, which plain data do not need")
        return NAMES[module_name, global_name]


def _checked(value: Any, done: dict[int, Any]) -> Any:
    """The value with arrays instead of their replacements; shared parts are checked once."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if isinstance(value, list):
        result: Any = []
        done[id(value)] = result
        result.extend(_checked(item, done) for item in value)
        return result
    if isinstance(value, dict):
        result = done[id(value)] = {}
        for name, item in value.items():
            if not isinstance(name, str | bytes | int):
                raise ValueError(f"a dict's key of type {type(name).__name__}")
            result[name] = _checked(item, done)
        return result
    if isinstance(value, tuple):
        result = done[id(value)] = tuple(_checked(item, done) for item in value)
        return result
    if value is None or isinstance(value, bool | int | float | str | bytes | bytearray):
        return value
    raise ValueError("a value that is not plain data")


def read_pickle(path: str | Path) -> Any:
    """The plain data in a pickle; no code in it is run and no name in it is imported.

    Args:
        path: the file, of any protocol, written by Python 2 or 3.

    Returns:
        Numbers, text, bytes, lists, tuples, dicts and NumPy arrays of numbers. Byte strings of
        Python 2 become text, with one character per byte.

    Raises:
        ValueError: the file is truncated or corrupt, or holds anything else; the message names
            the file, and the byte up to which it was read.
        FileNotFoundError: no such file.

    Example:
        >>> import pathlib, pickle, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "batch"
        >>> _ = path.write_bytes(pickle.dumps({"labels": [3, 5], "data": np.arange(4.0)}))
        >>> read_pickle(path)
        {'labels': [3, 5], 'data': array([0., 1., 2., 3.])}
    """
    file = io.BytesIO(Path(path).read_bytes())
    try:
        return _checked(_Reader(file, encoding="latin-1").load(), {})
    except RecursionError as error:
        raise ValueError(f"read_pickle: {path}: byte {file.tell()}: nested too deeply") from error
    except Exception as error:  # a corrupt pickle may make the unpickler raise anything
        first = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"read_pickle: {path}: byte {file.tell()}: {first}") from error
