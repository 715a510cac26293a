"""What `gacf sample` makes: samples of a trained generator, and the inputs they are made of."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.types import Algorithm, Key, State
from gacf.lab.errors import BadInput

ATTEMPTS = 1_000  # fresh draws of noise that lies beyond the truncation


def draw(algorithm: Algorithm, state: State, key: Key, n: int) -> tuple[Any, ...]:
    """Inputs of the algorithm's generator for n samples: noise, or noise and labels.

    Raises:
        BadInput: its actor is not a generator that draws its own inputs.
    """
    drawn = getattr(algorithm.propose, "draw", None)
    if drawn is None:
        raise BadInput(
            "DIR: the actor of this run draws no samples; allowed: runs of GANs and other "
            "generators (for a policy see gacf play)"
        )
    inputs = jax.jit(drawn, static_argnums=2)(state.world, key, n)
    return inputs if isinstance(inputs, tuple) else (inputs,)


def truncated(
    algorithm: Algorithm, state: State, key: Key, inputs: tuple[Any, ...], bound: float
) -> tuple[Any, ...]:
    """The inputs with every number of the noise beyond ±bound drawn anew until none is.

    Reference:
        Brock, Donahue & Simonyan 2019, section 3.1 (the truncation trick).

    Raises:
        BadInput: the noise hardly ever lies in these bounds.
    """
    noise, *labels = inputs
    if not jnp.issubdtype(noise.dtype, jnp.floating):
        raise BadInput("--truncation: the noise of this run consists of whole numbers")
    for attempt in range(ATTEMPTS):
        beyond = jnp.abs(noise) > bound
        if not beyond.any():
            return (noise, *labels)
        fresh = draw(algorithm, state, jax.random.fold_in(key, attempt), len(noise))[0]
        noise = jnp.where(beyond, fresh, noise)
    raise BadInput(
        f"--truncation: {bound} was given, and {ATTEMPTS} draws left some noise beyond it; "
        "allowed: a larger number"
    )


def interpolated(inputs: tuple[Any, ...], steps: int) -> tuple[Any, ...]:
    """Inputs of rows of samples, [rows · steps, …]: from each input to the next one.

    The noise moves along a great circle, at constant speed, and its length linearly:

        z(t) = |z(t)| (sin((1 − t) Ω) z₀/|z₀| + sin(t Ω) z₁/|z₁|) / sin Ω

    A straight line would cross regions near the origin, where a normal distribution of many numbers
    has no mass. Labels stay those of the row's first sample.

    Args:
        inputs: noise [2 · rows, Z] and perhaps labels [2 · rows]; each pair makes a row.
        steps: samples of a row, its two ends among them.

    Reference:
        White 2016, section 2.1.
    """
    noise, *labels = inputs
    first, last = noise[0::2].reshape(len(noise) // 2, -1), noise[1::2].reshape(len(noise) // 2, -1)
    lengths = [jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (first, last)]
    one, other = (z / jnp.maximum(r, 1e-12) for z, r in zip((first, last), lengths, strict=True))
    angle = jnp.arccos(jnp.clip(jnp.sum(one * other, axis=-1, keepdims=True), -1, 1))[:, None]
    t = jnp.linspace(0, 1, steps)[None, :, None]
    sine = jnp.where(angle < 1e-4, 1.0, jnp.sin(angle))
    weights = [
        jnp.where(angle < 1e-4, 1 - t, jnp.sin((1 - t) * angle) / sine),
        jnp.where(angle < 1e-4, t, jnp.sin(t * angle) / sine),
    ]
    along = weights[0] * one[:, None] + weights[1] * other[:, None]
    length = (1 - t) * lengths[0][:, None] + t * lengths[1][:, None]
    rows = (along * length).reshape(-1, *noise.shape[1:])
    return rows, *(jnp.repeat(label[0::2], steps, axis=0) for label in labels)
