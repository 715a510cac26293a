"""Penalties on the slope of any critic, Q-functions included.

A critic may have several inputs (state and action; image and label). Its slope is taken over all of
them together, except whole numbers, and a point between two examples is between them in each input.

All penalties are means of slopes per example. A critic with batch normalisation or minibatch
discrimination has no slope per example, and is refused.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from gacf.core.checks import lookup, require
from gacf.core.rows import per_row
from gacf.core.types import Key
from gacf.methods.actor_critic.constructor import Groups, Penalty
from gacf.networks.network import as_inputs

Judge = Callable[..., jax.Array]
Number = float | jax.Array

TINY = 1e-12
"""Added inside the square root of a norm, whose slope at 0 would otherwise be infinite."""


def _real(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


_DRAWS = 3
_MIXES: dict[str, bool] = {}
"""Whether a program mixes the examples of a batch, by the program's text."""


def _example(leaf: Any, key: Key) -> jax.Array:
    """An array of the given shape, with numbers that make any kind of network respond."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0, impl=jax.random.key_impl(leaf)), leaf.shape)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros(leaf.shape, leaf.dtype)
    if len(leaf.shape) < 2:
        return jax.random.uniform(key, leaf.shape, leaf.dtype, 0.5, 1.5)
    size = math.sqrt(2 / max(1, math.prod(leaf.shape[:-1])))
    return size * jax.random.normal(key, leaf.shape, leaf.dtype)


def mixes_examples(judge: Judge, inputs: Any) -> bool:
    """Whether the critic's verdict on one example depends on others of its batch.

    This is tested numerically, separately from the program that is being traced: the verdicts on
    one half of a batch are differentiated with respect to the other half, at arbitrary parameters
    and examples.

    Example:
        >>> import jax.numpy as jnp
        >>> mixes_examples(lambda x: x[:, 0] ** 2, jnp.ones((4, 1)))
        False
        >>> mixes_examples(lambda x: x[:, 0] - jnp.mean(x), jnp.ones((4, 1)))
        True
    """
    leaves, structure = jax.tree.flatten(as_inputs(inputs))
    where = [i for i, leaf in enumerate(leaves) if _real(leaf)]
    count = leaves[0].shape[0]
    if count < 2:
        return False
    closed = jax.make_jaxpr(lambda *given: judge(*jax.tree.unflatten(structure, given)))(*leaves)
    program = str(closed)
    if program in _MIXES:
        return _MIXES[program]
    # The values over which the critic closes, such as its parameters, are not known while tracing.
    fixed = [isinstance(c, jax.core.Tracer) for c in closed.consts]

    def others(consts: list[Any], given: list[jax.Array]) -> jax.Array:
        def half(at: list[jax.Array]) -> jax.Array:
            filled = list(given)
            for i, leaf in zip(where, at, strict=True):
                filled[i] = leaf
            (verdict,) = jax.core.eval_jaxpr(closed.jaxpr, consts, *filled)
            return jnp.sum(verdict[: count // 2])

        slope = jax.grad(half)([given[i] for i in where])
        rest = [leaf[count // 2 :] for leaf in slope]
        return jnp.any(jnp.stack([jnp.any(jnp.isfinite(x) & (x != 0)) for x in rest]))

    def mixed(key: Key) -> jax.Array:
        keys = iter(jax.random.split(key, len(fixed) + len(leaves)))
        consts = [
            _example(c, next(keys)) if traced else c
            for c, traced in zip(closed.consts, fixed, strict=True)
        ]
        return others(consts, [_example(leaf, next(keys)) for leaf in leaves])

    with jax.ensure_compile_time_eval():
        # a loop is compiled as a whole, even outside of a program
        mixes = bool(jnp.any(jax.lax.map(mixed, jax.random.split(jax.random.key(0), _DRAWS))))
    _MIXES[program] = mixes
    return mixes


def slopes(judge: Judge, inputs: Any, penalty: str = "slopes") -> jax.Array:
    """‖∇ of the critic‖² per example, [B], over all its inputs together.

    One backward pass serves the whole batch, since an example's verdict depends on that example
    alone.

    Args:
        judge: the critic, `(*inputs) -> [B]`.
        inputs: an array [B, …], or a tuple of them.
        penalty: the name of the penalty, for the message.

    Raises:
        ValueError: the critic's verdict on one example depends on others of its batch, because of
            batch normalisation or minibatch discrimination, so that it has no slope per example.
    """
    if mixes_examples(judge, inputs):
        raise ValueError(
            f"penalty: {penalty} is a mean of slopes per example, and the critic has none: its "
            "verdict on one example depends on others of the batch, by batch statistics (batch "
            "normalisation) or minibatch discrimination; allowed: critics without them, with layer "
            "or spectral normalisation instead, such as DCGANCritic(norm='layer')"
        )
    leaves, structure = jax.tree.flatten(as_inputs(inputs))
    where = [i for i, leaf in enumerate(leaves) if _real(leaf)]

    def total(at: list[jax.Array]) -> jax.Array:
        filled = list(leaves)
        for i, leaf in zip(where, at, strict=True):
            filled[i] = leaf
        return jnp.sum(judge(*jax.tree.unflatten(structure, filled)))

    gradients = jax.grad(total)([leaves[i] for i in where])
    return reduce(operator.add, (jnp.sum(jnp.square(g), axis=range(1, g.ndim)) for g in gradients))


def between(groups: Groups, key: Key) -> Any:
    """Points between the examples of the first and the last group: x̂ = ε x + (1 − ε) x̃.

    ε is uniform in [0, 1], drawn once per example. If there is only one group (that of a
    Q-function, or of a GAN in which a coin decides between real and fake), each example is paired
    with the next one. Whole numbers, such as labels, are those of the first group.
    """
    inputs = [as_inputs(group) for group in groups.values()]
    first, last = inputs[0], inputs[-1]
    if len(groups) == 1:
        last = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), first)
    count = jax.tree.leaves(first)[0].shape[0]
    epsilon = jax.random.uniform(key, (count,))

    def point(x: jax.Array, other: jax.Array) -> jax.Array:
        share = per_row(epsilon.astype(x.dtype), x)
        return share * x + (1 - share) * other if _real(x) else x

    return jax.tree.map(point, first, last)


def _around(inputs: Any, scale: Number, key: Key) -> Any:
    """Examples with normal noise of `scale` times each input's standard deviation in the batch."""
    leaves, structure = jax.tree.flatten(as_inputs(inputs))
    keys = jax.random.split(key, len(leaves))

    def near(x: jax.Array, key: Key) -> jax.Array:
        if not _real(x):
            return x
        return x + scale * jnp.std(x) * jax.random.normal(key, x.shape, x.dtype)

    moved = [near(leaf, leaf_key) for leaf, leaf_key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


def _off_target(squares: jax.Array, target: Number, one_sided: bool) -> jax.Array:
    """(‖∇‖ − target)², or max(0, ‖∇‖ − target)², of ‖∇‖² [B]."""
    excess = jnp.sqrt(squares + TINY) - target
    return jnp.square(jax.nn.relu(excess) if one_sided else excess)


def zero_centred(
    weight: Number = 10.0, of: Sequence[str] | None = None, name: str = "zero_centred"
) -> Penalty:
    """(weight / 2) Σ_groups mean_B ‖∇_x D(x)‖², norm per example.

    `of=("real",)` is R1, `of=("fake",)` is R2; all groups by default. `name` is for messages.

    Reference:
        Mescheder et al. 2018, eqs. 9 and 10.
    """
    require("weight", weight, lambda w: w >= 0, "a number >= 0")

    def penalty(judge: Judge, groups: Groups, key: Key) -> jax.Array:
        del key
        chosen = [lookup("penalty: group", group, groups) for group in of or groups]
        means = [jnp.mean(slopes(judge, inputs, name)) for inputs in chosen]
        return weight / 2 * jnp.sum(jnp.stack(means))

    return penalty


def r1(weight: Number = 10.0) -> Penalty:
    """R1: (γ/2) E_real ‖∇D‖² (Mescheder et al. 2018, eq. 9).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> penalty = r1(2.0)
        >>> float(penalty(lambda x: 3 * x[:, 0], {"real": jnp.ones((4, 1))}, jax.random.key(0)))
        9.0
    """
    return zero_centred(weight, of=("real",), name="r1")


def r2(weight: Number = 10.0) -> Penalty:
    """R2: (γ/2) E_fake ‖∇D‖² (Mescheder et al. 2018, eq. 10).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> penalty = r2(2.0)
        >>> float(penalty(lambda x: 3 * x[:, 0], {"fake": jnp.ones((4, 1))}, jax.random.key(0)))
        9.0
    """
    return zero_centred(weight, of=("fake",), name="r2")


def wgan_gp(weight: Number = 10.0, target: Number = 1.0, one_sided: bool = False) -> Penalty:
    """λ mean_B (‖∇D(x̂)‖ − target)², at points x̂ between real and fake examples (`between`).

    Args:
        weight: λ.
        target: the slope that the critic should have.
        one_sided: whether only steeper slopes count: λ mean_B max(0, ‖∇D(x̂)‖ − target)².

    Reference:
        Gulrajani et al. 2017, eq. 3; one-sided: Petzka, Fischer & Lukovnikov 2018.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> groups = {"real": jnp.ones((4, 2)), "fake": jnp.zeros((4, 2))}
        >>> float(wgan_gp(10.0)(lambda x: 3 * x[:, 0], groups, jax.random.key(0)))
        40.0
    """
    require("weight", weight, lambda w: w >= 0, "a number >= 0")

    def penalty(judge: Judge, groups: Groups, key: Key) -> jax.Array:
        squares = slopes(judge, between(groups, key), "wgan_gp")
        return weight * jnp.mean(_off_target(squares, target, one_sided))

    return penalty


def zero_centred_between(weight: Number = 10.0) -> Penalty:
    """(weight / 2) mean_B ‖∇D(x̂)‖², at points x̂ between real and fake examples (`between`).

    Reference:
        Thanh-Tung, Tran & Venkatesh 2019 (without the factor ½).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> groups = {"real": jnp.ones((4, 2)), "fake": jnp.zeros((4, 2))}
        >>> float(zero_centred_between(10.0)(lambda x: 3 * x[:, 0], groups, jax.random.key(0)))
        45.0
    """
    require("weight", weight, lambda w: w >= 0, "a number >= 0")

    def penalty(judge: Judge, groups: Groups, key: Key) -> jax.Array:
        return weight / 2 * jnp.mean(slopes(judge, between(groups, key), "zero_centred_between"))

    return penalty


def dragan(
    weight: Number = 10.0, scale: Number = 0.5, target: Number = 1.0, of: str | None = None
) -> Penalty:
    """λ mean_B (‖∇D(x + δ)‖ − target)², around real examples, δ ~ N(0, (scale · std)²).

    Args:
        weight: λ.
        scale: the scale of the noise, in standard deviations of the group's numbers over the batch.
        target: the slope that the critic should have.
        of: the group; the first by default, which is a GAN's `real` and a Q-function's only one.

    Reference:
        Kodali et al. 2017.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> groups = {"real": jnp.arange(8.0).reshape(4, 2)}
        >>> float(dragan(10.0)(lambda x: 3 * x[:, 0], groups, jax.random.key(0)))
        40.0
    """
    require("weight", weight, lambda w: w >= 0, "a number >= 0")
    require("scale", scale, lambda s: s >= 0, "a number >= 0")

    def penalty(judge: Judge, groups: Groups, key: Key) -> jax.Array:
        inputs = lookup("penalty: group", next(iter(groups)) if of is None else of, groups)
        squares = slopes(judge, _around(inputs, scale, key), "dragan")
        return weight * jnp.mean(_off_target(squares, target, one_sided=False))

    return penalty


PENALTIES = {
    "r1": r1,
    "r2": r2,
    "zero_centred": zero_centred,
    "zero_centred_between": zero_centred_between,
    "wgan_gp": wgan_gp,
    "dragan": dragan,
}
