"""Settings that the methods share: how evidence is gathered, and how it is replayed.

They are documented here, once. If a field is None, a method makes its own choice, and it refuses a
value that it cannot use.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from gacf.core.checks import require, shown, whole


def _flag(value: Any) -> bool:
    return value in (True, False)


def _whole_or_zero(n: Any) -> bool:
    return not isinstance(n, bool) and (n == 0 or whole(n))


def _check(settings: Any, checks: Mapping[str, tuple[Callable[[Any], Any], str]]) -> None:
    """Raises a ValueError for a field whose value is neither None nor allowed."""
    for name, (holds, allowed) in checks.items():
        value = getattr(settings, name)
        if value is not None:
            require(name, value, holds, allowed)


def _given(settings: Any) -> str:
    """The call that makes these settings, without the fields that are None."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    given = [f"{name}={value!r}" for name, value in values.items() if value is not None]
    return f"{type(settings).__name__}({', '.join(given)})"


WHOLE = (whole, "a whole number >= 1")
FLAG = (_flag, "True or False")


@dataclasses.dataclass(frozen=True, repr=False)
class Rollout:
    """How a method gathers evidence from its environment, as its argument `rollout`.

    Attributes:
        num_envs: the number of copies of the environment that are stepped at once, N. By default 1
            for `ddpg`, `td3`, `sac` and `svg` with horizon 0, and 16 for all others.
        length: the number of time steps between two updates, T, so that a step collects T·N
            transitions. By default 128 for `ppo`, and 8 for `a2c`, `dpg` and
            `natural_actor_critic`. Methods that replay transitions make one time step; `svg` with a
            horizon makes `horizon` of them.
        episodes: the number of episodes that an evaluation plays, without exploration and from
            the same start states for all seeds and at all times; by default 100.
        normalize_observations: whether networks see observations standardised by their running
            mean and deviation; by default False. The statistics are kept in
            `world["observations"]` and take in a step's observations only when the next step
            begins, so that a batch is judged as it was collected. Discrete observations stay as
            they are.
        normalize_rewards: whether recorded rewards are divided by the running deviation of the
            discounted return so far, which is kept in `world["rewards"]`; by default False. Only
            for methods that learn from what they have just played. Metrics stay in the
            environment's units.

    Raises:
        ValueError: a number is below 1, or a flag is neither True nor False.

    Example:
        >>> import gacf
        >>> game = gacf.a2c("CartPole-v1", rollout=Rollout(num_envs=4, length=16))
    """

    num_envs: int | None = None
    length: int | None = None
    episodes: int | None = None
    normalize_observations: bool | None = None
    normalize_rewards: bool | None = None

    def __repr__(self) -> str:
        return _given(self)

    def __post_init__(self) -> None:
        numbers = dict.fromkeys(("num_envs", "length", "episodes"), WHOLE)
        flags = dict.fromkeys(("normalize_observations", "normalize_rewards"), FLAG)
        _check(self, {**numbers, **flags})


@dataclasses.dataclass(frozen=True, repr=False)
class Replay:
    """How an off-policy method replays transitions, as its argument `replay`.

    Attributes:
        capacity: the number of transitions that the buffer holds; by default 100,000.
        batch_size: the number of transitions in a batch, B, drawn uniformly; by default 256.
        warmup: the number of steps with uniformly random actions before the first update; by
            default 1,000.
        n_step: the number of the environment's steps over which one transition reaches; by default
            1. Above 1, the target is not corrected for what another policy would have done.

    Raises:
        ValueError: a number is below 1, or `warmup` is below 0.

    Example:
        >>> import gacf
        >>> game = gacf.ddpg("Pendulum-v1", replay=Replay(capacity=1_000, n_step=3))
    """

    capacity: int | None = None
    batch_size: int | None = None
    warmup: int | None = None
    n_step: int | None = None

    def __repr__(self) -> str:
        return _given(self)

    def __post_init__(self) -> None:
        numbers = dict.fromkeys(("capacity", "batch_size", "n_step"), WHOLE)
        _check(self, {**numbers, "warmup": (_whole_or_zero, "a whole number >= 0")})


Settings = TypeVar("Settings", Rollout, Replay)
KINDS = (Rollout, Replay)
COMMON = {
    Rollout: Rollout(episodes=100, normalize_observations=False, normalize_rewards=False),
    Replay: Replay(capacity=100_000, batch_size=256, warmup=1_000, n_step=1),
}


def with_defaults(
    settings: Settings,
    own: Settings,
    fixed: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """The settings with a value in every field: the given one, or the method's, or the common one.

    Args:
        settings: the settings that were given to the method.
        own: the method's own choices.
        fixed: field -> the reason why the method can use only its own choice.

    Returns:
        An object of the same kind.

    Raises:
        ValueError: the settings are of another kind, or a field that is fixed has another value.

    Example:
        >>> with_defaults(Replay(capacity=64), Replay(warmup=8))
        Replay(capacity=64, batch_size=256, warmup=8, n_step=1)
    """
    kind = type(own)
    argument = kind.__name__.lower()
    require(argument, settings, lambda s: isinstance(s, kind), f"a gacf.{kind.__name__}")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        candidates = [getattr(each, field.name) for each in (settings, own, COMMON[kind])]
        given, choice, _ = candidates
        if field.name in fixed and given not in (None, choice):
            raise ValueError(
                f"{argument}: {field.name}: {shown(given)} was given; allowed: {choice}, since "
                f"{fixed[field.name]}"
            )
        values[field.name] = next(value for value in candidates if value is not None)
    return kind(**values)


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def takes_settings(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The method, with a helpful error if it gets a field of `Rollout` or `Replay` directly.

    Raises:
        ValueError: a field was given as an argument of the method.

    Example:
        >>> import gacf
        >>> gacf.ddpg("Pendulum-v1", capacity=1_000)
        Traceback (most recent call last):
        ...
        ValueError: capacity: is a field of Replay; write replay=gacf.Replay(capacity=1000)
    """
    taken = inspect.signature(method).parameters
    kinds = [kind for kind in KINDS if kind.__name__.lower() in taken]

    @functools.wraps(method)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for kind in kinds:
            fields = [field.name for field in dataclasses.fields(kind)]
            if strays := [name for name in kwargs if name in fields]:
                values = ", ".join(f"{name}={shown(kwargs[name])}" for name in strays)
                raise ValueError(
                    f"{strays[0]}: is a field of {kind.__name__}; write "
                    f"{kind.__name__.lower()}=gacf.{kind.__name__}({values})"
                )
        return method(*args, **kwargs)

    return checked
