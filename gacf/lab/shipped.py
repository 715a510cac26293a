"""The experiments that come with the package, and how a command finds the one that is meant.

Nothing here loads JAX, so that a wrong name is reported at once.
"""

from __future__ import annotations

from pathlib import Path

import gacf
from gacf.core.names import nearest
from gacf.lab.errors import BadInput, check_text


def directory() -> Path:
    """Where the package's experiments are: inside it, or beside it in a checkout."""
    package = Path(gacf.__file__).parent
    inside = package / "experiments"
    return inside if inside.is_dir() else package.parent / "experiments"


def names() -> list[str]:
    """The names of the package's experiments: their files' stems."""
    return [path.stem for path in sorted(directory().glob("*.py"))]


def find(config: str | Path) -> Path:
    """The file of an experiment.

    Args:
        config: a file; or the name of an experiment that comes with the package, if there is no
            such file.

    Raises:
        BadInput: there is neither.

    Example:
        >>> find("ring_gan").name
        'ring_gan.py'
    """
    check_text("CONFIG", str(config), "a Python file")
    path, known = Path(config), names()
    if path.is_file():
        return path
    if str(config) in known:
        return directory() / f"{config}.py"
    here = [str(p) for p in sorted(Path("experiments").glob("*.py"))]
    raise BadInput(f"CONFIG: there is no file {str(path)!r}; {nearest(str(path), here + known)}")
