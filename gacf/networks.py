"""Networks: Flax Linen modules, Flax NNX modules and bare (init, apply) pairs, made alike (L1).

Every network becomes a `Model`: what one player computes. What it learns by gradient are params;
what it only keeps (batch statistics, a power iteration's vector, a dropout stream) are statistics,
and live in the world under `stats/<player>`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx

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
    """

    player: str
    init: Callable[..., tuple[PyTree, World]]
    apply: Callable[..., tuple[jax.Array, World]]
    bind: Callable[[Params], Model] | None = None

    def given(self, params: Params) -> Model:
        """The model that has seen all players' parameters; itself, if it need not see them."""
        return self if self.bind is None else self.bind(params)

    def then(self, function: Callable[[jax.Array], jax.Array]) -> Model:
        """The model with its output passed on to `function`."""

        def apply(*args: Any, **options: Any) -> tuple[jax.Array, World]:
            output, entries = self.apply(*args, **options)
            return function(output), entries

        return self._replace(apply=apply)


class _Network(NamedTuple):
    """`init(key, *inputs) -> (params, stats)`, `apply(params, stats, key, train, *inputs)`."""

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[jax.Array, PyTree]]


def _mode(call: Callable[..., Any]) -> Callable[[bool], dict[str, Any]]:
    """How a Linen module wants to be told whether it trains: by one of the usual arguments."""
    names = inspect.signature(call).parameters
    for name, when_training in (
        ("train", True),
        ("training", True),
        ("is_training", True),
        ("deterministic", False),
        ("use_running_average", False),
    ):
        if name in names:
            return lambda train, name=name, value=when_training: {name: train == value}
    return lambda train: {}


def _linen(module: linen.Module) -> _Network:
    mode = _mode(type(module).__call__)

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        params_key, dropout_key = jax.random.split(key)
        rngs = {"params": params_key, "dropout": dropout_key}
        variables = dict(module.init(rngs, *inputs, **mode(True)))
        return variables.pop("params", {}), variables

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        variables = {"params": params, **stats}
        rngs = {} if key is None else {"dropout": key}
        if not (train and stats):
            return module.apply(variables, *inputs, rngs=rngs, **mode(train)), stats  # type: ignore
        return module.apply(  # type: ignore
            variables, *inputs, rngs=rngs, mutable=list(stats), **mode(train)
        )

    return _Network(init, apply)


def _nnx(make: Callable[[Key], nnx.Module]) -> _Network:
    graph, _, abstract = nnx.split(nnx.eval_shape(lambda: make(jax.random.key(0))), nnx.Param, ...)
    keeps = bool(jax.tree.leaves(abstract))

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        _, params, rest = nnx.split(make(key), nnx.Param, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest) if keeps else {}

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        module = nnx.merge(graph, nnx.State(params), nnx.State(stats))
        module.train() if train else module.eval()
        output = module(*inputs)  # type: ignore[operator]
        rest: Any = nnx.split(module, nnx.Param, ...)[2]
        return output, nnx.to_pure_dict(rest) if keeps and train else stats

    return _Network(init, apply)


def _pair(init: Callable[..., PyTree], apply: Callable[..., jax.Array]) -> _Network:
    accepted = inspect.signature(init).parameters.values()
    variadic = any(p.kind is p.VAR_POSITIONAL for p in accepted)
    needed = [
        p
        for p in accepted
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    only_key = not variadic and len(needed) <= 1

    def make(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
        return (init(key) if only_key else init(key, *inputs)), {}

    def call(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        return apply(params, *inputs), stats

    return _Network(make, call)


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

    return _Network(init, apply)


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


def _computed(player: str, given: Computed) -> _Network:
    base = _adapt(player, given.network)

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
    ) -> tuple[jax.Array, PyTree]:
        low = _cast((params, inputs), given.dtype)
        output, news = base.apply(low[0], stats, key, train, *low[1])
        wide = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        return _cast(output, wide), jax.tree.map(lambda x, old: x.astype(old.dtype), news, stats)

    return _Network(base.init, apply)


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
        return _linen(network)
    if isinstance(network, nnx.Module):
        fixed = nnx.split(network)
        return _nnx(lambda key: nnx.merge(*fixed))
    if isinstance(network, Sequence) and len(network) == 2 and all(map(callable, network)):
        return _pair(*network)
    if callable(network) and _takes_rngs(network):
        make: Callable[..., Any] = network
        return _nnx(lambda key: make(rngs=nnx.Rngs(key)))
    raise ValueError(
        f"{player}: {type(network).__name__} was given; allowed: a Linen module, an NNX module or "
        "a function `rngs -> NNX module`, an (init, apply) pair, or a Model"
    )


def model(player: str, network: Any) -> Model:
    """The model of a player, from whatever kind of network.

    Args:
        player: whose model it is.
        network: one of
            - a Flax Linen module. If its call takes `train` (or `training`, `deterministic`,
              `use_running_average`), it is told; dropout gets a key; all collections but `params`
              are statistics.
            - a function that takes `rngs` and returns a Flax NNX module, or such a class: each
              seed is initialised anew. An NNX module itself serves too, but then every seed starts
              from its weights.
            - a pair of functions, `init(key)` or `init(key, *inputs) -> params` and
              `apply(params, *inputs) -> output`.
            - a `Model`, which is returned as it is.

    Raises:
        ValueError: something else was given, or another player's `Model`.

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

    return Model(player, init, apply)


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
