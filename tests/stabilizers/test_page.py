"""docs/stabilizers.md: each line of code in its table runs."""

from __future__ import annotations

import re
from typing import Any

import jax
import pytest

import gacf
from gacf import rules, stabilizers
from tests.test_docs import ROOT, execute

PAGE = "docs/stabilizers.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    table = re.findall(r"^\| strategy .*?(?=\n\n)", TEXT, flags=re.DOTALL | re.MULTILINE)[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")[2:]
    ]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    return execute(PAGE)


@pytest.mark.long
@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_line_of_the_table_runs(names: dict[str, Any], row: list[str]):
    assert len(row) == 7, row
    for family, code in zip(("gan", "ddpg"), row[3:5], strict=True):
        made = eval(code.strip("`"), names)
        if not isinstance(made, gacf.Game):
            rule = made
            if not isinstance(made, gacf.Rule):
                rule = rules.alternating({"critic": made, "actor": names["adam"]})
            made, players = names[family](), rule
        else:
            players = rules.alternating(dict.fromkeys(made.losses, names["adam"]))
        algorithm = gacf.compose(made, players)
        state = jax.eval_shape(algorithm.init, jax.random.key(0))
        jax.eval_shape(algorithm.step, state)


def test_every_stabiliser_is_on_the_page():
    missing = [thing for thing in stabilizers.__all__ if thing not in TEXT]
    allowed = {
        "STABILIZERS",
        "averaged",
        "closeness",
        "likeness",
        "pulled_away",
        "with_live_tangent",
    }
    assert set(missing) <= allowed
