"""Several networks of one kind, side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from gacf.core.checks import require, whole
from gacf.core.types import Key, PyTree
from gacf.networks.network import Adapt, Network


class Ensemble(NamedTuple):
    """Several networks of one kind, side by side; `ensemble` makes it."""

    network: Any
    members: int

    def adapted(self, player: str, adapt: Adapt) -> Network:
        """Adapts the network of each member; see `Wrapped`."""
        base = adapt(player, self.network)

        def init(key: Key, *inputs: PyTree) -> tuple[PyTree, PyTree]:
            keys = jax.random.split(key, self.members)
            return jax.vmap(lambda key: base.init(key, *inputs))(keys)

        def apply(
            params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
        ) -> tuple[jax.Array, PyTree]:
            def member(params: PyTree, stats: PyTree, key: Key | None) -> tuple[jax.Array, PyTree]:
                output, news = base.apply(params, stats, key, train, *inputs)
                return column(output), news

            keys = None if key is None else jax.random.split(key, self.members)
            return jax.vmap(member, out_axes=(1, 0))(params, stats, keys)

        single = base.single if base.members else base.apply
        return Network(init, apply, base.members + 1, single)


def ensemble(network: Any, members: int) -> Any:
    """Several networks of one kind, each with its own weights, evaluated at once.

    Args:
        network: any network that `model` takes, except a `Model`.
        members: the number of networks, n; with 1 the network itself is returned.

    Returns:
        A network for `model`, in whose output the second axis counts members: [B, n, …] for members
        that yield [B, …], and [B, n] for members that yield [B, 1].

    Raises:
        ValueError: `members` is not a whole number >= 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gacf.networks import MLP, model
        >>> twins = model("critic", ensemble(MLP((8,)), 2))
        >>> params, _ = twins.init(jax.random.key(0), jnp.zeros((4, 3)))
        >>> twins.apply(params, {}, jnp.zeros((4, 3)))[0].shape
        (4, 2)
    """
    require("members", members, whole, "a whole number >= 1")
    return network if members == 1 else Ensemble(network, members)


def column(output: jax.Array) -> jax.Array:
    """An output [B] or [B, 1] as [B], one number per example; other outputs stay as they are."""
    return output[..., 0] if output.ndim == 2 and output.shape[-1] == 1 else output
