"""The model of a player, from any kind of network."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen, nnx

from gacf.core.types import Key, PyTree, World
from gacf.networks.linen_network import linen_network
from gacf.networks.network import Model, Network, Wrapped
from gacf.networks.nnx_network import nnx_network
from gacf.networks.pair import pair_network


def _takes_rngs(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    # NNX's metaclass hides the arguments of a class
    call = function.__init__ if isinstance(function, type) else function
    return "rngs" in inspect.signature(call).parameters


def _adapt(player: str, network: Any) -> Network:
    if isinstance(network, Wrapped):
        return network.adapted(player, _adapt)
    if isinstance(network, linen.Module):
        return linen_network(player, network)
    if isinstance(network, nnx.Module):
        fixed = nnx.split(network)
        return nnx_network(player, lambda key: nnx.merge(*fixed))
    if isinstance(network, Sequence) and len(network) == 2 and all(map(callable, network)):
        return pair_network(player, *network)
    if callable(network) and _takes_rngs(network):
        make: Callable[..., Any] = network
        return nnx_network(player, lambda key: make(rngs=nnx.Rngs(key)))
    raise ValueError(
        f"{player}: {type(network).__name__} was given; allowed: a Linen module, an NNX module or "
        "a function `rngs -> NNX module`, an (init, apply) pair, or a Model"
    )


def model(player: str, network: Any) -> Model:
    """The model of a player, from any kind of network.

    Args:
        player: the player to whom the model belongs.
        network: one of
            - a Flax Linen module. It and the modules inside it learn whether they are training
              through the argument `train` (or `training`, `deterministic`,
              `use_running_average`, …), unless the caller passes it; this also works under
              `nn.remat`, `nn.jit`, `nn.scan` and `nn.vmap`. The outermost module may have a field
              of that name instead. Each random stream gets its own key. All collections except
              `params` are statistics; values that a module sows are dropped.
            - a function that takes `rngs` and returns a Flax NNX module, or such a class; each seed
              then gets its own initial weights. An NNX module itself also works, but then every
              seed starts from its weights. Modes are set by `train()` and `eval()`, and as above.
            - a pair of functions, `init(key)` or `init(key, *inputs) -> params` and
              `apply(params, *inputs) -> output`, which may take `train` too.
            - a `Model`, which is returned as it is.

            If a network accepts keywords of any name, the usual names of the mode are tried.

    Raises:
        ValueError: something else was given, or the `Model` of another player; from `init` and
            `apply`, there is no way to tell the network whether it trains.

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

    def with_stats(call: Callable[..., tuple[jax.Array, PyTree]]) -> Callable[..., Any]:
        def apply(
            params: PyTree,
            world: World,
            *inputs: PyTree,
            key: Key | None = None,
            train: bool = True,
        ) -> tuple[jax.Array, World]:
            output, stats = call(params, world.get(name, {}), key, train, *inputs)
            return output, {name: stats} if name in world and train else {}

        return apply

    single = None if base.single is None else with_stats(base.single)
    return Model(player, init, with_stats(base.apply), members=base.members, single=single)
