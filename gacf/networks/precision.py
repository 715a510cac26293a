"""Networks that compute in another dtype than that of their parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import lookup
from gacf.core.types import Key, PyTree
from gacf.networks.network import Adapt, Network, refuse_model


class Computed(NamedTuple):
    """A network that computes in another dtype than its params'; `computed_in` makes it."""

    network: Any
    dtype: Any

    def adapted(self, player: str, adapt: Adapt) -> Network:
        """Adapts the network inside; see `Wrapped`."""
        base = adapt(player, self.network)

        def apply(
            params: PyTree, stats: PyTree, key: Key | None, train: bool, *inputs: PyTree
        ) -> tuple[jax.Array, PyTree]:
            low = _cast((params, inputs), self.dtype)
            output, news = base.apply(low[0], stats, key, train, *low[1])
            dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
            return _cast(output, dtype), jax.tree.map(_like, news, stats)

        return base._replace(apply=apply, single=None)


DTYPES = ("float32", "bfloat16")


def computed_in(dtype: str, network: Any) -> Any:
    """The network computed in bfloat16, while params, optimisers and losses stay in float32.

        output = float32(apply(bfloat16(params), bfloat16(inputs)))

    Params and inputs are rounded before the network, and the output is converted back after it.
    Gradients come back through the same conversions, in float32. Statistics (of batches, of power
    iterations) keep their dtype. bfloat16 has the range of float32, so losses need no scaling.

    Args:
        dtype: "bfloat16", or "float32", with which the network itself is returned.
        network: any network that `model` takes, except a `Model`; `ensemble` takes the result.

    Raises:
        ValueError: the dtype is another one, or the network is a `Model`.

    Reference:
        Kalamkar et al. (2019), "A study of BFLOAT16 for deep learning training".

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gacf.networks import MLP, model
        >>> half = model("actor", computed_in("bfloat16", MLP((8,), (2,))))
        >>> params, _ = half.init(jax.random.key(0), jnp.zeros((4, 3)))
        >>> params["Dense_0"]["kernel"].dtype, half.apply(params, {}, jnp.zeros((4, 3)))[0].dtype
        (dtype('float32'), dtype('float32'))
    """
    lookup("dtype", dtype, dict.fromkeys(DTYPES))
    refuse_model(network)
    return network if dtype == "float32" else Computed(network, jnp.dtype(dtype))


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    def cast(x: Any) -> Any:
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(cast, tree)


def _like(x: jax.Array, old: jax.Array) -> jax.Array:
    return x.astype(old.dtype) if jnp.issubdtype(old.dtype, jnp.floating) else x
