"""Sides of a comparison in processes of their own, which make one measurement per request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]


class Worker:
    """A process that first greets with a line of JSON, then answers each line of JSON with one.

    Args:
        command: the command of the process.
        environment: further variables of its environment.
    """

    def __init__(self, command: Sequence[str], **environment: str):
        self.name = " ".join(command[1:4])
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> Any:
        """The next line of JSON; anything else that libraries print is skipped."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name}: the process ended; see its message above")

    def send(self, **request: Any) -> None:
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def __call__(self, **request: Any) -> Any:
        self.send(**request)
        return self.answer()

    def close(self) -> None:
        self.process.communicate(timeout=60)


def serve(greeting: Mapping[str, Any], answer: Callable[..., Mapping[str, Any]]) -> None:
    """The side of the worker: greets, then answers requests until the input ends."""
    print(json.dumps(greeting), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


def in_turn(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each side, [rounds], in turns ABC CBA …, so that other work slows all of them."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        for name in list(sides)[:: 1 if i % 2 == 0 else -1]:
            taken[name].append(sides[name]())
    return {name: np.array(seconds) for name, seconds in taken.items()}
