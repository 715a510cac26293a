"""Normalised layers of variable strength, and normalisation by a fixed reference batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from gacf.core.checks import require
from gacf.core.types import Key, PyTree, World
from gacf.networks import Model, model
from gacf.networks.network import as_inputs


def _partly(strength: float | jax.Array, x: jax.Array, normed: jax.Array) -> jax.Array:
    mixed = (x + strength * (normed - x)).astype(x.dtype)
    return jnp.where(strength == 0, x, mixed)


class Normalised(linen.Module):
    """A mixture of a layer's output and its normalised output.

        x ← x + strength (norm(x) − x)

    With `linen.LayerNorm()` the features of a critic, of images or of states and actions, keep
    their size whatever the actor shows it. With `linen.BatchNorm` the statistics are those of the
    player's own batches; they are in the world, and only the player's own step renews them. Real
    and generated examples are normalised separately, and so are the batches of a Q- and a
    V-network.

    Attributes:
        norm: a Linen module [B, …] -> [B, …]. If it takes `use_running_average` or `train`, the
            network that holds it must pass that: `linen.BatchNorm(use_running_average=not train)`.
        strength: 0 is off, to the bit; 1 is the normalisation. May be traced.

    Raises:
        ValueError: the strength is out of bounds.

    Reference:
        Ioffe & Szegedy 2015; Ba, Kiros & Hinton 2016.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen
        >>> x = jnp.array([[1.0, 3.0]])
        >>> layer = Normalised(linen.LayerNorm(), 0.5)
        >>> layer.init_with_output(jax.random.key(0), x)[0].round(3).tolist()
        [[0.0, 2.0]]
    """

    norm: linen.Module
    strength: float | jax.Array = 1.0

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        require("strength", self.strength, lambda s: 0 <= s <= 1, "a number in [0, 1]")
        return _partly(self.strength, x, self.norm(x))  # type: ignore[operator]


class VirtualBatchNorm(linen.Module):
    """Batch normalisation of each example by a reference batch and itself; needs `with_reference`.

        mean = (x + n · mean_ref) / (n + 1),   square = (x² + n · square_ref) / (n + 1)
        x̂ = scale (x − mean) / √(square − mean² + ε) + bias

    No example of a batch then depends on another: a generator's samples are independent, and a
    Q-network gives a transition the same value in every replayed batch.

    Attributes:
        strength: 0 is off, to the bit; 1 is the normalisation. May be traced.
        epsilon: ε.
        param_dtype: the dtype of scale and bias.

    Raises:
        ValueError: the strength is out of bounds.

    Reference:
        Salimans et al. 2016, section 3.5.
    """

    strength: float | jax.Array = 1.0
    epsilon: float = 1e-5
    param_dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        require("strength", self.strength, lambda s: 0 <= s <= 1, "a number in [0, 1]")
        width = x.shape[-1:]
        statistics = [
            self.variable("reference", name, jnp.zeros, shape, x.dtype)
            for name, shape in (("mean", width), ("square", width), ("count", ()))
        ]
        scale = self.param("scale", linen.initializers.ones, width, self.param_dtype)
        bias = self.param("bias", linen.initializers.zeros, width, self.param_dtype)
        # an example has one mean per channel, over its own pixels if it has any
        inner = tuple(range(1, x.ndim - 1))
        first = jnp.mean(x, axis=inner, keepdims=True)
        second = jnp.mean(jnp.square(x), axis=inner, keepdims=True)
        if train:
            mean, square = (jnp.mean(m, axis=tuple(range(x.ndim - 1))) for m in (first, second))
            for entry, value in zip(statistics, (mean, square, x.shape[0]), strict=True):
                entry.value = jnp.asarray(value, x.dtype)
            ones = (1,) * (x.ndim - 1)
            mean, square = (m.reshape(*ones, -1) for m in (mean, square))
        else:
            n = statistics[2].value
            ones = (1,) * (x.ndim - 1)
            mean = (first + n * statistics[0].value.reshape(*ones, -1)) / (n + 1)
            square = (second + n * statistics[1].value.reshape(*ones, -1)) / (n + 1)
        # rounding may take a variance of 0 below it
        deviation = jnp.sqrt(jnp.maximum(square - jnp.square(mean), 0) + self.epsilon)
        normed = (x - mean) / deviation * scale.reshape(*ones, -1) + bias.reshape(*ones, -1)
        return _partly(self.strength, x, normed)


def with_reference(network: Any, reference: PyTree, player: str = "critic") -> Model:
    """The network whose `VirtualBatchNorm` layers use a reference batch.

    The reference goes through the present network first, normalised by itself in each layer, and
    gradients flow through it. Then the inputs follow, each normalised by the reference and itself.
    Nothing is kept from step to step, and no evaluation changes any statistics.

    Args:
        network: a Linen module whose call takes `train` and passes it to each `VirtualBatchNorm`.
            The inputs of a call are evaluated with `train=False`, so that other batch statistics
            and dropout in it would not be active.
        reference: inputs of the network: an array [n, …], or a tuple of them for several inputs,
            n >= 2; for a generator noise drawn beforehand, for a Q-network states and actions.
        player: the player to whom the network belongs.

    Returns:
        A `Model` to use instead of the network.

    Raises:
        ValueError: the reference has fewer than two examples, the critic is a compatible one, or
            (from `init`) the network has no `VirtualBatchNorm`, or has other statistics as well.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> judge = with_reference(VirtualBatchNorm(epsilon=0.0), jnp.array([[-1.0], [1.0]]))
        >>> params, world = judge.init(jax.random.key(0), jnp.zeros((1, 1)))
        >>> judge.apply(params, world, jnp.zeros((1, 1)))[0].tolist()
        [[0.0]]
    """
    base = model(player, network)
    if base.bind is not None:
        raise ValueError(
            f"with_reference: {player}: a compatible critic was given, which sees the actor; "
            "allowed: the network of its baseline"
        )
    reference_inputs = as_inputs(reference)
    for leaf in jax.tree.leaves(reference_inputs):
        require("reference", leaf, lambda r: len(r) >= 2, "a batch [n, …] with n >= 2")
    name = f"stats/{player}"

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, World]:
        params, entries = base.init(key, *inputs)
        kinds = sorted(entries.get(name, {}))
        if kinds != ["reference"]:
            raise ValueError(
                f"with_reference: {player}: statistics {kinds} were found; allowed: those of "
                "VirtualBatchNorm alone, and at least one"
            )
        return params, entries

    def apply(
        params: PyTree, world: World, *inputs: PyTree, key: Key | None = None, train: bool = True
    ) -> tuple[jax.Array, World]:
        _, statistics = base.apply(params, world, *reference_inputs, key=key, train=True)
        return base.apply(params, {**world, **statistics}, *inputs, key=key, train=False)

    return base._replace(init=init, apply=apply)
