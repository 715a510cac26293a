"""The closed forms themselves, each against an independent computation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gacf import rules
from gacf.games import (
    LQR,
    Quadratic,
    bilinear,
    bilinear_modes,
    dirac_gan,
    equilibrium,
    field_jacobian,
    gain_gradient,
    optimal_gain,
    q_function,
    quadratic,
    value,
)
from gacf.metrics.game_spectrum import game_jacobian, game_spectrum

pytestmark = pytest.mark.usefixtures("x64")

SPEC = LQR([[0.9, 0.3], [-0.2, 0.8]], [[0.2], [0.7]], [[1.0, 0.2], [0.2, 0.5]], 0.3, 0.95)
GAIN = np.array([[0.1, 0.4]])


def cost(spec: LQR, gain: Any, state: Any, steps: int = 600) -> float:
    """Discounted cost of a roll-out."""
    a, b, q, r = spec.matrices()
    total, s = 0.0, np.asarray(state, float)
    for t in range(steps):
        u = -np.atleast_2d(gain) @ s
        total += spec.discount**t * float(s @ q @ s + u @ r @ u)
        s = a @ s + b @ u
    return total


def test_lqr_published_numbers() -> None:
    for discount, p, k in ((1.0, 1.618034, 0.618034), (0.9, 1.588403, 0.588403)):
        spec = LQR(1.0, 1.0, 1.0, 1.0, discount)
        assert optimal_gain(spec)[0, 0] == pytest.approx(k, rel=1e-6)
        assert value(spec, k)[0, 0] == pytest.approx(p, rel=1e-6)
        for other in (0.4, 0.9):
            scalar = (1 + other**2) / (1 - discount * (1 - other) ** 2)
            assert value(spec, other)[0, 0] == pytest.approx(scalar)


def test_lqr_value_and_q_function_are_roll_outs() -> None:
    s, u = np.array([0.3, -1.1]), np.array([0.7])
    assert s @ value(SPEC, GAIN) @ s == pytest.approx(cost(SPEC, GAIN, s), rel=1e-9)
    a, b, q, r = SPEC.matrices()
    z = np.r_[s, u]
    rows, columns = np.triu_indices(3)
    expected = s @ q @ s + u @ r @ u + SPEC.discount * cost(SPEC, GAIN, a @ s + b @ u)
    assert (z[rows] * z[columns]) @ q_function(SPEC, GAIN) == pytest.approx(expected, rel=1e-9)


def test_lqr_gain_gradients_are_differences() -> None:
    first = np.array([[1.0, 0.2], [0.2, 0.6]])
    total, partial = gain_gradient(SPEC, GAIN, first)
    frozen = q_function(SPEC, GAIN)
    rows, columns = np.triu_indices(3)

    def verdict(gain: np.ndarray, critic: np.ndarray) -> float:
        lift = np.vstack([np.eye(2), -gain])
        second = lift @ first @ lift.T
        return float(second[rows, columns] @ critic)

    for j in range(2):
        step = np.zeros((1, 2))
        step[0, j] = 1e-5
        ends = [GAIN + step, GAIN - step]
        moved = [verdict(gain, q_function(SPEC, gain)) for gain in ends]
        held = [verdict(gain, frozen) for gain in ends]
        assert total[0, j] == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-6)
        assert partial[0, j] == pytest.approx((held[0] - held[1]) / 2e-5, rel=1e-6)
    best, _ = gain_gradient(SPEC, optimal_gain(SPEC), first)
    np.testing.assert_allclose(best, 0, atol=1e-10)


def test_quadratic_points_by_hand() -> None:
    """F = ½x² + xy + y, f = ½y² − ½xy: y* = x/2; Nash x = −y; leader F' = 2x + ½."""
    spec = Quadratic(
        {"x": 1, "y": 1},
        {"x": [[1.0, 1.0], [1.0, 0.0]], "y": [[0.0, -0.5], [-0.5, 1.0]]},
        {"x": [0.0, 1.0], "y": [0.0, 0.0]},
    )
    assert equilibrium(spec, [("x", "y")])["x"] == pytest.approx(0)
    led = equilibrium(spec, ["x", "y"])
    assert (led["x"][0], led["y"][0]) == pytest.approx((-0.25, -0.125))
    np.testing.assert_allclose(field_jacobian(spec), [[1, 1], [-0.5, 1]])


def test_three_levels_are_a_nested_minimisation() -> None:
    """Of random losses: the lowest levels minimised by hand, the top one by a grid."""
    random = np.random.default_rng(3)
    sizes = {"a": 1, "b": 1, "c": 1}
    hessians = {}
    for name, i in zip(sizes, range(3), strict=True):
        h = 0.3 * random.normal(size=(3, 3))
        hessians[name] = 0.5 * (h + h.T) + 2 * np.diag(np.arange(3) == i)
    spec = Quadratic(sizes, hessians, {name: random.normal(size=3) for name in sizes})

    def loss(name: str, z: np.ndarray) -> float:
        return float(0.5 * z @ hessians[name] @ z + np.asarray(spec.slopes[name]) @ z)

    def lowest(f: Any) -> float:
        """Minimum of a parabola through three points."""
        low, mid, high = f(-1.0), f(0.0), f(1.0)
        return 0.5 * (low - high) / (low - 2 * mid + high)

    def c(a: float, b: float) -> float:
        return lowest(lambda x: loss("c", np.array([a, b, x])))

    def b(a: float) -> float:
        return lowest(lambda x: loss("b", np.array([a, x, c(a, x)])))

    best = lowest(lambda x: loss("a", np.array([x, b(x), c(x, b(x))])))
    found = equilibrium(spec, ["a", "b", "c"])
    expected = (best, b(best), c(best, b(best)))
    assert tuple(float(found[p][0]) for p in sizes) == pytest.approx(expected, rel=1e-9)


@pytest.mark.long
def test_dirac_gan_gradients() -> None:
    """The field by hand."""
    theta, psi = 0.7, -0.4
    slope = 1 / (1 + np.exp(theta * psi))
    params = {"actor": jnp.asarray(theta), "critic": jnp.asarray(psi)}
    for loss, actor in (("saturating", slope), ("non_saturating", slope - 1), ("wasserstein", 1)):
        game = dirac_gan(loss)
        batch = game.sample({}, jax.random.key(0))
        at = rules.field(game, {}, batch, jax.random.key(0))
        coupling = {"non_saturating": 1 / (1 + np.exp(-theta * psi))}.get(loss, actor)
        assert float(at.gradient("actor", params)[0]) == pytest.approx(psi * coupling, rel=1e-9)
        own = 1 if loss == "wasserstein" else slope
        assert float(at.gradient("critic", params)[0]) == pytest.approx(-theta * own, rel=1e-9)


@pytest.mark.long
def test_dirac_gan_noise_is_an_expectation() -> None:
    """Eigenvalues at 0 are ¼σ² ± √(σ⁴/16 − ¼); and draws agree on average."""
    game = dirac_gan(noise=0.7, start=(0.0, 0.0))
    params, world = game.init(jax.random.key(0))
    found = game_spectrum(game, params, world, jax.random.key(0))
    own = 0.49 / 4
    expected = own + np.array([-1, 1]) * np.sqrt(complex(own**2 - 0.25))
    np.testing.assert_allclose(found, np.sort_complex(expected), rtol=1e-6)
    point = {"actor": jnp.asarray(0.5), "critic": jnp.asarray(0.8)}
    fields = []
    for samples in (None, 200_000):
        game = dirac_gan(noise=0.7, samples=samples)
        batch = game.sample({}, jax.random.key(1))
        at = rules.field(game, {}, batch, jax.random.key(0))
        fields.append([float(at.gradient(name, point)[0]) for name in game.losses])
    np.testing.assert_allclose(fields[0], fields[1], atol=0.005)


@pytest.mark.long
def test_spectrum_of_what_is_followed() -> None:
    """Consensus and implicit directions change the Jacobian as their formulas say."""
    matrix = np.array([[1.0, 0.5], [0.0, 2.0]])
    game = bilinear(matrix)
    params, world = game.init(jax.random.key(0))
    key = jax.random.key(0)
    singular = np.linalg.svd(matrix, compute_uv=False)
    jacobian = np.block([[np.zeros((2, 2)), matrix], [-matrix.T, np.zeros((2, 2))]])
    np.testing.assert_allclose(game_jacobian(game, params, world, key), jacobian, atol=1e-12)
    own = game_spectrum(game, params, world, key)
    np.testing.assert_allclose(sorted(own.imag), sorted(np.r_[singular, -singular]), rtol=1e-10)
    turned = game_spectrum(game, params, world, key, direction=rules.consensus(0.3))
    np.testing.assert_allclose(
        sorted(turned.real), sorted(np.repeat(0.3 * singular**2, 2)), rtol=1e-9
    )
    led = rules.implicit("actor", "critic", damping=2.0)
    modes = 1 - 0.1 * game_spectrum(game, params, world, key, direction={"actor": led})
    expected = bilinear_modes("implicit", (0.1, 0.1), matrix, damping=2.0)
    np.testing.assert_allclose(sorted(abs(modes)), sorted(abs(expected)), rtol=1e-9)


def test_games_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="'wasser' is unknown; did you mean 'wasserstein'"):
        dirac_gan("wasser")
    with pytest.raises(ValueError, match="noise: -1 was given"):
        dirac_gan(noise=-1)
    one = np.ones((2, 2))
    with pytest.raises(ValueError, match="no player 'z'"):
        quadratic(Quadratic({"x": 1, "y": 1}, {"z": one}, {}))
    with pytest.raises(ValueError, match="not symmetric"):
        quadratic(Quadratic({"x": 1, "y": 1}, {"x": np.triu(one), "y": one}, {}))
    with pytest.raises(ValueError, match="'simultanous' is unknown"):
        bilinear_modes("simultanous", (0.1, 0.1))
