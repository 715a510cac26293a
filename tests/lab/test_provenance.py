"""Which code a run was made by, as git says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gacf.lab import experiment_file, overrides, provenance, run_directory

from .common import TOY

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def git(place: Path, *arguments: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
    call = ["git", "-C", str(place), *who, *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q")
    shutil.copyfile(TOY, place / "toy.py")
    (place / "helper.py").write_text("x = 1\n")
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", "one")
    provenance.code.cache_clear()
    return place


def test_the_commit_and_whether_it_is_all(repository: Path):
    path = repository / "toy.py"
    one = git(repository, "rev-parse", "HEAD")
    assert provenance.commit(path) == {"commit": one, "dirty": False}
    (repository / "output").write_text("results lie in the repository, too\n")
    assert provenance.commit(path) == {"commit": one, "dirty": False}
    (repository / "helper.py").write_text("x = 2\n")
    assert provenance.commit(path) == {"commit": one, "dirty": True}
    git(repository, "commit", "-q", "-a", "-m", "two")
    two = git(repository, "rev-parse", "HEAD")
    assert provenance.commit(path) == {"commit": two, "dirty": False} and one != two
    (repository / "new.py").write_text("")
    assert provenance.commit(repository / "new.py") == {"commit": two, "dirty": True}
    (repository / ".gitignore").write_text("/inside\n")
    (repository / "inside").mkdir()
    (repository / "inside" / "x.py").write_text("")
    assert provenance.commit(repository / "inside" / "x.py") is None


def test_where_there_is_no_repository_or_no_git(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "x.py").write_text("")
    assert provenance.commit(tmp_path / "x.py") is None
    git(repository, "checkout", "-q", "--orphan", "empty")
    assert provenance.commit(repository / "toy.py") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit(repository / "toy.py") is None
    assert provenance.code(repository / "toy.py") == {
        "experiment": {"file": str((repository / "toy.py").resolve())}
    }


def test_a_run_says_its_commit_and_what_has_changed_since(repository: Path, tmp_path: Path):
    loaded = experiment_file.load(repository / "toy.py")
    made = run_directory.create(tmp_path / "run", loaded, overrides.resolve(loaded))
    stored = json.loads((made.directory / "config.json").read_text())
    one = git(repository, "rev-parse", "HEAD")
    file = str((repository / "toy.py").resolve())
    assert stored["code"]["experiment"] == {"file": file, "commit": one, "dirty": False}
    own = {"experiment": stored["code"]["experiment"]}
    assert provenance.changes(own) == []
    (repository / "helper.py").write_text("x = 2\n")
    (said,) = provenance.changes(own)
    assert said == f"experiment was {one[:10]}, is {one[:10]} with changes"
    git(repository, "commit", "-q", "-a", "-m", "two")
    (said,) = provenance.changes(own)
    assert said == f"experiment was {one[:10]}, is {git(repository, 'rev-parse', 'HEAD')[:10]}"
    shutil.rmtree(repository)
    assert provenance.changes(own) == []
    assert provenance.changes(None) == provenance.changes({"gacf": 3}) == []
