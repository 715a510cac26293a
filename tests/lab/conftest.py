from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .common import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy that nothing disturbed."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    assert run(directory) == 0
    return directory


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache folder is none of the tests' business."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
