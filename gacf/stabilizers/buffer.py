"""A replay buffer as three pure functions.

It is a ring, in which the newest item overwrites the oldest. The work of `add` and `sample` does
not depend on the capacity, as long as the buffer is carried through a scan or donated.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.checks import require
from gacf.core.types import Key, PyTree


class Buffer(NamedTuple):
    """The contents of a ring buffer.

    Attributes:
        items: leaves [capacity, …].
        cursor: int32 scalar: the place of the next item.
        size: int32 scalar: the number of items stored.
    """

    items: PyTree
    cursor: jax.Array
    size: jax.Array


def init(item: PyTree, capacity: int) -> Buffer:
    """An empty buffer.

    Args:
        item: one item without a leading axis; only its shapes and dtypes are read.
        capacity: how many items it holds.

    Raises:
        ValueError: the capacity is not a whole number >= 1.

    Example:
        >>> import jax.numpy as jnp
        >>> init({"reward": jnp.array(0.0)}, 10).items["reward"].shape
        (10,)
    """
    require("capacity", capacity, lambda n: n >= 1 and n == int(n), "a whole number >= 1")
    items = jax.tree.map(
        lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), jnp.result_type(leaf)), item
    )
    return Buffer(items, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def capacity_of(buffer: Buffer) -> int:
    """How many items the buffer can hold."""
    return jax.tree.leaves(buffer.items)[0].shape[0]


def add(buffer: Buffer, items: PyTree) -> Buffer:
    """The buffer with N more items, in order; they replace the oldest.

    Args:
        buffer: leaves [capacity, …].
        items: leaves [N, …].

    Raises:
        ValueError: the leaves differ in N, or N > capacity.

    Example:
        >>> import jax.numpy as jnp
        >>> buffer = add(init(jnp.array(0), 3), jnp.array([1, 2]))
        >>> add(buffer, jnp.array([3, 4])).items.tolist()
        [4, 2, 3]
    """
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(items)}
    capacity = capacity_of(buffer)
    if len(lengths) != 1 or max(lengths) > capacity:
        raise ValueError(
            f"items: leading axes {sorted(lengths)} were given; "
            f"allowed: one length of at most the capacity, {capacity}"
        )
    (n,) = lengths
    index = (buffer.cursor + jnp.arange(n, dtype=jnp.int32)) % capacity
    if n == 1:
        # A scatter of one row would become a dynamic_update_slice, which XLA may fuse into the
        # gather of a later `sample`; that needs the buffer before and after the write, so all of
        # it is copied, every step. A second row beyond the end, which is dropped, prevents it.
        index = jnp.concatenate([index, jnp.full(1, capacity, jnp.int32)])
        items = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), items)

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[index].set(new.astype(old.dtype), unique_indices=True, mode="drop")

    return Buffer(
        jax.tree.map(write, buffer.items, items),
        (buffer.cursor + n) % capacity,
        jnp.minimum(buffer.size + n, capacity),
    )


def sample(buffer: Buffer, key: Key, batch: int) -> PyTree:
    """Items drawn uniformly, with replacement, from those stored.

    Args:
        buffer: leaves [capacity, …], with at least one item; an empty buffer yields zeros.
        key: PRNG key.
        batch: the number of items, B.

    Returns:
        Leaves [B, …].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> buffer = add(init(jnp.array(0), 10), jnp.array([7]))
        >>> sample(buffer, jax.random.key(0), 3).tolist()
        [7, 7, 7]
    """
    # drawing without replacement would sort the whole buffer
    index = jax.random.randint(key, (batch,), 0, jnp.maximum(buffer.size, 1))
    return jax.tree.map(lambda leaf: leaf.at[index].get(mode="promise_in_bounds"), buffer.items)
