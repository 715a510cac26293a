from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules
from gacf.stabilizers import averaged, ema
from tests.contract_cases import quadratic

KEY = jax.random.key(0)


def climbing() -> gacf.Game:
    """The actor's parameter grows by 1 a step; evaluation reports what it is told."""
    game = gacf.from_losses(
        {"actor": 0.0, "critic": 5.0},
        {"actor": lambda p, b, k: -p["actor"], "critic": lambda p, b, k: p["critic"] ** 2},
    )
    return game._replace(
        evaluate=lambda params, world, key: {"actor": params["actor"], "critic": params["critic"]}
    )


def run(game: gacf.Game, steps: int = 4, updates: int = 1) -> Any:
    rule = rules.simultaneous({"actor": optax.sgd(1.0)})
    algorithm = gacf.compose(game, rule, updates, still="critic")
    state, _ = jax.lax.scan(
        lambda s, _: (algorithm.step(s)[0], None), algorithm.init(KEY), length=steps
    )
    return state, algorithm.evaluate(state)


@pytest.mark.parametrize("updates", [1, 2])
def test_the_average_by_hand(updates):
    state, found = run(ema(climbing(), 0.75), 4 // updates, updates)
    slow = 0.0
    for live in (1.0, 2.0, 3.0, 4.0):
        slow = 0.75 * slow + 0.25 * live
    assert float(found["actor"]) == pytest.approx(slow, rel=1e-6)
    assert float(state.params["actor"]) == 4 and float(found["critic"]) == 5


def test_before_its_start_it_is_the_live_one():
    _, found = run(ema(climbing(), 0.75, start=2), 2)
    assert float(found["actor"]) == 2
    _, found = run(ema(climbing(), 0.75, start=2), 3)
    assert float(found["actor"]) == pytest.approx(0.75 * 2 + 0.25 * 3)


@pytest.mark.long
def test_training_does_not_change():
    ends = []
    for game in (quadratic(), ema(quadratic(), 0.9, ("actor", "critic"))):
        rule = rules.alternating({p: optax.sgd(0.1) for p in game.losses})
        algorithm = gacf.compose(game, rule)
        ends.append(
            jax.lax.scan(lambda s, _, a=algorithm: a.step(s), algorithm.init(KEY), length=3)
        )
    (plain, losses), (slow, same) = ends
    jax.tree.map(np.testing.assert_array_equal, (plain.params, losses), (slow.params, same))
    assert set(slow.world["ema"]) == {"actor", "critic"}
    jax.tree.map(
        np.testing.assert_array_equal, averaged(slow.params, slow.world), slow.world["ema"]
    )
    assert np.abs(slow.params["critic"]["y"] - slow.world["ema"]["critic"]["y"]).max() > 1e-4


def test_none_is_off_and_one_program_serves_a_sweep():
    decays = jnp.array([0.0, 0.5])
    found = jax.jit(jax.vmap(lambda decay: run(ema(climbing(), decay), 2)[1]["actor"]))(decays)
    np.testing.assert_allclose(found, [2, 1.25])


def test_errors():
    with pytest.raises(ValueError, match=r"decay: 1.5 was given; allowed: a number in \[0, 1\]"):
        ema(climbing(), 1.5)
    with pytest.raises(ValueError, match="ema: players: 'axtor' has no params; did you mean 'acto"):
        ema(climbing(), players=("axtor",)).init(KEY)
    with pytest.raises(ValueError, match=r"world\['ema'\] is taken"):
        ema(ema(climbing())).init(KEY)
