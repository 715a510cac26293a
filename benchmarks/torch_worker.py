"""The PyTorch side of `benchmarks.peers`: in an environment of its own, without gacf or JAX."""

import json
import os
import sys
import time

import gymnasium
import pytorch  # the file next to this one
import torch

calls = {}


def main():
    greeting = {"torch": torch.__version__, "gymnasium": gymnasium.__version__}
    print(json.dumps({**greeting, "threads": pytorch.threads()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        name = json.dumps(request)
        if name not in calls:
            calls[name] = pytorch.SUBJECTS[request["subject"]](request["steps"])
            calls[name]()
        start = time.perf_counter()
        calls[name]()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
