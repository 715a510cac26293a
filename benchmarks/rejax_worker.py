"""The rejax side of `benchmarks.rejax_peer`: in an environment of its own, without gacf.

Reads one JSON request per line, {"method", "settings", "seeds", "map", "warm"}, and answers each
with one line: {"compile", "seconds"}, the latter of one whole training, after a first call if it is
"warm".
"""

import json
import os
import sys
import time
from importlib.metadata import version

import jax

jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import rejax  # noqa: E402
from jax.sharding import Mesh, PartitionSpec  # noqa: E402

programs = {}


def program(method, settings, seeds, how):
    settings = dict(settings)
    algorithm = rejax.get_algo(method).create(
        env="Pendulum-v1", skip_initial_evaluation=True, **settings
    )
    # Neither side evaluates.
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: jnp.zeros(()))

    def one(key):
        state, _ = algorithm.train(key)
        return state.actor_ts.params

    if how.startswith("sharded"):
        inner = jax.vmap(one) if how.endswith("vmap") else lambda keys: jax.lax.map(one, keys)
        mesh = Mesh(np.array(jax.local_devices()[:seeds]), ("seed",))
        spec = PartitionSpec("seed")
        many = jax.shard_map(inner, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    else:
        many = jax.vmap(one)
    return jax.jit(many)


def main():
    print(json.dumps({"rejax": version("rejax"), "jax": jax.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        name = json.dumps(request)
        start = time.perf_counter()
        if name not in programs:
            keys = jax.random.split(jax.random.PRNGKey(0), request["seeds"])
            run = program(request["method"], request["settings"], request["seeds"], request["map"])
            programs[name] = run.lower(keys).compile(), keys, time.perf_counter() - start
            if request.get("warm", True):
                jax.block_until_ready(programs[name][0](keys))
        run, keys, compiled = programs[name]
        start = time.perf_counter()
        jax.block_until_ready(run(keys))
        seconds = time.perf_counter() - start
        print(json.dumps({"compile": compiled, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
