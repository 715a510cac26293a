"""The progress of a run or a sweep, read from its directory alone, so that any terminal can ask."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from gacf.lab import locks, records
from gacf.lab.errors import BadInput
from gacf.lab.escape import plain
from gacf.lab.inspect.progress import PROGRESS, label
from gacf.lab.records import SWEEP, read_sweep
from gacf.lab.report.table import direction, read_summary, stated_goal
from gacf.lab.sweep import claims
from gacf.lab.sweep.directory import check_idle

RECENT = 10.0  # seconds for which a progress file shows that a run is being trained


class Snapshot(NamedTuple):
    """The progress of a sweep.

    Attributes:
        units: how many units there are.
        done: how many of them have finished.
        running: how many are being trained.
        failed: how many have been given up.
        variants: how many variants have finished, and how many there are.
        seeds: how many seeds have finished, and how many there are.
        share: the share of all seed-steps that has been done, in [0, 1].
        seconds_left: an estimate; None while nothing is running.
        best: the best variant (with its cell if it has several) and its interquartile mean of the
            key metric; None while nothing is known, or if the experiment states no goal.
        diverged: the number of diverged seeds in the units that are running.
        goal: whether more (`max`) or less (`min`) of the key metric is better; None: not stated.
    """

    units: int
    done: int
    running: int
    failed: int
    variants: tuple[int, int]
    seeds: tuple[int, int]
    share: float
    seconds_left: float | None
    best: tuple[str, float] | None
    diverged: int
    goal: str | None = None


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def snapshot(directory: Path) -> Snapshot:
    """Reads the progress of a sweep.

    Raises:
        BadInput: there is no sweep.
    """
    stored = read_sweep(directory)
    key = stored.get("key_metric")
    values: dict[str, float] = {}
    finished = set()
    for name in stored["variants"]:
        if (directory / name / "summary.json").exists():
            finished.add(name)
            cells = _json(directory / name / "summary.json").get("cells", {})
            for cell, entry in cells.items():
                value = entry["metrics"].get(key, {}).get("iqm")
                if value is not None:
                    values[label(name, cell, len(cells))] = value
    done = running = failed = diverged = 0
    work = total = rate = 0.0
    units = stored.get("units", [])
    for unit in units:
        lanes = sum(stored["variants"][name]["seeds"] for name in unit["variants"])
        steps = stored["variants"][unit["variants"][0]]["steps"]
        total += lanes * steps
        if finished.issuperset(unit["variants"]):
            done += 1
            work += lanes * steps
            continue
        place = directory / "units" / unit["name"]
        status = claims.status(place)
        failed += not status.live and status.attempts >= claims.ATTEMPTS
        progress = _json(place / PROGRESS)
        if progress:
            values |= progress["values"]
            work += lanes * steps * progress["step"] / progress["steps"]
        if status.live:
            running += 1
            if progress:
                share = (progress["step"] - progress["since"]) / progress["steps"]
                rate += lanes * steps * share / max(progress["seconds"], 1e-9)
                diverged += progress["diverged"]
    goal = stated_goal(directory, stored)
    pick = min if goal == "min" else max
    best = pick(values.items(), key=lambda item: item[1]) if values and goal else None
    seeds = [stored["variants"][name]["seeds"] for name in stored["variants"]]
    return Snapshot(
        len(units),
        done,
        running,
        failed,
        (len(finished), len(stored["variants"])),
        (sum(stored["variants"][name]["seeds"] for name in finished), sum(seeds)),
        work / total if total else 0.0,
        (total - work) / rate if rate else None,
        best,
        diverged,
        goal,
    )


def line(now: Snapshot, key_metric: str | None = None) -> str:
    """The progress of a sweep in one line.

    Example:
        >>> now = Snapshot(3, 1, 1, 0, (2, 6), (8, 24), 0.5, 90.0, ("a", 1.5), 0, "max")
        >>> line(now, "evaluate/modes").partition("  seeds ")[2]
        '8/24  1:30 left  best modes 1.5 (a), more is better'
    """
    parts = [
        f"{100 * now.share:.0f} %",
        f"units {now.done}/{now.units}, {now.running} running"
        + (f", {now.failed} failed" if now.failed else ""),
        f"variants {now.variants[0]}/{now.variants[1]}",
        f"seeds {now.seeds[0]:,}/{now.seeds[1]:,}",
    ]
    if now.seconds_left is not None and now.share < 1:
        parts.append(_clock(now.seconds_left))
    name = (key_metric or "").rpartition("/")[2]
    if now.best:
        way = direction(now.goal)
        parts.append(f"best {name} {now.best[1]:.4g} ({now.best[0]}), {way}")
    elif name and not now.goal:
        parts.append(f"no best {name}, {direction(None)}")
    if now.diverged:
        parts.append(f"diverged {now.diverged}")
    return plain("  ".join(parts))


def _clock(left: float) -> str:
    minutes, seconds = divmod(int(left), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    return f"{clock} left"


def over(now: Snapshot) -> bool:
    """Whether the sweep is over: nothing more will happen by itself."""
    return now.done + now.failed == now.units


def _is_trained(directory: Path) -> bool:
    """Whether a process is training the run."""
    try:
        if time.time() - (directory / PROGRESS).stat().st_mtime < RECENT:
            return True
    except OSError:
        pass
    try:
        check_idle(directory)
    except BadInput:
        return True
    return locks.held(directory)


def of_run(directory: Path) -> tuple[str, bool]:
    """The progress of a run in one line, and whether nothing more will happen by itself.

    Raises:
        BadInput: there is no run.
    """
    stored = records.read_stored(directory)
    key, goal = stored.get("key_metric"), stored.get("goal")
    way = f", {direction(goal)}" if goal else ""

    def selected(values: dict[str, float]) -> list[str]:
        """The key metric first, then metrics of evaluations, then metrics of training."""
        names = [key, *(n for n in values if n.startswith("evaluate/")), *values]
        chosen = [n for n in dict.fromkeys(names) if n in values][:4]
        bare = lambda n: n.removeprefix("evaluate/").removeprefix("final/")  # noqa: E731
        return [f"{bare(n)} {values[n]:.4g}" + (way if n == key else "") for n in chosen]

    if (directory / "summary.json").exists():
        parts = ["100 %  finished"]
        cells = read_summary(directory)["cells"]
        for cell, entry in cells.items():
            metrics = {n: m["iqm"] for n, m in entry["metrics"].items() if m["iqm"] is not None}
            parts += [cell] if len(cells) > 1 else []
            parts += [f"{entry['steps']:,} steps", f"{entry['seeds']} seeds", *selected(metrics)]
            parts += [f"diverged {len(entry['diverged'])}"] if entry["diverged"] else []
        return plain("  ".join(parts)), True
    trained = _is_trained(directory)
    progress = _json(directory / PROGRESS)
    if progress:
        step, last = progress["step"], progress["steps"]
        parts = [f"{100 * step / last:.0f} %  {progress['cell']}: {step:,}/{last:,}"]
        recent = step - progress["since"]
        if trained and recent and step < last:
            left = (last - step) * progress["seconds"] / recent
            parts.append(_clock(left))
        parts += selected(progress["metrics"])
        parts += [f"diverged {progress['diverged']}"] if progress["diverged"] else []
    else:
        steps = stored["config"].get("steps")
        done = [int(p.name) for p in directory.glob("checkpoints/*/[0-9]*") if p.name.isdigit()]
        parts = [f"step {max(done, default=0):,} of {steps:,} saved"]
        parts += ["building or compiling"] if trained else []
    if not trained:
        parts.append(f"no process is training it; go on with: gacf resume {directory}")
    return plain("  ".join(parts)), not trained


def of_sweep(directory: Path) -> tuple[str, bool]:
    """The progress of a sweep in one line, and whether nothing more will happen by itself.

    Raises:
        BadInput: there is no sweep.
    """
    now = snapshot(directory)
    return line(now, read_sweep(directory).get("key_metric")), over(now)


def watch(directory: Path, out: Console, every: float = 1.0, once: bool = False) -> None:
    """Shows the progress of a run or a sweep until it is over.

    Args:
        directory: a directory that `gacf run` or `gacf sweep` made.
        out: where to show it.
        every: seconds between updates.
        once: whether to show it only once.

    Raises:
        BadInput: there is neither a run nor a sweep.
    """
    if not (directory / SWEEP).exists() and not (directory / "config.json").exists():
        raise BadInput(f"DIR: {str(directory)!r} is not the directory of a run or a sweep")
    look = of_sweep if (directory / SWEEP).exists() else of_run
    printed = ""
    if not out.is_terminal:
        while True:
            text, done = look(directory)
            if text != printed:
                out.print(text, markup=False, soft_wrap=True)
            printed = text
            if once or done:
                return
            time.sleep(every)
    with out.status("") as status:
        while True:
            text, done = look(directory)
            status.update(escape(text))
            if once or done:
                break
            time.sleep(every)
    out.print(text, markup=False, soft_wrap=True)
