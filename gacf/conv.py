"""Convolutions that keep the speed of matrix products on a CPU (L1).

XLA's own convolutions fall off a cliff on a CPU once they are differentiated inside a loop, by the
gradient in the weights most of all. Here a convolution is a matrix product over patches, which are
static slices, wherever the program is lowered for a CPU, and XLA's own on every other platform.
Both are made of ordinary operations, so derivatives of every order and mode come with them.

Shapes: B batch, H and W height and width, C channels in, D channels out; images are [B, H, W, C].
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from flax.linen.dtypes import promote_dtype
from jax import lax

from gacf.types import lookup

Pair = tuple[int, int]
Pads = Sequence[Pair]
Form = Callable[[jax.Array, jax.Array, Pair, Pads], jax.Array]

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _blocks(x: jax.Array, block: Pair) -> jax.Array:
    """Space to depth: [B, H, W, C] -> [B, H/h, W/w, h·w·C]."""
    (b, height, width, c), (h, w) = x.shape, block
    x = x.reshape(b, height // h, h, width // w, w, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, height // h, width // w, h * w * c)


def _pixels(x: jax.Array, block: Pair) -> jax.Array:
    """Depth to space: [B, H, W, h·w·C] -> [B, H·h, W·w, C]."""
    (b, height, width, c), (h, w) = x.shape, block
    x = x.reshape(b, height, width, h, w, c // (h * w)).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, height * h, width * w, c // (h * w))


def _padded(x: jax.Array, pads: Pads) -> jax.Array:
    """With zeros around height and width; a negative number crops."""
    config = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _patches(x: jax.Array, window: Pair, strides: Pair, out: Pair) -> jax.Array:
    """[B, *out, window's rows · columns · C]."""
    (b, _, _, c), (h, w) = x.shape, strides
    rows, columns = (s * (o - 1) + 1 for s, o in zip(strides, out, strict=True))
    slices = [
        lax.slice(x, (0, i, j, 0), (b, i + rows, j + columns, c), (1, h, w, 1))
        for i in range(window[0])
        for j in range(window[1])
    ]
    return slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)


def _matmul_conv(x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads) -> jax.Array:
    rows, columns, c, d = kernel.shape
    h, w = strides
    sizes = list(zip(x.shape[1:3], (rows, columns), strides, pads, strict=True))
    out_rows, out_columns = ((n + low + high - k) // s + 1 for n, k, s, (low, high) in sizes)
    out = (out_rows, out_columns)
    # exactly the rows and columns that the windows touch
    needed = [s * (o - 1) + k for o, (_, k, s, _) in zip(out, sizes, strict=True)]
    crops = [(low, m - n - low) for m, (n, _, _, (low, _)) in zip(needed, sizes, strict=True)]
    x = _padded(x, crops)
    if strides != (1, 1) and rows % h == 0 and columns % w == 0:
        # the same as stride 1 over blocks of pixels: fewer, wider slices
        x = _blocks(x, strides)
        kernel = kernel.reshape(rows // h, h, columns // w, w, c, d).transpose(0, 2, 1, 3, 4, 5)
        patches = _patches(x, (rows // h, columns // w), (1, 1), out)
    else:
        patches = _patches(x, (rows, columns), strides, out)
    # one matrix product: a contraction over several axes is slower, its gradient above all
    flat = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, d)
    return flat.reshape(x.shape[0], *out, d)


def _matmul_transposed(x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads) -> jax.Array:
    """Each pixel writes its window, and windows are added where they overlap: no zero is inserted.

    With windows of k pixels, pixel m writes x[m] K[k − 1 − t] to place s m + t for t < k. Windows
    are cut into blocks of s pixels, of which ⌈k/s⌉ shifted images are added, and the sum is
    brought from depth to space.
    """
    rows, columns, c, d = kernel.shape
    h, w = strides
    taps = (-(-rows // h), -(-columns // w))
    fill = [(0, taps[0] * h - rows, 0), (0, taps[1] * w - columns, 0), (0, 0, 0), (0, 0, 0)]
    kernel = lax.pad(kernel[::-1, ::-1], jnp.zeros((), kernel.dtype), fill)
    kernel = kernel.reshape(taps[0], h, taps[1], w, c, d).transpose(4, 0, 2, 1, 3, 5)
    windows = (x.reshape(-1, c) @ kernel.reshape(c, -1)).reshape(*x.shape[:3], *taps, h * w * d)
    shifted = [
        _padded(windows[:, :, :, i, j], [(i, taps[0] - 1 - i), (j, taps[1] - 1 - j)])
        for i in range(taps[0])
        for j in range(taps[1])
    ]
    y = _pixels(functools.reduce(jnp.add, shifted), strides)
    crops = []
    for n, made, k, s, (low, high) in zip(
        x.shape[1:3], y.shape[1:3], (rows, columns), strides, pads, strict=True
    ):
        length = s * (n - 1) + low + high - k + 2
        crops.append((low - k + 1, length - made - (low - k + 1)))
    return _padded(y, crops)


def _lax_conv(x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=DIMENSIONS)


def _lax_transposed(x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, strides, None, DIMENSIONS)


def _by_platform(matmul: Form, native: Form) -> dict[str, Form]:
    def auto(x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads) -> jax.Array:
        def fixed(form: Form) -> Callable[[jax.Array, jax.Array], jax.Array]:
            return lambda x, kernel: form(x, kernel, strides, pads)

        return lax.platform_dependent(x, kernel, cpu=fixed(matmul), default=fixed(native))

    return {"auto": auto, "matmul": matmul, "lax": native}


CONV = _by_platform(_matmul_conv, _lax_conv)
TRANSPOSED = _by_platform(_matmul_transposed, _lax_transposed)


def _pair(argument: str, given: int | Sequence[int]) -> Pair:
    pair = (given, given) if isinstance(given, int) else tuple(given)
    if len(pair) != 2 or any(n < 1 for n in pair):
        raise ValueError(f"{argument}: {given!r} was given; allowed: one or two whole numbers >= 1")
    return pair


def _checked(x: jax.Array, kernel: jax.Array) -> None:
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[-1] != kernel.shape[2]:
        raise ValueError(
            f"conv: shapes {x.shape} and {kernel.shape} were given; "
            "allowed: images [B, H, W, C] and a kernel [rows, columns, C, D]"
        )


def _named(padding: str) -> str:
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
        implementation: "matmul" over patches, XLA's own "lax", or "auto": the first on a CPU and
            the second elsewhere, chosen when the program is lowered.

    Returns:
        [B, H', W', D], equal to `lax.conv_general_dilated` but for rounding.

    Raises:
        ValueError: shapes that do not fit, or an unknown name.

    Example:
        >>> import jax.numpy as jnp
        >>> conv(jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)), strides=2)[0, :, :, 0].tolist()
        [[4.0, 4.0], [4.0, 4.0]]
    """
    form = lookup("implementation", implementation, CONV)
    _checked(x, kernel)
    steps = _pair("strides", strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], steps, _named(padding))
    return form(x, kernel, steps, [(int(low), int(high)) for low, high in padding])


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: str | Pads = "SAME",
    implementation: str = "auto",
) -> jax.Array:
    """A convolution of images spread by zeros between pixels; "SAME" makes them s times larger.

    Args:
        x: [B, H, W, C].
        kernel: [rows, columns, C, D].
        strides: by how much the images grow, (h, w), or one number for both.
        padding: "SAME", "VALID", or zeros around the spread image ((top, bottom), (left, right)).
        implementation: as for `conv`.

    Returns:
        [B, H', W', D], equal to `lax.conv_transpose` but for rounding.

    Raises:
        ValueError: shapes that do not fit, or an unknown name.

    Example:
        >>> import jax.numpy as jnp
        >>> conv_transpose(jnp.ones((1, 7, 7, 8)), jnp.ones((4, 4, 8, 3)), strides=2).shape
        (1, 14, 14, 3)
    """
    form = lookup("implementation", implementation, TRANSPOSED)
    _checked(x, kernel)
    steps = _pair("strides", strides)
    if isinstance(padding, str):
        same = _named(padding) == "SAME"
        padding = [_spread(k, s, same) for k, s in zip(kernel.shape[:2], steps, strict=True)]
    return form(x, kernel, steps, [(int(low), int(high)) for low, high in padding])


def _spread(window: int, stride: int, same: bool) -> Pair:
    """Zeros around the spread image, by the convention of `lax.conv_transpose`."""
    if not same:
        return window - 1, max(window, stride) - 1
    total = window + stride - 2
    low = window - 1 if stride > window - 1 else -(-total // 2)
    return low, total - low


class Conv(linen.Module):
    """`flax.linen.Conv` of images, with the same parameters, by `conv`.

    Attributes:
        features: channels out, D.
        kernel_size: (rows, columns) of the window.
        strides: as for `conv`.
        padding: as for `conv`.
        use_bias: whether a number is added to each channel.
        dtype: of the computation; that of inputs and weights together, by default.
        param_dtype: of the weights.
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
