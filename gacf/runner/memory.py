"""The runner: step, scanned over time, mapped over seeds and hyperparameters, jitted once (L5).

A LANE is one seed of one setting of the hyperparameters. How the lanes' axis runs is a strategy:

    vmap            all lanes in one batched program; best on accelerators and for tiny games
    loop            one lane after the other; its state stays in the cache
    sharded-vmap    the lanes spread over all local devices, batched on each
    sharded-loop    the lanes spread over all local devices, one after the other on each;
                    best on CPUs, where one host device keeps about one core busy

All give the same numbers to tolerance. Initialisation runs on one device, outside the sharded
program: LAPACK calls (orthogonal initialisers) can hang when several host devices run them at once.

A mesh with an axis "batch" spreads one lane over several devices, see `gacf.runner.parallel`; its other
axes are for the lanes. Then devices that share a lane do wait for each other.

Where JAX runs in several processes (`jax.distributed`), the lanes are spread over the devices of
all of them, and each process initialises its own. All make the same calls; states and metrics come
back whole to each. No device waits for another within a step, unless they share a lane.
"""

from __future__ import annotations

from typing import Any


def bytes_free(device: Any) -> int | None:
    """Memory that a device has free: its own, or for a CPU the machine's; None where unknown."""
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
