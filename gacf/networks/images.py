"""Generators and critics of images: DCGAN-style and residual, conditional or not.

Images are [B, H, W, C]; height and width are multiples of 2 to the power of `stages`. All
convolutions are those of `gacf.networks.conv`, which are fast on a CPU as well. A critic yields one
logit per example, [B]. `gacf.stabilizers.spectral_norm` adds spectral normalisation to a critic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from gacf.core.checks import lookup, nearest
from gacf.networks.conv import Conv, ConvTranspose
from gacf.networks.labels import class_labels, one_hot

CONDITIONS = ("concatenation", "projection")
NORMS = ("batch", "layer", "instance", "none")

_dcgan = linen.initializers.normal(0.02)
_leaky = functools.partial(linen.leaky_relu, negative_slope=0.2)


def _norm(kind: str | bool) -> str:
    """A name in `NORMS`; True and False stand for "batch" and "none"."""
    if isinstance(kind, bool):
        return "batch" if kind else "none"
    return lookup("norm", kind, {name: name for name in NORMS})


def _normed(kind: str, x: jax.Array, train: bool, param_dtype: Any) -> jax.Array:
    """Images [B, H, W, C], normalised over the batch, each image, or each channel of an image."""
    if kind == "batch":
        return linen.BatchNorm(use_running_average=not train, param_dtype=param_dtype)(x)
    if kind == "layer":
        axes = (-3, -2, -1)
        return linen.LayerNorm(reduction_axes=axes, param_dtype=param_dtype)(x)
    if kind == "instance":
        return linen.InstanceNorm(param_dtype=param_dtype)(x)
    return x


def maxout(pieces: int) -> Callable[[jax.Array], jax.Array]:
    """The activation [..., pieces · D] -> [..., D] that keeps the largest of each `pieces` numbers.

    Reference:
        Goodfellow et al. 2013.

    Example:
        >>> import jax.numpy as jnp
        >>> maxout(2)(jnp.array([1.0, 3.0, -2.0, -5.0])).tolist()
        [3.0, -2.0]
        >>> from gacf.networks import MLP
        >>> critic = MLP((1000, 1000), activation=maxout(5))  # 200 units of 5 pieces
    """

    def activation(x: jax.Array) -> jax.Array:
        if x.shape[-1] % pieces:
            raise ValueError(
                f"maxout: width {x.shape[-1]} was given; allowed: multiples of {pieces}"
            )
        return jnp.max(x.reshape(*x.shape[:-1], -1, pieces), axis=-1)

    return activation


def _lowest(shape: Sequence[int], stages: int) -> tuple[int, int]:
    """Height and width after `stages` halvings."""
    height, width, *_ = shape
    if height % 2**stages or width % 2**stages:
        raise ValueError(
            f"shape: {tuple(shape)} was given; allowed: height and width that are multiples of "
            f"{2**stages}, 2 to the power of `stages`"
        )
    return height // 2**stages, width // 2**stages


def _check(classes: int | None, labels: tuple[jax.Array, ...]) -> None:
    if len(labels) != (classes is not None):
        raise ValueError(
            f"label: {len(labels)} inputs after the first were given; allowed: "
            + ("none, since `classes` is None" if classes is None else "one, of labels [B]")
        )


def _with_labels(classes: int | None, noise: jax.Array, labels: tuple[jax.Array, ...]) -> jax.Array:
    """Noise [B, Z], or with the label's one-hot code appended."""
    _check(classes, labels)
    if classes is None:
        return noise
    return jnp.concatenate([noise, one_hot(labels[0], classes, noise.dtype)], axis=-1)


def _with_label_maps(
    classes: int | None, condition: str, x: jax.Array, labels: tuple[jax.Array, ...]
) -> jax.Array:
    """Images; "concatenation" appends one channel per class, which is 1 for the image's own."""
    _check(classes, labels)
    if condition not in CONDITIONS:
        raise ValueError(f"condition: {condition!r} is unknown; {nearest(condition, CONDITIONS)}")
    if classes is None or condition == "projection":
        return x
    code = one_hot(labels[0], classes, x.dtype)[:, None, None]
    return jnp.concatenate([x, jnp.broadcast_to(code, (*x.shape[:3], classes))], axis=-1)


class _Verdict(linen.Module):
    """v = w·φ + b, or with a projection v = w·φ + b + e_y·φ (Miyato & Koyama 2018, eq. 3)."""

    classes: int | None
    condition: str
    param_dtype: Any

    @linen.compact
    def __call__(self, features: jax.Array, *labels: jax.Array) -> jax.Array:
        verdict = linen.Dense(1, param_dtype=self.param_dtype)(features)[:, 0]
        if self.classes is None or self.condition != "projection":
            return verdict
        embed = linen.Embed(self.classes, features.shape[-1], param_dtype=self.param_dtype)
        rows = class_labels(labels[0], self.classes)
        return verdict + jnp.sum(embed(rows) * features, axis=-1)


class DCGANGenerator(linen.Module):
    """Noise [B, Z] -> images [B, *shape] in (−1, 1), by transposed convolutions of 4 × 4.

    Attributes:
        shape: the shape of an image, (H, W, C).
        width: the channels of the last hidden layer; each layer before it has twice as many.
        stages: how often height and width are doubled.
        classes: the number of classes K, if the network takes `(noise, label [B])`; otherwise None.
        norm: whether hidden layers are batch normalised.
        param_dtype: the dtype of the weights.

    Reference:
        Radford et al. 2016; the class is appended to the noise as by Mirza & Osindero 2014.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> generator, noise = DCGANGenerator((28, 28, 1)), jnp.zeros((2, 16))
        >>> make = lambda: generator.init_with_output(jax.random.key(0), noise, train=True)[0]
        >>> jax.eval_shape(make).shape
        (2, 28, 28, 1)
    """

    shape: Sequence[int]
    width: int = 64
    stages: int = 2
    classes: int | None = None
    norm: bool = True
    param_dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, noise: jax.Array, *labels: jax.Array, train: bool) -> jax.Array:
        x = _with_labels(self.classes, noise, labels)
        low = _lowest(self.shape, self.stages)
        weights = {"param_dtype": self.param_dtype, "kernel_init": _dcgan}
        width = self.width * 2 ** (self.stages - 1)
        x = linen.Dense(math.prod(low) * width, use_bias=not self.norm, **weights)(x)
        x = x.reshape(-1, *low, width)
        for stage in range(self.stages):
            if self.norm:
                x = _normed("batch", x, train, self.param_dtype)
            x = linen.relu(x)
            last = stage == self.stages - 1
            width = self.shape[2] if last else width // 2
            x = ConvTranspose(width, 4, 2, use_bias=last or not self.norm, **weights)(x)
        return jnp.tanh(x)


class DCGANCritic(linen.Module):
    """Images [B, H, W, C] -> logits [B], by convolutions of 4 × 4 and stride 2.

    Attributes:
        width: the channels of the first layer; each layer after it has twice as many.
        stages: how often height and width are halved.
        classes: the number of classes K, if the network takes `(image, label [B])`; otherwise None.
        condition: how the network uses the label: by "concatenation" of a one-hot map to the image,
            or by "projection".
        norm: how all hidden layers except the first are normalised: "batch" (as published), "layer"
            (over all pixels and channels of an image), "instance" (over the pixels of each channel)
            or "none"; True and False stand for the first and the last. A gradient penalty does not
            allow "batch", with which a verdict depends on the whole batch.
        param_dtype: the dtype of the weights.

    Reference:
        Radford et al. 2016; Mirza & Osindero 2014; Miyato & Koyama 2018.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> critic = DCGANCritic(classes=10, condition="projection")
        >>> x, y = jnp.zeros((2, 28, 28, 1)), jnp.array([3, 7])
        >>> judge = lambda: critic.init_with_output(jax.random.key(0), x, y, train=True)[0]
        >>> jax.eval_shape(judge).shape
        (2,)
    """

    width: int = 64
    stages: int = 2
    classes: int | None = None
    condition: str = "concatenation"
    norm: str | bool = "batch"
    param_dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, x: jax.Array, *labels: jax.Array, train: bool) -> jax.Array:
        _lowest(x.shape[1:], self.stages)
        x = _with_label_maps(self.classes, self.condition, x, labels)
        kind = _norm(self.norm)
        for stage in range(self.stages):
            norm = kind != "none" and stage > 0
            x = Conv(
                self.width * 2**stage,
                4,
                2,
                use_bias=not norm,
                kernel_init=_dcgan,
                param_dtype=self.param_dtype,
            )(x)
            if norm:
                x = _normed(kind, x, train, self.param_dtype)
            x = _leaky(x)
        x = x.reshape(x.shape[0], -1)
        return _Verdict(self.classes, self.condition, self.param_dtype)(x, *labels)


def halved(x: jax.Array) -> jax.Array:
    """Means over 2 × 2 pixels, [B, H, W, C] -> [B, H/2, W/2, C]."""
    b, height, width, c = x.shape
    return x.reshape(b, height // 2, 2, width // 2, 2, c).mean((2, 4))


def doubled(x: jax.Array) -> jax.Array:
    """Each pixel four times, [B, H, W, C] -> [B, 2H, 2W, C]."""
    b, height, width, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, height, 2, width, 2, c))
    return x.reshape(b, 2 * height, 2 * width, c)


class _UpBlock(linen.Module):
    width: int
    norm: bool
    param_dtype: Any

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def activation(x: jax.Array) -> jax.Array:
            return linen.relu(_normed("batch", x, train, self.param_dtype) if self.norm else x)

        weights = {"param_dtype": self.param_dtype}
        y = Conv(self.width, 3, **weights)(doubled(activation(x)))
        y = Conv(self.width, 3, **weights)(activation(y))
        # a convolution of 1 × 1 commutes with the doubling, and is cheaper before it
        return y + doubled(Conv(self.width, 1, **weights)(x))


class _DownBlock(linen.Module):
    width: int
    first: bool
    param_dtype: Any

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weights = {"param_dtype": self.param_dtype}
        y = Conv(self.width, 3, **weights)(x if self.first else linen.relu(x))
        y = halved(Conv(self.width, 3, **weights)(linen.relu(y)))
        return y + Conv(self.width, 1, **weights)(halved(x))


class ResNetGenerator(linen.Module):
    """Noise [B, Z] -> images [B, *shape] in (−1, 1), by residual blocks of convolutions of 3 × 3.

    Attributes:
        shape: the shape of an image, (H, W, C).
        width: the channels of every block.
        stages: the number of blocks, each of which doubles height and width.
        classes: the number of classes K, if the network takes `(noise, label [B])`; otherwise None.
        norm: whether layers are batch normalised.
        param_dtype: the dtype of the weights.

    Reference:
        Gulrajani et al. 2017, appendix; Miyato et al. 2018, appendix.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> generator, noise = ResNetGenerator((8, 8, 1)), jnp.zeros((2, 16))
        >>> make = lambda: generator.init_with_output(jax.random.key(0), noise, train=True)[0]
        >>> jax.eval_shape(make).shape
        (2, 8, 8, 1)
    """

    shape: Sequence[int]
    width: int = 64
    stages: int = 2
    classes: int | None = None
    norm: bool = True
    param_dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, noise: jax.Array, *labels: jax.Array, train: bool) -> jax.Array:
        x = _with_labels(self.classes, noise, labels)
        low = _lowest(self.shape, self.stages)
        x = linen.Dense(math.prod(low) * self.width, param_dtype=self.param_dtype)(x)
        x = x.reshape(-1, *low, self.width)
        for _ in range(self.stages):
            x = _UpBlock(self.width, self.norm, self.param_dtype)(x, train)
        if self.norm:
            x = _normed("batch", x, train, self.param_dtype)
        return jnp.tanh(Conv(self.shape[2], 3, param_dtype=self.param_dtype)(linen.relu(x)))


class ResNetCritic(linen.Module):
    """Images [B, H, W, C] -> logits [B], by residual blocks; its features are summed over pixels.

    Attributes:
        width: the channels of every block.
        stages: the number of blocks, each of which halves height and width.
        classes: the number of classes K, if the network takes `(image, label [B])`; otherwise None.
        condition: "concatenation" or "projection", as in `DCGANCritic`.
        param_dtype: the dtype of the weights.

    Reference:
        Gulrajani et al. 2017, appendix; Miyato & Koyama 2018.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> critic, x = ResNetCritic(), jnp.zeros((2, 8, 8, 1))
        >>> jax.eval_shape(lambda: critic.init_with_output(jax.random.key(0), x)[0]).shape
        (2,)
    """

    width: int = 64
    stages: int = 2
    classes: int | None = None
    condition: str = "concatenation"
    param_dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, x: jax.Array, *labels: jax.Array) -> jax.Array:
        _lowest(x.shape[1:], self.stages)
        x = _with_label_maps(self.classes, self.condition, x, labels)
        for stage in range(self.stages):
            x = _DownBlock(self.width, stage == 0, self.param_dtype)(x)
        features = jnp.sum(linen.relu(x), axis=(1, 2))
        return _Verdict(self.classes, self.condition, self.param_dtype)(features, *labels)


class Autoencoder(linen.Module):
    """An energy-based critic: how badly it reconstructs, v = mean_j (x̂_j − x_j)², [B].

    It is made for the loss `energy_based`. `encode` yields its code, for `pulling_away`.

    Attributes:
        hidden: widths of the encoder's layers; the last is that of the code. The decoder mirrors
            them.
        activation: the function between layers.
        param_dtype: the dtype of the weights.

    Reference:
        Zhao, Mathieu & LeCun 2017, section 2.3.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> critic, x = Autoencoder((16, 4)), jnp.ones((3, 8, 8, 1))
        >>> variables = jax.eval_shape(critic.init, jax.random.key(0), x)
        >>> jax.eval_shape(critic.apply, variables, x).shape
        (3,)
        >>> jax.eval_shape(lambda v: critic.apply(v, x, method="encode"), variables).shape
        (3, 4)
    """

    hidden: Sequence[int] = (128, 32)
    activation: Callable[[jax.Array], jax.Array] = linen.relu
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        dense = functools.partial(linen.Dense, param_dtype=self.param_dtype)
        self.encoder = [dense(width) for width in self.hidden]
        self.decoder = [dense(width) for width in self.hidden[-2::-1]]

    def encode(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for i, layer in enumerate(self.encoder):
            x = layer(x if i == 0 else self.activation(x))
        return x

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.encode(x)
        for layer in self.decoder:
            y = layer(self.activation(y))
        flat = x.reshape(x.shape[0], -1)
        y = linen.Dense(flat.shape[-1], param_dtype=self.param_dtype)(self.activation(y))
        return jnp.mean(jnp.square(y - flat), axis=-1)


GENERATORS = {"dcgan": DCGANGenerator, "resnet": ResNetGenerator}
CRITICS = {"dcgan": DCGANCritic, "resnet": ResNetCritic}
