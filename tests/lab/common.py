"""What the tests of the outer shell share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from gacf.lab.cli import main

TOY = Path(__file__).with_name("toy.py")
ROOT = Path(__file__).parents[2]


def run(directory: Path, *overrides: str, experiment: Path = TOY) -> int:
    """`gacf run`, in this process."""
    return main(["run", str(experiment), "--workdir", str(directory), *overrides])


def process(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m gacf` as a process of its own, with the devices that the tests have."""
    return subprocess.run(
        [sys.executable, "-m", "gacf", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def metrics(directory: Path) -> pd.DataFrame:
    """The tidy table of a run."""
    return pd.read_parquet(directory / "metrics.parquet")


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """The toy with one text replaced."""
    text = TOY.read_text()
    assert old in text
    path = tmp_path / "edited.py"
    path.write_text(text.replace(old, new))
    return path
