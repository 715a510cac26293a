"""Networks: Flax Linen modules, Flax NNX modules and bare (init, apply) pairs, made alike (L1).

Every network becomes a `Model`: what one player computes. What it learns by gradient are params;
what it only keeps (batch statistics, a power iteration's vector, a dropout stream) are statistics,
and live in the world under `stats/<player>`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import errors, linen, nnx

from gacf.types import Key, Params, PyTree, World, lookup, require, whole


class Model(NamedTuple):
    """What one player computes.

    Attributes:
        player: whose it is.
        init: `(key, *inputs) -> (params, entries)`; `entries` belong into the world.
        apply: `(params, world, *inputs, key=None, train=True) -> (output, entries)`: the output,
            and the world's entries that this evaluation renews (none where there are none).
        bind: `all players' params -> Model`, for a network that looks at another player's
            parameters (a compatible critic at the actor's); None for all others.
        members: how many leading axes of every parameter count the members of an ensemble.
    """

    player: str
    init: Callable[..., tuple[PyTree, World]]
    apply: Callable[..., tuple[jax.Array, World]]
    bind: Callable[[Params], Model] | None = None
    members: int = 0

    def given(self, params: Params) -> Model:
        """The model that has seen all players' parameters; itself, if it need not see them."""
        return self if self.bind is None else self.bind(params)

    def then(self, function: Callable[[jax.Array], jax.Array]) -> Model:
        """The model with its output passed on to `function`."""

        def apply(*args: Any, **options: Any) -> tuple[jax.Array, World]:
            output, entries = self.apply(*args, **options)
            return function(output), entries

        bind = self.bind
        if bind is None:
            return self._replace(apply=apply)

        def given_others(params: Params) -> Model:
            return bind(params).then(function)

        return self._replace(apply=apply, bind=given_others)


class _Network(NamedTuple):
    """`init(key, *inputs) -> (params, stats)`, `apply(params, stats, key, train, *inputs)`.

    The leading `members` axes of every parameter count the members of ensembles.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[jax.Array, PyTree]]
    members: int = 0


MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "is_train": True,
    "update_stats": True,
    "deterministic": False,
    "use_running_average": False,
    "is_eval": False,
    "inference": False,
}
"""Names of an argument or a field that says whether a network trains, and what it is then."""


@functools.cache
def _signature(call: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(call)


def _modes(signature: inspect.Signature) -> list[str]:
    """The arguments by which a call wants to be told whether it trains."""
    return [
        name
        for name, parameter in signature.parameters.items()
        if name in MODES
        and parameter.kind is not parameter.VAR_POSITIONAL
        and (parameter.default in (parameter.empty, None) or isinstance(parameter.default, bool))
    ]


def _open(signature: inspect.Signature) -> bool:
    """Whether it takes keywords of any name, so that it does not show what it wants to be told."""
    return any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


def _told(name: str, train: bool) -> bool:
    return MODES[name] == train


Options = dict[str, bool]


def _hidden(
    player: str, attempt: Callable[[bool, Options], PyTree], needs: str, *arguments: PyTree
) -> list[str]:
    """The keyword by which a network that takes any wants to be told whether it trains, if one is.

    Signatures do not show it, so each usual name is tried: one that changes the program is it.

    Args:
        player: whose network it is.
        attempt: `(train, options) -> (*arguments) -> output`.
        needs: what to do about a network that cannot train.
        *arguments: to trace with.

    Raises:
        ValueError: a network that one of the names puts into evaluation mode alone.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)

    def program(train: bool, options: Options) -> str:
        return str(jax.make_jaxpr(attempt(train, options))(*shapes))

    plain: tuple[str, str] | None = None
    for name in MODES:
        try:
            resting = program(False, {name: _told(name, False)})
        except Exception:  # whatever it raises, it does not take the name
            continue
        try:
            training = program(True, {name: _told(name, True)})
        except Exception as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise ValueError(
                f"{player}: its network fails with {name}={_told(name, True)}, in training "
                f"({type(error).__name__}: {line}); allowed: {needs}"
            ) from None
        if plain is None:
            try:
                plain = program(False, {}), program(True, {})
            except Exception:  # it cannot do without
                plain = "", ""
        if (resting, training) != plain:
            return [name]
    return []


def _kept(old: PyTree, new: PyTree) -> PyTree:
    """The news of what is kept; what a network merely leaves behind is dropped."""
    if not isinstance(old, Mapping):
        return new
    return {name: _kept(part, new[name]) if name in new else part for name, part in old.items()}


def _lifted(module: linen.Module, method: str) -> bool:
    """Whether the method is under `nn.remat`, `nn.jit`, …, which call the method proper in turn."""
    call = getattr(type(module), method)
    while hasattr(call, "__wrapped__"):
        call = call.__wrapped__
        if getattr(call, "method_handler_wrapped", False):
            return True
    return False


def _telling(player: str, outermost: linen.Module, train: bool) -> Callable[..., Any]:
    """Tells each module within a network whether it trains, unless its caller does.

    It acts where the module proper is called, inside of lifted transformations, so that it is a
    plain `bool` there, and reaches those whose callers hand nothing on.
    """

    def tell(call: Callable[..., Any], args: Any, options: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        for field in dataclasses.fields(module):
            value = getattr(module, field.name, None)
            if (
                field.name in MODES
                and isinstance(value, bool)
                and field.default is not None  # of Flax's own, None leaves it to the caller
                and value != _told(field.name, train)
            ):
                raise ValueError(
                    f"{player}: {'/'.join(module.path) or type(module).__name__} has "
                    f"{field.name}={value} as a field, whatever the mode; allowed: an argument of "
                    f"`__call__`, or a field of the outermost module, {type(outermost).__name__}, "
                    "that it hands on"
                )
        if not hasattr(type(module), method) or _lifted(module, method):
            return call(*args, **options)
        signature = _signature(getattr(type(module), method))
        names = _modes(signature)
        if names:
            given = signature.bind_partial(module, *args, **options).arguments
            missing = {
                name: _told(name, train)
                for name in names
                if name not in given and getattr(module, name, None) is None
            }
            options = {**options, **missing}
        return call(*args, **options)

    return tell


def _linen(player: str, module: linen.Module) -> _Network:
    fields = [
        field.name
        for field in dataclasses.fields(module)
        if field.name in MODES
        and field.default is not None
        and isinstance(getattr(module, field.name), bool)
    ]
    accepts_any = _open(_signature(type(module).__call__)) and not _modes(
        _signature(type(module).__call__)
    )
    streams: set[str] = set()
    names: list[str] = []
    tried: list[bool] = []

    def run(
        train: bool, method: str, given: Any, key: Key | None, *inputs: Any, **options: Any
    ) -> Any:
        """`init` or `apply` in one of the modes, with a key for each stream that it draws from."""
        told_fields: Any = {name: _told(name, train) for name in fields}
        own = module.clone(**told_fields) if fields else module
        told = {name: _told(name, train) for name in names} | options.pop("told", {})
        while True:
            rngs = dict(given["rngs"])
            if key is not None:
                rngs |= {
                    name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in streams
                }
            try:
                with linen.intercept_methods(_telling(player, module, train)):
                    if method == "init":
                        return own.init(rngs, *inputs, **told)
                    return own.apply(given["variables"], *inputs, rngs=rngs, **options, **told)
            except errors.InvalidRngError as error:
                stream = re.search(r'PRNG for "([^"]+)"', str(error))
                if stream is None or stream[1] in rngs:
                    raise
                if key is None:
                    raise ValueError(
                        f"{player}: key: None was given; its network draws from the stream "
                        f"{stream[1]!r}, and needs one"
                    ) from None
                streams.add(stream[1])

    def applied(
        train: bool, params: PyTree, stats: PyTree, key: Key | None, *inputs: PyTree, **options: Any
    ) -> tuple[jax.Array, PyTree]:
        given = {
            "variables": {"params": params, **stats},
            "rngs": {} if key is None else {"dropout": key},
        }
        # programs that `nn.jit` keeps are told apart by what is mutable
        mutable = [*stats, *(["training"] if train else [])]
        return run(train, "apply", given, key, *inputs, mutable=mutable, **options)

    def state(params: PyTree, stats: PyTree, key: Key, inputs: Any) -> PyTree:
        """Of the collections those that the network reads: values that it sows are none."""

        def traced(stats: PyTree) -> PyTree:
            return jax.eval_shape(
                lambda p, s, k, x: applied(True, p, s, k, *x)[1], params, stats, key, inputs
            )

        for name in list(stats):
            others = {other: part for other, part in stats.items() if other != name}
            try:
                traced(others)
            except Exception:  # it is missed
                continue
            stats = others
        if any(isinstance(x, tuple) for x in jax.tree.leaves(stats, is_leaf=_is_tuple)):
            stats = _lasting(stats, traced(stats))
        return stats

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        params_key, dropout_key = jax.random.split(key)
        given = {"rngs": {"params": params_key, "dropout": dropout_key}}
        if accepts_any and not tried:
            tried.append(True)

            def attempt(train: bool, told: Options) -> Callable[..., PyTree]:
                def output(key: Key, inputs: Any) -> PyTree:
                    made = dict(run(train, "init", given, dropout_key, *inputs, told=told))
                    params = made.pop("params", {})
                    return applied(train, params, made, key, *inputs, told=told)

                return output

            needs = "a module whose `__call__` names the argument"
            names[:] = _hidden(player, attempt, needs, dropout_key, inputs)
        variables = dict(run(True, "init", given, dropout_key, *inputs))
        params = variables.pop("params", {})
        return params, state(params, variables, dropout_key, inputs) if variables else {}

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        output, news = applied(train, params, stats, key, *inputs)
        return output, _kept(stats, news) if train else stats

    return _Network(init, apply)


def _is_tuple(x: Any) -> bool:
    return isinstance(x, tuple)


def _lasting(old: PyTree, new: PyTree) -> PyTree:
    """Statistics without the tuples that grow with each evaluation: `sow` makes such."""
    if not isinstance(old, Mapping):
        return old
    return {
        name: _lasting(part, new[name])
        for name, part in old.items()
        if not (_is_tuple(part) and len(part) != len(new[name]))
    }


@functools.cache
def _telling_class(kind: type[nnx.Module], train: bool) -> type[nnx.Module]:
    """The class of NNX modules, told whether they train unless their caller does."""
    signature = _signature(kind.__call__)

    def __call__(self: Any, *args: Any, **options: Any) -> Any:
        given = signature.bind_partial(self, *args, **options).arguments
        missing = {
            name: _told(name, train)
            for name in _modes(signature)
            if name not in given and not isinstance(getattr(self, name, None), bool)
        }
        return kind.__call__(self, *args, **options, **missing)  # type: ignore[operator]

    return type(kind)(kind.__name__, (kind,), {"__call__": __call__})  # type: ignore[call-arg]


def _set_mode(module: nnx.Module, train: bool) -> None:
    """Tells all modules of an NNX network whether they train: by `train()`, fields, arguments."""
    method: Any = getattr(module, "train" if train else "eval", None)
    if callable(method):
        method()
    for _, part in list(nnx.iter_modules(module)):
        for name in MODES:
            if isinstance(vars(part).get(name), bool):
                setattr(part, name, _told(name, train))
        if not hasattr(part, "__captures__"):
            setattr(part, "__captures__", ())  # noqa: B010 - of no kind: what it sows is dropped
        if callable(part) and _modes(_signature(type(part).__call__)):
            object.__setattr__(part, "__class__", _telling_class(type(part), train))


def _nnx(player: str, make: Callable[[Key], nnx.Module]) -> _Network:
    graph, _, abstract = nnx.split(nnx.eval_shape(lambda: make(jax.random.key(0))), nnx.Param, ...)
    keeps = bool(jax.tree.leaves(abstract))
    call = _signature(type(nnx.merge(graph, _, abstract)).__call__)
    accepts_any = _open(call) and not _modes(call)
    names: list[str] = []

    def applied(
        train: bool, params: PyTree, stats: PyTree, inputs: Any, told: Options
    ) -> tuple[jax.Array, PyTree]:
        module = nnx.merge(graph, nnx.State(params), nnx.State(stats))
        _set_mode(module, train)
        output = module(*inputs, **told)  # type: ignore[operator]
        rest: Any = nnx.split(module, nnx.Param, ...)[2]
        return output, _kept(stats, nnx.to_pure_dict(rest)) if keeps and train else stats

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        _, params, rest = nnx.split(make(key), nnx.Param, ...)
        made = nnx.to_pure_dict(params), nnx.to_pure_dict(rest) if keeps else {}
        if accepts_any and inputs:

            def attempt(train: bool, told: Options) -> Callable[..., PyTree]:
                return lambda params, stats, inputs: applied(train, params, stats, inputs, told)

            needs = "a module whose `__call__` names the argument"
            names[:] = _hidden(player, attempt, needs, *made, inputs)
        return made

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        return applied(train, params, stats, inputs, {name: _told(name, train) for name in names})

    return _Network(init, apply)


def _pair(player: str, init: Callable[..., PyTree], apply: Callable[..., jax.Array]) -> _Network:
    accepted = inspect.signature(init).parameters.values()
    variadic = any(p.kind is p.VAR_POSITIONAL for p in accepted)
    needed = [
        p
        for p in accepted
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is p.empty
        and p.name not in MODES
    ]
    only_key = not variadic and len(needed) <= 1
    start, call = inspect.signature(init), inspect.signature(apply)
    accepts_any = _open(call) and not _modes(call)
    names = _modes(call)

    def make(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        def begin(key: Key, inputs: Any, train: bool, told: Options) -> PyTree:
            named = {name: _told(name, train) for name in _modes(start)}
            named |= told if _open(start) else {}
            return init(key, **named) if only_key else init(key, *inputs, **named)

        if accepts_any:

            def attempt(train: bool, told: Options) -> Callable[..., PyTree]:
                return lambda key, inputs: apply(begin(key, inputs, train, told), *inputs, **told)

            needs = "the module itself in place of a pair of its functions"
            names[:] = _hidden(player, attempt, needs, key, inputs)
        return begin(key, inputs, True, {name: _told(name, True) for name in names}), {}

    def evaluate(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        return apply(params, *inputs, **{name: _told(name, train) for name in names}), stats

    return _Network(make, evaluate)


def _takes_rngs(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    # NNX's metaclass hides the arguments of a class
    made = function.__init__ if isinstance(function, type) else function
    return "rngs" in inspect.signature(made).parameters


class Ensemble(NamedTuple):
    """Several networks of one kind, side by side; made by `ensemble`."""

    network: Any
    members: int


def ensemble(network: Any, members: int) -> Any:
    """Networks of one kind with weights of their own, evaluated at once.

    Args:
        network: of any kind that `model` takes, but for a `Model`.
        members: how many, n; with 1 it is the network itself.

    Returns:
        A network for `model`, whose output has the members second: [B, n, …] for members that
        yield [B, …] or [B, 1].

    Raises:
        ValueError: `members` is no whole number >= 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> twins = model("critic", ensemble(MLP((8,)), 2))
        >>> params, _ = twins.init(jax.random.key(0), jnp.zeros((4, 3)))
        >>> twins.apply(params, {}, jnp.zeros((4, 3)))[0].shape
        (4, 2)
    """
    require("members", members, whole, "a whole number >= 1")
    return network if members == 1 else Ensemble(network, members)


def column(output: jax.Array) -> jax.Array:
    """One number an example, [B], of an output [B] or [B, 1]; others are left as they are."""
    return output[..., 0] if output.ndim == 2 and output.shape[-1] == 1 else output


def _ensemble(player: str, given: Ensemble) -> _Network:
    base = _adapt(player, given.network)

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        keys = jax.random.split(key, given.members)
        return jax.vmap(lambda key: base.init(key, *inputs))(keys)

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        def member(params: PyTree, stats: PyTree, key: Key | None) -> tuple[jax.Array, PyTree]:
            output, news = base.apply(params, stats, key, train, *inputs)
            return column(output), news

        keys = None if key is None else jax.random.split(key, given.members)
        return jax.vmap(member, out_axes=(1, 0))(params, stats, keys)

    return _Network(init, apply, base.members + 1)


class Computed(NamedTuple):
    """A network that computes in another type than its params have; made by `computed_in`."""

    network: Any
    dtype: Any


DTYPES = ("float32", "bfloat16")


def computed_in(dtype: str, network: Any) -> Any:
    """The network computing in bfloat16, its params, optimisers and losses in float32.

        output = float32(apply(bfloat16(params), bfloat16(inputs)))

    Params and inputs are rounded on the way in and the output is widened again; gradients come
    back through the same casts, in float32. Statistics (of batches, of power iterations) are kept
    in the type that they have. bfloat16 has float32's range, so that no loss needs scaling.

    Args:
        dtype: "bfloat16", or "float32", which returns the network itself.
        network: of any kind that `model` takes, but for a `Model`; `ensemble` takes the result.

    Raises:
        ValueError: another type, or a `Model`.

    Reference:
        Kalamkar et al. (2019), "A study of BFLOAT16 for deep learning training".

    Example:
        >>> import jax, jax.numpy as jnp
        >>> half = model("actor", computed_in("bfloat16", MLP((8,), (2,))))
        >>> params, _ = half.init(jax.random.key(0), jnp.zeros((4, 3)))
        >>> params["Dense_0"]["kernel"].dtype, half.apply(params, {}, jnp.zeros((4, 3)))[0].dtype
        (dtype('float32'), dtype('float32'))
    """
    lookup("dtype", dtype, dict.fromkeys(DTYPES))
    if isinstance(network, Model):
        raise ValueError("network: a Model was given; allowed: what `model` makes one of")
    return network if dtype == "float32" else Computed(network, jnp.dtype(dtype))


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    def cast(x: Any) -> Any:
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(cast, tree)


def _like(x: jax.Array, old: jax.Array) -> jax.Array:
    return x.astype(old.dtype) if jnp.issubdtype(old.dtype, jnp.floating) else x


def _computed(player: str, given: Computed) -> _Network:
    base = _adapt(player, given.network)

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        low = _cast((params, inputs), given.dtype)
        output, news = base.apply(low[0], stats, key, train, *low[1])
        wide = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        return _cast(output, wide), jax.tree.map(_like, news, stats)

    return base._replace(apply=apply)


class Encoded(NamedTuple):
    """A network behind a function of its first input; made by `encoded`."""

    encode: Callable[[PyTree], PyTree]
    network: Any


def encoded(encode: Callable[[PyTree], PyTree], network: Any) -> Any:
    """The network behind a function of its first input.

        output = apply(params, encode(first input), other inputs …)

    Args:
        encode: `first input [B, …] -> what the network sees`, for instance
            `gacf.envs.features(env.observation)`.
        network: of any kind that `model` takes, but for a `Model`; `ensemble` takes the result.

    Raises:
        ValueError: a `Model`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> made = model("critic", encoded(lambda i: jax.nn.one_hot(i, 5), MLP((8,))))
        >>> params, _ = made.init(jax.random.key(0), jnp.array([3]))
        >>> params["Dense_0"]["kernel"].shape
        (5, 8)
    """
    if isinstance(network, Model):
        raise ValueError("network: a Model was given; allowed: what `model` makes one of")
    return Encoded(encode, network)


def _encoded(player: str, given: Encoded) -> _Network:
    base = _adapt(player, given.network)

    def init(key: Key, first: PyTree, *others: PyTree) -> tuple[PyTree, PyTree]:
        return base.init(key, given.encode(first), *others)

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, first: PyTree, *others: PyTree
    ) -> tuple[jax.Array, PyTree]:
        return base.apply(params, stats, key, train, given.encode(first), *others)

    return _Network(init, apply)


def _adapt(player: str, network: Any) -> _Network:
    if isinstance(network, Ensemble):
        return _ensemble(player, network)
    if isinstance(network, Computed):
        return _computed(player, network)
    if isinstance(network, Encoded):
        return _encoded(player, network)
    if isinstance(network, linen.Module):
        return _linen(player, network)
    if isinstance(network, nnx.Module):
        fixed = nnx.split(network)
        return _nnx(player, lambda key: nnx.merge(*fixed))
    if isinstance(network, Sequence) and len(network) == 2 and all(map(callable, network)):
        return _pair(player, *network)
    if callable(network) and _takes_rngs(network):
        make: Callable[..., Any] = network
        return _nnx(player, lambda key: make(rngs=nnx.Rngs(key)))
    raise ValueError(
        f"{player}: {type(network).__name__} was given; allowed: a Linen module, an NNX module or "
        "a function `rngs -> NNX module`, an (init, apply) pair, or a Model"
    )


def model(player: str, network: Any) -> Model:
    """The model of a player, from whatever kind of network.

    Args:
        player: whose model it is.
        network: one of
            - a Flax Linen module. It and the modules within are told whether they train, each by
              its argument `train` (or `training`, `deterministic`, `use_running_average`, …) if
              its caller does not, also under `nn.remat`, `nn.jit`, `nn.scan` and `nn.vmap`; the
              outermost by a field of that name too. Each random stream gets a key of its own. All
              collections but `params` are statistics; values that it sows are dropped.
            - a function that takes `rngs` and returns a Flax NNX module, or such a class: each
              seed is initialised anew. An NNX module itself serves too, but then every seed starts
              from its weights. Modes are set by `train()` and `eval()`, and as above.
            - a pair of functions, `init(key)` or `init(key, *inputs) -> params` and
              `apply(params, *inputs) -> output`, which may take `train` too.

            Where a network takes keywords of any name, the usual ones are tried.
            - a `Model`, which is returned as it is.

    Raises:
        ValueError: something else was given, or another player's `Model`; from `init` and `apply`,
            a network that cannot be told whether it trains.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen
        >>> critic = model("critic", linen.Dense(1))
        >>> params, entries = critic.init(jax.random.key(0), jnp.zeros((4, 2)))
        >>> critic.apply(params, {}, jnp.zeros((4, 2)))[0].shape
        (4, 1)
    """
    if isinstance(network, Model):
        if network.player != player:
            raise ValueError(f"{player}: a Model of {network.player!r} was given")
        return network
    base = _adapt(player, network)
    name = f"stats/{player}"

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, World]:
        params, stats = base.init(key, *inputs)
        return params, {name: stats} if jax.tree.leaves(stats) else {}

    def apply(
        params: PyTree, world: World, *inputs: PyTree, key: Key | None = None, train: bool = True
    ) -> tuple[jax.Array, World]:
        output, stats = base.apply(params, world.get(name, {}), key, train, *inputs)
        return output, {name: stats} if name in world and train else {}

    return Model(player, init, apply, members=base.members)


class MLP(linen.Module):
    """A multilayer perceptron over the concatenation of its inputs, each flattened to [B, ·].

    Attributes:
        hidden: widths of the hidden layers.
        shape: shape of one output; `()` for one number.
        activation: between layers.
        last: after the last layer.
        param_dtype: of the weights; with float64 weights and inputs all is computed in it.
    """

    hidden: Sequence[int]
    shape: Sequence[int] = ()
    activation: Callable[[jax.Array], jax.Array] = linen.relu
    last: Callable[[jax.Array], jax.Array] | None = None
    param_dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        x = jnp.concatenate([i.reshape(i.shape[0], -1) for i in inputs], axis=-1)
        for width in self.hidden:
            x = self.activation(linen.Dense(width, param_dtype=self.param_dtype)(x))
        x = linen.Dense(math.prod(self.shape), param_dtype=self.param_dtype)(x)
        x = x.reshape(x.shape[0], *self.shape)
        return x if self.last is None else self.last(x)
