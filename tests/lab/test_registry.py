"""`gacf list`: every name is there, each with a line that says what it is."""

from __future__ import annotations

import pytest

import gacf
from gacf import rules
from gacf.lab.cli import main
from gacf.lab.cli.arguments import KINDS
from gacf.lab.registry import SECTIONS, names
from gacf.methods.gan.losses import DESCRIPTIONS, LOSSES

from .common import ROOT

ALL = names()


def test_the_kinds_are_the_sections():
    assert set(KINDS) == {word for title in SECTIONS for word in title.split(": ")}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "experiments"])
def test_every_entry_of_a_kind_has_a_line(kind: str):
    for entries in names(kind).values():
        assert entries
        for name, line in entries.items():
            assert line.endswith((".", ").")) or line[-1] in "?²", name
            assert not line.endswith("…") and "\n" not in line


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("methods", "gan"),
        ("methods", "actor_critic"),
        ("flows", "infogan"),
        ("games", "bilinear"),
        ("rules", "alternating"),
        ("combinators", "player_step"),
        ("directions", "lola"),
        ("solvers", "CG"),
        ("stabilizers", "freeze"),
        ("losses", "hinge"),
        ("penalties", "wgan_gp"),
        ("divergences", "huber"),
        ("networks", "images.DCGANCritic"),
        ("environments", "gymnasium:<id>"),
        ("data", "swiss_roll"),
        ("metrics", "fid"),
    ],
)
def test_a_kind_has_its_names(kind: str, name: str):
    assert any(name in entries for entries in names(kind).values())


def test_every_rule_is_listed():
    made = {name for section in names("rules").values() for name in section}
    assert {*rules.SCHEDULES, *rules.COMBINATORS, *rules.DIRECTIONS} < made


def test_every_loss_is_described():
    assert set(DESCRIPTIONS) == set(LOSSES)


def test_a_method_is_where_its_heading_says():
    for name in ALL["methods"]:
        assert callable(getattr(gacf, name))
    for name in ALL["games"]:
        assert callable(getattr(gacf.games, name))


def test_list_prints_one_kind(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["list", "environments"]) == 0
    said = capsys.readouterr().out
    assert "Pendulum-v1" in said and "gymnasium:<id>" in said and "ddpg" not in said
    assert main(["list", "rules"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("alternating", "every", "unrolled", "GMRES"))


def test_an_unknown_kind_is_one_line_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "enviroments"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert "KIND: 'enviroments' was given; did you mean 'environments'?" in said.err
