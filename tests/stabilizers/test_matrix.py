"""Every stabiliser × both families × two rules: one program sweeps its strength; 0 is off.

To the bit means: operation by operation, as written. A compiler may fuse, and so round, two
programs apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules
from gacf.stabilizers import STABILIZERS, averaged
from tests.stabilizers.parts import FAMILIES, MOVE, STABILISED, Made

KEYS = jnp.stack([jax.random.key(3)] * 2)
STRENGTHS = jnp.array([0.0, 0.7])
RULES: dict[str, Callable[..., Any]] = {
    "alternating": lambda o: rules.alternating(o, order=("critic", "actor")),
    "consensus": lambda o: rules.simultaneous(o, rules.consensus(0.1)),
}
PLAIN = {"two time scales": optax.sgd(0.1), "clipped gradients": optax.sgd(0.1)}


def lanes(make: Callable[[Any], Made], rule: str) -> Callable[[], Any]:
    """The parameters that evaluation sees after two steps, a lane a strength, all of one key."""

    def lane(key: jax.Array, strength: jax.Array) -> Any:
        game, optimizer = make(strength)
        algorithm = gacf.compose(game, RULES[rule](dict.fromkeys(game.losses, optimizer)))
        state = algorithm.init(key)
        state, _ = jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), state, length=2)
        return averaged(state.params, state.world) if "ema" in state.world else state.params

    return lambda: jax.vmap(lane)(KEYS, STRENGTHS)


def stabilised(name: str, family: str, rule: str) -> Callable[[], Any]:
    return lanes(lambda strength: STABILISED[name](FAMILIES[family], strength), rule)


@functools.cache
def plain(family: str, rule: str, optimizer: Any) -> Any:
    with jax.disable_jit():
        return lanes(lambda strength: (FAMILIES[family].make(), optimizer), rule)()


def shared(found: Any, known: Any) -> Any:
    """Of what was found, what the plain game has too: layers may have come in."""
    if not isinstance(known, dict):
        return found
    return {name: shared(found[name], entry) for name, entry in known.items()}


def compared(name: str, family: str, rule: str, found: Any) -> tuple[Any, Any]:
    """Strength 0 and the plain game; the other strength has moved away."""
    chex.assert_tree_all_finite(found)
    bare = plain(family, rule, PLAIN.get(name, MOVE))
    off, on, bare = (
        jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), tree)
        for i, tree in ((0, shared(found, bare)), (1, shared(found, bare)), (0, bare))
    )
    apart = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (on, bare)), strict=True)]
    assert max(apart) > 1e-4
    return off, bare


# fast: each once, the families by turns
PAIRS = [
    pytest.param(name, family, marks=() if (i + j) % 2 else pytest.mark.slow)
    for i, name in enumerate(STABILISED)
    for j, family in enumerate(FAMILIES)
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_none_is_off_to_the_bit_and_strengths_may_be_traced(name: str, family: str):
    play = stabilised(name, family, "alternating")
    with jax.disable_jit():
        found = play()
    off, bare = compared(name, family, "alternating", found)
    chex.assert_trees_all_equal(off, bare)
    shape = jax.eval_shape(jax.jit(play))  # one trace serves all strengths
    chex.assert_trees_all_equal_shapes_and_dtypes(shape, found)


def test_every_stabiliser_with_a_strength_is_here():
    # a critic is compatible or it is not
    assert set(STABILIZERS) - {"compatible"} <= set(STABILISED)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", STABILISED)
def test_one_compiled_program_sweeps_the_strength(name: str, family: str, rule: str):
    off, bare = compared(name, family, rule, jax.jit(stabilised(name, family, rule))())
    chex.assert_trees_all_close(off, bare, rtol=1e-4, atol=1e-6)
