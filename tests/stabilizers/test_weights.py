"""Which parameters are weights, and of which matrix, for layers of many kinds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from gacf.networks import MLP, computed_in, ensemble, model
from gacf.networks.conv import Conv, ConvTranspose
from gacf.stabilizers import spectral_norm
from gacf.stabilizers.weights import weights_of

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 6, 8))
IMAGES = jax.random.normal(jax.random.key(2), (2, 4, 4, 3))
ROW = X[:, 0]


def found(network: Any, *inputs: Any) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Path -> (members, into, out), every parameter that is a weight."""
    made = model("critic", network)
    params, world = jax.eval_shape(made.init, KEY, *inputs)
    weights = weights_of(
        lambda p, rest, x: made.apply(p, rest[0], *x, key=rest[1])[0],
        params, (world, KEY), inputs, made.members,
    )  # fmt: skip
    return {path.replace("']['", "/").strip("[]'"): tuple(w) for path, w in weights.items()}


DENSE = ((), (0,), (1,))
CONV = ((), (0, 1, 2), (3,))


class Stack(linen.Module):
    """Three layers under one scan."""

    axis: int = 0

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        class Block(linen.Module):
            @linen.compact
            def __call__(self, x: jax.Array, _: None) -> Any:
                scale = self.param("scale", linen.initializers.ones, (8,))
                return linen.tanh(linen.Dense(8)(x) * scale[None]), None

        over = {"variable_axes": {"params": self.axis}, "split_rngs": {"params": True}}
        return linen.scan(Block, **over, length=3)(name="block")(x, None)[0]


class Twins(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kind = linen.vmap(
            MLP, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None,
            out_axes=1, axis_size=2,
        )  # fmt: skip
        return kind((5,), name="twin")(x)


class Mixture(linen.Module):
    """Each example by the expert that it names; a code of its place, added; labels projected."""

    @linen.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        experts = self.param("experts", linen.initializers.normal(), (5, 8, 3))
        place = self.param("place", linen.initializers.normal(), (1, 8))
        gain = self.param("gain", linen.initializers.ones, (1, 8))
        rows = linen.Embed(5, 3, name="label")(label)
        made = jnp.einsum("bi,bio->bo", (x + place) * gain, experts[label])
        return jnp.sum(rows * made, axis=-1)


class Two(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(8, 3, rngs=rngs)
        self.norm = nnx.LayerNorm(3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.first(x))


def pair(apply: Any, **shapes: tuple[int, ...]) -> Any:
    def init(key: Any) -> Any:
        return {n: jax.random.normal(key, s) for n, s in shapes.items()}

    return init, apply


@pytest.mark.parametrize(
    ("network", "inputs", "wanted"),
    [
        (MLP((5,)), (ROW,), {"Dense_0/kernel": DENSE, "Dense_1/kernel": DENSE}),
        (linen.DenseGeneral((2, 4)), (ROW,), {"kernel": ((), (0,), (1, 2))}),
        (linen.MultiHeadDotProductAttention(num_heads=2), (X,), {
            **{f"{name}/kernel": ((), (0,), (1, 2)) for name in ("query", "key", "value")},
            "out/kernel": ((), (0, 1), (2,)),
        }),
        (linen.Conv(5, (3, 2)), (IMAGES,), {"kernel": CONV}),
        (linen.ConvTranspose(5, (3, 2)), (IMAGES,), {"kernel": CONV}),
        (Conv(5, (3, 2)), (IMAGES,), {"kernel": CONV}),
        (ConvTranspose(5, (3, 2)), (IMAGES,), {"kernel": CONV}),
        (ensemble(Conv(5, (3, 2)), 2), (IMAGES,), {"kernel": ((0,), (1, 2, 3), (4,))}),
        (ensemble(linen.Dense(1), 3), (ROW,), {"kernel": ((0,), (1,), (2,))}),
        (computed_in("bfloat16", ensemble(MLP((5,)), 3)), (ROW,), {
            f"Dense_{i}/kernel": ((0,), (1,), (2,)) for i in range(2)
        }),
        (Stack(), (ROW,), {"block/Dense_0/kernel": ((0,), (1,), (2,))}),
        (Stack(1), (ROW,), {"block/Dense_0/kernel": ((1,), (0,), (2,))}),
        (Twins(), (ROW,), {f"twin/Dense_{i}/kernel": ((0,), (1,), (2,)) for i in range(2)}),
        (linen.RNN(linen.GRUCell(3)), (X,), {
            f"cell/{name}/kernel": DENSE for name in ("in", "ir", "iz", "hn", "hr", "hz")
        }),
        (linen.RNN(linen.OptimizedLSTMCell(3)), (X,), {
            f"cell/{way}{gate}/kernel": DENSE for way in "ih" for gate in "ifgo"
        }),
        (linen.remat(MLP)((5,)), (ROW,), {"Dense_0/kernel": DENSE, "Dense_1/kernel": DENSE}),
        (linen.WeightNorm(linen.Dense(3)), (ROW,), {"layer_instance/kernel": DENSE}),
        (Mixture(), (ROW, jnp.arange(4)), {
            "experts": ((0,), (1,), (2,)), "label/embedding": DENSE,
        }),
        (Two, (ROW,), {"first/kernel": DENSE}),
        (pair(lambda p, x: jnp.tanh(x @ p["w"].T) + p["b"], w=(3, 8), b=(1, 3)), (ROW,), {
            "w": ((), (1,), (0,)),
        }),
        (pair(lambda p, x: x @ (p["w"] / jnp.linalg.norm(p["w"])), w=(8, 3)), (ROW,), {"w": DENSE}),
        (pair(lambda p, x: x @ p["w"], w=(8,)), (ROW,), {"w": ((), (0,), ())}),
        (ensemble(pair(lambda p, x: x @ p["w"], w=(8,)), 3), (ROW,), {"w": ((0,), (1,), ())}),
        (pair(lambda p, x: x @ p["w"][0] @ p["w"][1], w=(2, 8, 8)), (ROW,), {
            "w": ((0,), (1,), (2,)),
        }),
        (pair(lambda p, x: jnp.sum(x[:, :, None] * p["w"][None], axis=1), w=(8, 3)), (ROW,), {
            "w": DENSE,
        }),
    ],
    ids=lambda x: type(x).__name__,
)  # fmt: skip
def test_what_is_a_weight(network: Any, inputs: Any, wanted: Any):
    with jax.numpy_rank_promotion("allow"):  # inside of Flax's own layers
        assert found(network, *inputs) == wanted


def test_a_parameter_of_several_matrices_is_refused():
    network = pair(lambda p, x: x @ p[:64].reshape(8, 8) @ p[64:].reshape(8, 8), w=(128,))
    flat = (lambda key: network[0](key)["w"], network[1])
    with pytest.raises(ValueError, match=r"spectral_norm: critic: params: the network multiplies"):
        spectral_norm(flat).init(KEY, ROW)
    with pytest.raises(ValueError, match=r"params\['w'\]: the network multiplies by it in"):
        turned = pair(lambda p, x: x @ p["w"] @ (p["w"] + p["w"].T), w=(8, 8))
        spectral_norm(turned).init(KEY, ROW)


def norms(matrices: Any) -> Any:
    return np.linalg.svd(np.asarray(matrices), compute_uv=False)[..., 0]


@pytest.mark.long
def test_each_member_has_norm_one():
    """By its singular values, where one norm for all members would leave others below 1."""
    several = spectral_norm(ensemble(linen.Dense(7, use_bias=False), 3), iterations=20)
    params, world = several.init(KEY, jnp.eye(5))
    scale = jnp.array([0.1, 1.0, 10.0])[:, None, None]
    made, _ = several.apply({"kernel": params["kernel"] * scale}, world, jnp.eye(5))
    np.testing.assert_allclose(norms(np.moveaxis(made, 1, 0)), 1, rtol=1e-3)


@pytest.mark.long
def test_heads_are_one_matrix():
    x = jnp.eye(6)
    heads = spectral_norm(linen.DenseGeneral((2, 4), use_bias=False), iterations=20)
    params, world = heads.init(KEY, x)
    made, _ = heads.apply(params, world, x)
    kernel = np.asarray(params["kernel"])
    np.testing.assert_allclose(made, kernel / norms(kernel.reshape(6, 8)), rtol=1e-3)
    back = spectral_norm(linen.DenseGeneral(3, axis=(-2, -1), use_bias=False), iterations=20)
    y = jnp.eye(8).reshape(8, 2, 4)
    params, world = back.init(KEY, y)
    made, _ = back.apply(params, world, y)
    np.testing.assert_allclose(norms(made), 1, rtol=1e-2)
    kernel = np.asarray(params["kernel"]).reshape(8, 3)
    np.testing.assert_allclose(made, kernel / norms(kernel), rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6, 1.0, 1e6])
def test_weights_of_any_size(size: float):
    """0 stays 0 with a gradient of its own size; all others have norm 1, however small."""
    judge = spectral_norm(linen.Dense(3, use_bias=False), iterations=20)
    params, world = judge.init(KEY, jnp.eye(4))
    params = jax.tree.map(lambda w: w * size, params)
    made, news = judge.apply(params, world, jnp.eye(4))
    np.testing.assert_allclose(norms(made), float(size > 0), rtol=1e-3)
    ((_, u),) = news["spectral/critic"].items()
    np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-5)  # it finds the norm later on
    slope = jax.grad(lambda p: judge.apply(p, world, jnp.eye(4))[0][0, 0])(params)["kernel"]
    assert np.isfinite(slope).all()
    if not size:
        np.testing.assert_array_equal(slope, np.arange(12).reshape(4, 3) == 0)


@pytest.mark.long
def test_as_flax_normalises_a_matrix():
    layer = linen.Dense(5)
    theirs = linen.SpectralNorm(layer, n_steps=60)
    kept = theirs.init(KEY, ROW, update_stats=True)
    wanted, _ = theirs.apply(kept, ROW, update_stats=True, mutable=["batch_stats"])
    ours = spectral_norm(layer, iterations=60)
    params, world = ours.init(KEY, ROW)
    own = kept["params"]["layer_instance"]
    np.testing.assert_allclose(ours.apply(own, world, ROW)[0], wanted, rtol=1e-3, atol=1e-5)
    assert set(params) == set(own)
