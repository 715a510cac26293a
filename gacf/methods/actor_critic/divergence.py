"""Divergences: how wrong the critic was, D(target ‖ prediction), example by example.

The targets of a GAN are labels, 1 for real examples; those of a Q-function are TD targets.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """(prediction − target)² / 2: the squared Bellman residual; least-squares GANs."""
    return jnp.square(prediction - target) / 2


def huber(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Quadratic up to an error of 1, linear beyond (Huber 1964)."""
    error = jnp.abs(prediction - target)
    return jnp.where(error <= 1, jnp.square(error) / 2, error - 0.5)


def cross_entropy(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """−t log σ(v) − (1 − t) log(1 − σ(v)) of a logit v, for targets t in [0, 1]."""
    return jax.nn.softplus(prediction) - target * prediction


def hinge(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """max(0, 1 − (2t − 1) v) (Lim & Ye 2017)."""
    return jax.nn.relu(1 - (2 * target - 1) * prediction)


def wasserstein(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """−(2t − 1) v: the critic's side of the Kantorovich dual (Arjovsky et al. 2017)."""
    return (1 - 2 * target) * prediction


DIVERGENCES = {
    "squared_error": squared_error,
    "huber": huber,
    "cross_entropy": cross_entropy,
    "hinge": hinge,
    "wasserstein": wasserstein,
}
