"""Policies: distributions over actions, as functions of the actor's output (L3).

Sampling takes its noise as an argument: noise lives in the batch, so that all that is evaluated in
one step sees the same actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.networks import Model
from gacf.types import Key, Params, PyTree, World, require, whole

LOG_SCALES = (-20.0, 2.0)  # bounds of log σ where a network says what it is


class Policy(NamedTuple):
    """A distribution over actions, given the actor's output on a batch.

    Attributes:
        width: numbers that the actor yields for one example, its output being [B, width].
        noise: `(key, n) -> [n, …]`: what chance there is in n actions.
        sample: `(output, noise) -> (actions [B, …], log-probabilities [B])`; differentiable in
            the output along the path, but for discrete actions.
        log_prob: `(output, actions) -> [B]`.
        entropy: `output -> [B]`; None where there is no closed form.
        mode: `output -> actions`: what is played when nothing is to be explored.
        infer: `(output, actions) -> noise` that makes them; None for discrete actions.
    """

    width: int
    noise: Callable[[Key, int], jax.Array]
    sample: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    log_prob: Callable[[jax.Array, jax.Array], jax.Array]
    entropy: Callable[[jax.Array], jax.Array] | None
    mode: Callable[[jax.Array], jax.Array]
    infer: Callable[[jax.Array, jax.Array], jax.Array] | None = None


def _normal_log_prob(deviation: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Log N of standardised deviations, summed over actions."""
    each = -0.5 * deviation**2 - log_scale - 0.5 * math.log(2 * math.pi)
    return jnp.sum(each, axis=-1)


def _split(output: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, log_scale = jnp.split(output, 2, axis=-1)
    return mean, jnp.clip(log_scale, *LOG_SCALES)


def gaussian(size: int) -> Policy:
    """N(μ, diag σ²) over A numbers; the actor's output is (μ, log σ), [B, 2A].

    Example:
        >>> import jax.numpy as jnp
        >>> policy = gaussian(1)
        >>> round(float(policy.entropy(jnp.zeros((1, 2)))[0]), 4)
        1.4189
    """
    require("size", size, whole, "a whole number >= 1")

    def sample(output: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_scale = _split(output)
        return mean + jnp.exp(log_scale) * noise, _normal_log_prob(noise, log_scale)

    def infer(output: jax.Array, action: jax.Array) -> jax.Array:
        mean, log_scale = _split(output)
        return (action - mean) * jnp.exp(-log_scale)

    def log_prob(output: jax.Array, action: jax.Array) -> jax.Array:
        return _normal_log_prob(infer(output, action), _split(output)[1])

    def entropy(output: jax.Array) -> jax.Array:
        return jnp.sum(_split(output)[1] + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    return Policy(
        2 * size,
        lambda key, n: jax.random.normal(key, (n, size)),
        sample,
        log_prob,
        entropy,
        lambda output: _split(output)[0],
        infer,
    )


def squashed_gaussian(size: int) -> Policy:
    """Tanh of N(μ, diag σ²), in [−1, 1]^A; the actor's output is (μ, log σ), [B, 2A].

        log π(a) = log N(u) − Σ log(1 − tanh²u),   a = tanh u

    Reference:
        Haarnoja et al. 2018, appendix C.

    Example:
        >>> import jax.numpy as jnp
        >>> squashed_gaussian(1).mode(jnp.array([[0.0, 1.0]])).tolist()
        [[0.0]]
    """
    base = gaussian(size)

    def log_slope(raw: jax.Array) -> jax.Array:
        # log(1 − tanh²u) without cancellation
        return jnp.sum(2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw)), axis=-1)

    def sample(output: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        raw, log_prob = base.sample(output, noise)
        return jnp.tanh(raw), log_prob - log_slope(raw)

    def raw_of(action: jax.Array) -> jax.Array:
        edge = 1 - jnp.finfo(action.dtype).eps
        return jnp.arctanh(jnp.clip(action, -edge, edge))

    def log_prob(output: jax.Array, action: jax.Array) -> jax.Array:
        raw = raw_of(action)
        return base.log_prob(output, raw) - log_slope(raw)

    return base._replace(
        sample=sample,
        log_prob=log_prob,
        entropy=None,
        mode=lambda output: jnp.tanh(base.mode(output)),
        infer=lambda output, action: base.infer(output, raw_of(action)),  # type: ignore
    )


def categorical(n: int) -> Policy:
    """softmax(output) over n actions, [B, n] -> int32 [B]; sampled by the Gumbel maximum.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(categorical(4).entropy(jnp.zeros((1, 4)))[0]), 4)
        1.3863
    """
    require("n", n, whole, "a whole number >= 1")

    def log_prob(output: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.take_along_axis(jax.nn.log_softmax(output), action[:, None], axis=-1)[:, 0]

    def mode(output: jax.Array) -> jax.Array:
        return jnp.argmax(output, axis=-1).astype(jnp.int32)

    def sample(output: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        action = mode(output + noise)
        return action, log_prob(output, action)

    def entropy(output: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(output)
        return -jnp.sum(jnp.exp(logs) * logs, axis=-1)

    return Policy(n, lambda key, m: jax.random.gumbel(key, (m, n)), sample, log_prob, entropy, mode)


def yields(actor: Model, *shape: int) -> Model:
    """The model, whose output is checked while tracing to be [B, *shape].

    Raises:
        ValueError: from `apply`, if it is not.
    """

    def check(output: jax.Array) -> jax.Array:
        if output.shape[1:] != shape:
            wanted = ", ".join(["B", *map(str, shape)])
            raise ValueError(f"actor: its output is {list(output.shape)}; allowed: [{wanted}]")
        return output

    return actor.then(check)


def shared_scale(mean: Model, size: int, initial: float = 0.0) -> Model:
    """The model of a Gaussian whose log σ is a parameter of its own, alike in all states.

    Args:
        mean: yields μ, [B, A].
        size: A.
        initial: log σ at the start.

    Returns:
        A model that yields (μ, log σ), [B, 2A]; its params are `{"mean", "log_scale"}`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gacf.networks import MLP, model
        >>> actor = shared_scale(model("actor", MLP((4,), (2,))), 2)
        >>> params, _ = actor.init(jax.random.key(0), jnp.zeros((3, 5)))
        >>> actor.apply(params, {}, jnp.zeros((3, 5)))[0].shape
        (3, 4)
    """
    mean = yields(mean, size)

    def init(key: Key, *inputs: PyTree) -> tuple[PyTree, World]:
        params, entries = mean.init(key, *inputs)
        return {"mean": params, "log_scale": jnp.full(size, initial, float)}, entries

    def apply(
        params: Params, world: World, *inputs: PyTree, key: Key | None = None, train: bool = True
    ) -> tuple[jax.Array, World]:
        output, entries = mean.apply(params["mean"], world, *inputs, key=key, train=train)
        scale = jnp.broadcast_to(params["log_scale"].astype(output.dtype)[None], output.shape)
        return jnp.concatenate([output, scale], axis=-1), entries

    return Model(mean.player, init, apply)
