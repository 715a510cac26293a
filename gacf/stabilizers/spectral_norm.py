"""Spectral normalisation: a network in which every layer has a slope of at most 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.checks import require, whole
from gacf.core.types import Key, PyTree, World
from gacf.networks import Model, model
from gacf.stabilizers.weights import Weight, weights_of

# Folded into the key for the first u; the network starts from its own key, as if alone.
VECTORS = 0x73706563
WARM_UP = 10
"""Power iterations when the network is made, so that the first σ is close already."""


def _unit(x: jax.Array, otherwise: jax.Array) -> jax.Array:
    """The vector scaled to length 1, or `otherwise` if it is 0 and has no direction."""
    length = jnp.sqrt(jnp.sum(jnp.square(x)))
    return jnp.where(length > 0, x / jnp.where(length > 0, length, 1), otherwise)


def _matrices(weight: jax.Array, axes: Weight) -> jax.Array:
    """The weight as [members, in, out]; rows and columns of a convolution count as inputs."""
    members = math.prod(weight.shape[a] for a in axes.members)
    rows = math.prod(weight.shape[a] for a in axes.into)
    return weight.transpose(*axes.members, *axes.into, *axes.out).reshape(members, rows, -1)


def _behind(weights: dict[str, Weight], members: int) -> dict[str, Weight]:
    """The axes of one member's weight, shifted by the leading axes that count members."""
    return {
        path: Weight(
            (*range(members), *(a + members for a in one.members)),
            tuple(a + members for a in one.into),
            tuple(a + members for a in one.out),
        )
        for path, one in weights.items()
    }


def _each(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Applies a function to each member's matrix and vector; a single one needs no `vmap`."""
    if len(arrays[0]) == 1:
        return function(*(x[0] for x in arrays))[None]
    return jax.vmap(function)(*arrays)


def _iterate(matrices: jax.Array, u: jax.Array, iterations: int) -> jax.Array:
    def one(matrix: jax.Array, u: jax.Array) -> jax.Array:
        for _ in range(iterations):
            v = matrix @ u
            u = _unit(_unit(v, v) @ matrix, u)
        return u

    vectors = _each(one, jax.lax.stop_gradient(matrices), u.reshape(len(matrices), -1))
    return vectors.reshape(u.shape)


def _normalised(
    weight: jax.Array, axes: Weight, u: jax.Array, strength: float | jax.Array
) -> jax.Array:
    """W / σ^strength, σ = vᵀWu with v = Wu / ‖Wu‖; no gradient goes through u and v."""

    def one(matrix: jax.Array, u: jax.Array) -> jax.Array:
        v = matrix @ u
        v = jax.lax.stop_gradient(_unit(v, v))
        sigma = v @ matrix @ u
        # a weight that is 0 stays as it is
        return jnp.where(sigma > 0, sigma, 1) ** strength

    matrices = _matrices(weight, axes)
    slopes = _each(one, matrices, u.reshape(len(matrices), -1)).astype(weight.dtype)
    shape = [n if a in axes.members else 1 for a, n in enumerate(weight.shape)]
    return weight / slopes.reshape(shape)


def spectral_norm(
    network: Any,
    player: str = "critic",
    iterations: int = 1,
    strength: float | jax.Array = 1.0,
) -> Model:
    """The network with each weight W divided by its largest singular value σ(W).

        v ← Wu / ‖Wu‖,   u ← Wᵀv / ‖Wᵀv‖,   σ = vᵀWu,   W ← W / σ^strength

    A weight is a parameter by which the inputs, or values computed from them, are multiplied in a
    matrix product or a convolution, or from which they pick rows (an embedding). Weights are found
    in the program that the network computes, whatever their names and shapes. Parameters that are
    added, such as the bias [heads, dim] of attention, or that scale numbers one by one, such as the
    scale of a layer norm, stay as they are. As a matrix, a weight has the axes over which its
    inputs are summed, and those of its outputs:

        dense           [in, out], and DenseGeneral's (in, heads, dim) as in × heads · dim
        attention       (heads, dim, out) as heads · dim × out
        convolution     [rows, columns, C, D] as rows · columns · C × D
        embedding       [classes, D]
        several         each member of an ensemble, each layer under a scan or a `vmap`, and each
                        of several matrices from which an index picks, separately: in [n, in, out]
                        the first axis counts matrices

    A weight whose σ is 0 stays as it is. The vectors u are `spectral/<player>` in the world; only
    the evaluation of the network in the player's own loss updates them. So the slope of a GAN's
    critic, or of a Q-function, is at most the product of the slopes of its activations.

    Args:
        network: any kind of network that `gacf.networks.model` takes.
        player: the player to whom the network belongs.
        iterations: the number of power iterations per evaluation.
        strength: in [0, 1]; 0 is off, to the bit; between, a layer keeps the slope σ^(1−strength).
            May be traced.

    Returns:
        A `Model` to use instead of the network.

    Raises:
        ValueError: a number is out of bounds, or the critic is a compatible one, which has no
            layers to normalise, because its weights have the structure of the actor's params. From
            `init`: a parameter is a different matrix in different places.

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
            f"spectral_norm: {player}: a compatible critic was given, whose weights are not "
            "layers; allowed: the network of its baseline"
        )
    name = f"spectral/{player}"

    layouts: dict[Any, dict[str, Weight]] = {}

    def layout(params: PyTree, world: World, inputs: Any, key: Key | None) -> dict[str, Weight]:
        """The weights, read from the network's program once for all calls of one shape."""
        shapes = jax.tree_util.tree_leaves_with_path((params, inputs))
        signature = tuple((jax.tree_util.keystr(path), x.shape, str(x.dtype)) for path, x in shapes)
        if signature not in layouts:
            # One member of an ensemble is enough, because all have the same layers.
            member_apply, members = base.single, base.members
            if member_apply is not None:
                lead = (0,) * members
                params, world = jax.tree.map(lambda x: x[lead], (params, world))

            def output(params: PyTree, rest: Any, inputs: Any) -> PyTree:
                return (member_apply or base.apply)(params, rest[0], *inputs, key=rest[1])[0]

            try:
                weights = weights_of(
                    output, params, (world, key), inputs, members if member_apply is None else 0
                )
            except ValueError as error:
                raise ValueError(f"spectral_norm: {player}: {error}") from None
            layouts[signature] = weights if member_apply is None else _behind(weights, members)
        return layouts[signature]

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, World]:
        params, entries = base.init(key, *inputs)
        axes = layout(params, entries, inputs, key)
        weights = {
            path: leaf
            for place, leaf in jax.tree_util.tree_leaves_with_path(params)
            if (path := jax.tree_util.keystr(place)) in axes
        }
        keys = jax.random.split(jax.random.fold_in(key, VECTORS), len(weights))

        def vector(path: str, weight: jax.Array, key: Key) -> jax.Array:
            matrices = _matrices(weight, axes[path])
            members = [weight.shape[a] for a in axes[path].members]
            u = jax.random.normal(key, (*members, matrices.shape[-1]), weight.dtype)
            u = u / jnp.linalg.norm(u, axis=-1, keepdims=True)
            return _iterate(matrices, u, WARM_UP)

        vectors = {
            path: vector(path, weight, key)
            for key, (path, weight) in zip(keys, weights.items(), strict=True)
        }
        return params, {**entries, name: vectors}

    def apply(
        params: PyTree, world: World, *inputs: PyTree, key: Key | None = None, train: bool = True
    ) -> tuple[jax.Array, World]:
        axes = layout(params, world, inputs, key)
        vectors = dict(world[name])

        def normalised(path: Any, weight: jax.Array) -> jax.Array:
            place = jax.tree_util.keystr(path)
            if place not in axes:
                return weight
            if train:
                matrices = _matrices(weight, axes[place])
                vectors[place] = _iterate(matrices, vectors[place], iterations)
            return _normalised(weight, axes[place], vectors[place], strength)

        params = jax.tree_util.tree_map_with_path(normalised, params)
        output, entries = base.apply(params, world, *inputs, key=key, train=train)
        return output, {**entries, name: vectors} if train else entries

    return base._replace(init=init, apply=apply)
