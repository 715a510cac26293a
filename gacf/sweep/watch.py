"""Where a sweep stands; reads its directory alone, so that any terminal may ask."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from gacf.report.table import read_sweep
from gacf.sweep import claims


class Snapshot(NamedTuple):
    """Where a sweep stands.

    Attributes:
        units: how many there are.
        done: how many of them have finished.
        running: how many are being trained.
        failed: how many have been given up.
        variants: how many have finished, and how many there are.
        seeds: how many have finished, and how many there are.
        share: of all seed-steps, how much has been done, in [0, 1].
        seconds_left: estimate; None where nothing is running yet.
        best: variant and interquartile mean of the key metric.
        diverged: seeds, of what is running.
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


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def snapshot(directory: Path) -> Snapshot:
    """Reads where a sweep stands.

    Raises:
        BadInput: no sweep there.
    """
    stored = read_sweep(directory)
    key = stored.get("key_metric")
    values: dict[str, float] = {}
    finished = set()
    for name in stored["variants"]:
        if (directory / name / "summary.json").exists():
            finished.add(name)
            cells = _json(directory / name / "summary.json").get("cells", {})
            for cell in cells.values():
                value = cell["metrics"].get(key, {}).get("iqm")
                if value is not None:
                    values[name if len(cells) == 1 else f"{name} {cell}"] = value
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
        found = _json(place / "progress.json")
        if found:
            values |= found["values"]
            work += lanes * steps * found["step"] / found["steps"]
        if status.live:
            running += 1
            if found:
                made = (found["step"] - found["since"]) / found["steps"]
                rate += lanes * steps * made / max(found["seconds"], 1e-9)
                diverged += found["diverged"]
    pick = min if stored.get("goal") == "min" else max
    best = pick(values.items(), key=lambda item: item[1]) if values else None
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
    )


def line(found: Snapshot, key_metric: str | None = None) -> str:
    """One line of where a sweep stands.

    Example:
        >>> line(Snapshot(3, 1, 1, 0, (2, 6), (8, 24), 0.5, 90.0, ("a", 1.5), 0), "evaluate/modes")
        '50 %  units 1/3, 1 running  variants 2/6  seeds 8/24  1:30 left  best modes 1.5 (a)'
    """
    left = found.seconds_left
    parts = [
        f"{100 * found.share:.0f} %",
        f"units {found.done}/{found.units}, {found.running} running"
        + (f", {found.failed} failed" if found.failed else ""),
        f"variants {found.variants[0]}/{found.variants[1]}",
        f"seeds {found.seeds[0]:,}/{found.seeds[1]:,}",
    ]
    if left is not None and found.share < 1:
        minutes, seconds = divmod(int(left), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        parts.append(f"{clock} left")
    if found.best:
        name = (key_metric or "").rpartition("/")[2]
        parts.append(f"best {name} {found.best[1]:.4g} ({found.best[0]})")
    if found.diverged:
        parts.append(f"diverged {found.diverged}")
    return "  ".join(parts)


def over(found: Snapshot) -> bool:
    """Whether nothing more will happen by itself."""
    return found.done + found.failed == found.units


def watch(directory: Path, out: Console, every: float = 1.0, once: bool = False) -> None:
    """Shows where a sweep stands until it is over.

    Args:
        directory: the sweep's.
        out: where to show it.
        every: seconds between looks.
        once: whether one look is enough.
    """
    key = read_sweep(directory).get("key_metric")
    shown = ""
    if not out.is_terminal:
        while True:
            found = snapshot(directory)
            text = line(found, key)
            if text != shown:
                out.print(text, markup=False, soft_wrap=True)
            shown = text
            if once or over(found):
                return
            time.sleep(every)
    with out.status("") as status:
        while True:
            found = snapshot(directory)
            status.update(line(found, key))
            if once or over(found):
                break
            time.sleep(every)
    out.print(line(found, key), markup=False, soft_wrap=True)
