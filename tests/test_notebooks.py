"""Each notebook is a pair of files that say the same, and runs from top to bottom."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))


def test_every_notebook_is_a_pair():
    pairs = [sorted(p.stem for p in (ROOT / "notebooks").glob(f"*.{e}")) for e in ("py", "ipynb")]
    assert pairs[0] == pairs[1]
    assert {"pure_updates", "many_seeds"} <= set(pairs[0])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_pair_says_the_same(script):
    text, notebook = (
        jupytext.read(path, as_version=4) for path in (script, script.with_suffix(".ipynb"))
    )
    cells = [[(cell.cell_type, cell.source) for cell in each.cells] for each in (text, notebook)]
    assert cells[0] == cells[1], f"run: jupytext --sync notebooks/{script.name}"
    for each in (text, notebook):
        assert each.metadata.jupytext.formats == "ipynb,py:percent"
        assert each.metadata.kernelspec.name == "python3"
    nbformat.validate(notebook)
    assert script.with_suffix(".ipynb").stat().st_size < 300_000
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert not any(out.output_type == "error" or out.get("name") == "stderr" for out in outputs)


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs_without_a_warning(script, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "Agg",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
