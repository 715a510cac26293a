"""Derivatives through optimisers' steps, for parameters whose gradients were all 0 and others."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules
from gacf.rules.differentiable import differentiable

pytestmark = pytest.mark.usefixtures("x64")

START = {"dead": np.array([0.5, 0.6]), "live": np.array([1.0, 2.0, 3.0])}


def after(optimizer: Any, x: Any, steps: int) -> jax.Array:
    """A number made of the parameters after some steps; a dead unit's gradients are all zero."""
    y, state = jax.tree.map(jnp.asarray, START), optimizer.init(START)
    for _ in range(steps):
        vector = {
            "dead": x * jax.nn.relu(-y["dead"] - jnp.abs(x)),
            "live": jnp.sin(y["live"] * x),
        }
        change, state = optimizer.update(vector, state, y)
        y = optax.apply_updates(y, change)
    return jnp.sum(y["live"] ** 2) + jnp.sum(jnp.cos(y["dead"] * x))


SINGULAR = {
    "adam": optax.adam(0.1),
    "clipped adam": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),
    "radam": optax.radam(0.1),
    "novograd": optax.novograd(0.1),
    "multisteps": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
}


SLOW = ("radam", "novograd", "multisteps")


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in SINGULAR]
)
def test_live_parameters_have_the_derivative_of_central_differences(name: str) -> None:
    made = optax.with_extra_args_support(SINGULAR[name])

    @jax.jit
    def all_of(x: float) -> Any:
        guarded = lambda x: after(differentiable(made), x, 2)  # noqa: E731
        value, slope = jax.value_and_grad(guarded)(x)
        many = jax.vmap(lambda x: after(made, x, 2))(x + jnp.array([-1e-5, 0.0, 1e-5]))
        return value, slope, many, jax.grad(lambda x: after(made, x, 2))(x)

    value, slope, (below, here, above), plain = all_of(0.7)
    assert float(value) == pytest.approx(float(here), rel=1e-14)
    assert float(slope) == pytest.approx(float(above - below) / 2e-5, rel=1e-6)
    assert np.isnan(plain), "without the guard there is none"


@pytest.mark.long
@pytest.mark.parametrize("name", ["rmsprop", "adabelief"])
def test_where_nothing_is_singular_nothing_changes(name: str) -> None:
    made = optax.with_extra_args_support(getattr(optax, name)(0.1))
    both = jax.jit(
        lambda x: [jax.grad(after, 1)(each, x, 2) for each in (made, differentiable(made))]
    )
    plain, guarded = both(0.7)
    assert float(guarded) == pytest.approx(float(plain), rel=1e-13)


@pytest.mark.parametrize("count", [0, 7])
def test_a_gradient_that_is_zero_here_alone_has_the_slope_of_the_step(count: int) -> None:
    """m / (√v + ε) at m = v = 0 changes by c₁ dg / ε, c₁ = (1 − β₁) / (1 − β₁ᵗ), also later on."""
    rate, b1, eps = 0.1, 0.9, 0.05
    made = differentiable(optax.with_extra_args_support(optax.adam(rate, b1=b1, eps=eps)))
    start = made.init(jnp.zeros(()))
    state = (start[0]._replace(count=jnp.int32(count)), *start[1:])  # type: ignore[index,attr-defined]
    slope = jax.jit(jax.grad(lambda g: made.update(3 * g, state, jnp.zeros(()))[0]))(0.0)
    expected = -rate * 3 * (1 - b1) / (1 - b1 ** (count + 1)) / eps
    assert float(slope) == pytest.approx(expected, rel=1e-12)


def test_what_has_no_derivative_is_not_hidden() -> None:
    """A step along √g, at g = 0: its slope is infinite, and a finite one would be wrong."""
    root = optax.stateless(lambda vector, _: jax.tree.map(jnp.sqrt, vector))
    made = differentiable(optax.with_extra_args_support(root))
    slope = jax.jit(jax.grad(lambda g: made.update(g, made.init(0.0), 0.0)[0]))(0.0)
    assert not np.isfinite(slope)


def relu_game(units: int) -> gacf.Game:
    """A critic of ReLU units on inputs of one, the last of which is dead if there are three."""
    weights = jnp.array([0.5, -0.4, 0.3])[:units]
    shift = jnp.array([0.1, 0.9, -5.0])[:units]

    def verdict(y: Any, x: Any) -> jax.Array:
        return jnp.sum(y["out"] * jax.nn.relu(y["in"] * x + y["shift"]))

    losses = {
        "x": lambda p, batch, key: verdict(p["y"], p["x"]) ** 2 + p["x"] ** 2,
        "y": lambda p, batch, key: jnp.square(verdict(p["y"], p["x"]) - 1) - verdict(p["y"], 0.5),
    }
    critic = {"in": weights, "shift": shift, "out": jnp.ones(units)}
    return gacf.from_losses({"x": jnp.array(0.7), "y": critic}, losses)


@pytest.mark.long
def test_a_dead_unit_makes_no_difference() -> None:
    """Unrolled through plain Adam, step by step, the leader moves as if the unit were not there."""
    moves = {"x": optax.sgd(0.1), "y": optax.adam(0.01)}
    rule = rules.simultaneous(moves, {"x": rules.unrolled("x", "y", 3)})
    ends = []
    for units in (2, 3):
        algorithm = gacf.compose(relu_game(units), rule)
        state, step = algorithm.init(jax.random.key(0)), jax.jit(algorithm.step)
        for _ in range(4):
            state, _ = step(state)
        ends.append(float(state.params["x"]))
    assert ends[1] == pytest.approx(ends[0], rel=1e-10)


@pytest.mark.slow
def test_second_derivatives_past_a_dead_unit_are_finite() -> None:
    """Forwards and backwards over the derivative through a step, as chains of leaders need them."""
    made = differentiable(optax.with_extra_args_support(optax.adam(0.1)))

    def slope(x: Any) -> jax.Array:
        return jax.grad(lambda x: after(made, x, 1))(x)

    forwards, backwards, above, below = jax.jit(
        lambda x: (
            jax.jvp(slope, (x,), (1.0,))[1],
            jax.grad(slope)(x),
            slope(x + 1e-5),
            slope(x - 1e-5),
        )
    )(0.7)
    expected = float(above - below) / 2e-5
    assert float(forwards) == pytest.approx(expected, rel=1e-5)
    assert float(backwards) == pytest.approx(expected, rel=1e-5)
