"""A sweep's report: one HTML page that needs nothing else, and the same as Markdown."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gacf.lab import escape
from gacf.lab.painter import png
from gacf.lab.report import analysis, plot
from gacf.lab.report.analysis import Results
from gacf.lab.report.sections import Entry, Section
from gacf.lab.report.sections import sections as sections

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#767676}
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 .3rem}
p{max-width:48rem;margin:.3rem 0 .8rem;overflow-wrap:anywhere}
.soft{color:var(--soft);font-size:.9rem}.wide{overflow-x:auto}summary{cursor:pointer}
nav ul{list-style:none;padding:0;margin:.5rem 0;display:flex;flex-wrap:wrap;gap:.2rem 1rem}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600}th:first-child,td:first-child{text-align:left}.whole{white-space:nowrap}
.text th,.text td{text-align:left;white-space:normal;overflow-wrap:anywhere}
.text td a{margin-right:.6rem}
img,svg{display:block;max-width:100%;height:auto}
img{background:#fff;border-radius:4px;margin:.6rem 0}
.plot svg{touch-action:pan-y;font-size:12px;fill:currentColor}.plot .grid{stroke:var(--line)}
.plot .here{stroke:var(--soft)}.plot button{font:inherit;font-size:.9rem;margin-right:.4rem}
.keys{columns:22rem;font-size:.9rem}
.keys label{display:block;overflow-wrap:anywhere;break-inside:avoid}
.keys i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .4em}
.keys b{font-weight:400;margin-left:.6em;color:var(--soft)}
@media(max-width:600px){body{padding:.7rem}th,td{padding:.2rem .35rem;white-space:normal}
.lead{white-space:nowrap}.rank,.text thead{display:none}.text td{display:block;border:0;padding:0}
.text tr{display:block;padding:.4rem 0;border-bottom:1px solid var(--line)}}
"""
# An interval, and a setting in the name of a variant, stay on one line.
_WHOLE = re.compile(r"\[[^\[\]]{1,40}\]|[^\s,=&]{1,30}=[^\s,&]{1,12},?(?=\S|$)")


def _html(text: str) -> str:
    return html.escape(escape.plain(text))


def _cell(entry: Entry) -> str:
    """The content of a table's cell."""
    if isinstance(entry, str):
        return _WHOLE.sub(r'<span class="whole">\g<0></span><wbr>', _html(entry))
    return " ".join(f'<a href="{_html(one.target)}">{_html(one.text)}</a>' for one in entry)


def _anchor(one: Section) -> str:
    return _html(one.title.lower().replace(" ", "-"))


def _table(one: Section) -> str:
    """The table of a section, with the most important column first."""
    order = list(range(len(one.columns)))
    if one.first:
        order.sort(key=lambda i: one.columns[i] != one.first)
    kinds = {"rank": "rank", one.first: "lead"}
    marks = {i: f' class="{kinds[c]}"' for i, c in enumerate(one.columns) if c and c in kinds}

    def row(tag: str, entries: Sequence[Entry]) -> str:
        cells = (f"<{tag}{marks.get(i, '')}>{_cell(entries[i])}</{tag}>" for i in order)
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join(row("td", entries) for entries in one.rows)
    style = ' class="text"' if one.texts else ""
    table = (
        f'<div class="wide"><table{style}><thead>{row("th", one.columns)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    if not one.folded:
        return table
    return f"<details><summary>{len(one.rows)} rows</summary>{table}</details>"


def _pictures(one: Section, drawn: Mapping[str, bytes]) -> Iterator[str]:
    for name, figure in one.figures.items():
        image = f'<img alt="{_html(name)}" src="{_data(drawn.get(name) or png(figure))}">'
        if name in one.narrow:
            narrow = _data(png(one.narrow[name]))
            source = f'<source media="(max-width:600px)" srcset="{narrow}">'
            image = f"<picture>{source}{image}</picture>"
        yield f"<noscript>{image}</noscript>" if one.plot else image


def _data(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def as_html(
    results: Results, sections: Sequence[Section], drawn: Mapping[str, bytes] | None = None
) -> str:
    """The report as one page that refers to no other file, except by links to the runs.

    Args:
        results: the sweep's results.
        sections: the parts of the report.
        drawn: the figures that have been drawn already, as PNG files, by their names.
    """
    parts = []
    for one in sections:
        parts.append(
            f'<section id="{_anchor(one)}"><h2>{_html(one.title)}</h2><p>{_html(one.words)}</p>'
        )
        if one.plot:
            parts.append(plot.markup(one.plot))
        parts += _pictures(one, drawn or {})
        parts += [_table(one)] if one.rows else []
        parts.append("</section>")
    links = (f'<li><a href="#{_anchor(one)}">{_html(one.title)}</a></li>' for one in sections)
    title = _html(results.directory.resolve().name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="soft">{_html(_lead(results))}</p><nav><ul>{"".join(links)}</ul></nav>'
        f"{''.join(parts)}</body></html>\n"
    )


def _lead(results: Results) -> str:
    text = f"{len(results.cells)} cells over {', '.join(results.keys) or 'no key'}."
    if results.missing:
        text += f" Without results: {', '.join(results.missing)}."
    try:
        cost = json.loads((results.directory / "sweep-summary.json").read_text())
    except (OSError, ValueError):
        return text
    text += (
        f" {cost['compilations']} compilations; {cost['compile_seconds']:.0f} s of "
        f"{cost['wall_seconds']:.0f} s were spent on them."
    )
    return " ".join([text, *(f"Note: {note}." for note in cost["notes"])])


def _markdown(entry: Entry) -> str:
    if isinstance(entry, str):
        return escape.markdown(entry)
    return " ".join(f"[{escape.markdown(one.text)}](<{one.target}>)" for one in entry)


def as_markdown(results: Results, sections: Sequence[Section]) -> str:
    """The report as Markdown; its figures are files in the same folder, `report-<name>.png`."""
    row_of = lambda row: " | ".join(map(_markdown, row))  # noqa: E731
    name = escape.markdown(results.directory.resolve().name)
    lines = [f"# {name}", "", escape.markdown(_lead(results)), ""]
    for one in sections:
        lines += [f"## {one.title}", "", escape.markdown(one.words), ""]
        for name in one.figures:
            lines += [f"![{name}]({_file(name)})", ""]
        if one.rows:
            lines += [f"| {row_of(one.columns)} |", "|" + " --- |" * len(one.columns)]
            lines += [f"| {row_of(row)} |" for row in one.rows] + [""]
    return "\n".join(lines)


def _file(name: str) -> str:
    return f"report-{name.replace(' ', '-')}.png"


def write(directory: str | Path) -> tuple[Path, Path]:
    """Writes DIR/report.html and DIR/report.md with its figures.

    Raises:
        BadInput: there is nothing to report on.
    """
    results = analysis.read(directory)
    parts = sections(results)
    page, text = results.directory / "report.html", results.directory / "report.md"
    drawn = {name: png(figure) for one in parts for name, figure in one.figures.items()}
    page.write_text(as_html(results, parts, drawn), encoding="utf-8")
    for name, picture in drawn.items():
        (results.directory / _file(name)).write_bytes(picture)
    text.write_text(as_markdown(results, parts), encoding="utf-8")
    return page, text
