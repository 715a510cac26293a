"""A reader for IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, compressed with gzip or not.

    Args:
        path: the file; its first two bytes show whether it is compressed.

    Returns:
        The array, in the machine's byte order.

    Raises:
        ValueError: the file is not an IDX file, or is truncated or corrupt; the message names it.
        FileNotFoundError: no such file.

    Reference:
        LeCun, Cortes & Burges, the MNIST database.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
        >>> read_idx(path).tolist()
        [5, 0, 4]
    """
    where, raw = f"read_idx: {path}", Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{where}: truncated or corrupt gzip data ({error})") from error
    if len(raw) < 4:
        raise ValueError(
            f"{where}: {len(raw)} bytes, too short for the 4 bytes of the magic number"
        )
    if raw[:2] != b"\0\0" or raw[2] not in DTYPES:
        raise ValueError(f"{where}: not an IDX file: it begins with {raw[:4].hex(' ')}")
    dtype, axes = np.dtype(DTYPES[raw[2]]), raw[3]
    start = 4 + 4 * axes
    if len(raw) < start:
        raise ValueError(f"{where}: {len(raw)} bytes, too short for a header of {axes} axes")
    shape = struct.unpack(f">{axes}I", raw[4:start])
    needed = math.prod(shape) * dtype.itemsize
    if len(raw) - start != needed:
        problem = "truncated" if len(raw) - start < needed else "trailing bytes"
        raise ValueError(
            f"{where}: {problem}: shape {shape} of {dtype.name} needs {needed} bytes, "
            f"there are {len(raw) - start}"
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
