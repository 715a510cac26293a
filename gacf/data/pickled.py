"""A reader for pickles of plain data that runs nothing of what they say.

A pickle is a program; unpickling one that somebody else wrote can run anything. This reader looks
at the operations one by one and knows those alone that make numbers, text, bytes, lists, tuples,
dicts and NumPy arrays of numbers. Functions and classes are never looked up by name.
"""

from __future__ import annotations

import enum
import math
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

MARK = object()

PUSHES = {
    "INT", "LONG", "FLOAT", "STRING", "UNICODE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
CONSTANTS = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict,
}  # fmt: skip


class _Name(enum.Enum):
    """One of the few functions and classes that NumPy's pickles use: a word, not the thing."""

    RECONSTRUCT = enum.auto()
    FROM_BUFFER = enum.auto()
    ARRAY = enum.auto()
    DTYPE = enum.auto()
    ENCODE = enum.auto()


NAMES = {
    "numpy.core.multiarray _reconstruct": _Name.RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _Name.RECONSTRUCT,
    "numpy.core.numeric _frombuffer": _Name.FROM_BUFFER,
    "numpy._core.numeric _frombuffer": _Name.FROM_BUFFER,
    "numpy ndarray": _Name.ARRAY,
    "numpy dtype": _Name.DTYPE,
    "_codecs encode": _Name.ENCODE,
}


class _Dtype:
    """A NumPy dtype in the making."""

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or code[:1] not in ("u", "i", "f", "b") or len(code) > 3:
            raise ValueError(f"arrays of {code!r}; allowed: of numbers")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        # (version, byte order, …)
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError(f"a dtype's state {state!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A NumPy array in the making, or made."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array's state that is no tuple of five")
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
    wanted = math.prod(shape) * dtype.dtype.itemsize
    if len(raw) != wanted:
        raise ValueError(f"an array of {wanted} bytes, of which there are {len(raw)}")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _call(function: Any, arguments: Any) -> Any:
    if isinstance(function, _Name) and isinstance(arguments, tuple) and arguments:
        first, *others = arguments
        if function is _Name.RECONSTRUCT and first is _Name.ARRAY:
            return _Array()
        if function is _Name.DTYPE:
            return _Dtype(first)
        if function is _Name.FROM_BUFFER and len(others) >= 3:
            made = _Array()
            made.value = _array(first, *others[:3])
            return made
        if function is _Name.ENCODE and others in (["latin1"], ["latin-1"]):
            return first.encode("latin-1")  # bytes at protocols 0 to 2
    raise ValueError("a call that plain data do not need")


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """With arrays in place of what they were made of; what is shared is finished once."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without contents")
        return value.value
    if isinstance(value, _Dtype | _Name) or value is MARK:
        raise ValueError("a value that is no data")
    if isinstance(value, list):
        made: Any = []
        done[id(value)] = made
        made.extend(_finished(item, done) for item in value)
        return made
    if isinstance(value, dict):
        made = done[id(value)] = {}
        made.update((name, _finished(item, done)) for name, item in value.items())
        return made
    if isinstance(value, tuple):
        made = done[id(value)] = tuple(_finished(item, done) for item in value)
        return made
    return value


class _Machine:
    """The stack machine of pickles, with the operations that data need."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise ValueError("an empty stack")
        return self.stack.pop()

    def to_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise ValueError("no mark on the stack")

    def top(self, *kinds: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kinds):
            wanted = " or ".join(kind.__name__.strip("_").lower() for kind in kinds)
            raise ValueError(f"no {wanted} on the stack")
        return self.stack[-1]

    def name(self, name: str) -> None:
        if name not in NAMES:
            raise ValueError(f"the name {name.replace(' ', '.')!r}, which plain data do not need")
        self.stack.append(NAMES[name])

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise ValueError("a name without a value")
        for name, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(name, str | bytes | int):
                raise ValueError(f"a dict's key of type {type(name).__name__}")
            target[name] = value

    def do(self, operation: str, argument: Any) -> None:
        stack = self.stack
        if operation in PUSHES:
            stack.append(argument)
        elif operation in CONSTANTS:
            stack.append(CONSTANTS[operation]())
        elif operation == "MARK":
            stack.append(MARK)
        elif operation in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.top(object)
        elif operation == "MEMOIZE":
            self.memo[len(self.memo)] = self.top(object)
        elif operation in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise ValueError(f"no value {argument} remembered")
            stack.append(self.memo[argument])
        elif operation == "GLOBAL":
            self.name(argument)
        elif operation == "STACK_GLOBAL":
            name, module = self.pop(), self.pop()
            self.name(f"{module} {name}")
        elif operation in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [self.pop() for _ in range(int(operation[-1]))]
            stack.append(tuple(items[::-1]))
        elif operation == "TUPLE":
            stack.append(tuple(self.to_mark()))
        elif operation == "LIST":
            stack.append(self.to_mark())
        elif operation == "DICT":
            items = self.to_mark()
            stack.append({})
            self.set_items(items)
        elif operation == "APPEND":
            item = self.pop()
            self.top(list).append(item)
        elif operation == "APPENDS":
            items = self.to_mark()
            self.top(list).extend(items)
        elif operation == "SETITEM":
            value, name = self.pop(), self.pop()
            self.set_items([name, value])
        elif operation == "SETITEMS":
            self.set_items(self.to_mark())
        elif operation == "REDUCE":
            arguments, function = self.pop(), self.pop()
            stack.append(_call(function, arguments))
        elif operation == "BUILD":
            state = self.pop()
            self.top(_Array, _Dtype).build(state)
        elif operation not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the operation {operation}, which plain data do not need")


def read_pickle(path: str | Path) -> Any:
    """The plain data in a pickle: nothing in it is run, and no name in it looked up.

    Args:
        path: the file, of any protocol, by Python 2 or 3.

    Returns:
        Numbers, text, bytes, lists, tuples, dicts and NumPy arrays of numbers. Text of Python 2
        that was bytes is text, each byte a character.

    Raises:
        ValueError: the file is truncated or corrupt, or asks for anything else; the message names
            the file, and the byte at which.
        FileNotFoundError: no such file.

    Example:
        >>> import pathlib, pickle, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "batch"
        >>> _ = path.write_bytes(pickle.dumps({"labels": [3, 5], "data": np.arange(4.0)}))
        >>> read_pickle(path)
        {'labels': [3, 5], 'data': array([0., 1., 2., 3.])}
    """
    raw, machine, where = Path(path).read_bytes(), _Machine(), 0
    try:
        for operation, argument, position in pickletools.genops(raw):
            where = position if position is not None else where
            machine.do(operation.name, argument)
        result = _finished(machine.pop(), {})
    except RecursionError as error:
        raise ValueError(f"read_pickle: {path}: byte {where}: nested too deep") from error
    except (ValueError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"read_pickle: {path}: byte {where}: {first}") from error
    if machine.stack:
        raise ValueError(f"read_pickle: {path}: byte {where}: {len(machine.stack)} values left")
    return result
