"""Tools for tracing: scans that keep only the last output, and functions that are traced once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.core
import jax.extend
import jax.numpy as jnp

from gacf.core.types import PyTree

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


def through_data(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies the function to an array, or to the numbers of which keys consist."""
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return function(x)
    return jax.random.wrap_key_data(function(jax.random.key_data(x)), impl=jax.random.key_impl(x))
