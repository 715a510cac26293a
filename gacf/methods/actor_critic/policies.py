"""Policies: distributions over actions, as functions of the actor's output.

Sampling takes its noise as an argument. The noise is part of the batch, so that everything that is
evaluated in one step sees the same actions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import require, whole
from gacf.core.types import Key, Params, PyTree, World
from gacf.networks import Model

LOG_SCALES = (-20.0, 2.0)
"""The range of log σ if a network yields it, for each state."""
SHARED_LOG_SCALES = (-20.0, 20.0)
"""The range of log σ if it is a parameter, the same in all states."""


class Policy(NamedTuple):
    """A distribution over actions, given the actor's output on a batch.

    Attributes:
        width: how many numbers the actor yields for one example; its output is [B, width].
        noise: `(key, n) -> [n, …]`: the random numbers for n actions.
        sample: `(output, noise) -> (actions [B, …], log-probabilities [B])`; differentiable in
            the output along the path, except for discrete actions.
        log_prob: `(output, actions) -> [B]`.
        entropy: `output -> [B]`; None if there is no closed form.
        mode: `output -> actions`: the actions that are played without exploration.
        infer: `(output, actions) -> noise` with which `sample` yields these actions; None for
            discrete actions.
    """

    width: int
    noise: Callable[[Key, int], jax.Array]
    sample: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    log_prob: Callable[[jax.Array, jax.Array], jax.Array]
    entropy: Callable[[jax.Array], jax.Array] | None
    mode: Callable[[jax.Array], jax.Array]
    infer: Callable[[jax.Array, jax.Array], jax.Array] | None = None


def _log_normal(deviation: jax.Array, log_scale: jax.Array | float) -> jax.Array:
    """Log N of standardised deviations, for each component of the actions."""
    return -0.5 * deviation**2 - log_scale - 0.5 * math.log(2 * math.pi)


@jax.custom_jvp
def _log_normal_cdf(x: jax.Array) -> jax.Array:
    """Log Φ(x), with a derivative φ(x)/Φ(x) that stays exact far below 0, where JAX's cancels."""
    return jax.scipy.special.log_ndtr(x)


@_log_normal_cdf.defjvp
def _inverse_mills_ratio(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (moved,) = primals, tangents
    value = _log_normal_cdf(x)
    near, far = jnp.maximum(x, -10), jnp.minimum(x, -10)
    ratio = jnp.exp(_log_normal(near, 0) - _log_normal_cdf(near))
    tail = 1 / jnp.square(far)
    series = -far / (1 - tail * (1 - tail * (3 - tail * (15 - 105 * tail))))
    return value, jnp.where(x < -10, series, ratio) * moved


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _within(x: jax.Array, low: float, high: float) -> jax.Array:
    """Clips x to [low, high], with the derivative 1 outside as well as inside.

    The true derivative is 0 outside, so that no gradient would ever lead back inside.
    """
    return jnp.clip(x, low, high)


@_within.defjvp
def _straight_through(
    low: float, high: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return _within(*primals, low, high), tangents[0]


def _split(
    output: jax.Array, log_scales: tuple[float, float] = LOG_SCALES
) -> tuple[jax.Array, jax.Array]:
    mean, log_scale = jnp.split(output, 2, axis=-1)
    return mean, _within(log_scale, *log_scales)


def gaussian(size: int, log_scales: tuple[float, float] = LOG_SCALES) -> Policy:
    """N(μ, diag σ²) over A numbers; the actor's output is (μ, log σ), [B, 2A].

    If log σ leaves its range, the policy is that of the nearest bound, and the derivative in log σ
    is the one at that bound. So a loss that is smaller inside the range leads back to it.

    Args:
        size: A.
        log_scales: the range of log σ.

    Example:
        >>> import jax.numpy as jnp
        >>> policy = gaussian(1)
        >>> round(float(policy.entropy(jnp.zeros((1, 2)))[0]), 4)
        1.4189
    """
    require("size", size, whole, "a whole number >= 1")
    split = functools.partial(_split, log_scales=log_scales)

    def sample(output: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_scale = split(output)
        log_prob = jnp.sum(_log_normal(noise, log_scale), axis=-1)
        return mean + jnp.exp(log_scale) * noise, log_prob

    def infer(output: jax.Array, action: jax.Array) -> jax.Array:
        mean, log_scale = split(output)
        return (action - mean) * jnp.exp(-log_scale)

    def log_prob(output: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.sum(_log_normal(infer(output, action), split(output)[1]), axis=-1)

    def entropy(output: jax.Array) -> jax.Array:
        return jnp.sum(split(output)[1] + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    return Policy(
        2 * size,
        lambda key, n: jax.random.normal(key, (n, size)),
        sample,
        log_prob,
        entropy,
        lambda output: split(output)[0],
        infer,
    )


def squashed_gaussian(size: int) -> Policy:
    """Tanh of N(μ, diag σ²), in [−1, 1]^A; the actor's output is (μ, log σ), [B, 2A].

        log π(a) = log N(u) − Σ log(1 − tanh²u),   a = tanh u

    `sample` knows u, so its log-probabilities are exact however large u is. `log_prob` sees only
    the recorded action, and floating-point numbers cannot distinguish actions near ±1: in float32
    every |u| > 8 is recorded as ±1. Therefore all actions beyond 1 − 2ε count as one, where ε is
    the resolution of the action's dtype (|u| > 7.97 in float32, 18.4 in float64). Their density is
    the mean over that interval, and log N(u) − log(1 − tanh²u) is replaced by

        log P(u > u_ε) − log 2ε,   u_ε = artanh(1 − 2ε)

    So the density of recorded actions integrates to 1, and the likelihood of an action at the
    bound is finite and does not grow indefinitely as the mean moves outward. Actions outside
    [−1, 1] have density 0, log π = −∞.

    The density is that of actions in [−1, 1], as batches record them. In the environment's units
    its logarithm is smaller by Σ log((high − low)/2), which does not depend on the policy.

    Reference:
        Haarnoja et al. 2018, appendix C.

    Example:
        >>> import jax.numpy as jnp
        >>> policy = squashed_gaussian(1)
        >>> policy.mode(jnp.array([[0.0, 1.0]])).tolist()
        [[0.0]]
        >>> round(float(policy.log_prob(jnp.array([[20.0, 0.0]]), jnp.ones((1, 1)))[0]), 2)
        15.25
    """
    base = gaussian(size)
    infer_raw: Any = base.infer

    def log_slope(raw: jax.Array) -> jax.Array:
        # log(1 − tanh²u) without cancellation
        return 2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))

    def sample(output: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        raw, log_prob = base.sample(output, noise)
        return jnp.tanh(raw), log_prob - jnp.sum(log_slope(raw), axis=-1)

    def invert(output: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, float]:
        """Returns u by inverting tanh, whether the action is too near a bound for that, and 2ε."""
        dtype = jnp.result_type(action, output)
        exact = not jnp.issubdtype(action.dtype, jnp.floating)  # whole numbers: −1, 0 and 1
        width = 2 * float(jnp.finfo(dtype if exact else action.dtype).eps)
        saturated = jnp.abs(action) >= 1 - width
        return jnp.arctanh(jnp.where(saturated, 0, action).astype(dtype)), saturated, width

    def log_prob(output: jax.Array, action: jax.Array) -> jax.Array:
        raw, saturated, width = invert(output, action)
        mean, log_scale = _split(output)
        margin = (jnp.sign(action) * mean - math.atanh(1 - width)) * jnp.exp(-log_scale)
        cell = _log_normal_cdf(margin) - math.log(width)
        cell = jnp.where(jnp.abs(action) <= 1 + width, cell, -jnp.inf)
        normal = jnp.where(saturated, cell, _log_normal(infer_raw(output, raw), log_scale))
        return jnp.sum(normal, axis=-1) - jnp.sum(log_slope(raw), axis=-1)

    def infer(output: jax.Array, action: jax.Array) -> jax.Array:
        raw, saturated, width = invert(output, action)
        side = jnp.sign(action)
        outermost = side * jnp.maximum(side * base.mode(output), math.atanh(1 - width))
        return infer_raw(output, jnp.where(saturated, outermost, raw))

    return base._replace(
        sample=sample,
        log_prob=log_prob,
        entropy=None,
        mode=lambda output: jnp.tanh(base.mode(output)),
        infer=infer,
    )


def categorical(n: int) -> Policy:
    """softmax(output) over n actions, [B, n] -> int32 [B]; sampled by the Gumbel-max trick.

    A logit of −∞ masks its action: the action is never sampled, its log-probability is −∞, it adds
    0 to the entropy (p log p → 0), and the gradient in its logit is 0. If all actions of a row are
    masked, as at the end of some games, the row counts as if none were: it is uniform.

    Example:
        >>> import jax.numpy as jnp
        >>> policy = categorical(4)
        >>> round(float(policy.entropy(jnp.zeros((1, 4)))[0]), 4)
        1.3863
        >>> round(float(policy.entropy(jnp.array([[0.0, 0.0, -jnp.inf, -jnp.inf]]))[0]), 4)
        0.6931
    """
    require("n", n, whole, "a whole number >= 1")

    def logits_of(output: jax.Array) -> jax.Array:
        return jnp.where(jnp.all(jnp.isneginf(output), axis=-1, keepdims=True), 0, output)

    def log_prob(output: jax.Array, action: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(logits_of(output))
        return jnp.take_along_axis(logs, action[:, None], axis=-1)[:, 0]

    def largest(logits: jax.Array) -> jax.Array:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def sample(output: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        action = largest(logits_of(output) + noise)
        return action, log_prob(output, action)

    def entropy(output: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(logits_of(output))
        possible = jnp.where(jnp.isneginf(logs), 0, logs)
        return -jnp.sum(jnp.exp(logs) * possible, axis=-1)

    noise = lambda key, m: jax.random.gumbel(key, (m, n))  # noqa: E731
    return Policy(n, noise, sample, log_prob, entropy, largest)


def yields(actor: Model, *shape: int) -> Model:
    """The model with a check, while tracing, that its output is [B, *shape].

    Raises:
        ValueError: from `apply`, if the output has another shape.
    """

    def check(output: jax.Array) -> jax.Array:
        if output.shape[1:] != shape:
            allowed = ", ".join(["B", *map(str, shape)])
            raise ValueError(f"actor: its output is {list(output.shape)}; allowed: [{allowed}]")
        return output

    return actor.then(check)


def shared_scale(mean: Model, size: int, initial: float = 0.0) -> Model:
    """The model of a Gaussian whose log σ is a parameter of its own, the same in all states.

    Args:
        mean: the model that yields μ, [B, A].
        size: A.
        initial: log σ at the start, in [−20, 20]. Use the policy `gaussian(size,
            SHARED_LOG_SCALES)`, since the range of `gaussian(size)` is narrower.

    Returns:
        A model that yields (μ, log σ), [B, 2A]; its params are `{"mean", "log_scale"}`.

    Raises:
        ValueError: `initial` is out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gacf.networks import MLP, model
        >>> actor = shared_scale(model("actor", MLP((4,), (2,))), 2)
        >>> params, _ = actor.init(jax.random.key(0), jnp.zeros((3, 5)))
        >>> actor.apply(params, {}, jnp.zeros((3, 5)))[0].shape
        (3, 4)
    """
    low, high = SHARED_LOG_SCALES
    allowed = f"a number in [{low:g}, {high:g}], log σ"
    require("log_scale", initial, lambda x: low <= x <= high, allowed)
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
