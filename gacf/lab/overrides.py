"""The overrides of the command line, `--config.KEY=VALUE`, applied to an experiment's config."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections.config_flags import config_path
from ml_collections.config_flags.tuple_parser import TupleParser

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
        overrides: `--config.KEY=VALUE`, `--config.KEY`, `VALUE`, …, parsed as by config_flags.

    Raises:
        BadInput: an unknown key, a wrong type or an impossible value.
    """
    config = base_config(experiment)
    apply(config, overrides)
    return checked(completed(experiment, config))


def apply(config: Config, overrides: Sequence[str]) -> None:
    """Sets the keys that the command line overrides; only each value's type is checked here."""
    for key, tokens in _grouped(overrides):
        _override(config, key, tokens)


def overridden(overrides: Sequence[str]) -> set[str]:
    """The keys that the command line overrides.

    Example:
        >>> sorted(overridden(["--config.seeds=2", "--config.steps", "4"]))
        ['seeds', 'steps']
    """
    return {key for key, _ in _grouped(overrides)}


_OVERRIDE = re.compile(r"--?(no)?config\.([^=]*)(?:=(.*))?", re.DOTALL)

# How the text of an override becomes a value, by the type of the key's default.
_PARSERS: dict[type, flags.ArgumentParser[Any]] = {
    bool: flags.BooleanParser(),
    int: flags.IntegerParser(),
    float: flags.FloatParser(),
    str: flags.ArgumentParser(),
    tuple: TupleParser(),
}


def _grouped(tokens: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each key with its override and the words that follow it; of two overrides the last counts."""
    groups: dict[str, list[str]] = {}
    key = ""
    for token in tokens:
        match = _OVERRIDE.fullmatch(token)
        if match:
            key = match[2]
            groups.pop(key, None)
        groups.setdefault(key, []).append(token)
    return list(groups.items())


def _override(config: Config, key: str, tokens: list[str]) -> None:
    flat = leaves(config)
    if key not in flat:
        inside = [k for k in flat if k.startswith(key + ".")]
        if inside:
            raise BadInput(f"{key}: is a group of keys; allowed: {', '.join(inside)}")
        raise BadInput(f"{key}: is not a key of this config; {nearest(key, flat)}")
    old, kind = flat[key], kind_of(config, key)
    if kind not in _PARSERS:
        raise BadInput(
            f"{key}: cannot be overridden, because its default {old!r} does not tell its type; "
            "write config_dict.placeholder(TYPE) in get_config()"
        )
    given, text, rest = _value(kind, tokens)
    example = f"a tuple such as {old!r}" if kind is tuple else WORDS[kind]
    allowed = getattr(limit_of(key), "allowed", example)
    wrong = BadInput(f"{key}: {given} was given; allowed: {allowed}")
    if text is None:
        raise wrong
    try:
        value = _PARSERS[kind].parse(text)
        if not _same_kind(old, value):
            raise wrong
        config_path.set_value(key, config, value)
    except (TypeError, ValueError) as error:
        raise wrong from error
    if rest:
        raise BadInput(f"{key}: {rest[0]!r} follows it; allowed: --config.{key}=VALUE")


def _value(kind: type, tokens: list[str]) -> tuple[str, str | None, list[str]]:
    """What to call the value in a message, its text if there is one, and the words left over."""
    match = _OVERRIDE.fullmatch(tokens[0])
    assert match is not None
    negated, _, text = match.groups()
    rest = tokens[1:]
    if negated:  # --noconfig.KEY, which only switches take
        return repr(tokens[0]), "false" if kind is bool and text is None else None, rest
    if text is None and kind is bool:
        return "no value", "true", rest
    if text is None and rest:
        text, *rest = rest
    return ("no value" if text is None else repr(text)), text, rest
