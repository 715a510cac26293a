"""Configs of experiments: load the file, override, check, store.

An experiment is one Python file:

    get_config() -> ConfigDict            its keys may be nested freely
    build(config) -> Algorithm            or {cell: Algorithm}, trained one after the other
    KEY_METRIC = "evaluate/…"             optional: in the progress bar, and first in tables
    GOAL = "max" or "min"                 optional: whether more or less of KEY_METRIC is better;
                                          without it no report ranks variants or names a best one
    METRICS = ["evaluate/…", "final/…"]   optional: what tables show; else all of these two kinds
    complete(config)                      optional: fills in keys that are left at None
    finish(config, finals)                optional: -> {cell: {metric: array [S]}}, named final/…
    pictures(config, finals)              optional: -> {file stem: matplotlib Figure}
    get_sweep(config)                     optional: variants for `gacf sweep`, see `gacf.lab.sweep`

`finals` is {cell: final batched State}, each on one device, outside the sharded program. Keys that
every experiment has, and what stands in for one that the file leaves out:

    seeds              16     seeds trained at once
    seed               0      of the PRNG key; seed i starts from fold_in(key(seed), i)
    steps              -      steps a seed; no default
    map                auto   how the seeds' axis runs, see `gacf.runner`
    x64                False  whether numbers are float64 unless said otherwise
    log_every          steps / 100, at least 1
    evaluate_every     10 × log_every; the last step is always evaluated
    checkpoint_every   evaluate_every

The last two are multiples of `log_every`. Every wrong input is a `BadInput` of one line.
"""

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
    """Whether a tuple's new elements are of the type that all its old ones have."""
    if not isinstance(old, tuple) or len({type(x) for x in old}) != 1:
        return True
    kind = type(old[0])
    return all(type(x) is kind or (kind is float and type(x) is int) for x in new)


def resolve(experiment: Experiment, overrides: Sequence[str] = ()) -> Config:
    """The experiment's config with the overrides of the command line, checked and locked.

    Args:
        experiment: a loaded file.
        overrides: `--config.KEY=VALUE`, `--config.KEY`, `VALUE`, …, parsed as config_flags does.

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
