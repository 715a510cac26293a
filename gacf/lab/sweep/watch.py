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
        found = _json(place / PROGRESS)
        if found:
            values |= found["values"]
            work += lanes * steps * found["step"] / found["steps"]
        if status.live:
            running += 1
            if found:
                made = (found["step"] - found["since"]) / found["steps"]
                rate += lanes * steps * made / max(found["seconds"], 1e-9)
                diverged += found["diverged"]
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


def line(found: Snapshot, key_metric: str | None = None) -> str:
    """The progress of a sweep in one line.

    Example:
        >>> found = Snapshot(3, 1, 1, 0, (2, 6), (8, 24), 0.5, 90.0, ("a", 1.5), 0, "max")
        >>> line(found, "evaluate/modes").partition("  seeds ")[2]
        '8/24  1:30 left  best modes 1.5 (a), more is better'
    """
    parts = [
        f"{100 * found.share:.0f} %",
        f"units {found.done}/{found.units}, {found.running} running"
        + (f", {found.failed} failed" if found.failed else ""),
        f"variants {found.variants[0]}/{found.variants[1]}",
        f"seeds {found.seeds[0]:,}/{found.seeds[1]:,}",
    ]
    if found.seconds_left is not None and found.share < 1:
        parts.append(_clock(found.seconds_left))
    name = (key_metric or "").rpartition("/")[2]
    if found.best:
        way = direction(found.goal)
        parts.append(f"best {name} {found.best[1]:.4g} ({found.best[0]}), {way}")
    elif name and not found.goal:
        parts.append(f"no best {name}, {direction(None)}")
    if found.diverged:
        parts.append(f"diverged {found.diverged}")
    return plain("  ".join(parts))


def _clock(left: float) -> str:
    minutes, seconds = divmod(int(left), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    return f"{clock} left"


def over(found: Snapshot) -> bool:
    """Whether the sweep is over: nothing more will happen by itself."""
    return found.done + found.failed == found.units


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

    def shown(values: dict[str, float]) -> list[str]:
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
            parts += [f"{entry['steps']:,} steps", f"{entry['seeds']} seeds", *shown(metrics)]
            parts += [f"diverged {len(entry['diverged'])}"] if entry["diverged"] else []
        return plain("  ".join(parts)), True
    trained = _is_trained(directory)
    found = _json(directory / PROGRESS)
    if found:
        share = found["step"] / found["steps"]
        parts = [f"{100 * share:.0f} %  {found['cell']}: {found['step']:,}/{found['steps']:,}"]
        made = found["step"] - found["since"]
        if trained and made and found["step"] < found["steps"]:
            left = (found["steps"] - found["step"]) * found["seconds"] / made
            parts.append(_clock(left))
        parts += shown(found["metrics"])
        parts += [f"diverged {found['diverged']}"] if found["diverged"] else []
    else:
        steps = stored["config"].get("steps")
        done = [int(p.name) for p in directory.glob("checkpoints/*/[0-9]*") if p.name.isdigit()]
        parts = [f"step {max(done, default=0):,} of {steps:,} saved"]
        parts += ["building or compiling"] if trained else []
    if not trained:
        parts.append(f"nobody trains it; go on with: gacf resume {directory}")
    return plain("  ".join(parts)), not trained


def of_sweep(directory: Path) -> tuple[str, bool]:
    """The progress of a sweep in one line, and whether nothing more will happen by itself.

    Raises:
        BadInput: there is no sweep.
    """
    found = snapshot(directory)
    return line(found, read_sweep(directory).get("key_metric")), over(found)


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
        raise BadInput(f"DIR: {str(directory)!r} is no directory of a run or a sweep")
    look = of_sweep if (directory / SWEEP).exists() else of_run
    shown = ""
    if not out.is_terminal:
        while True:
            text, done = look(directory)
            if text != shown:
                out.print(text, markup=False, soft_wrap=True)
            shown = text
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
