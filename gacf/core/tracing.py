"""Tools for tracing: scans that keep only the last output, and functions that are traced once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.core
import jax.extend
import jax.numpy as jnp

from gacf.core.types import Key, PyTree

MARK = "gacf."  # the start of every scope's name, which tells a profile that the scope is gacf's


def scope(name: str) -> AbstractContextManager[Any]:
    """Labels the operations traced inside it, so that a profile can say what they are for.

    The innermost scope of an operation counts. Rules use a player's name for the derivatives that
    the player takes, and "sample", "optimizer" and so on for work that belongs to no player.

    Example:
        >>> with scope("sample"):
        ...     x = jnp.zeros(3) + 1
    """
    return jax.named_scope(MARK + name)


def trace_once(
    function: Callable[..., PyTree], *args: PyTree
) -> tuple[Callable[..., PyTree], PyTree]:
    """Traces `function` at the shapes of `args`, once.

    Returns:
        A function of the same arguments that replays the traced program, and the shapes and
        dtypes of its output. Knowing a loop body's output shape this way costs no second trace.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    flat = jax.extend.core.jaxpr_as_fun(closed)
    structure = jax.tree.structure(shape)

    def replay(*args: PyTree) -> PyTree:
        return jax.tree.unflatten(structure, flat(*jax.tree.leaves(args)))

    return replay, shape


def blank(shape: PyTree) -> PyTree:
    """Zeros of the given shapes and dtypes."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)


def scan_last(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], carry: PyTree, xs: PyTree
) -> tuple[PyTree, PyTree]:
    """A `lax.scan` that keeps only the last output, and traces `step` once.

    Args:
        step: `(carry, x) -> (carry, y)`.
        carry: the first carry.
        xs: leaves with a leading axis of length >= 1.

    Returns:
        The last carry and the last y. Memory does not grow with the length.
    """
    replay, (_, y) = trace_once(step, carry, jax.tree.map(lambda x: x[0], xs))

    def body(carried: tuple[PyTree, PyTree], x: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
        return replay(carried[0], x), None

    return jax.lax.scan(body, (carry, blank(y)), xs)[0]


def scan_widened(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    xs: PyTree,
    reverse: bool = False,
) -> tuple[PyTree, PyTree]:
    """A `lax.scan` whose first carry is raised to the precision that the body gives it.

    Networks and environments may differ in precision, and a scan's carry must not change its type.
    """
    first = jax.tree.map(lambda x: x[0], xs)
    after, _ = jax.eval_shape(body, carry, first)
    carry = jax.tree.map(lambda x, y: x.astype(jnp.promote_types(x.dtype, y.dtype)), carry, after)
    return jax.lax.scan(body, carry, xs, reverse=reverse)


CHUNK = 256  # examples: few enough for pictures, and enough to keep a processor busy


def in_chunks(
    function: Callable[[PyTree, Key], PyTree], inputs: PyTree, key: Key, chunk: int = CHUNK
) -> PyTree:
    """`function(inputs, key)`, a few examples at a time where there are many.

    The memory needed for intermediate results is then that of one chunk. Every example is treated
    by itself: `function` must not couple the examples of a batch.

    Args:
        function: `(inputs [b, …], key) -> outputs [b, …]`.
        inputs: leaves [n, …].
        key: given to `function` as it is if one chunk is enough; otherwise chunk i gets
            `fold_in(key, i)`, so that what a network draws differs from chunk to chunk.
        chunk: b.

    Returns:
        The outputs, leaves [n, …].

    Example:
        >>> double = lambda x, key: 2 * x
        >>> in_chunks(double, jnp.arange(5), jax.random.key(0), chunk=2).tolist()
        [0, 2, 4, 6, 8]
    """
    n = jax.tree.leaves(inputs)[0].shape[0]
    whole = n // chunk
    if n <= chunk:
        return function(inputs, key)

    def once(piece: tuple[PyTree, jax.Array]) -> PyTree:
        return function(piece[0], jax.random.fold_in(key, piece[1]))

    def split(x: jax.Array) -> jax.Array:
        return x[: whole * chunk].reshape(whole, chunk, *x.shape[1:])

    outputs = jax.lax.map(once, (jax.tree.map(split, inputs), jnp.arange(whole)))
    outputs = jax.tree.map(lambda y: y.reshape(whole * chunk, *y.shape[2:]), outputs)
    if n == whole * chunk:
        return outputs
    rest = once((jax.tree.map(lambda x: x[whole * chunk :], inputs), jnp.array(whole)))
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), outputs, rest)


def through_data(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies the function to an array, or to the numbers of which keys consist."""
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return function(x)
    return jax.random.wrap_key_data(function(jax.random.key_data(x)), impl=jax.random.key_impl(x))
