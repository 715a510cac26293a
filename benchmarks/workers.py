"""Sides of a comparison in processes of their own, asked for one measurement at a time."""

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
    """A process that says what it is, `answer`, then answers each line of JSON with one.

    Args:
        command: of the process.
        environment: what else its environment holds.
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
        """The next line, after what libraries print."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name}: the process ended; see its message above")

    def tell(self, **asked: Any) -> None:
        assert self.process.stdin is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)

    def __call__(self, **asked: Any) -> Any:
        self.tell(**asked)
        return self.answer()

    def close(self) -> None:
        self.process.communicate(timeout=60)


def serve(greeting: Mapping[str, Any], answer: Callable[..., Mapping[str, Any]]) -> None:
    """The worker's end."""
    print(json.dumps(greeting), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


def in_turn(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each side [rounds]; ABC CBA …, so that a load from outside falls on all."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        for name in list(sides)[:: 1 if i % 2 == 0 else -1]:
            taken[name].append(sides[name]())
    return {name: np.array(seconds) for name, seconds in taken.items()}
