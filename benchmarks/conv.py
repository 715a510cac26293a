"""DCGAN on images of 28 × 28, batch 64: convolutions as matrix products against XLA's own.

    python -m benchmarks.conv [--json FILE]

Both sides are one training step in a `lax.scan`, compiled from the same game, and take turns.
Prints the milliseconds per update of one seed, their ratio, and the ratio of CPU times.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax

import gacf
from benchmarks.common import Table, interleave, machine, milliseconds, ratio
from gacf.networks.conv import Conv, ConvTranspose
from gacf.networks.images import DCGANCritic, DCGANGenerator

BATCH = 64


def update(implementation: str, seeds: int, steps: int) -> Callable[[], Any]:
    """`steps` updates of `seeds` seeds, compiled."""
    images = np.random.RandomState(0).uniform(-1, 1, (512, 28, 28, 1)).astype(np.float32)
    layers: dict[str, Any] = {
        kind.__name__: functools.partial(kind, implementation=implementation)
        for kind in (Conv, ConvTranspose)
    }
    with mock.patch.multiple("gacf.networks.images", **layers):
        game = gacf.gan(DCGANGenerator((28, 28, 1)), DCGANCritic(), images, batch_size=BATCH)
        rule = gacf.rules.alternating({p: optax.adam(2e-4, b1=0.5) for p in game.losses})
        algorithm = gacf.compose(game, rule)
        keys = jax.random.split(jax.random.key(0), seeds)
        axes = gacf.State._make((0, 0, 0, 0, None))
        start = jax.jit(jax.vmap(algorithm.init, out_axes=axes))(keys)

        def run(state: gacf.State) -> gacf.State:
            return jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), state, length=steps)[0]

        many = jax.vmap(run, in_axes=(axes,), out_axes=axes)
        compiled = jax.jit(many).lower(start).compile()
    return lambda: compiled(start)


def measure(seeds: list[int], steps: int, rounds: int) -> Table:
    rows = []
    for count in seeds:
        sides = {how: update(how, count, steps) for how in ("matmul", "lax")}
        taken, worked = interleave(sides, rounds)
        cells = [milliseconds(taken[how], count * steps) for how in sides]
        ratios = [ratio(t["lax"], t["matmul"]) for t in (taken, worked)]
        rows.append([str(count), *cells, *ratios])
    return Table(
        "k",
        "DCGAN 28 × 28, batch 64, in a scan",
        "python -m benchmarks.conv",
        ("seeds (vmap)", "matmul, ms", "lax, ms", "lax / matmul", "of CPU time"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    args = parser.parse_args()
    where, table = machine(), measure(args.seeds, args.steps, args.rounds)
    print(table.markdown())
    if args.json:
        args.json.write_text(json.dumps({"machine": where, "tables": [table._asdict()]}, indent=1))


if __name__ == "__main__":
    main()
