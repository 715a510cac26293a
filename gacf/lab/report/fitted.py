"""Tables for a terminal of any width, in which no word and no interval is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table as Grid
from rich.text import Text

from gacf.lab.escape import plain

GAP = 3  # columns of the terminal between two columns of the table
# A line may end at a space, or after a comma of a variant's name, as in "a=1,b=2". An interval,
# "[0.1, 0.2]", stays on one line.
_WORDS = re.compile(r"\[[^\[\]]*\]\S*|[^\s,]+,?|\S")


class Fitted(NamedTuple):
    """A table as a rich console prints it, as wide as the terminal allows.

    If the rows do not fit on one line, each cell gets several lines, broken between words; if they
    do not fit even so, each row becomes a list, one line per column.

    Attributes:
        columns: the headings.
        rows: the rows, one text per column.
        note: a text below the table.
        left: the columns that are aligned to the left.
        warns: for each row, whether its last cell is a warning.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str
    left: Sequence[int]
    warns: Sequence[bool]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        heads = [plain(text) for text in self.columns]
        rows = [[plain(text) for text in row] for row in self.rows]
        widths = column_widths([heads, *rows], options.max_width - 2)
        yield self._list(heads, rows) if widths is None else self._grid(heads, rows, widths)
        yield Text(plain(self.note), style="dim")

    def _styles(self, row: int, count: int) -> list[str]:
        return [""] * (count - 1) + ["yellow" if self.warns[row] else ""]

    def _grid(self, heads: list[str], rows: list[list[str]], widths: list[int]) -> Grid:
        broken = [[fold(*pair) for pair in zip(row, widths, strict=True)] for row in rows]
        several = any("\n" in text for row in broken for text in row)
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, leading=int(several))
        for i, (head, width) in enumerate(zip(heads, widths, strict=True)):
            side = "left" if i in self.left else "right"
            grid.add_column(Text(fold(head, width)), justify=side, width=width, overflow="fold")
        for i, row in enumerate(broken):
            grid.add_row(*map(Text, row, self._styles(i, len(row))))
        return grid

    def _list(self, heads: list[str], rows: list[list[str]]) -> Grid:
        grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        grid.add_column(style="bold", overflow="fold")
        grid.add_column(overflow="fold")
        for i, row in enumerate(rows):
            for head, text, style in zip(heads, row, self._styles(i, len(row)), strict=True):
                grid.add_row(Text(head), Text(text, style=style))
            grid.add_row("", "")
        return grid


def words(text: str) -> list[str]:
    """The pieces between which a text may be broken.

    Example:
        >>> words("0.94 [0.93, 0.95]"), words("rate=0.1,r1=1"), words("seed 2 at 40, 1 more")
        (['0.94', '[0.93, 0.95]'], ['rate=0.1,', 'r1=1'], ['seed', '2', 'at', '40,', '1', 'more'])
    """
    return _WORDS.findall(text)


def fold(text: str, width: int) -> str:
    """The text in lines of at most `width` characters, except for longer words.

    Example:
        >>> fold("0.94 [0.93, 0.95]", 13).splitlines()
        ['0.94', '[0.93, 0.95]']
    """
    if cell_len(text) <= width:
        return text
    lines, at = [""], 0
    for word in words(text):
        start = text.index(word, at)
        gap = text[at:start]
        at = start + len(word)
        if lines[-1] and cell_len(lines[-1] + gap + word) > width:
            lines.append(word)
        else:
            lines[-1] += (gap if lines[-1] else "") + word
    return "\n".join(lines)


def column_widths(rows: Sequence[Sequence[str]], most: int) -> list[int] | None:
    """How wide each column is; None if the longest words of all columns do not fit.

    Args:
        rows: the cells, headings included.
        most: columns of the terminal that there are.

    Example:
        >>> rows = [["cell", "return"], ["a", "0.94 [0.93, 0.95]"]]
        >>> column_widths(rows, 80), column_widths(rows, 20), column_widths(rows, 10)
        ([4, 17], [4, 13], None)
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [
        max(cell_len(word) for text in column for word in [*words(text), ""]) for column in columns
    ]
    room = most - GAP * (len(columns) - 1)
    if sum(least) > room:
        return None
    while sum(widths) > room:
        # The widest column that can still be narrower gives way.
        i = max((i for i in range(len(widths)) if widths[i] > least[i]), key=widths.__getitem__)
        widths[i] -= 1
    return widths
