"""Figures as PNG files, drawn in a second process while the first goes on."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from gacf.lab.children import python

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
WAITING = 2  # sets of figures that may wait for the second process; the next is drawn here


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, drawn only once: `savefig` would draw it twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI)
    buffer = io.BytesIO()
    # more compression does not make line drawings smaller
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def draw(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    """File stem -> PNG file."""
    return {stem: png(figure) for stem, figure in figures.items()}


class Painter:
    """Draws figures in a second process, started with the first figure, if there is a core for it.

    If that fails (a figure cannot be pickled, or the process died), this process draws them.

    Example:
        >>> from matplotlib.figure import Figure
        >>> with Painter() as painter:
        ...     drawn = painter.draw({"empty": Figure()})
        >>> drawn.result()["empty"][1:4]
        b'PNG'
    """

    def __init__(self, beside: bool | None = None) -> None:
        """Does not start the process yet.

        Args:
            beside: whether to draw in a second process; None: if there are several cores.
        """
        self._beside = len(os.sched_getaffinity(0)) > 1 if beside is None else beside
        self._thread = ThreadPoolExecutor(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._pending: list[Future[dict[str, bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None and self._process is not None:
            self._process.kill()
        self._thread.shutdown()
        if self._process is not None:
            self._process.communicate()

    def draw(self, figures: Mapping[str, Figure]) -> Future[dict[str, bytes]]:
        """Starts drawing figures, which must not be changed any more; the future of `draw`."""
        self._pending = [future for future in self._pending if not future.done()]
        if self._beside and len(self._pending) < WAITING:
            try:
                data = pickle.dumps((_settings(), dict(figures)))
            except Exception:
                self._beside = False
            else:
                self._pending.append(self._thread.submit(self._ask, data, figures))
                return self._pending[-1]
        done: Future[dict[str, bytes]] = Future()
        done.set_result(draw(figures))
        return done

    def _ask(self, data: bytes, figures: Mapping[str, Figure]) -> dict[str, bytes]:
        try:
            if self._process is None:
                self._process = subprocess.Popen(
                    python("gacf.lab.painter:serve"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "MPLBACKEND": "agg"},
                )
            assert self._process.stdin is not None and self._process.stdout is not None
            pickle.dump(data, self._process.stdin)
            self._process.stdin.flush()
            pictures = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            self._beside, pictures = False, None
        return draw(figures) if pictures is None else pictures


def _settings() -> dict[str, Any]:
    """The settings that a figure looks up while it is drawn."""
    import matplotlib

    return {k: v for k, v in matplotlib.rcParams.items() if not k.startswith("backend")}


def serve() -> None:
    """Reads pickled figures until the input ends; answers None if they cannot be drawn."""
    import matplotlib

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that output printed by a figure's code is not read as an answer
    while True:
        try:
            data = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            settings, figures = pickle.loads(data)
            matplotlib.rcParams.update(settings)
            pictures = draw(figures)
        except Exception:
            pictures = None
        pickle.dump(pictures, answers)
        answers.flush()
