"""Networks whose first input passes through a fixed function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gacf.core.types import Key, PyTree
from gacf.networks.network import Adapt, Network, refuse_model


class Encoded(NamedTuple):
    """A network whose first input passes through a function; `encoded` makes it."""

    encode: Callable[[PyTree], PyTree]
    network: Any

    def adapted(self, player: str, adapt: Adapt) -> Network:
        """Adapts the network inside; see `Wrapped`."""
        base = adapt(player, self.network)

        def init(key: Key, first: PyTree, *others: PyTree) -> tuple[PyTree, PyTree]:
            return base.init(key, self.encode(first), *others)

        def apply(
            params: PyTree,
            stats: PyTree,
            key: Key | None,
            train: bool,
            first: PyTree,
            *others: PyTree,
        ) -> tuple[jax.Array, PyTree]:
            return base.apply(params, stats, key, train, self.encode(first), *others)

        return Network(init, apply)


def encoded(encode: Callable[[PyTree], PyTree], network: Any) -> Any:
    """The network whose first input passes through a function.

        output = apply(params, encode(first input), other inputs …)

    Args:
        encode: `first input [B, …] -> what the network sees`, for instance
            `gacf.envs.features(env.observation)`.
        network: any network that `model` takes, except a `Model`; `ensemble` takes the result.

    Raises:
        ValueError: the network is a `Model`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gacf.networks import MLP, model
        >>> critic = model("critic", encoded(lambda i: jax.nn.one_hot(i, 5), MLP((8,))))
        >>> params, _ = critic.init(jax.random.key(0), jnp.array([3]))
        >>> params["Dense_0"]["kernel"].shape
        (5, 8)
    """
    refuse_model(network)
    return Encoded(encode, network)
