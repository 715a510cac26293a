"""What the site's build adds to MkDocs: public names on the API pages, and pictures of results.

A page of the API reference has one line `::: gacf.rules.unrolled` a name. The name may be that of a
function as well as of the file that defines it, which a static reader of sources cannot tell apart.
So each line is rewritten to the place where the name is defined, under the public name as heading.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
RESULTS = "experiments/results"


@functools.lru_cache
def _imported(package: str) -> dict[str, str]:
    """Name -> the place from which a package's `__init__.py` imports it."""
    file = ROOT / package.replace(".", "/") / "__init__.py"
    if not file.exists():
        return {}
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def home(name: str) -> str:
    """The place where a public name is defined: `gacf.rules.lola` -> `gacf.rules.lola.lola`."""
    package, _, last = name.rpartition(".")
    source = _imported(package).get(last)
    return name if source in (None, name) else home(source)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrites links to results, and the lines `::: name` of a page of the API reference."""
    markdown = markdown.replace(f"](../{RESULTS}/", f"]({RESULTS}/")
    if not page.file.src_uri.startswith("api/"):
        return markdown

    def directive(match: re.Match[str]) -> str:
        name = match[1]
        last = name.rpartition(".")[2]
        return (
            f"[](){{#{name}}}\n\n::: {home(name)}\n    options:\n"
            f"      heading: {name}\n      toc_label: {last}\n"
        )

    return re.sub(r"^::: (\S+)$", directive, markdown, flags=re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pictures of results that stay where their experiments write them."""
    for picture in (ROOT / RESULTS).glob("*.png"):
        place = f"{RESULTS}/{picture.name}"
        files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files


class Examples(griffe.Extension):
    """Reads a section `Example:` as griffe reads `Examples:`, as code and its output."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Changes the docstring of one object."""
        if obj.docstring is not None:
            value = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", value, flags=re.MULTILINE)
