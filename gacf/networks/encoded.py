"""Networks: Flax Linen modules, Flax NNX modules and bare (init, apply) pairs, made alike (L1).

Every network becomes a `Model`: what one player computes. What it learns by gradient are params;
what it only keeps (batch statistics, a power iteration's vector, a dropout stream) are statistics,
and live in the world under `stats/<player>`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gacf.core.types import Key, PyTree
from gacf.networks.model import adapt
from gacf.networks.network import Model, Network


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


def _encoded(player: str, given: Encoded) -> Network:
    base = adapt(player, given.network)

    def init(key: Key, first: PyTree, *others: PyTree) -> tuple[PyTree, PyTree]:
        return base.init(key, given.encode(first), *others)

    def apply(
        params: PyTree, stats: PyTree, key: Key | None, train: bool, first: PyTree, *others: PyTree
    ) -> tuple[jax.Array, PyTree]:
        return base.apply(params, stats, key, train, given.encode(first), *others)

    return Network(init, apply)
