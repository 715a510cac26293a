"""The multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from gacf.core.checks import require, whole


class MLP(linen.Module):
    """A multilayer perceptron over the concatenation of its inputs, each flattened to [B, ·].

    Attributes:
        hidden: widths of the hidden layers.
        shape: the shape of one output; `()` for one number.
        activation: the function between layers.
        last: the function after the last layer.
        param_dtype: the dtype of the weights; if weights and inputs are float64, everything is
            computed in float64.
    """

    hidden: Sequence[int]
    shape: Sequence[int] = ()
    activation: Callable[[jax.Array], jax.Array] = linen.relu
    last: Callable[[jax.Array], jax.Array] | None = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        for name in ("hidden", "shape"):
            for width in getattr(self, name):
                require(name, width, whole, "whole numbers >= 1")
        super().__post_init__()

    @linen.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        x = jnp.concatenate([i.reshape(i.shape[0], -1) for i in inputs], axis=-1)
        for width in self.hidden:
            x = self.activation(linen.Dense(width, param_dtype=self.param_dtype)(x))
        x = linen.Dense(math.prod(self.shape), param_dtype=self.param_dtype)(x)
        x = x.reshape(x.shape[0], *self.shape)
        return x if self.last is None else self.last(x)
