"""Data that do not fit into memory, read ahead on the host while a device trains.

A feed holds `buffer` records per seed in the world. At each step the next `rows` records in the
seed's own order replace the oldest; in this order an epoch is a permutation of the source. Batches
are drawn from the records that are held. Threads on the host read the records that the next steps
will need. What is read depends only on the seed and on how much it has read, so runs resume
exactly.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import require, whole
from gacf.core.distribution import install
from gacf.core.types import Key, PyTree

AHEAD_BYTES = 2**30  # at most, of records that were read ahead and not used yet


class Records(Protocol):
    """Random access to records, as arrays and data sets of grain, Hugging Face, PyTorch have it."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Record `index`."""
        ...


class Feed:
    """Records for training, drawn from a buffer that is renewed a little each step.

    `gacf.gan` takes it as `data`. Everything else that takes a sampler can take its `sample`, which
    reads records at the moment they are needed and so cannot read ahead.

    Args:
        source: the records: anything with `len(source)` and `source[i]`.
        rows: the number of records read per step, for each seed.
        buffer: the number of records held for each seed, a multiple of `rows`; by default 8 · rows.
            If it equals `rows` and each step draws one batch of that size, an epoch uses each
            record once.
        transform: `record -> example` on the host: an array of one shape, or `(array, label)`.
        scale: `examples [n, …] -> [n, …]` on the device, for instance from bytes to [−1, 1].
            Buffers and checkpoints hold the unscaled records.
        ahead: the number of steps that are read ahead for each seed; 0 reads nothing ahead.
        threads: the number of threads that read.

    Raises:
        ValueError: grain is missing, a number is out of bounds, or an example is not an array. For
            errors of `source` and `transform`, the message names the record.

    Example:
        >>> import jax, numpy as np
        >>> feed = Feed(np.arange(100.0).reshape(50, 2), rows=4, buffer=8)
        >>> entry = feed.init(jax.random.key(0))
        >>> entry["held"].shape, feed.draw(feed.refresh(entry), jax.random.key(1), 3).shape
        ((8, 2), (3, 2))
    """

    def __init__(
        self,
        source: Records,
        rows: int = 128,
        buffer: int | None = None,
        transform: Callable[[Any], Any] = lambda record: record,
        scale: Callable[[jax.Array], jax.Array] = lambda examples: examples,
        ahead: int = 4,
        threads: int = 4,
    ):
        buffer = 8 * rows if buffer is None else buffer
        require("source", source, lambda s: len(s) > 0, "at least one record")
        require("rows", rows, whole, "a whole number >= 1")
        require("buffer", buffer, lambda n: whole(n) and n % rows == 0, f"a multiple of {rows}")
        require("ahead", ahead, lambda n: n == 0 or whole(n), "a whole number >= 0")
        require("threads", threads, whole, "a whole number >= 1")
        _order(len(source), 0)  # raises an error if grain is not installed
        self.source, self.rows, self.buffer, self.scale = source, rows, buffer, scale
        self.transform = transform
        first = self._example(0)
        self.labelled = isinstance(first, tuple)
        self.one = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype)), first
        )
        self._reader = _Reader(self._block, ahead, threads)

    def _example(self, index: int) -> Any:
        """Record `index` in the form in which it goes to the device."""
        try:
            example = self.transform(self.source[index])
        except Exception as error:
            raise ValueError(f"data: record {index}: {error}") from error
        pair = isinstance(example, tuple)
        parts = [np.asarray(part) for part in (example if pair else (example,))]
        if len(parts) != (2 if pair else 1) or any(part.dtype.kind not in "biuf" for part in parts):
            raise ValueError(
                f"data: record {index}: {type(example).__name__} was given; allowed: an array of "
                "numbers, or a pair of an array and its label (argument `transform`)"
            )
        if hasattr(self, "one"):
            for part, first in zip(parts, jax.tree.leaves(self.one), strict=True):
                if part.shape != first.shape or not np.can_cast(
                    part.dtype, first.dtype, "same_kind"
                ):
                    raise ValueError(
                        f"data: record {index}: {part.dtype}{list(part.shape)} was given; "
                        f"allowed: like the first record, {first.dtype}{list(first.shape)}"
                    )
                cast = part.astype(first.dtype)
                if part.dtype.kind in "iu" and not np.array_equal(cast, part):
                    raise ValueError(
                        f"data: record {index}: {part.dtype} from {part.min()} to {part.max()} was "
                        f"given; allowed: what fits into {first.dtype}, as the first record has it"
                    )
        return tuple(parts) if pair else parts[0]

    def _stack(self, indices: Any) -> PyTree:
        """Examples [n, …] of records [n]."""
        rows = [self._example(int(index)) for index in indices]
        return jax.tree.map(lambda one, *parts: np.stack(parts).astype(one.dtype), self.one, *rows)

    def spread(self, n: int) -> PyTree:
        """Examples of n records spread over the source, or of all, read at once on the host."""
        last = len(self.source) - 1
        return self._stack(np.linspace(0, last, min(n, last + 1)).astype(int))

    def _block(self, order: int, block: int) -> PyTree:
        """The examples [rows, …] of block number `block` in an order."""
        indices, start = _order(len(self.source), order), self.rows * block
        return self._stack(indices[i] for i in range(start, start + self.rows))

    def _shape(self, *lead: int) -> PyTree:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), self.one)

    def init(self, key: Key) -> dict[str, Any]:
        """The entry of the world: the seed's `order`, the blocks `read` and the records `held`."""
        order = jax.random.bits(key, (), jnp.uint32)
        blocks = self.buffer // self.rows

        def fill(orders: Any) -> PyTree:
            orders = np.asarray(orders)
            each = [self._read(orders, np.full(orders.shape, block)) for block in range(blocks)]
            return jax.tree.map(lambda *parts: np.concatenate(parts, orders.ndim), *each)

        held = jax.pure_callback(fill, self._shape(self.buffer), order, vmap_method="broadcast_all")
        return {"order": order, "read": jnp.full((), blocks, jnp.int32), "held": held}

    def refresh(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry one step later: the next `rows` records have replaced the oldest."""
        new = jax.pure_callback(
            self._read, self._shape(self.rows), entry["order"], entry["read"],
            vmap_method="broadcast_all",
        )  # fmt: skip
        slot = entry["read"] % (self.buffer // self.rows) * self.rows
        held = jax.tree.map(
            lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, slot, 0), entry["held"], new
        )
        return {**entry, "read": entry["read"] + 1, "held": held}

    def draw(self, entry: dict[str, Any], key: Key, n: int) -> Any:
        """A batch [n, …] of the held records, without repeats if enough; a pair if labelled."""
        if n <= self.buffer:
            chosen = jax.random.permutation(key, self.buffer)[:n]
        else:
            chosen = jax.random.randint(key, (n,), 0, self.buffer)
        return self._scaled(jax.tree.map(lambda x: x[chosen], entry["held"]))

    def sample(self, key: Key, n: int) -> Any:
        """A batch [n, …] drawn from the whole source, and read only when it is requested."""
        chosen = jax.random.randint(key, (n,), 0, len(self.source))

        def read(indices: Any) -> PyTree:
            indices = np.asarray(indices)
            examples = self._stack(indices.ravel())
            return jax.tree.map(lambda x: x.reshape(*indices.shape, *x.shape[1:]), examples)

        examples = jax.pure_callback(read, self._shape(n), chosen, vmap_method="broadcast_all")
        return self._scaled(examples)

    def _scaled(self, examples: Any) -> Any:
        if self.labelled:
            return self.scale(examples[0]), examples[1]
        return self.scale(examples)

    def _read(self, orders: Any, blocks: Any) -> PyTree:
        """Examples [..., rows, …] of blocks [...], for the device."""
        orders, blocks = np.asarray(orders), np.asarray(blocks)
        pairs = zip(orders.ravel().tolist(), blocks.ravel().tolist(), strict=True)
        examples = self._reader.take(list(pairs))
        return jax.tree.map(
            lambda *parts: np.stack(parts).reshape(*orders.shape, *parts[0].shape), *examples
        )


@functools.lru_cache(maxsize=4_096)
def _order(n: int, order: int) -> Any:
    """The order of the records: one permutation of all n records after the other."""
    try:
        import grain
    except ImportError as error:
        raise ValueError(f"data: a Feed needs grain; install it with: {install('feed')}") from error
    return grain.MapDataset.range(n).shuffle(seed=order).repeat()


class _Reader:
    """Blocks by (order, number); threads read ahead those that will be needed next.

    Args:
        read: `(order, number) -> block`.
        ahead: how many numbers are read ahead.
        threads: the number of threads that read.
    """

    def __init__(self, read: Callable[[int, int], PyTree], ahead: int, threads: int):
        self.read, self.ahead = read, ahead
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="gacf-feed")
        # order -> number -> block; the order that was requested longest ago comes first
        self.waiting: OrderedDict[int, dict[int, Future[PyTree]]] = OrderedDict()
        self.lock = threading.Lock()  # several devices may call at once

    def take(self, requests: list[tuple[int, int]]) -> list[PyTree]:
        """Returns the requested blocks, and starts reading the blocks after them."""
        with self.lock:
            due = [self._begin(order, number) for order, number in requests]
            for order, number in requests:
                own = self.waiting[order]
                soon = range(number + 1, number + 1 + self.ahead)
                for old in [n for n in own if n not in soon]:
                    del own[old]
                for next_number in soon:
                    self._begin(order, next_number)
                self.waiting.move_to_end(order)
        blocks = [future.result() for future in due]
        with self.lock:
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(blocks[0])) * max(1, self.ahead)
            while len(self.waiting) > max(len(requests), AHEAD_BYTES // max(1, size)):
                self.waiting.popitem(last=False)
        return blocks

    def _begin(self, order: int, number: int) -> Future[PyTree]:
        own = self.waiting.setdefault(order, {})
        if number not in own:
            own[number] = self.pool.submit(self.read, order, number)
        return own[number]
