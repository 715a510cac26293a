"""The clock is made in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import gacf
from gacf.core import clock

PACKAGE = Path(gacf.__file__).parent


def test_a_clock_is_put_into_a_world_and_taken_out_again():
    world = {"env": jnp.ones(2)}
    timed = clock.with_clock(world, step=3, update=7)
    assert int(clock.steps_made(timed)) == 3 and int(clock.updates_made(timed)) == 7
    assert clock.clock_of(timed).keys() == set(clock.NAMES) and clock.clock_of(world) == {}
    assert clock.without_clock(timed) == world
    again = clock.with_clock(timed, step=-2)
    assert int(clock.steps_made(again)) == int(clock.updates_made(again)) == -2
    for entry in clock.clock_of(again).values():
        assert entry.dtype == jnp.int32 and not entry.weak_type and isinstance(entry, jax.Array)


def test_without_a_clock_nothing_has_been_made_yet():
    assert int(clock.steps_made({})) == int(clock.updates_made({})) == 0


@pytest.mark.parametrize("name", clock.NAMES)
def test_a_game_may_not_use_its_names(name):
    with pytest.raises(ValueError, match=f"world: an entry '{name}' was given"):
        clock.check_names({"env": 0, name: 1})


@pytest.mark.long
def test_nobody_else_reads_or_writes_its_entries():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "core" / "clock.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("world"):
                names = [node.slice]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("world.get"):
                names = node.args[:1]
            elif isinstance(node, ast.Dict) and None in node.keys:  # {**world, "step": …}
                unpacked = [v for k, v in zip(node.keys, node.values, strict=True) if k is None]
                if any("world" in ast.unparse(value) for value in unpacked):
                    names = [key for key in node.keys if key is not None]
            for name in names:
                known = isinstance(name, ast.Constant) and name.value in clock.NAMES
                assert not known, f"{path}:{node.lineno} writes the clock's name"
