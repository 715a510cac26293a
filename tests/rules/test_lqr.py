"""Leaders through a TD critic: on LQR the total derivative is known, and easily lost."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gacf import Game, rules
from gacf.games import LQR, gain_gradient, lqr, optimal_gain, q_function
from gacf.stabilizers import target_networks
from tests.rules.common import land, vector

pytestmark = pytest.mark.usefixtures("x64")

SPEC = LQR(
    a=[[0.9, 0.3], [-0.2, 0.8]],
    b=[[0.2], [0.7]],
    q=[[1.0, 0.2], [0.2, 0.5]],
    r=0.3,
    discount=0.95,
)
GAIN = np.array([[0.1, 0.4]])


def at_fixed_point(game: Game) -> tuple[Any, Any, Any]:
    """Params where the critic is exact, the world, and a batch."""
    _, world = game.init(jax.random.key(0))
    params = {"actor": jnp.asarray(GAIN), "critic": jnp.asarray(q_function(SPEC, GAIN))}
    if "slow" in world:
        world = {**world, "slow": params}
    return params, world, game.sample(world, jax.random.key(1))


GAMES = {
    "two slots": lambda: lqr(SPEC),
    "target networks": lambda: target_networks(lqr(SPEC), rate=0.01),
    "stopped": lambda: lqr(SPEC, stop_target=True),
}
SOLVERS = {
    "gmres": rules.implicit("actor", "critic", "gmres", 6),
    "normal": rules.implicit("actor", "critic", "normal", 80),
}


@pytest.mark.long
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", GAMES)
def test_total_derivative_through_a_td_critic(name: str, solver: str) -> None:
    game = GAMES[name]()
    params, world, batch = at_fixed_point(game)
    own, _ = vector(game, rules.gradient(), "critic", params, batch=batch, world=world)
    np.testing.assert_allclose(own, 0, atol=1e-12)
    states = np.asarray(batch["state"])
    total, partial = gain_gradient(SPEC, GAIN, states.T @ states / len(states))
    direction = SOLVERS[solver]
    found, metrics = vector(game, direction, "actor", params, batch=batch, world=world)
    assert np.abs(total - partial).max() > 0.1 * np.abs(total).max(), "a weak test"
    # a stopped target makes the critic's field independent of the actor: nothing to differentiate
    expected = partial if name == "stopped" else total
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert metrics["residual"] < 1e-8
    gradient, _ = vector(game, rules.gradient(), "actor", params, batch=batch, world=world)
    np.testing.assert_allclose(gradient, partial, rtol=1e-10)


@pytest.mark.long
def test_cg_refuses_a_td_critic() -> None:
    game = GAMES["two slots"]()
    params, _, batch = at_fixed_point(game)
    found, _ = vector(
        game, rules.implicit("actor", "critic", "cg", 6), "actor", params, batch=batch
    )
    assert np.isnan(found).all()


@pytest.mark.long
@pytest.mark.parametrize("name", ["alternating", "implicit"])
def test_rules_find_the_optimal_gain(name: str) -> None:
    """Own gradients (approximate policy iteration) and the leader both rest at K*."""
    optimizers = {"actor": optax.sgd(0.02), "critic": optax.sgd(0.1)}
    if name == "alternating":
        rule = rules.alternating(optimizers, steps={"critic": 5})
    else:
        leader = rules.implicit("actor", "critic", "gmres", 3, damping=1e-3)
        rule = rules.simultaneous({**optimizers, "actor": optax.sgd(0.01)}, leader)
    spec = LQR(1.0, 1.0, 1.0, 1.0, discount=0.9)
    end = land(lqr(spec, start=[[0.5]]), rule, 4000)
    np.testing.assert_allclose(end["actor"], optimal_gain(spec), rtol=1e-4)
    assert float(end["actor"][0, 0]) == pytest.approx(0.588403, rel=1e-4)
