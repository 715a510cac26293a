"""Minibatch discrimination: a critic that sees how similar the examples of a batch are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from gacf.core.checks import require, whole


def closeness(codes: jax.Array) -> jax.Array:
    """How near the other examples of a batch are to each example.

        o_b(x_i) = Σ_{j ≠ i} exp(−‖M_ib − M_jb‖₁)

    Args:
        codes: M, [B, kernels, width].

    Returns:
        o, [B, kernels]: B − 1 where all are identical, 0 where all are far apart.

    Raises:
        ValueError: the codes have another number of axes.

    Reference:
        Salimans et al. 2016, section 3.2.

    Example:
        >>> import jax.numpy as jnp
        >>> closeness(jnp.array([[[0.0]], [[0.0]], [[99.0]]])).ravel().tolist()
        [1.0, 1.0, 0.0]
    """
    if codes.ndim != 3:
        raise ValueError(f"codes: shape {codes.shape} was given; allowed: [B, kernels, width]")
    distance = jnp.sum(jnp.abs(codes[:, None] - codes[None]), axis=-1)
    others = ~jnp.eye(len(codes), dtype=bool)[..., None]
    return jnp.sum(jnp.where(others, jnp.exp(-distance), 0), axis=1)


class MinibatchDiscrimination(linen.Module):
    """Adds the closeness of the other examples to the features, whose shape it keeps.

        M_i = f(x_i) T,   f(x_i) ← f(x_i) + strength · o(x_i) W

    Put it before a linear last layer, where adding o · W to f can express all that appending o to f
    could. A GAN's critic, which judges real and generated batches separately, can then see that a
    generator's samples are all alike. A Q- or V-network sees how crowded the states and actions of
    its batch are. In a batch of one there are no other examples, and o = 0.

    Attributes:
        kernels: the number of closenesses per example, b.
        width: the width C of the codes M_ib from which they are computed.
        strength: >= 0; 0 is off, to the bit. May be traced.
        param_dtype: the dtype of the weights.

    Raises:
        ValueError: the features are not [B, F], a size is below 1, or the strength is negative.

    Reference:
        Salimans et al. 2016, section 3.2 (there o is appended to f).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen
        >>> critic = linen.Sequential(
        ...     [linen.Dense(8), linen.relu, MinibatchDiscrimination(), linen.Dense(1)])
        >>> critic.init_with_output(jax.random.key(0), jnp.ones((4, 2)))[0].shape
        (4, 1)
    """

    kernels: int = 16
    width: int = 5
    strength: float | jax.Array = 1.0
    param_dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        require("kernels", self.kernels, whole, "a whole number >= 1")
        require("width", self.width, whole, "a whole number >= 1")
        require("strength", self.strength, lambda s: s >= 0, "a number >= 0")
        if features.ndim != 2:
            raise ValueError(
                f"features: shape {features.shape} was given; allowed: [B, F]: flatten them before"
            )
        dense = {"use_bias": False, "param_dtype": self.param_dtype}
        codes = linen.Dense(self.kernels * self.width, name="codes", **dense)(features)
        near = closeness(codes.reshape(len(features), self.kernels, self.width))
        near = linen.Dense(features.shape[1], name="spread", **dense)(near)
        added = (features + self.strength * near).astype(features.dtype)
        return jnp.where(self.strength == 0, features, added)
