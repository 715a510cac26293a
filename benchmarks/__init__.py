"""Benchmarks: speed as ratios in one process. `python -m benchmarks.foundation --help`.

Importing this package gives JAX one host device per core, unless XLA_FLAGS states the number. That
has to happen before JAX's backend starts.
"""

import os

import jax

CORES = len(os.sched_getaffinity(0))
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", CORES)
