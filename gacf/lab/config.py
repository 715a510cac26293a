"""Configs of experiments: default values, derived values, checks, storage.

An experiment's `get_config` may leave out these keys, which every config has:

    seeds              16     seeds trained at once
    seed               0      of the PRNG key; seed i starts from fold_in(key(seed), i)
    steps              -      steps per seed; it has no default
    map                auto   how the axis of seeds runs, see `gacf.runner`
    x64                False  whether numbers are float64 unless stated otherwise
    log_every          steps / 100, at least 1
    evaluate_every     10 × log_every; the last step is always evaluated
    checkpoint_every   evaluate_every

The last two are multiples of `log_every`. Every wrong input is a `BadInput` of one line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict
from ml_collections.config_flags import config_path

from gacf.core.checks import nearest
from gacf.lab.blame import blame
from gacf.lab.errors import BadInput
from gacf.lab.experiment_file import Config, Experiment
from gacf.runner import MAPS, MOST_STEPS

DEFAULTS = {"seeds": 16, "seed": 0, "map": "auto", "x64": False}
DERIVED = ("log_every", "evaluate_every", "checkpoint_every")


class Limit(NamedTuple):
    """The values that a key may take: a test, and a description of the allowed values."""

    holds: Callable[[Any], bool]
    allowed: str


def _whole(least: int, most: int | None = None) -> Limit:
    bound = "" if most is None else f" and <= {most}"
    return Limit(
        lambda x: (
            isinstance(x, int)
            and not isinstance(x, bool)
            and x >= least
            and (most is None or x <= most)
        ),
        f"a whole number >= {least}{bound}",
    )


def _number(holds: Callable[[float], bool], allowed: str) -> Limit:
    return Limit(
        lambda x: isinstance(x, int | float) and not isinstance(x, bool) and holds(x), allowed
    )


_COUNT = _whole(1)
_STEPS = _whole(1, MOST_STEPS)
_RATE = Limit(lambda x: not isinstance(x, float) or math.isfinite(x), "a number that is finite")

# By the last part of a key, so that actor.learning_rate and learning_rate share a line.
LIMITS: dict[str, Limit] = {
    "seeds": _whole(1, 2**24),
    "seed": _whole(0, 2**32 - 1),  # keys are made of 32 bits: 2**32 would be seed 0 again
    "steps": _STEPS,
    "log_every": _STEPS,
    "evaluate_every": _STEPS,
    "checkpoint_every": _STEPS,
    "map": Limit(lambda x: x in MAPS, "one of " + ", ".join(MAPS)),
    "x64": Limit(lambda x: isinstance(x, bool), "true or false"),
    "learning_rate": _number(lambda x: 0 < x < math.inf, "a number > 0"),
}


def limit_of(key: str) -> Limit | None:
    """The limit on a key's values; every rate must be finite, whatever it is the rate of."""
    last = key.rpartition(".")[2]
    return LIMITS.get(last, _RATE if re.search(r"(^|_)rate$", last) else None)


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def leaves(config: Config, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of every leaf.

    Example:
        >>> leaves({"steps": 2, "actor": {"hidden": (8, 8)}})
        {'steps': 2, 'actor.hidden': (8, 8)}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _keys(config: Config) -> Iterator[Any]:
    """All keys, including those of groups."""
    for key, value in dict.items(vars(config)["_fields"]):
        yield key
        if isinstance(value, ConfigDict):
            yield from _keys(value)


def base_config(experiment: Experiment) -> Config:
    """The config that `get_config` returns, with the keys that every experiment has."""
    with blame(experiment.path, "get_config()"):
        config = experiment.module.get_config()
    if not isinstance(config, ConfigDict):
        raise BadInput(
            f"CONFIG: get_config() of {experiment.path.name} returned a {type(config).__name__}; "
            "allowed: an ml_collections.ConfigDict"
        )
    for key in _keys(config):
        if not isinstance(key, str):
            raise BadInput(
                f"{key!r}: is a key in {experiment.path.name}; allowed: keys that are text"
            )
    with config.unlocked():
        if "steps" not in config:
            raise BadInput(f"steps: get_config() of {experiment.path.name} does not set it")
        for key, value in DEFAULTS.items():
            if key not in config:
                config[key] = value
        for key in DERIVED:
            if config.get(key) is None:
                config[key] = config_dict.placeholder(int)
    return config


def checked(config: Config) -> Config:
    """The config with its derived keys filled in; raises a `BadInput` for the first bad value."""

    def check(key: str, value: Any) -> None:
        limit = limit_of(key)
        needed = value is not None or key in DEFAULTS
        if limit and needed and not _holds(limit, value):
            raise BadInput(f"{key}: {value!r} was given; allowed: {limit.allowed}")
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, float) and math.isnan(one):
                raise BadInput(f"{key}: {value!r} was given; allowed: a number")
        if not _storable(value):
            raise BadInput(
                f"{key}: a {type(value).__name__} was given; allowed: numbers, text, true, false, "
                "None, and tuples of them"
            )

    for key, value in leaves(config).items():
        check(key, value)
    with config.unlocked():
        log_every = config.log_every or max(1, config.steps // 100)
        evaluate_every = config.evaluate_every or 10 * log_every
        checkpoint_every = config.checkpoint_every or evaluate_every
        for key, n in zip(DERIVED, (log_every, evaluate_every, checkpoint_every), strict=True):
            config[key] = n
            if n % log_every:
                raise BadInput(
                    f"{key}: {n} was given; allowed: a multiple of log_every, which is {log_every}"
                )
    return config.copy_and_resolve_references().lock()


def _holds(limit: Limit, value: Any) -> bool:
    try:
        return bool(limit.holds(value))
    except TypeError:
        return False


def _storable(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_storable, value))
    return value is None or type(value) in (bool, int, float, str)


def completed(experiment: Experiment, config: Config) -> Config:
    """The config with the values that the experiment's `complete` fills in."""
    complete = getattr(experiment.module, "complete", None)
    if complete is not None:
        with blame(experiment.path, "complete(config)"):
            complete(config)
    if config.steps is None:
        raise BadInput(f"steps: nothing was given, and {experiment.path.name} does not set it")
    return config


def kind_of(config: Config, key: str) -> type:
    """The type of a key's values."""
    kind: Any = config_path.get_type(key, config)
    return kind


def to_json(config: Config) -> dict[str, Any]:
    """The config as plain nested dicts, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    return plain(config.to_dict())


def from_json(experiment: Experiment, stored: Mapping[str, Any]) -> Config:
    """The config that `to_json` stored, with the types of the experiment's `get_config`.

    Raises:
        BadInput: its keys or types differ from those of the experiment.
    """
    config = base_config(experiment)
    flat, mine = leaves(stored), leaves(config)
    for key in [*flat, *mine]:
        if (key in flat) != (key in mine):
            source = "get_config()" if key in flat else "config.json"
            raise BadInput(f"{key}: {source} does not have it; {nearest(key, {**mine, **flat})}")

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    for key, value in flat.items():
        kind = kind_of(config, key)
        needed = mine[key] is not None or key in ("steps", *DERIVED)
        try:
            if value is None and needed:
                raise TypeError
            config_path.set_value(key, config, tuples(value) if kind is tuple else value)
        except (TypeError, ValueError):
            raise BadInput(
                f"{key}: {'null' if value is None else repr(value)} was given in config.json; "
                f"allowed: {WORDS.get(kind, kind.__name__)}"
            ) from None
    return checked(config)


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with other values of some keys; these may have any type and may be tracers.

    Args:
        config: a resolved config.
        values: dotted key -> value.

    Example:
        >>> replaced(ConfigDict({"actor": {"rate": 0.1}}), {"actor.rate": "x"}).actor.rate
        'x'
    """
    copy = config.copy_and_resolve_references()
    for key, value in values.items():
        path, _, name = key.rpartition(".")
        group = copy
        for part in path.split(".") if path else ():
            group = group[part]
        with group.unlocked(), group.ignore_type():
            group[name] = value
    return copy.lock()


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys in which two stored configs differ, with both values.

    Example:
        >>> differences({"steps": 2, "actor": {"rate": 1}}, {"steps": 3, "actor": {"rate": 1}})
        ['steps (2, here 3)']
    """
    left, right = leaves(one), leaves(other)
    missing = object()
    words = lambda x: "nothing" if x is missing else repr(x)  # noqa: E731
    return [
        f"{key} ({words(left.get(key, missing))}, here {words(right.get(key, missing))})"
        for key in dict.fromkeys([*left, *right])
        if left.get(key, missing) != right.get(key, missing)
    ]
