"""A small classifier of digits, in whose features distances between samples are measured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gacf.core.types import PyTree
from gacf.data import digits

WIDTHS = (64, 128, 64, 10)
STEPS = 200
SEED = 0


class Classifier(NamedTuple):
    """A trained classifier of 8 × 8 digits.

    Attributes:
        features: images [n, 8, 8, 1] -> penultimate layer [n, 64].
        accuracy: the accuracy on the held-out half.
        logits: images [n, 8, 8, 1] -> [n, 10].
    """

    features: Callable[[jax.Array], jax.Array]
    accuracy: float
    logits: Callable[[jax.Array], jax.Array]


def _features(params: PyTree, images: jax.Array) -> jax.Array:
    x = images.reshape(images.shape[0], -1)
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias[None])
    return x


def _logits(params: PyTree, images: jax.Array) -> jax.Array:
    weight, bias = params[-1]
    return _features(params, images) @ weight + bias[None]


def _train(images: jax.Array, labels: jax.Array) -> PyTree:
    optimizer = optax.adamw(3e-3, weight_decay=1e-2)
    start = jax.nn.initializers.he_normal()
    keys = jax.random.split(jax.random.key(SEED), len(WIDTHS) - 1)
    params = [
        (start(key, (inputs, outputs), jnp.float32), jnp.zeros(outputs, jnp.float32))
        for key, inputs, outputs in zip(keys, WIDTHS[:-1], WIDTHS[1:], strict=True)
    ]

    def loss(params: PyTree) -> jax.Array:
        logits = _logits(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
        params, state = carry
        change, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, change), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), None, STEPS)[0][0]


@functools.cache
def digits_classifier() -> Classifier:
    """A small network trained on the training half of the digits; always the same.

    It is trained once per process, in a second or two, from a fixed key. Numbers that are measured
    in its features depend on it, so report its accuracy together with them.

    Returns:
        A `Classifier`: features, accuracy on the held-out half, logits. Both functions may be
        jitted and vmapped.

    Example:
        >>> from gacf.data import digits
        >>> features, accuracy, logits = digits_classifier()
        >>> features(digits("test")[0]).shape, accuracy > 0.95
        ((898, 64), True)
    """
    with jax.ensure_compile_time_eval():
        params = jax.jit(_train)(*digits("train"))
        images, labels = digits("test")
        accuracy = float((_logits(params, images).argmax(-1) == labels).mean())
    return Classifier(
        functools.partial(_features, params), accuracy, functools.partial(_logits, params)
    )
