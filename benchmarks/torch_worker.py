"""The PyTorch side of `benchmarks.peers`: in an environment of its own, without gacf or JAX."""

import json
import os
import sys
import time

import gymnasium
import pytorch  # the file beside this one
import torch

made = {}


def main():
    greeting = {"torch": torch.__version__, "gymnasium": gymnasium.__version__}
    print(json.dumps({**greeting, "threads": pytorch.threads()}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        name = json.dumps(asked)
        if name not in made:
            made[name] = pytorch.SUBJECTS[asked["subject"]](asked["steps"])
            made[name]()
        start = time.perf_counter()
        made[name]()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
