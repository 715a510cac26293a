"""The overrides of the command line, `--config.KEY=VALUE`, applied to an experiment's config."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import config_path
from ml_collections.config_flags.config_flags import UnsupportedOperationError

from gacf.core.checks import nearest
from gacf.lab.config import (
    WORDS,
    Config,
    base_config,
    checked,
    completed,
    kind_of,
    leaves,
    limit_of,
)
from gacf.lab.errors import BadInput
from gacf.lab.experiment_file import Experiment


def _same_kind(old: Any, new: Any) -> bool:
    """Whether the new elements of a tuple have the type that all its old elements have."""
    if not isinstance(old, tuple) or len({type(x) for x in old}) != 1:
        return True
    kind = type(old[0])
    return all(type(x) is kind or (kind is float and type(x) is int) for x in new)


def resolve(experiment: Experiment, overrides: Sequence[str] = ()) -> Config:
    """The experiment's config with the overrides of the command line, checked and locked.

    Args:
        experiment: a loaded file.
        overrides: `--config.KEY=VALUE`, `--config.KEY`, `VALUE`, …, parsed like by config_flags.

    Raises:
        BadInput: an unknown key, a wrong type or an impossible value.
    """
    config = base_config(experiment)
    for key, tokens in _grouped(overrides):
        _override(config, key, tokens)
    return checked(completed(experiment, config))


def overridden(overrides: Sequence[str]) -> set[str]:
    """The keys that the command line overrides.

    Example:
        >>> sorted(overridden(["--config.seeds=2", "--config.steps", "4"]))
        ['seeds', 'steps']
    """
    return {key for key, _ in _grouped(overrides)}


_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)")


def _grouped(tokens: Sequence[str]) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    key = ""
    for token in tokens:
        match = _OVERRIDE.match(token)
        if match:
            key = match[1]
        groups.setdefault(key, []).append(token)
    return list(groups.items())


def _override(config: Config, key: str, tokens: list[str]) -> None:
    flat = leaves(config)
    if key not in flat:
        inside = [k for k in flat if k.startswith(key + ".")]
        if inside:
            raise BadInput(f"{key}: is a group of keys; allowed: {', '.join(inside)}")
        raise BadInput(f"{key}: is no key of this config; {nearest(key, flat)}")
    old, kind = flat[key], kind_of(config, key)
    _, equals, text = tokens[-1].partition("=")
    given = repr(text if equals else tokens[-1]) if equals or len(tokens) > 1 else "no value"
    example = f"a tuple such as {old!r}" if kind is tuple else WORDS.get(kind, kind.__name__)
    allowed = getattr(limit_of(key), "allowed", example)
    wrong = BadInput(f"{key}: {given} was given; allowed: {allowed}")
    argv = ["gacf", *tokens]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)[1:]
    except UnsupportedOperationError:
        raise BadInput(
            f"{key}: cannot be overridden, its default is {old!r} and tells no type; "
            "write config_dict.placeholder(TYPE) in get_config()"
        ) from None
    except (flags.Error, TypeError, ValueError) as error:
        raise wrong from error
    if rest:
        raise BadInput(f"{key}: {rest[0]!r} follows it; allowed: --config.{key}=VALUE")
    if not _same_kind(old, config_path.get_value(key, config)):
        raise wrong
