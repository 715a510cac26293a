r"""Names as text that cannot be taken for anything else where it is shown.

Cells, variants, metrics and directories have names of the user's choosing. `plain` is for a
terminal, `markdown` and `latex` for tables, `label` for what matplotlib draws; a page of HTML uses
the standard library's `html.escape` on what `plain` gives.
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
    r"""The text with whatever cannot be printed, such as ESC or a line's end, spelled out.

    Example:
        >>> print(plain("a\x1b[31m\nσ"))
        a\x1b[31m\nσ
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def markdown(text: str) -> str:
    r"""The text for a cell of a Markdown table, where it is shown as it is.

    Example:
        >>> print(markdown("a|b $x$ [y](z) <i> 1 [0, 2]"))
        a\|b \$x\$ [y\](z) \<i> 1 [0, 2]
    """
    return re.sub(r"[\\|`$]|\*(?=\S)|\](?=[(\[])|<(?=[A-Za-z/!?])", r"\\\g<0>", plain(text))


def latex(text: str) -> str:
    r"""The text for a cell of a LaTeX table.

    Example:
        >>> print(latex("a_b -1"))
        a\_b $-$1
    """
    minus = re.sub(r"(?<![\w.])-(?=\d)", "\0", plain(text))
    made = "".join(_LATEX.get(c, c) for c in minus).replace("\0", "$-$")
    return re.sub(r"^\[", "{[}", made)  # \\ would take a bracket after it for its argument


def label(text: str) -> str:
    r"""The text for a figure, where dollars would be taken for mathematics.

    Example:
        >>> print(label("a$b"))
        a\$b
    """
    shown = plain(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown  # matplotlib would leave it out
