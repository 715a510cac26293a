"""Ways to state which variants a sweep has, in `get_sweep` and on the command line."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from gacf.core.checks import lookup, require, whole
from gacf.lab.files import shortened

Changes = dict[str, Any]
"""Dotted key -> value."""


class Distribution(NamedTuple):
    """Random values of a key.

    Attributes:
        draw: generator -> value.
    """

    draw: Callable[[np.random.Generator], Any]


def uniform(low: float, high: float) -> Distribution:
    """Numbers spread evenly over [low, high].

    Raises:
        ValueError: `high` is not above `low`.
    """
    _check_ends(low, high)
    return Distribution(lambda rng: _short(rng.uniform(low, high)))


def _check_ends(low: float, high: float) -> None:
    """Raises a ValueError unless both ends and the distance between them are finite."""
    for name, value in (("low", low), ("high", high)):
        require(name, value, math.isfinite, "a finite number")
    require("high", high, lambda x: x > low, f"a number > low, which is {low}")
    require("high", high, lambda x: math.isfinite(x - low), "a number whose distance is finite")


def log_uniform(low: float, high: float) -> Distribution:
    """Numbers whose logarithm is spread evenly over [log low, log high].

    Raises:
        ValueError: `low` is not positive, or `high` not above it.

    Example:
        >>> 1e-4 <= log_uniform(1e-4, 1e-2).draw(np.random.default_rng(0)) <= 1e-2
        True
    """
    require("low", low, lambda x: x > 0, "a number > 0")
    _check_ends(low, high)
    return Distribution(lambda rng: _short(math.exp(rng.uniform(math.log(low), math.log(high)))))


def integers(low: int, high: int) -> Distribution:
    """Whole numbers from low to high, both included.

    Raises:
        ValueError: one of them is not a whole number of 64 bits, or `high` is below `low`.
    """
    for name, value in (("low", low), ("high", high)):
        require(name, value, lambda x: -(2**63) <= operator.index(x) < 2**63, "a whole number")
    require("high", high, lambda x: x >= low, f"a whole number >= low, which is {low}")
    return Distribution(lambda rng: int(rng.integers(low, high, endpoint=True)))


def choice(*values: Any) -> Distribution:
    """One of several values, all equally likely."""
    require("values", values, bool, "at least one value")
    return Distribution(lambda rng: values[int(rng.integers(len(values)))])


def grid(values: Mapping[str, Sequence[Any]]) -> dict[str, Changes]:
    """All combinations of the values of several keys.

    Args:
        values: dotted key -> its values.

    Returns:
        Variant -> dotted key -> value, as `get_sweep` returns it; names state the varying values.

    Example:
        >>> grid({"actor.learning_rate": [0.1, 0.2], "smoothing": [0.0]})["learning_rate=0.2"]
        {'actor.learning_rate': 0.2, 'smoothing': 0.0}
    """
    return named([dict(zip(values, row, strict=True)) for row in product(*values.values())])


def zipped(values: Mapping[str, Sequence[Any]]) -> dict[str, Changes]:
    """The first values of all keys, then the second ones, and so on.

    Raises:
        ValueError: keys with different numbers of values.

    Example:
        >>> list(zipped({"rate": [0.1, 0.2], "hidden": [(8, 8), (16,)]}))
        ['rate=0.1,hidden=8x8', 'rate=0.2,hidden=16']
    """
    lengths = {key: len(row) for key, row in values.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"zipped: {lengths} values were given; allowed: equally many for each key")
    rows = zip(*values.values(), strict=True)
    return named([dict(zip(values, row, strict=True)) for row in rows])


def sample(values: Mapping[str, Distribution], n: int, seed: int = 0) -> dict[str, Changes]:
    """Random draws of all keys at once; the first draws are the same however many there are.

    Args:
        values: dotted key -> `uniform`, `log_uniform`, `integers` or `choice`.
        n: the number of draws.
        seed: the seed of the draws.

    Example:
        >>> one = sample({"rate": log_uniform(1e-4, 1e-2)}, 2)
        >>> list(one) == list(sample({"rate": log_uniform(1e-4, 1e-2)}, 5))[:2]
        True
    """
    require("n", n, whole, "a whole number >= 1")
    rng = np.random.default_rng(seed)
    return named([{key: d.draw(rng) for key, d in values.items()} for _ in range(n)])


def cross(*parts: Mapping[str, Changes]) -> dict[str, Changes]:
    """Combines every variant of one sweep with every variant of the others.

    Raises:
        ValueError: two of them set the same key.

    Example:
        >>> list(cross(grid({"a": [1, 2]}), zipped({"b": [3, 4], "c": [5, 6]})))
        ['a=1,b=3,c=5', 'a=1,b=4,c=6', 'a=2,b=3,c=5', 'a=2,b=4,c=6']
    """
    rows = []
    for combination in product(*(part.values() for part in parts)):
        keys = [key for changes in combination for key in changes]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"{twice[0]}: is set twice; allowed: once")
        rows.append({key: value for changes in combination for key, value in changes.items()})
    return named(rows)


def named(rows: Sequence[Changes]) -> dict[str, Changes]:
    """Names variants by the values of the keys that vary; the names can be directories."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    varying = [k for k in keys if len({repr(row.get(k)) for row in rows}) > 1] or keys
    lasts = [key.rpartition(".")[2] for key in varying]
    short = [
        last if lasts.count(last) == 1 else key for key, last in zip(varying, lasts, strict=True)
    ]
    changes: dict[str, Changes] = {}
    names: dict[str, str] = {}  # some file systems do not distinguish capital letters
    for row in rows:
        name = ",".join(
            f"{title}={_word(row[key])}" for key, title in zip(varying, short, strict=True)
        )
        name = shortened(name)
        while changes.get(names.get(name.casefold(), ""), row) != row:
            name += "+"
        names.setdefault(name.casefold(), name)
        changes[names[name.casefold()]] = row
    return changes


def _short(x: float) -> float:
    """Rounds a value to four digits, so that a variant's name shows the exact value."""
    return float(f"{x:.4g}")


def _word(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[(\[].*[)\]]", value):
        value = [part.strip() for part in value[1:-1].split(",") if part.strip()]
    if isinstance(value, tuple | list):
        return "x".join(map(_word, value)) or "none"
    return re.sub(r"[^\w .+-]", "-", repr(value) if isinstance(value, float) else str(value))


_CALL = re.compile(r"(uniform|log_uniform|integers|choice)\((.*)\)")


def parse(tokens: Sequence[str], samples: int, seed: int) -> dict[str, Changes]:
    """The variants that the command line states; values stay text.

        --sweep.KEY=A,B,C            a grid over all keys of this kind
        --sweep.KEY,OTHER=A:X,B:Y    several keys that vary together
        --sweep.KEY=log_uniform(A,B) random draws; all keys of this kind are drawn together

    Args:
        tokens: arguments in the forms above.
        samples: the number of random draws.
        seed: the seed of the draws.

    Raises:
        ValueError: an argument has none of these forms; the message begins with its key.

    Example:
        >>> list(parse(["--sweep.rate=1,2", "--sweep.a,b=3:4,5:6"], 1, 0))
        ['rate=1,a=3,b=4', 'rate=1,a=5,b=6', 'rate=2,a=3,b=4', 'rate=2,a=5,b=6']
    """
    parts, drawn = [], {}
    swept: set[str] = set()
    for token in tokens:
        key, equals, text = token.lstrip("-").removeprefix("sweep.").partition("=")
        keys = key.split(",")
        if not equals or not text:
            raise ValueError(f"{key}: no value was given; allowed: --sweep.{key}=A,B,C")
        if twice := [k for i, k in enumerate(keys) if k in swept or k in keys[:i]]:
            raise ValueError(f"{twice[0]}: is swept twice; allowed: once")
        swept |= set(keys)
        if match := _CALL.fullmatch(text):
            if len(keys) > 1:
                raise ValueError(f"{key}: {text!r} was given; allowed: for one key at a time")
            drawn[key] = _distribution(key, match[1], match[2])
        elif len(keys) == 1:
            parts.append(grid({key: split(text)}))
        else:
            rows = [split(row, ":") for row in split(text)]
            for row in rows:
                if len(row) != len(keys):
                    raise ValueError(
                        f"{key}: {':'.join(row)!r} was given; "
                        f"allowed: {len(keys)} values separated by :, one for each key"
                    )
            columns = zip(*rows, strict=True)
            parts.append(zipped(dict(zip(keys, columns, strict=True))))
    if drawn:
        parts.append(sample(drawn, samples, seed))
    return cross(*parts)


def _distribution(key: str, name: str, inside: str) -> Distribution:
    arguments = split(inside)
    if name == "choice":
        return choice(*arguments)
    kinds = {"uniform": (uniform, float), "log_uniform": (log_uniform, float)}
    make, kind = lookup("distribution", name, {**kinds, "integers": (integers, int)})
    try:
        low, high = map(kind, arguments)
        return make(low, high)
    except ValueError as error:
        raise ValueError(
            f"{key}: {name}({inside}) was given; allowed: {name}(LOW,HIGH), LOW < HIGH, both "
            + ("whole numbers" if name == "integers" else "finite")
            + (", LOW > 0" if name == "log_uniform" else "")
        ) from error


def split(text: str, at: str = ",") -> list[str]:
    """Splits a text, but not inside brackets.

    Example:
        >>> split("(64,64),(128,)")
        ['(64,64)', '(128,)']
    """
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if c == at and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts
