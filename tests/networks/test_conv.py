"""Convolutions by matrix products against XLA's own: values, derivatives, platforms."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from gacf.networks.conv import Conv, ConvTranspose, conv, conv_transpose, flops

KEY = jax.random.key(0)

# (rows, columns, C), window, strides, padding
CASES = [
    ((6, 8, 3), (4, 4), 2, "SAME"),
    ((7, 5, 2), (3, 3), 1, "SAME"),
    ((7, 6, 2), (5, 3), 2, "VALID"),
    ((5, 7, 1), (2, 3), (2, 3), "VALID"),
    ((4, 5, 2), (1, 1), 1, "SAME"),
    ((6, 5, 2), (3, 2), (1, 2), ((2, 0), (1, 3))),
    ((5, 6, 2), (1, 2), 3, "SAME"),
]


def everything(function: Any, size: Any, window: Any, strides: Any, padding: Any) -> Any:
    """Output, first derivatives, and the derivative of these along a direction."""
    x_key, k_key, dx_key, dk_key = jax.random.split(KEY, 4)
    at = jax.random.normal(x_key, (2, *size)), jax.random.normal(k_key, (*window, size[-1], 3))
    along = tuple(
        jax.random.normal(key, a.shape) for key, a in zip((dx_key, dk_key), at, strict=True)
    )

    def loss(x: jax.Array, kernel: jax.Array, how: str) -> Any:
        y = function(x, kernel, strides, padding, how)
        return jnp.sum(jnp.sin(y)), y

    @jax.jit
    def both() -> Any:
        found = []
        for how in ("matmul", "lax"):
            slope = jax.grad(lambda *at: loss(*at, how=how)[0], (0, 1))
            first, second = jax.jvp(slope, at, along)
            found.append((loss(*at, how=how)[1], first, second))
        return found

    return both()


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_equals_xlas_own_with_two_derivatives(function, case):
    ours, theirs = everything(function, *case)
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.long
def test_by_hand():
    x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    kernel = jnp.array([[1.0, 10.0]]).reshape(1, 2, 1, 1)
    wanted = np.arange(12.0).reshape(3, 4)
    wanted = wanted[:, :-1] + 10 * wanted[:, 1:]
    np.testing.assert_array_equal(conv(x, kernel, padding="VALID")[0, :, :, 0], wanted)
    # each pixel writes 10, 1 into a window of its own (the kernel is not turned around)
    spread = conv_transpose(x[:, :1], kernel, (1, 2), "VALID")[0, 0, :, 0]
    np.testing.assert_array_equal(spread, [0, 0, 10, 1, 20, 2, 30, 3])


@pytest.mark.long
@pytest.mark.parametrize(
    ("ours", "theirs"), [(Conv, linen.Conv), (ConvTranspose, linen.ConvTranspose)]
)
@pytest.mark.parametrize(
    "options", [{"strides": (2, 2)}, {"padding": "VALID", "use_bias": False, "strides": (1, 1)}]
)
def test_layers_are_flaxs(ours, theirs, options):
    x = jax.random.normal(KEY, (2, 6, 6, 2))
    layers = [kind(3, (4, 4), **options) for kind in (ours, theirs)]
    params = [layer.init(KEY, x) for layer in layers]
    jax.tree.map(np.testing.assert_array_equal, *params)
    if options.get("use_bias", True):
        params[0]["params"]["bias"] += jnp.array([1.0, 2.0, 3.0])
    found, wanted = (layer.apply(params[0], x) for layer in layers)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_layers_compute_in_the_asked_dtype():
    x = jnp.ones((1, 4, 4, 2))
    for dtype, param_dtype, wanted in [
        (None, jnp.float32, jnp.float32),
        (jnp.bfloat16, jnp.float32, jnp.bfloat16),
        (None, jnp.bfloat16, jnp.float32),
    ]:
        layer = Conv(3, 3, dtype=dtype, param_dtype=param_dtype)
        y, variables = jax.eval_shape(layer.init_with_output, KEY, x)
        assert y.dtype == wanted
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(param_dtype)}


@pytest.mark.long
def test_under_scan_and_vmap():
    """Descent on many kernels at once, in a loop, as a run over seeds does it."""
    x = jax.random.normal(KEY, (3, 6, 6, 2))
    starts = jax.random.normal(KEY, (2, 4, 4, 2, 2))

    def descend(kernel: jax.Array, how: str) -> jax.Array:
        def loss(kernel: jax.Array) -> jax.Array:
            y = conv(x, kernel, 2, implementation=how)
            return jnp.mean(jnp.square(conv_transpose(y, kernel, 2, implementation=how) - x))

        def step(kernel: jax.Array, _: None) -> Any:
            return kernel - 0.003 * jax.grad(loss)(kernel), None

        return jax.lax.scan(step, kernel, length=3)[0]

    found = {how: jax.jit(jax.vmap(lambda k, h=how: descend(k, h)))(starts) for how in HOWS}
    assert np.abs(found["auto"] - starts).max() > 1e-2
    for end in found.values():
        np.testing.assert_allclose(end, found["lax"], rtol=1e-4, atol=1e-4)


HOWS = ("auto", "matmul", "lax")


@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_the_platform_decides(function):
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1))

    def lowered(how: str, platform: str) -> str:
        slope = jax.grad(lambda x, k: jnp.sum(function(x, k, 2, implementation=how) ** 2), (0, 1))
        traced = jax.jit(slope).trace(x, kernel)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    for how, platform, native in [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("matmul", "cuda", False),
        ("lax", "cpu", True),
    ]:
        text = lowered(how, platform)
        assert ("stablehlo.convolution" in text) == native, (how, platform)
        assert ("stablehlo.dot_general" in text) != native, (how, platform)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, k: conv(x, k, implementation="gemm"), "implementation: 'gemm' is unknown; "),
        (
            lambda x, k: conv(x, k, padding="SAEM"),
            "padding: 'SAEM' is unknown; did you mean 'SAME'",
        ),
        (lambda x, k: conv(x, k, 0), "strides: 0 was given; allowed: one or two whole numbers"),
        (lambda x, k: conv_transpose(x, k, (1, 2, 3)), r"strides: \(1, 2, 3\) was given"),
        (lambda x, k: conv(x[0], k), r"conv: shapes \(4, 4, 2\) and \(2, 2, 2, 3\) were given"),
        (lambda x, k: conv(x[..., :1], k), r"conv: shapes \(1, 4, 4, 1\) and \(2, 2, 2, 3\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((1, 4, 4, 2)), jnp.ones((2, 2, 2, 3)))


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("axes", [(0, None), (None, 3), (2, 1)])
@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_vmap_of_either_argument_before_and_after_derivatives(function, axes):
    many, (i, j) = 3, axes
    x, kernel = ((4, 5, 5, 2), (2, 2, 2, 3))
    x, kernel = (
        jax.random.normal(KEY, s if k is None else (*s[:k], many, *s[k:]))
        for s, k in ((x, i), (kernel, j))
    )

    def loss(x, kernel, how):
        return jnp.sum(jnp.sin(function(x, kernel, 2, implementation=how)))

    def found(how):
        one = lambda x, kernel: loss(x, kernel, how)  # noqa: E731
        inside = jax.vmap(jax.grad(one, (0, 1)), axes)(x, kernel)
        outside = jax.grad(lambda *a: jnp.sum(jax.vmap(one, axes)(*a)), (0, 1))(x, kernel)
        forward = jax.jvp(jax.vmap(jax.grad(one), axes), (x, kernel), (x, kernel))
        return inside, outside, forward

    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    jax.tree.map(close, found("auto"), found("lax"))


@pytest.mark.long
def test_the_jacobian_of_a_derivative_is_batched_once_more():
    x, kernel = jax.random.normal(KEY, (2, 4, 4, 1)), jax.random.normal(KEY, (2, 2, 1, 2))
    hessians = [
        jax.hessian(lambda k, how=how: jnp.sum(conv(x, k, implementation=how) ** 3))(kernel)
        for how in HOWS
    ]
    for one in hessians:
        np.testing.assert_allclose(one, hessians[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_within_shard_map_gradients_of_what_all_devices_share_are_summed():
    count, spec = len(jax.devices()), jax.sharding.PartitionSpec
    mesh = jax.make_mesh((count,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    x, kernel = jax.random.normal(KEY, (2 * count, 4, 4, 2)), jax.random.normal(KEY, (2, 2, 2, 3))

    def slope(x, kernel):
        return jax.grad(lambda k: jnp.sum(conv(x, k, 2) ** 2))(kernel)

    spread = jax.shard_map(slope, mesh=mesh, in_specs=(spec("i"), spec()), out_specs=spec())
    np.testing.assert_allclose(jax.jit(spread)(x, kernel), slope(x, kernel), rtol=1e-4)


def test_arithmetic_is_counted_the_same_forwards_and_backwards():
    x, kernel = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 4))
    forwards = jax.make_jaxpr(lambda x, k: conv(x, k, 2))(x, kernel)
    both = jax.make_jaxpr(jax.grad(lambda x, k: jnp.sum(conv(x, k, 2) ** 2), (0, 1)))(x, kernel)
    found = [sum(filter(None, map(flops, each.eqns))) for each in (forwards, both)]
    once = 2 * (2 * 3 * 3) * (3 * 3 * 3) * 4
    assert found == [once, 3 * once]
