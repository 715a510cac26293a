"""Minibatch discrimination: a critic that sees how alike the examples of a batch are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from gacf.core.checks import require, whole


def closeness(codes: jax.Array) -> jax.Array:
    """How near the others of a batch are to each example, itself left out.

        o_b(x_i) = Σ_{j ≠ i} exp(−‖M_ib − M_jb‖₁)

    Args:
        codes: M, [B, kernels, width].

    Returns:
        o, [B, kernels]: B − 1 where all are identical, 0 where all are far apart.

    Raises:
        ValueError: codes of another number of axes.

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
    """Features to which the closeness of the other examples is added; its shape is theirs.

        M_i = f(x_i) T,   f(x_i) ← f(x_i) + strength · o(x_i) W

    Put it before a linear last layer, where it can say all that o beside f could (there the layer
    sees its own weights on f, and W's image on o). A GAN's critic sees by it that a generator's
    samples are all alike, real and generated ones judged apart; a Q- or V-network sees how crowded
    the states and actions of its batch are. A batch of one has no others: o = 0.

    Attributes:
        kernels: how many closenesses, b.
        width: of the code M_ib of which each is made, C.
        strength: >= 0; 0 is off, to the bit. May be traced.
        param_dtype: of the weights.

    Raises:
        ValueError: features that are not [B, F], sizes below 1, a negative strength.

    Reference:
        Salimans et al. 2016, section 3.2 (o is set beside f there).

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
