"""Benchmarks: speed as ratios in one process. `python -m benchmarks.foundation --help`.

Importing this gives JAX one host device a core, which has to happen before its backend starts,
unless XLA_FLAGS says how many.
"""

import os

import jax

CORES = len(os.sched_getaffinity(0))
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", CORES)
