r"""Escapes names, so that they are shown as they are and not read as markup.

Users choose the names of cells, variants, metrics and directories. `plain` is for a terminal,
`markdown` and `latex` are for tables, and `label` is for text that matplotlib draws. A page of HTML
uses the standard library's `html.escape` on the result of `plain`.
"""

from __future__ import annotations

import re

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "σ": r"$\sigma$",
    "γ": r"$\gamma$",
    "λ": r"$\lambda$",
    "×": r"$\times$",
    **{c: "\\" + c for c in "&%$#_{}"},
}


def plain(text: str) -> str:
    r"""The text with unprintable characters, such as ESC or a line break, written as escapes.

    Example:
        >>> print(plain("a\x1b[31m\nσ"))
        a\x1b[31m\nσ
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def markdown(text: str) -> str:
    r"""The text escaped for a cell of a Markdown table.

    Example:
        >>> print(markdown("a|b $x$ [y](z) <i> 1 [0, 2]"))
        a\|b \$x\$ [y\](z) \<i> 1 [0, 2]
    """
    return re.sub(r"[\\|`$]|\*(?=\S)|\](?=[(\[])|<(?=[A-Za-z/!?])", r"\\\g<0>", plain(text))


def latex(text: str) -> str:
    r"""The text escaped for a cell of a LaTeX table.

    Example:
        >>> print(latex("a_b -1"))
        a\_b $-$1
    """
    minus = re.sub(r"(?<![\w.])-(?=\d)", "\0", plain(text))
    escaped = "".join(_LATEX.get(c, c) for c in minus).replace("\0", "$-$")
    return re.sub(r"^\[", "{[}", escaped)  # \\ would read a bracket after it as its argument


def label(text: str) -> str:
    r"""The text escaped for a figure, in which dollars would start mathematics.

    Example:
        >>> print(label("a$b"))
        a\$b
    """
    escaped = plain(text).replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped  # matplotlib would hide it
