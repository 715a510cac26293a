"""Configs of experiments: load the file, override, check, store (L6).

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
    get_sweep(config)                     optional: variants for `gacf sweep`, see `gacf.sweep`

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

import contextlib
import importlib.util
import math
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags
from ml_collections.config_flags import config_path
from ml_collections.config_flags.config_flags import UnsupportedOperationError

from gacf.report import BadInput, check_text
from gacf.runner import MAPS, MOST_STEPS
from gacf.types import Algorithm, nearest

Config = Any  # a ConfigDict, whose own types make every value a union of six
DEFAULTS = {"seeds": 16, "seed": 0, "map": "auto", "x64": False}
DERIVED = ("log_every", "evaluate_every", "checkpoint_every")
GOALS = ("max", "min")
OPTIONAL = ("complete", "finish", "pictures", "get_sweep")  # functions of an experiment
LONGEST = 500  # letters of a message that are shown


class Limit(NamedTuple):
    """What values a key may take: a test, and the words for it."""

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
_FRACTION = _number(lambda x: 0 <= x <= 1, "a number in [0, 1]")
_NOT_NEGATIVE = _number(lambda x: 0 <= x < math.inf, "a number >= 0")

# By the last part of a key, so that actor.learning_rate and learning_rate share a line.
LIMITS: dict[str, Limit] = {
    "seeds": _COUNT,
    "seed": _whole(0, 2**32 - 1),  # keys are made of 32 bits: 2**32 would be seed 0 again
    "steps": _STEPS,
    "log_every": _STEPS,
    "evaluate_every": _STEPS,
    "checkpoint_every": _STEPS,
    "map": Limit(lambda x: x in MAPS, "one of " + ", ".join(MAPS)),
    "batch_size": _COUNT,
    "capacity": _COUNT,
    "updates": _COUNT,
    "episodes": _COUNT,
    "hidden": Limit(
        lambda x: all(_COUNT.holds(n) for n in (x if isinstance(x, tuple) else (x,))),
        "whole numbers >= 1",
    ),
    "warmup": _whole(0),
    "learning_rate": _number(lambda x: 0 < x < math.inf, "a number > 0"),
    "discount": _FRACTION,
    "target_rate": _FRACTION,
    "exploration": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "damping": _NOT_NEGATIVE,
}


def _limit(key: str) -> Limit | None:
    """What a key's values are limited to; every rate is finite, whatever it is the rate of."""
    last = key.rpartition(".")[2]
    return LIMITS.get(last, _RATE if re.search(r"(^|_)rate$", last) else None)


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class Experiment(NamedTuple):
    """An experiment file, loaded.

    Attributes:
        name: names the run and the cell of a plain `Algorithm`; the file's stem.
        path: the file.
        module: what it defines: `get_config`, `build`, and if it likes `KEY_METRIC`, `METRICS`,
            `finish`, `pictures`.
        source: the file's bytes as they were executed; the file itself may change meanwhile.
    """

    name: str
    path: Path
    module: ModuleType
    source: bytes

    @property
    def key_metric(self) -> str | None:
        """Shown in the progress bar, and first in tables."""
        return getattr(self.module, "KEY_METRIC", None)

    @property
    def goal(self) -> str | None:
        """Whether more or less of the key metric is better: `max`, `min`, or None: not stated."""
        return getattr(self.module, "GOAL", None)

    @property
    def metrics(self) -> list[str] | None:
        """What tables show; None: all of `evaluate/…` and `final/…`."""
        return getattr(self.module, "METRICS", None)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, printable and not too long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in lines[0].strip())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def user_line(error: BaseException, experiment: Path) -> traceback.FrameSummary | None:
    """The last line of the user's own code that an error came through.

    It is one of the experiment's file if there is one, or else one of a file that belongs neither
    to Python, nor to an installed package, nor to gacf.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        frames.append(traceback.FrameSummary(error.filename, error.lineno, "<module>"))
    own = [f for f in frames if Path(f.filename) == experiment]
    others = [f for f in frames if not is_library(f.filename)]
    if isinstance(error, SyntaxError):
        own = own if others[-1:] == own[-1:] else others
    return next(reversed(own or others), None)


def is_library(filename: str) -> bool:
    """Whether code belongs to Python, an installed package or gacf."""
    places = [Path(__file__).parent, *map(Path, (*site.getsitepackages(), site.USER_SITE or "/"))]
    places += [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    path = Path(filename)
    return filename.startswith("<") or any(
        place != Path("/") and path.is_relative_to(place) for place in places
    )


def told(error: BaseException, experiment: Path) -> tuple[str, str]:
    """Where in the user's code an error came from, and what it is: `("toy.py:7", "KeyError: 'a'")`.

    Args:
        error: what was raised.
        experiment: the experiment's file, which is named where no line of the user's is known.
    """
    line = user_line(error, experiment)
    where = experiment.name if line is None else f"{Path(line.filename).name}:{line.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1].filename if frames else ""
    # What gacf refuses is a sentence by itself; what the user's own code raises names its kind.
    kind = "" if type(error) is ValueError and is_library(last) else f"{type(error).__name__}: "
    text = one_line(error)
    if not str(error).strip() and line is not None and line.line:
        text = line.line.strip()
    return where, kind + text


@contextlib.contextmanager
def blame(experiment: Path, doing: str) -> Iterator[None]:
    """Turns what a file's code raises into a `BadInput` that names the file and the line."""
    try:
        yield
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        where, what = told(error, experiment)
        raise BadInput(f"{doing} ({where}): {what}") from error


def load(path: str | Path, name: str | None = None) -> Experiment:
    """Loads an experiment file.

    Raises:
        BadInput: no such file, it does not run, or it lacks `get_config` or `build`.
    """
    check_text("CONFIG", str(path), "a Python file")
    path = Path(path)
    if not path.is_file():
        known = [str(p) for p in sorted(Path("experiments").glob("*.py"))]
        hint = f"; {nearest(str(path), known)}" if known else ""
        raise BadInput(f"CONFIG: there is no file {str(path)!r}{hint}")
    path = path.resolve()
    # Registered, because dataclasses and Flax look a class's module up by its name.
    spec = importlib.util.spec_from_file_location(f"gacf_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput(f"CONFIG: {str(path)!r} was given; allowed: a Python file, name ending .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    source = path.read_bytes()
    with blame(path, "CONFIG"):
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    for function in ("get_config", "build"):
        if not callable(getattr(module, function, None)):
            raise BadInput(f"CONFIG: {path.name} does not define the function {function}()")
    _check_stated(module, path.name)
    return Experiment(name or path.stem, path, module, source)


def _check_stated(module: ModuleType, name: str) -> None:
    """Raises a `BadInput` for what an experiment states about its metrics and is none."""

    def refuse(key: str, value: Any, allowed: str) -> None:
        raise BadInput(f"{key}: {value!r:.80} was given in {name}; {allowed}")

    def is_name(x: Any) -> bool:
        return isinstance(x, str) and bool(x)

    key_metric, goal, metrics = (
        getattr(module, k, None) for k in ("KEY_METRIC", "GOAL", "METRICS")
    )
    if key_metric is not None and not is_name(key_metric):
        refuse("KEY_METRIC", key_metric, "allowed: the name of a metric, as text")
    if goal is not None and not (isinstance(goal, str) and goal in GOALS):
        refuse("GOAL", goal, nearest(str(goal), GOALS))
    if goal is not None and key_metric is None:
        refuse("GOAL", goal, "allowed: together with KEY_METRIC, of which it says which is better")
    if metrics is not None and not (
        isinstance(metrics, list | tuple) and all(map(is_name, metrics))
    ):
        refuse("METRICS", metrics, "allowed: a list of names of metrics, as text")
    for function in OPTIONAL:
        given = getattr(module, function, None)
        if given is not None and not callable(given):
            refuse(function, given, "allowed: a function")


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


def _base(experiment: Experiment) -> Config:
    with blame(experiment.path, "get_config()"):
        config = experiment.module.get_config()
    if not isinstance(config, ConfigDict):
        raise BadInput(
            f"CONFIG: get_config() of {experiment.path.name} gave a {type(config).__name__}; "
            "allowed: an ml_collections.ConfigDict"
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


def _check(config: Config) -> Config:
    """The config with its derived keys filled in; raises `BadInput` at the first bad value."""

    def check(key: str, value: Any) -> None:
        limit = _limit(key)
        if limit and value is not None and not _holds(limit, value):
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
    config = _base(experiment)
    for key, tokens in _grouped(overrides):
        _override(config, key, tokens)
    return _check(_completed(experiment, config))


def _completed(experiment: Experiment, config: Config) -> Config:
    """The config with what the experiment's `complete` fills in."""
    complete = getattr(experiment.module, "complete", None)
    if complete is not None:
        with blame(experiment.path, "complete(config)"):
            complete(config)
    if config.steps is None:
        raise BadInput(f"steps: nothing was given, and {experiment.path.name} does not set it")
    return config


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


def _kind(config: Config, key: str) -> type:
    kind: Any = config_path.get_type(key, config)
    return kind


def _override(config: Config, key: str, tokens: list[str]) -> None:
    flat = leaves(config)
    if key not in flat:
        inside = [k for k in flat if k.startswith(key + ".")]
        if inside:
            raise BadInput(f"{key}: is a group of keys; allowed: {', '.join(inside)}")
        raise BadInput(f"{key}: is no key of this config; {nearest(key, flat)}")
    old, kind = flat[key], _kind(config, key)
    _, equals, text = tokens[-1].partition("=")
    given = repr(text if equals else tokens[-1]) if equals or len(tokens) > 1 else "no value"
    example = f"a tuple such as {old!r}" if kind is tuple else _WORDS.get(kind, kind.__name__)
    allowed = getattr(_limit(key), "allowed", example)
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


def to_json(config: Config) -> dict[str, Any]:
    """The config as plain nested dicts, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    return plain(config.to_dict())


def from_json(experiment: Experiment, stored: Mapping[str, Any]) -> Config:
    """The config that `to_json` stored, typed as the experiment's `get_config` says.

    Raises:
        BadInput: its keys or types are not those of the experiment.
    """
    config = _base(experiment)
    flat, mine = leaves(stored), leaves(config)
    for key in [*flat, *mine]:
        if (key in flat) != (key in mine):
            source = "get_config()" if key in flat else "config.json"
            raise BadInput(f"{key}: {source} does not have it; {nearest(key, {**mine, **flat})}")

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    for key, value in flat.items():
        kind = _kind(config, key)
        needed = mine[key] is not None or key in ("steps", *DERIVED)
        try:
            if value is None and needed:
                raise TypeError
            config_path.set_value(key, config, tuples(value) if kind is tuple else value)
        except (TypeError, ValueError):
            raise BadInput(
                f"{key}: {'null' if value is None else repr(value)} was given in config.json; "
                f"allowed: {_WORDS.get(kind, kind.__name__)}"
            ) from None
    return _check(config)


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with other values of some keys, of any type: they may be tracers.

    Args:
        config: a resolved config.
        values: dotted key -> value.

    Example:
        >>> replaced(ConfigDict({"actor": {"rate": 0.1}}), {"actor.rate": "x"}).actor.rate
        'x'
    """
    made = config.copy_and_resolve_references()
    for key, value in values.items():
        path, _, name = key.rpartition(".")
        group = made
        for part in path.split(".") if path else ():
            group = group[part]
        with group.unlocked(), group.ignore_type():
            group[name] = value
    return made.lock()


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


def build(experiment: Experiment, config: Config) -> dict[str, Algorithm]:
    """Cell -> algorithm, as the experiment's `build` gives them.

    Raises:
        BadInput: `build` raised, or returned something else.
    """
    with blame(experiment.path, "build(config)"):
        built = experiment.module.build(config)
    cells = {experiment.name: built} if isinstance(built, Algorithm) else built
    if not (
        isinstance(cells, dict)
        and cells
        and all(isinstance(k, str) and k and isinstance(v, Algorithm) for k, v in cells.items())
    ):
        raise BadInput(
            f"CONFIG: build(config) of {experiment.path.name} gave a {type(built).__name__}; "
            "allowed: an Algorithm, or a dict {cell name: Algorithm}"
        )
    return cells
