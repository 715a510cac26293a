"""A worker as a process of its own, which executors start with the sweep's DIR as its argument."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

UNWRITABLE = 3  # exit code if nothing can be written; 0: nothing was left to do


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Trains until nothing is left; the exit code says whether a replacement is needed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--cores", help="the cores that it may use, separated by commas")
    parser.add_argument("--track")
    parser.add_argument("--traceback", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    if given.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(map(int, given.cores.split(","))))
    os.environ.setdefault("MPLBACKEND", "Agg")

    from gacf.lab import children, files, preparation, sweep
    from gacf.lab.console import console
    from gacf.lab.sweep import claims, track, work

    preparation.use_cache()
    out, err = console(), console(stderr=True)
    tracker = track.Tracker(given.track, given.directory, err) if given.track else None
    options = work.Options(given.traceback, children.parent(), tracker)
    try:
        work.work(sweep.open_sweep(given.directory), out, err, options)
    except files.Unwritable as error:
        print(f"gacf: {error.strerror or error}", file=sys.stderr)
        return UNWRITABLE
    except (KeyboardInterrupt, claims.Lost):
        return 130
    finally:
        if tracker is not None:
            tracker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
