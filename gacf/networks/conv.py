"""Convolutions that keep the speed of matrix products on a CPU.

XLA's own convolutions become very slow on a CPU when they are differentiated inside a loop, most of
all the gradient in the weights. Here they are matrix products if the program is lowered for a CPU,
and XLA's own on every other platform.

The trilinear form ⟨y, k ∗ x⟩ has three bilinear maps: from an image and a kernel to an output (a
convolution), from an output and a kernel to an image (a transposed convolution), and from an image
and an output to a kernel (the gradient in the weights). The derivatives of each are the other two.
So each is a JAX primitive that is written once, in the fastest way, and together they provide
derivatives of every order and mode.

Shapes: B batch, H and W height and width, C channels in, D channels out; images are [B, H, W, C].
The primitives have one more axis in front, N, which counts kernels and which `vmap` fills.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from gacf.core.checks import lookup

Pair = tuple[int, int]
Pads = Sequence[Pair]

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
IMPLEMENTATIONS = ("auto", "matmul", "lax")


class Geometry(NamedTuple):
    """The positions of the windows of a convolution.

    Attributes:
        size: height and width of the image, (H, W).
        window: rows and columns of the window.
        strides: (h, w).
        pads: zeros above and below, left and right; a negative number crops.
    """

    size: Pair
    window: Pair
    strides: Pair
    pads: tuple[Pair, Pair]

    @property
    def out(self) -> Pair:
        """Height and width of the output."""
        sides = zip(self.size, self.window, self.strides, self.pads, strict=True)
        rows, columns = ((n + low + high - k) // s + 1 for n, k, s, (low, high) in sides)
        return rows, columns


Form = Callable[[jax.Array, jax.Array, Geometry], jax.Array]


def _padded(x: jax.Array, pads: Pads) -> jax.Array:
    """The images with zeros around height and width; a negative number crops them."""
    config = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _patches(x: jax.Array, at: Geometry) -> jax.Array:
    """[B · outputs, rows · columns · C]."""
    (rows, columns), (h, w), (b, c) = at.window, at.strides, (x.shape[0], x.shape[-1])
    out = at.out
    # exactly the rows and columns that the windows touch
    needed = [s * (o - 1) + k for o, k, s in zip(out, at.window, at.strides, strict=True)]
    sides = zip(needed, at.size, at.pads, strict=True)
    x = _padded(x, [(low, m - n - low) for m, n, (low, _) in sides])
    if columns % w == 0:
        # w neighbours in a row lie next to each other in memory: fewer and longer pieces
        x = x.reshape(b, needed[0], needed[1] // w, w * c)
        columns, w = columns // w, 1
    last = [s * (o - 1) + 1 for o, s in zip(out, (h, w), strict=True)]
    pieces = [
        lax.slice(x, (0, i, j, 0), (b, i + last[0], j + last[1], x.shape[-1]), (1, h, w, 1))
        for i in range(rows)
        for j in range(columns)
    ]
    # stacked along a new axis, pieces are copied as a whole and not number by number
    return jnp.stack(pieces, axis=3).reshape(b * out[0] * out[1], -1)


def _matmul_output(x: jax.Array, kernel: jax.Array, at: Geometry) -> jax.Array:
    output = _patches(x, at) @ kernel.reshape(-1, kernel.shape[-1])
    return output.reshape(x.shape[0], *at.out, kernel.shape[-1])


def _matmul_image(y: jax.Array, kernel: jax.Array, at: Geometry) -> jax.Array:
    """Each output writes its window into the image, and windows are added where they overlap.

    Windows are cut into blocks of h × w pixels. So the image is the sum of
    ⌈rows / h⌉ · ⌈columns / w⌉ shifted images.
    """
    (rows, columns, c, d), (h, w), b = kernel.shape, at.strides, y.shape[0]
    down, right = -(-rows // h), -(-columns // w)
    fill = [(0, down * h - rows, 0), (0, right * w - columns, 0), (0, 0, 0), (0, 0, 0)]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), fill)
    windows = lax.dot_general(y.reshape(-1, d), kernel.reshape(-1, d), (((1,), (1,)), ((), ())))
    windows = windows.reshape(b, *at.out, down, h, right, w * c)
    lines = [
        functools.reduce(
            jnp.add,
            [
                _padded(windows[:, :, :, i, u, j], [(i, down - 1 - i), (j, right - 1 - j)])
                for i in range(down)
                for j in range(right)
            ],
        )
        for u in range(h)
    ]
    image = jnp.stack(lines, axis=2)
    image = image.reshape(b, image.shape[1] * h, image.shape[3] * w, c)
    sides = zip(at.size, image.shape[1:3], at.pads, strict=True)
    return _padded(image, [(-low, n + low - m) for n, m, (low, _) in sides])


def _matmul_kernel(x: jax.Array, y: jax.Array, at: Geometry) -> jax.Array:
    patches, d = _patches(x, at), y.shape[-1]
    outputs = y.reshape(-1, d)
    rows = lambda a, b: lax.dot_general(a, b, (((0,), (0,)), ((), ())))  # noqa: E731
    if patches.shape[-1] > d:
        # twice as fast with the smaller side first; the barrier keeps XLA from undoing this
        kernel = lax.optimization_barrier(rows(outputs, patches)).T
    else:
        kernel = rows(patches, outputs)
    return kernel.reshape(*at.window, x.shape[-1], d)


def _lax_output(x: jax.Array, kernel: jax.Array, at: Geometry) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, at.strides, at.pads, dimension_numbers=DIMENSIONS)


def _lax_image(y: jax.Array, kernel: jax.Array, at: Geometry) -> jax.Array:
    image = jax.ShapeDtypeStruct((y.shape[0], *at.size, kernel.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _lax_output(x, kernel, at), image)(y)[0]


def _lax_kernel(x: jax.Array, y: jax.Array, at: Geometry) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((*at.window, x.shape[-1], y.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _lax_output(x, kernel, at), kernel)(y)[0]


def _over_kernels(form: Form, a: jax.Array, b: jax.Array, at: Geometry) -> jax.Array:
    each = lambda a, b: form(a, b, at)  # noqa: E731
    return each(a[0], b[0])[None] if a.shape[0] == 1 else jax.vmap(each)(a, b)


def _primitive(
    name: str, matmul: Form, native: Form, shape: Callable[..., tuple[int, ...]], shared: bool
) -> Primitive:
    """The primitive of one of the three maps.

    Args:
        name: the name of the primitive.
        matmul: the map on a CPU.
        native: the map on other platforms.
        shape: `(shape of the first argument, of the second, geometry) -> shape of the result`,
            all without the axis N.
        shared: whether several first arguments with the same second one can be joined to one batch.
    """
    primitive = Primitive(name)
    forms = {
        how: functools.partial(_over_kernels, f)
        for how, f in zip(("matmul", "lax"), (matmul, native), strict=True)
    }

    def run(own: str) -> Callable[..., jax.Array]:
        return lambda a, b, *, at, how: forms[own if how == "auto" else how](a, b, at=at)

    def evaluate(a: jax.Array, b: jax.Array, *, at: Geometry, how: str) -> jax.Array:
        if how != "auto":
            return forms[how](a, b, at=at)
        cpu, default = (functools.partial(forms[h], at=at) for h in ("matmul", "lax"))
        return lax.platform_dependent(a, b, cpu=cpu, default=default)

    def abstract(a: Any, b: Any, *, at: Geometry, how: str) -> Any:
        result = shape(a.shape[1:], b.shape[1:], at)
        return a.update(shape=(a.shape[0], *result), weak_type=False)

    def batch(
        arguments: Sequence[jax.Array], axes: Sequence[int | None], **more: Any
    ) -> tuple[jax.Array, int]:
        (a, b), (i, j) = arguments, axes
        if shared and i is not None and j is None:
            a = jnp.moveaxis(a, i, 1)
            result = primitive.bind(a.reshape(a.shape[0], -1, *a.shape[3:]), b, **more)
            return result.reshape(*a.shape[:3], *result.shape[2:]), 1
        size = next(x.shape[k] for x, k in zip(arguments, axes, strict=True) if k is not None)
        a, b = (
            jnp.broadcast_to(x, (size, *x.shape)) if k is None else jnp.moveaxis(x, k, 0)
            for x, k in zip(arguments, axes, strict=True)
        )
        kernels = a.shape[:2]
        result = primitive.bind(*(x.reshape(-1, *x.shape[2:]) for x in (a, b)), **more)
        return result.reshape(*kernels, *result.shape[1:]), 0

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(abstract)
    batching.primitive_batchers[primitive] = batch
    for platform, own in {"cpu": "matmul", None: "lax"}.items():
        rule = mlir.lower_fun(run(own), multiple_results=False)
        mlir.register_lowering(primitive, rule, platform=platform)
    return primitive


output_p = _primitive(
    "conv_output", _matmul_output, _lax_output,
    lambda x, kernel, at: (x[0], *at.out, kernel[-1]), True,
)  # fmt: skip
image_p = _primitive(
    "conv_image", _matmul_image, _lax_image,
    lambda y, kernel, at: (y[0], *at.size, kernel[2]), True,
)  # fmt: skip
kernel_p = _primitive(
    "conv_kernel", _matmul_kernel, _lax_kernel,
    lambda x, y, at: (*at.window, x[-1], y[-1]), False,
)  # fmt: skip
ad.defbilinear(
    output_p,
    lambda y, x, kernel, **more: image_p.bind(y, kernel, **more),
    lambda y, x, kernel, **more: kernel_p.bind(x, y, **more),
)
ad.defbilinear(
    image_p,
    lambda x, y, kernel, **more: output_p.bind(x, kernel, **more),
    lambda x, y, kernel, **more: kernel_p.bind(x, y, **more),
)
ad.defbilinear(
    kernel_p,
    lambda kernel, x, y, **more: image_p.bind(y, kernel, **more),
    lambda kernel, x, y, **more: output_p.bind(x, kernel, **more),
)


def _bind(primitive: Primitive, x: jax.Array, kernel: jax.Array, **more: Any) -> jax.Array:
    x, kernel = promote_dtype(x, kernel)
    # inside `shard_map`, one of the two may vary between devices while the other does not
    spread = [jax.typeof(a).manual_axis_type.varying for a in (x, kernel)]
    x, kernel = (
        lax.pcast(a, tuple(frozenset().union(*spread) - own), to="varying") if own != other else a
        for a, own, other in ((x, *spread), (kernel, *spread[::-1]))
    )
    return primitive.bind(x[None], kernel[None], **more)[0]


def flops(equation: Any) -> float | None:
    """The floating-point operations of an equation with one of these primitives, otherwise None.

    A multiply-add counts as 2.
    """
    if equation.primitive not in (output_p, image_p, kernel_p):
        return None
    arguments, (result,) = (
        (v.aval.shape for v in equation.invars),
        (v.aval.shape for v in equation.outvars),
    )
    first, second = arguments
    y, kernel = {
        output_p: (result, second), image_p: (first, second), kernel_p: (second, result)
    }[equation.primitive]  # fmt: skip
    return 2.0 * math.prod(y) * math.prod(kernel[1:-1])


def _pair(argument: str, given: int | Sequence[int]) -> Pair:
    pair = (given, given) if isinstance(given, int) else tuple(given)
    if len(pair) != 2 or any(n < 1 for n in pair):
        raise ValueError(f"{argument}: {given!r} was given; allowed: one or two whole numbers >= 1")
    return pair


def _as_pair(values: Sequence[int]) -> Pair:
    first, second = values
    return first, second


def _arguments(
    x: jax.Array, kernel: jax.Array, strides: int | Sequence[int], implementation: str
) -> tuple[Pair, str]:
    """The strides and the implementation, after checks of all four."""
    how = lookup("implementation", implementation, {name: name for name in IMPLEMENTATIONS})
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[-1] != kernel.shape[2]:
        raise ValueError(
            f"conv: shapes {x.shape} and {kernel.shape} were given; "
            "allowed: images [B, H, W, C] and a kernel [rows, columns, C, D]"
        )
    return _pair("strides", strides), how


def _padding_name(padding: str) -> str:
    return lookup("padding", padding.upper(), {"SAME": "SAME", "VALID": "VALID"})


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: str | Pads = "SAME",
    implementation: str = "auto",
) -> jax.Array:
    """A convolution of images: y[b, i, j, d] = Σ_{u, v, c} x[b, h i + u, w j + v, c] k[u, v, c, d].

    Args:
        x: [B, H, W, C].
        kernel: [rows, columns, C, D].
        strides: (h, w), or one number for both.
        padding: "SAME", "VALID", or ((top, bottom), (left, right)).
        implementation: "matmul" over patches, XLA's own "lax", or "auto", which chooses when the
            program is lowered: the first on a CPU and the second elsewhere.

    Returns:
        [B, H', W', D], equal to `lax.conv_general_dilated` up to rounding.

    Raises:
        ValueError: the shapes do not fit each other, or a name is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> conv(jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)), strides=2)[0, :, :, 0].tolist()
        [[4.0, 4.0], [4.0, 4.0]]
    """
    steps, how = _arguments(x, kernel, strides, implementation)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], steps, _padding_name(padding))
    top, left = ((int(low), int(high)) for low, high in padding)
    at = Geometry(_as_pair(x.shape[1:3]), _as_pair(kernel.shape[:2]), steps, (top, left))
    return _bind(output_p, x, kernel, at=at, how=how)


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: str | Pads = "SAME",
    implementation: str = "auto",
) -> jax.Array:
    """A convolution of images with zeros between their pixels; "SAME" makes them s times larger.

    Args:
        x: [B, H, W, C].
        kernel: [rows, columns, C, D].
        strides: by how much the images grow, (h, w), or one number for both.
        padding: "SAME", "VALID", or the numbers of zeros around the image that is spread by zeros,
            ((top, bottom), (left, right)).
        implementation: as for `conv`.

    Returns:
        [B, H', W', D], equal to `lax.conv_transpose` up to rounding.

    Raises:
        ValueError: the shapes do not fit each other, or a name is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> conv_transpose(jnp.ones((1, 7, 7, 8)), jnp.ones((4, 4, 8, 3)), strides=2).shape
        (1, 14, 14, 3)
    """
    steps, how = _arguments(x, kernel, strides, implementation)
    if isinstance(padding, str):
        same = _padding_name(padding) == "SAME"
        padding = [_spread(k, s, same) for k, s in zip(kernel.shape[:2], steps, strict=True)]
    # the image of which x would be the output, with the kernel turned around
    size, pads = [], []
    for n, k, s, (low, high) in zip(x.shape[1:3], kernel.shape[:2], steps, padding, strict=True):
        size.append(s * (n - 1) + int(low) + int(high) - k + 2)
        above = k - 1 - int(low)
        pads.append((above, s * (n - 1) + k - size[-1] - above))
    at = Geometry(_as_pair(size), _as_pair(kernel.shape[:2]), steps, (pads[0], pads[1]))
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return _bind(image_p, x, turned, at=at, how=how)


def _spread(window: int, stride: int, same: bool) -> Pair:
    """The zeros around an image of `conv_transpose`, by the convention of `lax.conv_transpose`."""
    if not same:
        return window - 1, max(window, stride) - 1
    total = window + stride - 2
    low = window - 1 if stride > window - 1 else -(-total // 2)
    return low, total - low


class Conv(linen.Module):
    """`flax.linen.Conv` of images, with the same parameters, by `conv`.

    Attributes:
        features: the number of output channels, D.
        kernel_size: rows and columns of the window, or one number for both.
        strides: as for `conv`.
        padding: as for `conv`.
        use_bias: whether a number is added to each channel.
        dtype: the dtype of the computation; by default that of inputs and weights together.
        param_dtype: the dtype of the weights.
        kernel_init: initialiser of the kernel [rows, columns, C, D].
        bias_init: initialiser of the bias [D].
        implementation: as for `conv`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> layer, x = Conv(8, (4, 4), strides=2), jnp.ones((5, 28, 28, 1))
        >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
        >>> y.shape, variables["params"]["kernel"].shape
        ((5, 14, 14, 8), (4, 4, 1, 8))
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str | Pads = "SAME"
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] = linen.initializers.lecun_normal()
    bias_init: Callable[..., jax.Array] = linen.initializers.zeros_init()
    implementation: str = "auto"

    def form(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv(x, kernel, self.strides, self.padding, self.implementation)

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*_pair("kernel_size", self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            if self.use_bias
            else None
        )
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.form(x, kernel)
        return y if bias is None else y + bias[None, None, None]


class ConvTranspose(Conv):
    """`flax.linen.ConvTranspose` of images, with the same parameters, by `conv_transpose`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> layer, x = ConvTranspose(3, (4, 4), strides=2), jnp.ones((5, 7, 7, 8))
        >>> jax.eval_shape(layer.init_with_output, jax.random.key(0), x)[0].shape
        (5, 14, 14, 3)
    """

    def form(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv_transpose(x, kernel, self.strides, self.padding, self.implementation)
