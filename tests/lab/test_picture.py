"""Pictures: the same wherever they are drawn, and drawn whatever becomes of the second process."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from gacf.lab import painter as picture
from gacf.lab.report import sample_tiles


def line(**more):
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([-1, 0, 1], **more)
    return figure


def broken():
    class Bad(matplotlib.lines.Line2D):
        def draw(self, renderer):
            raise ValueError("no such line")

    figure = Figure()
    figure.subplots().add_line(Bad([0, 1], [0, 1]))
    return figure


@pytest.mark.long
def test_the_second_process_draws_the_same_bytes_with_the_settings_of_the_first(monkeypatch):
    monkeypatch.setattr(picture, "png", None)  # nothing can be drawn here
    with matplotlib.rc_context({"axes.unicode_minus": False, "path.sketch": (2, 100, 2)}):
        with picture.Painter(beside=True) as painter:
            first = painter.draw({"a": line()})
            second = painter.draw({"b": line(lw=3), "c": line(lw=5)})
            found = {**first.result(), **second.result()}
        monkeypatch.undo()
        with matplotlib.rc_context({"axes.unicode_minus": False, "path.sketch": (2, 100, 2)}):
            assert found == picture.draw({"a": line(), "b": line(lw=3), "c": line(lw=5)})
    assert found["a"] != picture.png(line())
    assert image.imread(io.BytesIO(found["b"])).shape == (300, 300, 4)


@pytest.mark.long
def test_more_figures_than_the_second_process_takes_are_drawn_here():
    with picture.Painter(beside=True) as painter:
        drawn = [painter.draw({str(i): line(lw=i)}) for i in range(picture.WAITING + 2)]
        assert drawn[-1].done()
        assert not drawn[0].done()
        found = [one.result()[str(i)] for i, one in enumerate(drawn)]
    assert found == [picture.png(line(lw=i)) for i in range(picture.WAITING + 2)]


def test_what_cannot_be_pickled_is_drawn_here():
    figure = line()
    figure.axes[0].xaxis.set_major_formatter(lambda x, at: f"{x:g}!")
    with picture.Painter(beside=True) as painter:
        assert painter.draw({"a": figure}).result() == {"a": picture.png(figure)}


@pytest.mark.long
def test_what_was_asked_of_a_process_that_died_is_drawn_here():
    with picture.Painter(beside=True) as painter:
        painter.draw({"a": line()}).result()
        painter._process.kill()
        painter._process.wait()
        for width in (1, 2):
            assert painter.draw({"a": line(lw=width)}).result() == {
                "a": picture.png(line(lw=width))
            }


@pytest.mark.parametrize("beside", [True, False])
def test_an_error_of_the_figure_itself_reaches_its_author(beside):
    with picture.Painter(beside=beside) as painter, pytest.raises(ValueError, match="no such line"):
        painter.draw({"a": broken()}).result()


def test_an_error_beside_it_ends_the_second_process():
    with pytest.raises(KeyError), picture.Painter(beside=True) as painter:
        painter.draw({"a": line()}).result()
        process = painter._process
        raise KeyError
    assert process.wait(10) != 0


def test_a_figure_is_drawn_once():
    drawn = []

    class Counted(matplotlib.lines.Line2D):
        def draw(self, renderer):
            drawn.append(self)

    figure = Figure()
    figure.subplots().add_line(Counted(np.arange(2), np.arange(2)))
    picture.png(figure)
    assert len(drawn) == 1


def test_samples_lie_in_the_tile_of_their_seed():
    samples = np.array([[[1.0, 0.0], [0.0, -1.0]]] * 9)
    samples[4] = np.nan  # a diverged seed leaves the tiles of the others as they are
    samples[5] = 1e9
    for marks in (None, [[1.0, 0.0]]):
        (ax,) = sample_tiles(samples, marks).axes
        points = np.asarray(ax.collections[0].get_offsets()).reshape(9, 2, 2)
        centres = np.array([[3.4 * (i % 8), -3.4 * (i // 8)] for i in range(9)])
        good = [0, 1, 2, 3, 6, 7, 8]
        np.testing.assert_allclose(points[good], samples[good] + centres[good, None])
        assert np.ma.getmaskarray(ax.collections[0].get_offsets()).reshape(9, 2, 2)[[4, 5]].all()
        assert len(ax.collections) == (1 if marks is None else 2)


def test_samples_of_seeds_that_all_diverged_are_drawn():
    (ax,) = sample_tiles(np.full((2, 3, 2), np.inf)).axes
    assert [text.get_text() for text in ax.texts] == ["seed 0", "seed 1"]
