"""What a generator proposes once it is trained: samples, made of given noise or of fresh noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gacf.core.tracing import in_chunks
from gacf.core.types import Key, Params, PyTree, World
from gacf.methods.gan.inputs import check_seen
from gacf.networks import Model
from gacf.networks.network import as_inputs

Make = Callable[[Params, World, tuple[Any, ...], Key], PyTree]
# Folded into the key of samples for what the network draws itself; the noise takes the key.
DRAWS = 0x6E657477


def by_actor(actor: Model) -> Make:
    """How a game of one generator makes samples: by its actor, in evaluation mode."""

    def make(params: Params, world: World, inputs: tuple[Any, ...], key: Key) -> PyTree:
        return actor.apply(params["actor"], world, *inputs, key=key, train=False)[0]

    return make


@dataclasses.dataclass(frozen=True, eq=False)
class ProposedSamples:
    """`(params, world, seen, key) -> samples` of a game whose actor is a generator.

    Attributes:
        make: `(params, world, inputs [n, …], key) -> samples [n, …]`.
        like: `() -> inputs` as in training, of which only shapes and types are read.
        draw: `(world, key, n) -> inputs` for n samples; None if only given inputs make sense.
    """

    make: Make
    like: Callable[[], Any]
    draw: Callable[[World, Key, int], Any] | None = None

    def __call__(self, params: Params, world: World, seen: PyTree, key: Key) -> PyTree:
        number = isinstance(seen, int | np.integer) and not isinstance(seen, bool) and seen >= 1
        if self.draw is not None and number:
            seen = self.draw(world, key, int(seen))
        like = as_inputs(jax.eval_shape(self.like))
        inputs = check_seen(seen, like, counted=self.draw is not None)

        def chunk(inputs: tuple[Any, ...], key: Key) -> PyTree:
            return self.make(params, world, inputs, key)

        return in_chunks(chunk, inputs, jax.random.fold_in(key, DRAWS))
