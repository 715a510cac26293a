"""Whatever a rule computes stands under a scope, so that a profile can say what it is for."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import gacf
from gacf import Rule, rules
from gacf.core.tracing import MARK
from tests.contract_cases import RULES

PAIR = ("actor", "critic")
LISTED = {*rules.SCHEDULES, *rules.DIRECTIONS, "implicit-normal"}
MADE: dict[str, Any] = {
    **{name: case.make for name, case in RULES.items() if name in LISTED},
    "minibatches": lambda o: rules.minibatches(rules.every(2, rules.simultaneous(o)), 2, 2),
}
# Numbers that the program holds or only moves about: they take no time of their own.
MOVES = {"parameter", "constant", "iota", "broadcast", "copy", "tuple", "get-tuple-element"}
LOOPS = {"while", "call", "conditional"}  # what they run is looked at instead
CALLED = re.compile(
    r"(?:to_apply|body|condition|calls|true_computation|false_computation)=%?([\w.-]+)"
    r"|branch_computations={([^}]*)}"
)


def matrices() -> gacf.Game:
    """Two players whose losses, gradients and steps are all operations on matrices."""

    def loss(p: Any, batch: Any, key: Any) -> jax.Array:
        verdict = jnp.tanh(batch @ p["actor"] @ p["critic"])
        return jnp.mean(verdict**2) + jnp.mean(p["actor"] ** 2) - jnp.mean(p["critic"] ** 2)

    return gacf.from_losses(
        {"actor": jnp.ones((5, 7)), "critic": jnp.ones((7, 3))},
        {"actor": loss, "critic": lambda p, batch, key: -loss(p, batch, key)},
        lambda key: jax.random.normal(key, (4, 5)),
    )


def lowered(rule: Rule) -> str:
    algorithm = gacf.compose(matrices(), rule)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    return jax.jit(algorithm.step).lower(state).as_text(dialect="hlo", debug_info=True)


def scopes_and_rest(text: str) -> tuple[set[str], list[str]]:
    """The innermost scopes of a program's operations on arrays of floats, and those without one.

    An operation stands under a scope if its own name does, or if the loop, branch or function that
    it belongs to is run from nowhere but under one.
    """
    inside: dict[str, list[str]] = defaultdict(list)
    callers: dict[str, list[tuple[str, str]]] = defaultdict(list)
    computation = ""
    for line in text.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.-]+) .*{$", line):
            computation = head[1]
        elif re.match(r"\s+(?:ROOT )?%?[\w.-]+ = ", line):
            inside[computation].append(line)
            for one, several in CALLED.findall(line):
                for called in re.split(r",\s*", one or several):
                    callers[called.lstrip("%")].append((computation, line))

    def scopes(computation: str, line: str) -> set[str]:
        name = re.search(r'op_name="([^"]*)"', line)
        own = re.findall(rf"{re.escape(MARK)}(\w+)", name[1]) if name else []
        if own:
            return {own[-1]}
        outer = [scopes(*caller) for caller in callers[computation]]
        return set().union(*outer) if outer and all(outer) else set()

    found: set[str] = set()
    rest = []
    for computation, lines in inside.items():
        for line in lines:
            kind = re.match(r"\s+(?:ROOT )?%?[\w.-]+ = f\d+\[\d\S* ([\w-]+)\(", line)
            if kind and kind[1] not in MOVES | LOOPS:
                own = scopes(computation, line)
                found |= own
                rest += [] if own else [line.strip()]
    return found, rest


@pytest.mark.long
@pytest.mark.parametrize("name", MADE)
def test_all_that_a_rule_computes_is_labelled(name: str) -> None:
    made = MADE[name]({player: optax.adam(0.1) for player in PAIR})
    found, rest = scopes_and_rest(lowered(made))
    assert not rest, f"{len(rest)} operations stand under no scope"
    assert {"sample", *PAIR, "optimizer"} <= found
    assert ("solve" in found) == (name in ("competitive", "follow_the_ridge"))


def test_an_operation_without_a_scope_is_noticed() -> None:
    """Here in a loop of the rule's own."""

    inner = rules.simultaneous({player: optax.sgd(0.1) for player in PAIR})

    def halved(i: Any, params: Any) -> Any:
        return jax.tree.map(lambda x: jnp.tanh(x) * 0.5, params)

    def update(game: Any, params: Any, world: Any, opt_state: Any, key: Any) -> Any:
        _, opt_state, outcomes = inner.update(game, params, world, opt_state, key)
        return jax.lax.fori_loop(0, 3, halved, params), opt_state, outcomes

    _, rest = scopes_and_rest(lowered(Rule(PAIR, inner.init, update)))
    assert {re.search(r"(tanh|multiply)\(", line) is not None for line in rest} == {True}
