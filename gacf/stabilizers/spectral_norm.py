"""Spectral normalisation: a network whose every layer has slope 1 at most."""

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
"""Power iterations when the network is made, so that the first σ is near already."""


def _unit(x: jax.Array, otherwise: jax.Array) -> jax.Array:
    """The vector at length 1, or `otherwise` where it is 0 and has no direction."""
    length = jnp.sqrt(jnp.sum(jnp.square(x)))
    return jnp.where(length > 0, x / jnp.where(length > 0, length, 1), otherwise)


def _matrices(weight: jax.Array, axes: Weight) -> jax.Array:
    """[members, in, out], a convolution's rows and columns among its inputs."""
    members = math.prod(weight.shape[a] for a in axes.members)
    rows = math.prod(weight.shape[a] for a in axes.into)
    return weight.transpose(*axes.members, *axes.into, *axes.out).reshape(members, rows, -1)


def _behind(weights: dict[str, Weight], members: int) -> dict[str, Weight]:
    """Where the weights of one member are once axes of members stand before theirs."""
    return {
        path: Weight(
            (*range(members), *(a + members for a in one.members)),
            tuple(a + members for a in one.into),
            tuple(a + members for a in one.out),
        )
        for path, one in weights.items()
    }


def _each(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """The function of each member's matrix and vector; without `vmap` where there is one alone."""
    if len(arrays[0]) == 1:
        return function(*(x[0] for x in arrays))[None]
    return jax.vmap(function)(*arrays)


def _iterate(matrices: jax.Array, u: jax.Array, iterations: int) -> jax.Array:
    def one(matrix: jax.Array, u: jax.Array) -> jax.Array:
        for _ in range(iterations):
            v = matrix @ u
            u = _unit(_unit(v, v) @ matrix, u)
        return u

    made = _each(one, jax.lax.stop_gradient(matrices), u.reshape(len(matrices), -1))
    return made.reshape(u.shape)


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

    A weight is a parameter by which the inputs, or what became of them, are multiplied in a product
    of matrices or a convolution, or of which they pick rows (an embedding). The program that the
    network computes tells, whatever the parameter's name and shape: what is added, such as the bias
    [heads, dim] of attention, or scales number by number, such as a layer norm's scale, stays as it
    is. As a matrix a weight has the axes that its inputs are summed over, and those of its outputs:

        dense           [in, out], and DenseGeneral's (in, heads, dim) as in × heads · dim
        attention       (heads, dim, out) as heads · dim × out
        convolution     [rows, columns, C, D] as rows · columns · C × D
        embedding       [classes, D]
        several         each member of an ensemble, each layer under a scan or a `vmap`, and each
                        of several matrices that an index picks, by itself: in [n, in, out] the
                        first axis counts matrices

    A weight whose σ is 0 stays as it is. The vectors u are the world's `spectral/<player>`; they
    move when the player's own loss evaluates its network, and nobody else's evaluation moves them.
    A GAN's critic, or a Q-function, so has a slope of at most the product of its activations' ones.

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
            features with weights like the actor's params: it has no layers to normalise. From
            `init`, a parameter that is a different matrix in different places.

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

    layouts: dict[Any, dict[str, Weight]] = {}

    def layout(params: PyTree, world: World, inputs: Any, key: Key | None) -> dict[str, Weight]:
        """The weights, read off the network's program once for all calls of one shape."""
        shapes = jax.tree_util.tree_leaves_with_path((params, inputs))
        known = tuple((jax.tree_util.keystr(path), x.shape, str(x.dtype)) for path, x in shapes)
        if known not in layouts:
            # Of an ensemble one member is read: all have the same layers.
            one, members = base.single, base.members
            if one is not None:
                lead = (0,) * members
                params, world = jax.tree.map(lambda x: x[lead], (params, world))

            def output(params: PyTree, rest: Any, inputs: Any) -> PyTree:
                return (one or base.apply)(params, rest[0], *inputs, key=rest[1])[0]

            try:
                found = weights_of(
                    output, params, (world, key), inputs, members if one is None else 0
                )
            except ValueError as error:
                raise ValueError(f"spectral_norm: {player}: {error}") from None
            layouts[known] = found if one is None else _behind(found, members)
        return layouts[known]

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
