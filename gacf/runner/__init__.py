"""The runner: step, scanned over time, mapped over seeds and hyperparameters, jitted once.

This is the only part of gacf below the lab that compiles. A LANE is one seed of one setting of the
hyperparameters. The axis of lanes can run in several ways:

    vmap            all lanes in one batched program; best on accelerators and for tiny games
    loop            one lane after the other; its state stays in the cache
    sharded-vmap    the lanes spread over all local devices, batched on each
    sharded-loop    the lanes spread over all local devices, one after the other on each;
                    best on CPUs, where one host device keeps about one core busy

All give the same numbers to tolerance. Initialisation runs on one device, outside the sharded
program, because LAPACK calls (orthogonal initialisers) can hang when several host devices run them
at once.

A mesh with an axis "batch" spreads one lane over several devices, see `gacf.runner.parallel`; its
other axes are for the lanes. Devices that share a lane do wait for each other.

If JAX runs in several processes (`jax.distributed`), the lanes are spread over the devices of all
of them, and each process initialises its own lanes. All processes make the same calls, and each
gets the complete states and metrics back. No device waits for another within a step, unless they
share a lane.
"""

from gacf.runner.memory import bytes_free
from gacf.runner.parallel import data_parallel
from gacf.runner.placement import MAPS, Lanes, on_one_device
from gacf.runner.program import Program
from gacf.runner.proposals import propose
from gacf.runner.seeds import run, take_seed
from gacf.runner.windows import MOST_STEPS, Grid, plan_windows

__all__ = [
    "MAPS",
    "MOST_STEPS",
    "Grid",
    "Lanes",
    "Program",
    "bytes_free",
    "data_parallel",
    "on_one_device",
    "plan_windows",
    "propose",
    "run",
    "take_seed",
]
