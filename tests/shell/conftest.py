from __future__ import annotations

from pathlib import Path

import pytest

from .common import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy that nothing disturbed."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    assert run(directory) == 0
    return directory
