"""Every rule on the bilinear game against its formula, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Rule, rules
from gacf.games import bilinear, bilinear_modes
from gacf.rules import simultaneous
from tests.rules.common import eigenvalue_distance, sgd, step_matrix

pytestmark = pytest.mark.usefixtures("x64")

# η = .1 and η = .3; the moduli for x and y with the same rate and A = 1
TABLE: dict[str, tuple[str, dict[str, Any], float, float]] = {
    "simultaneous": ("simultaneous", {}, 1.004988, 1.044031),
    "alternating": ("alternating", {}, 1, 1),
    "extragradient": ("extragradient", {}, 0.995038, 0.958175),
    "optimistic": ("optimistic", {}, 0.994936, 0.948683),
    "competitive": ("competitive", {}, 0.995037, 0.957826),
    "consensus": ("consensus", {"weight": 0.5}, 0.955249, 0.901388),
    "symplectic": ("symplectic", {"weight": 0.5}, 0.955249, 0.901388),
    "lola exact": ("lola", {"rate": 0.4}, 0.925419, 0.817068),
    "lola Taylor": ("lola", {"rate": 0.4, "exact": False}, 0.965194, 0.929731),
    "implicit": ("implicit", {"damping": 1.0}, 0.953939, 0.888819),
    "follow the ridge": ("follow_the_ridge", {"damping": 1.0}, 0.953939, 0.888819),
    "lookahead": ("lookahead", {"period": 6, "rate": 0.5}, 0.970118, 0.744755),
}
# the same as formulas of η that do not go through a matrix
FORMULAS: dict[str, Callable[[float], float]] = {
    "simultaneous": lambda h: (1 + h**2) ** 0.5,
    "extragradient": lambda h: (1 - h**2 + h**4) ** 0.5,
    "optimistic": lambda h: ((1 + (1 - 4 * h**2) ** 0.5) / 2) ** 0.5,
    "competitive": lambda h: (1 + h**2) ** -0.5,
    "consensus": lambda h: ((1 - h / 2) ** 2 + h**2) ** 0.5,
    "lola exact": lambda h: ((1 - 0.8 * h) ** 2 + h**2) ** 0.5,
    "lola Taylor": lambda h: ((1 - 0.4 * h) ** 2 + h**2) ** 0.5,
    "implicit": lambda h: (1 - h + h**2) ** 0.5,
    "lookahead": lambda h: abs(0.5 + 0.5 * (1 + 1j * h) ** 6),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_closed_forms_give_the_table(name: str) -> None:
    rule, hyper, slow, fast = TABLE[name]
    for rate, expected in ((0.1, slow), (0.3, fast)):
        modes = bilinear_modes(rule, (rate, rate), **hyper)
        assert abs(modes).max() == pytest.approx(expected, rel=1e-6)
    for rate in (0.05, 0.21):
        if name in FORMULAS:
            modes = bilinear_modes(rule, (rate, rate), **hyper)
            assert abs(modes).max() == pytest.approx(FORMULAS[name](rate), rel=1e-12)


def led(make: Callable[..., rules.Direction], **fixed: Any) -> Callable[..., Rule]:
    return lambda o, rates, h: simultaneous(o, make("actor", "critic", **fixed, **h))


Make = Callable[[dict[str, optax.GradientTransformation], Any, Any], Rule]
# name -> its closed form, static hyperparameters of that, traced ones, the rule
RULES: dict[str, tuple[str, dict[str, Any], dict[str, float], Make]] = {
    "simultaneous": ("simultaneous", {}, {}, lambda o, rates, h: simultaneous(o)),
    "alternating": (
        "alternating",
        {},
        {},
        lambda o, rates, h: rules.alternating(o, order=["critic", "actor"]),
    ),
    "extragradient": ("extragradient", {}, {}, lambda o, rates, h: rules.extragradient(o)),
    "optimistic": (
        "optimistic",
        {},
        {},
        lambda o, rates, h: simultaneous(
            {name: optax.optimistic_gradient_descent(rate) for name, rate in rates.items()}
        ),
    ),
    "competitive": ("competitive", {}, {}, lambda o, rates, h: rules.competitive(rates)),
    "competitive-cg": ("competitive", {}, {}, lambda o, rates, h: rules.competitive(rates, "cg")),
    "consensus": (
        "consensus",
        {},
        {"weight": 0.7},
        lambda o, rates, h: simultaneous(o, rules.consensus(**h)),
    ),
    "symplectic": (
        "symplectic",
        {},
        {"weight": 0.7},
        lambda o, rates, h: simultaneous(o, rules.symplectic(**h)),
    ),
    "lola-exact": (
        "lola",
        {"exact": True},
        {"rate": 0.4},
        lambda o, rates, h: simultaneous(o, rules.lola(**h)),
    ),
    "lola-taylor": (
        "lola",
        {"exact": False},
        {"rate": 0.4},
        lambda o, rates, h: simultaneous(o, rules.lola(exact=False, **h)),
    ),
    "unrolled": ("unrolled", {"steps": 3}, {}, led(rules.unrolled, steps=3)),
    "finite_difference": ("finite_difference", {}, {"rate": 0.4}, led(rules.finite_difference)),
    "implicit-cg": ("implicit", {}, {"damping": 1.5}, led(rules.implicit, iterations=4)),
    "implicit-gmres": ("implicit", {}, {"damping": 1.5}, led(rules.implicit, solver="gmres")),
    "implicit-normal": ("implicit", {}, {"damping": 1.5}, led(rules.implicit, solver="normal")),
    "implicit-neumann": (
        "implicit",
        {},
        {"damping": 1.5},
        led(rules.implicit, solver="neumann", rate=0.5, iterations=20),
    ),
    "implicit-warm": ("implicit", {}, {"damping": 1.5}, led(rules.implicit, warm_start=True)),
    "single_loop": ("single_loop", {}, {"rate": 0.3, "damping": 1.5}, led(rules.single_loop)),
    "follow_the_ridge": (
        "follow_the_ridge",
        {},
        {"damping": 1.5},
        lambda o, rates, h: rules.follow_the_ridge(o, "actor", "critic", **h),
    ),
    "lookahead": (
        "lookahead",
        {"period": 4},
        {"rate": 0.3},
        lambda o, rates, h: rules.lookahead(simultaneous(o), 4, **h),
    ),
}
# singular values 1 and .6; one direction of y is felt by nobody
MATRIX = np.diag([1.0, 0.6]) @ np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 1.5 + np.eye(3))[0][:2]
RATES = np.array([[0.1, 0.1], [0.3, 0.3], [0.23, 0.07], [0.05, 0.4]])


@pytest.mark.long
@pytest.mark.parametrize("name", RULES)
def test_modes_of_a_step(name: str) -> None:
    """Traced, vmapped rates and hyperparameters; rectangular A; unequal rates."""
    form, fixed, traced, make = RULES[name]
    game = bilinear(MATRIX)

    def matrix(rates: jax.Array, hyper: dict[str, jax.Array]) -> jax.Array:
        by_name = dict(zip(("actor", "critic"), rates, strict=True))
        rule = make(sgd(*rates), by_name, hyper)
        return step_matrix(rule, game, period=fixed.get("period", 1))

    scales = np.array([1.0, 1.0, 0.9, 1.2])
    hyper = {key: jnp.asarray(number * scales) for key, number in traced.items()}
    found = jax.jit(jax.vmap(matrix))(jnp.asarray(RATES), hyper)
    for i, rates in enumerate(RATES):
        now = {key: number * scales[i] for key, number in traced.items()}
        expected = bilinear_modes(form, tuple(rates), MATRIX, **fixed, **now)
        tolerance = 1e-5 if name == "implicit-neumann" else 1e-8
        assert eigenvalue_distance(np.linalg.eigvals(found[i]), expected) < tolerance


@pytest.mark.long
def test_a_run_follows_the_formula_over_seeds_and_settings_in_one_program() -> None:
    """Damping and rate swept, three seeds, 50 steps: z_T = M^T z_0."""
    traces = []

    def build(hyper: dict[str, jax.Array]) -> gacf.Algorithm:
        traces.append(1)
        direction = rules.implicit("actor", "critic", damping=hyper["damping"])
        rule = simultaneous(sgd(hyper["rate"], hyper["rate"]), direction)
        return gacf.compose(bilinear(), rule)

    hyper = {"damping": jnp.array([1.0, 2.0]), "rate": jnp.array([0.1, 0.3])}
    state, metrics = gacf.run(build, jax.random.key(0), 50, seeds=3, hyper=hyper, log_every=50)
    for i, (damping, rate) in enumerate(zip(hyper["damping"], hyper["rate"], strict=True)):
        step = np.array([[1 - rate / damping, -rate], [rate, 1]])
        expected = np.linalg.matrix_power(step, 50) @ np.ones(2)
        for player, end in zip(("actor", "critic"), expected, strict=True):
            np.testing.assert_allclose(state.params[player][i], np.full(3, end), rtol=1e-10)
    assert metrics["actor/residual"].max() < 1e-12
    assert len(traces) <= 3, "init, step and shape; not once a setting"


@pytest.mark.long
@pytest.mark.parametrize("name", ["simultaneous", "alternating", "competitive"])
def test_growth_of_a_long_run(name: str) -> None:
    """Simultaneous steps must spiral out, alternating ones stay, competitive ones come in."""
    make = RULES[name][3]
    algorithm = gacf.compose(bilinear(), make(sgd(0.2, 0.2), {"actor": 0.2, "critic": 0.2}, {}))
    state, _ = gacf.run(algorithm, jax.random.key(0), 400, log_every=400)
    radius = float(np.hypot(state.params["actor"][0], state.params["critic"][0]))
    factor = abs(bilinear_modes(name, (0.2, 0.2))).max()
    if name == "alternating":
        assert 2**0.5 / 1.2 < radius < 2**0.5 * 1.2
    else:
        assert radius == pytest.approx(2**0.5 * factor**400, rel=1e-9)


@pytest.mark.long
def test_per_player_lookahead_is_something_else_when_players_alternate() -> None:
    def joint(o: Any) -> Rule:
        return rules.lookahead(rules.alternating(o, steps={"critic": 2}), 2, 0.5)

    def apart(o: Any) -> Rule:
        wrapped = {name: optax.lookahead(each, 2, 0.5) for name, each in o.items()}
        return rules.alternating(wrapped, steps={"critic": 2})

    game = bilinear()
    algorithm = gacf.compose(game, joint(sgd(0.3, 0.3)))
    state = algorithm.init(jax.random.key(0))
    for _ in range(2):
        state = algorithm.step(state)[0]
    pair = np.array([[1.0, -0.3], [0, 1]]) @ np.linalg.matrix_power(np.array([[1, 0], [0.3, 1]]), 2)
    expected = 0.5 * np.ones(2) + 0.5 * pair @ pair @ np.ones(2)
    got = [state.params["actor"], state.params["critic"]]
    np.testing.assert_allclose(got, expected, rtol=1e-12)

    params = {
        name: optax.LookaheadParams.init_synced(x)
        for name, x in game.init(jax.random.key(0))[0].items()
    }
    fast = {name: float(p.fast) for name, p in params.items()}
    optimizers = {name: optax.lookahead(optax.sgd(0.3), 2, 0.5) for name in fast}
    states = {name: optimizers[name].init(params[name]) for name in fast}
    for turn in ["critic", "critic", "actor"] * 2:
        slope = params["critic"].fast if turn == "actor" else -params["actor"].fast
        change, states[turn] = optimizers[turn].update(slope, states[turn], params[turn])
        params[turn] = optax.apply_updates(params[turn], change)
    assert abs(float(params["critic"].fast) - expected[1]) > 1e-3
