"""Which code made a run: the commits of the repositories that hold it."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

PATIENCE = 5.0  # seconds that git has for an answer
GIT = ("git", "-c", "core.fsmonitor=false")


def _outside() -> dict[str, str]:
    """The environment without the variables that tell git where a repository is."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _git(directory: Path, *arguments: str) -> str | None:
    """Git's output; None if there is no git, no repository, or no answer in time."""
    try:
        result = subprocess.run(
            # A repository may name programs for git to run: GIT's options forbid it.
            [*GIT, "-C", str(directory), *arguments],
            # If this runs in a git hook, the hook's environment would name another repository.
            env={**_outside(), "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return result.stdout.decode(errors="replace").strip() if result.returncode == 0 else None


def commit(path: Path) -> dict[str, Any] | None:
    """The commit of the repository around a file, and whether the code differs from that commit.

    Args:
        path: a file.

    Returns:
        `commit`, and `dirty`: whether a tracked file has been changed since, or this file is not
        tracked; None if the file is in no repository.
    """
    place = path.resolve().parent
    head = _git(place, "rev-parse", "--verify", "HEAD")
    if head is None:
        return None
    tracked = (
        _git(place, "ls-files", "--error-unmatch", "--", f":(literal){path.resolve().name}")
        is not None
    )
    if not tracked and _git(place, "check-ignore", "-q", "--", path.resolve().name) is not None:
        return None  # a virtual environment inside some other project's repository
    changed = _git(place, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    return {"commit": head, "dirty": changed != "" or not tracked}


@functools.cache
def code(experiment: Path) -> dict[str, Any]:
    """Where the code of an experiment and of gacf comes from, as far as repositories show.

    Args:
        experiment: its file.

    Returns:
        `experiment`: the file, with `commit` and `dirty` if it is in a repository; `gacf`: the same
        two, if gacf is installed from a repository.
    """
    own = commit(Path(__file__))
    return {
        "experiment": {"file": str(experiment.resolve()), **(commit(experiment) or {})},
        **({"gacf": own} if own else {}),
    }


def changes(stored: Any) -> list[str]:
    """Describes what differs from a run's stored `code`.

    Args:
        stored: the result of `code` when the run began; anything else counts as unchanged.
    """
    differences = []
    for name, then in stored.items() if isinstance(stored, dict) else ():
        if not isinstance(then, dict) or "commit" not in then:
            continue
        path = Path(str(then["file"])) if "file" in then else Path(__file__)
        now = commit(path) if path.is_file() else None
        if now and (now["commit"], now["dirty"]) != (then["commit"], then.get("dirty")):
            differences.append(f"{name} was {words(then)}, is {words(now)}")
    return differences


def words(one: dict[str, Any]) -> str:
    """A commit in a few words.

    Example:
        >>> words({"commit": "0123456789abcdef", "dirty": True})
        '0123456789 with changes'
    """
    return str(one["commit"])[:10] + (" with changes" if one.get("dirty") else "")
