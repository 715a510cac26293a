"""Trackers: each logs the scalars of a sweep or a run while it trains, in a thread of its own.

Training puts its numbers into a bounded queue and never waits: what does not fit is dropped and
counted. A tracker that raises is switched off, with one line; one that hangs is abandoned.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gacf.core.distribution import install
from gacf.lab.errors import BadInput
from gacf.lab.statistics import iqm

WAITING = 256  # calls of the compiled program whose numbers may wait in the queue
PATIENCE = 20.0  # seconds that a tracker has to finish at the end

Log = Callable[[str, int, Mapping[str, float], Mapping[str, np.ndarray]], None]
"""Takes the run, the step, each metric's interquartile mean, and each metric's seeds [S]."""


def _tensorboard(place: Path) -> tuple[Log, Callable[[], None]]:
    from tensorboardX import SummaryWriter

    writers: dict[str, Any] = {}

    def writer(name: str) -> Any:
        if name not in writers:
            writers[name] = SummaryWriter(str(place / name))
        return writers[name]

    def log(run: str, step: int, means: Mapping[str, float], seeds: Any) -> None:
        for metric, value in means.items():
            writer(f"{run}/all").add_scalar(metric, value, step)
        for metric, values in seeds.items():
            for i, value in enumerate(values):
                writer(f"{run}/seed {i}").add_scalar(metric, float(value), step)

    def close() -> None:
        for one in writers.values():
            one.close()

    return log, close


def _flat(means: Mapping[str, float], seeds: Mapping[str, np.ndarray]) -> dict[str, float]:
    each = {f"seed {i}/{k}": float(x) for k, v in seeds.items() for i, x in enumerate(v)}
    return {**means, **each}


def _wandb(place: Path) -> tuple[Log, Callable[[], None]]:
    wandb: Any = importlib.import_module("wandb")

    os.environ.setdefault("WANDB_MODE", "offline")
    place.mkdir(parents=True, exist_ok=True)
    runs: dict[str, Any] = {}

    def log(run: str, step: int, means: Mapping[str, float], seeds: Any) -> None:
        if run not in runs:
            runs[run] = wandb.init(
                project=place.parent.parent.name,
                name=run,
                dir=str(place),
                reinit="create_new",
                settings=wandb.Settings(silent=True),
            )
        runs[run].log(_flat(means, seeds), step=step)

    def close() -> None:
        for one in runs.values():
            one.finish()

    return log, close


def _mlflow(place: Path) -> tuple[Log, Callable[[], None]]:
    mlflow: Any = importlib.import_module("mlflow")
    metric_of = importlib.import_module("mlflow.entities").Metric

    place.mkdir(parents=True, exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{place.resolve() / 'mlflow.db'}")
    client = mlflow.MlflowClient(tracking_uri=uri)
    name = str(place.parent.parent)
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    runs: dict[str, str] = {}

    def log(run: str, step: int, means: Mapping[str, float], seeds: Any) -> None:
        if run not in runs:
            runs[run] = client.create_run(number, run_name=run).info.run_id
        flat = list(_flat(means, seeds).items())
        for i in range(0, len(flat), 1000):  # the most that one call accepts
            metrics = [metric_of(key, value, 0, step) for key, value in flat[i : i + 1000]]
            client.log_batch(runs[run], metrics=metrics)

    def close() -> None:
        for one in runs.values():
            client.set_terminated(one)

    return log, close


TRACKERS = {
    "tensorboard": ("tensorboardX", _tensorboard),
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
}


def check(kind: str) -> None:
    """Raises a `BadInput` if the tracker is not installed."""
    package, _ = TRACKERS[kind]
    if importlib.util.find_spec(package) is None:
        raise BadInput(f"--track: {kind} needs {package}; {install('track')}")


class Tracker:
    """Sends all scalars to a tracker without making the training wait.

    Args:
        kind: one of `TRACKERS`.
        directory: the sweep's or run's directory; the tracker's files are in its `track/<kind>`.
        err: where warnings go.
        make: the function that connects to the tracker, if not that of `kind`.
    """

    def __init__(
        self,
        kind: str,
        directory: Path,
        err: Console,
        make: Callable[[Path], tuple[Log, Callable[[], None]]] | None = None,
    ):
        self.kind, self.err, self.dropped = kind, err, 0
        self.make = make or TRACKERS[kind][1]
        self.place = directory / "track" / kind
        self.queue: queue.Queue[Any] = queue.Queue(WAITING)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __call__(
        self, variant: str, cell: str, ends: np.ndarray, scalars: Mapping[str, np.ndarray]
    ) -> None:
        """Queues the numbers of one call of the compiled program, scalars [S, W]."""
        try:
            self.queue.put_nowait((variant, cell, ends, scalars))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Lets the tracker finish within `PATIENCE`, and reports how much was dropped."""
        try:
            self.queue.put(None, timeout=PATIENCE / 2)
            self.thread.join(PATIENCE / 2)
        except queue.Full:
            pass
        if self.thread.is_alive():
            self._warn("does not answer; left behind")
        if self.dropped:
            self._warn(f"was too slow; {self.dropped} updates were dropped")

    def _warn(self, text: str) -> None:
        self.err.print(f"gacf: --track {self.kind}: {text}", markup=False, soft_wrap=True)

    def _run(self) -> None:
        log: Log | None = None
        close: Callable[[], None] = lambda: None  # noqa: E731
        failed = False
        while (item := self.queue.get()) is not None:
            if failed:
                continue
            try:
                if log is None:
                    log, close = self.make(self.place)
                for step, means, seeds in _rows(*item[2:]):
                    log(f"{item[0]}/{item[1]}", step, means, seeds)
            except Exception as error:
                failed = True
                self._warn(f"{type(error).__name__}: {str(error)[:120]}; training goes on")
        try:
            close()
        except Exception as error:
            self._warn(f"{type(error).__name__}: {str(error)[:120]}")


def _rows(ends: np.ndarray, scalars: Mapping[str, np.ndarray]) -> Any:
    """Step, means and seeds of every window that was evaluated, and of the last one."""
    evaluations = [v for k, v in scalars.items() if k.startswith("evaluate/")]
    last = len(ends) - 1
    for w, end in enumerate(ends):
        if w == last or any(np.isfinite(v[:, w]).any() for v in evaluations):
            seeds = {
                name: np.asarray(v[:, w], float)
                for name, v in scalars.items()
                if np.isfinite(v[:, w]).any()
            }
            means = {name: float(iqm(v[np.isfinite(v)])) for name, v in seeds.items()}
            yield int(end), means, seeds
