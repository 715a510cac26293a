"""Spectral normalisation: a network whose every layer has slope 1 at most (L2)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gacf.networks import Model, model
from gacf.types import Key, PyTree, World, require, whole

TINY = 1e-12
# Folded into the key for the first u; the network starts from its own key, as if alone.
VECTORS = 0x73706563
WARM_UP = 10
"""Power iterations when the network is made, so that the first σ is near already."""


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.sum(jnp.square(x)) + TINY)


def _matrix(weight: jax.Array) -> jax.Array:
    """[in, out], a convolution's rows and columns among its inputs."""
    return weight.reshape(-1, weight.shape[-1])


def _iterate(weight: jax.Array, u: jax.Array, iterations: int) -> jax.Array:
    matrix = jax.lax.stop_gradient(_matrix(weight))
    for _ in range(iterations):
        u = _unit(_unit(matrix @ u) @ matrix)
    return u


def _normalised(weight: jax.Array, u: jax.Array, strength: float | jax.Array) -> jax.Array:
    """W / σ^strength, σ = vᵀWu with v = Wu / ‖Wu‖; no gradient goes through u and v."""
    matrix = _matrix(weight)
    v = jax.lax.stop_gradient(_unit(matrix @ u))
    return weight / (jnp.maximum(v @ matrix @ u, TINY) ** strength).astype(weight.dtype)


def spectral_norm(
    network: Any,
    player: str = "critic",
    iterations: int = 1,
    strength: float | jax.Array = 1.0,
) -> Model:
    """The network with each weight W divided by its largest singular value σ(W).

        v ← Wu / ‖Wu‖,   u ← Wᵀv / ‖Wᵀv‖,   σ = vᵀWu,   W ← W / σ^strength

    Every parameter of two or more axes is such a weight; a convolution's kernel is taken as a
    matrix of [rows · columns · C, D]. The vectors u are the world's `spectral/<player>`; they move
    when the player's own loss evaluates its network, and nobody else's evaluation moves them. A
    GAN's critic, or a Q-function, so has a slope of at most the product of its activations' ones.

    Args:
        network: of any kind that `gacf.networks.model` takes.
        player: whose network it is.
        iterations: power iterations an evaluation.
        strength: in [0, 1]; 0 is off, to the bit; between, a layer keeps the slope σ^(1−strength).
            May be traced.

    Returns:
        A `Model`, which serves in place of the network.

    Raises:
        ValueError: a number out of bounds, or a compatible critic, which is linear in the actor's
            features with weights like the actor's params: it has no layers to normalise.

    Reference:
        Miyato et al. 2018, algorithm 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen
        >>> critic = spectral_norm(linen.Dense(1, use_bias=False))
        >>> x = jnp.array([[3.0, 4.0]])
        >>> params, world = critic.init(jax.random.key(0), x)
        >>> params["kernel"] = jnp.array([[30.0], [40.0]])
        >>> round(float(critic.apply(params, world, x)[0][0, 0]), 4)
        5.0
    """
    require("iterations", iterations, whole, "a whole number >= 1")
    require("strength", strength, lambda s: 0 <= s <= 1, "a number in [0, 1]")
    base = model(player, network)
    if base.bind is not None:
        raise ValueError(
            f"spectral_norm: {player}: a compatible critic was given, whose weights are no layers; "
            "allowed: the network of its baseline"
        )
    name = f"spectral/{player}"

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, World]:
        params, entries = base.init(key, *inputs)
        weights = {
            jax.tree_util.keystr(path): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
            if leaf.ndim >= 2
        }
        keys = jax.random.split(jax.random.fold_in(key, VECTORS), len(weights))
        vectors = {
            path: _iterate(
                weight, _unit(jax.random.normal(key, weight.shape[-1:], weight.dtype)), WARM_UP
            )
            for key, (path, weight) in zip(keys, weights.items(), strict=True)
        }
        return params, {**entries, name: vectors}

    def apply(
        params: PyTree, world: World, *inputs: PyTree, key: Key | None = None, train: bool = True
    ) -> tuple[jax.Array, World]:
        vectors = dict(world[name])

        def normalised(path: Any, weight: jax.Array) -> jax.Array:
            place = jax.tree_util.keystr(path)
            if place not in vectors:
                return weight
            if train:
                vectors[place] = _iterate(weight, vectors[place], iterations)
            return _normalised(weight, vectors[place], strength)

        params = jax.tree_util.tree_map_with_path(normalised, params)
        output, entries = base.apply(params, world, *inputs, key=key, train=train)
        return output, {**entries, name: vectors} if train else entries

    return base._replace(init=init, apply=apply)
