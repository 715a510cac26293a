"""Benchmarks: speed as ratios in one process. `python -m benchmarks.foundation --help`.

Importing this gives JAX one host device a core, which has to happen before its backend starts.
"""

import os

import jax

CORES = len(os.sched_getaffinity(0))
jax.config.update("jax_num_cpu_devices", CORES)
