"""f-divergences by duality on Gaussians; relativistic and energy-based losses by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import gacf
from gacf.methods.gan import (
    F_DIVERGENCES,
    LOSSES,
    energy_based,
    f_gan,
    likeness,
    pulling_away,
    r1,
)
from gacf.networks import MLP, model
from gacf.networks.images import Autoencoder
from gacf.rules import field
from tests.networks.test_networks import Whitened

KEY = jax.random.key(0)
X = np.linspace(-14.0, 14.0, 20_001)
MEAN, SCALE = 0.7, 1.3


def density(mean: float, scale: float) -> np.ndarray:
    return np.exp(-(((X - mean) / scale) ** 2) / 2) / (scale * np.sqrt(2 * np.pi))


def integral(values: Any) -> float:
    return float(np.trapezoid(np.asarray(values, np.float64), X))


P, Q = density(0.0, 1.0), density(MEAN, SCALE)
KL = np.log(SCALE) + (1 + MEAN**2) / (2 * SCALE**2) - 0.5
REVERSE = -np.log(SCALE) + (SCALE**2 + MEAN**2) / 2 - 0.5
# ∫ √(pq) and ∫ p²/q of two Gaussians
OVERLAP = np.sqrt(2 * SCALE / (1 + SCALE**2)) * np.exp(-(MEAN**2) / (4 * (1 + SCALE**2)))
SQUARE = SCALE**2 / np.sqrt(2 * SCALE**2 - 1) * np.exp(MEAN**2 / (2 * SCALE**2 - 1))
MIDDLE = (P + Q) / 2

# name -> D_f(P ‖ Q) for P = N(0, 1), Q = N(MEAN, SCALE²), in closed form where there is one
KNOWN = {
    "kl": KL,
    "reverse_kl": REVERSE,
    "pearson": SQUARE - 1,
    "squared_hellinger": 2 - 2 * OVERLAP,
    "jensen_shannon": integral(P * np.log(P / MIDDLE) + Q * np.log(Q / MIDDLE)),
}


def verdicts(name: str, ratio: Any) -> Any:
    """The v with g(v) = f′(p/q)."""
    t = F_DIVERGENCES[name].optimum(ratio)
    return {
        "kl": lambda: t,
        "reverse_kl": lambda: -jnp.log(-t),
        "pearson": lambda: t,
        "squared_hellinger": lambda: -jnp.log1p(-t),
        "jensen_shannon": lambda: jnp.log(ratio),
    }[name]()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_the_best_critic_attains_the_divergence_and_no_other_does_better(name):
    f = F_DIVERGENCES[name]
    ratio = jnp.asarray(P / Q)
    np.testing.assert_allclose(integral(Q * f.generator(ratio)), KNOWN[name], rtol=1e-6)
    best = verdicts(name, ratio)
    np.testing.assert_allclose(f.activation(best), f.optimum(ratio), rtol=1e-9, atol=1e-9)
    real, fake = (
        f_gan(name).divergence(v, label)
        for v, label in ((best, jnp.ones_like(best)), (best, jnp.zeros_like(best)))
    )
    np.testing.assert_allclose(-integral(P * real + Q * fake), KNOWN[name], rtol=1e-6)
    for change in (0.3, -0.3, 0.2 * jnp.sin(jnp.asarray(X))):
        worse = best + change
        estimate = integral(P * f.activation(worse)) - integral(Q * f.composed(worse))
        assert estimate < KNOWN[name] - 1e-4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_conjugates_are_suprema(name):
    f = F_DIVERGENCES[name]
    u = jnp.asarray(np.geomspace(1e-4, 1e4, 200_001))
    v = jnp.linspace(-1.5, 1.5, 7)
    t = f.activation(v)
    assert np.all(np.diff(t) > 0)
    supremum = jnp.max(u[None] * t[:, None] - f.generator(u)[None], axis=1)
    np.testing.assert_allclose(f.conjugate(t), supremum, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(f.composed(v), f.conjugate(t), rtol=1e-9, atol=1e-12)
    assert float(f.generator(jnp.array(1.0))) == 0


def test_composed_conjugates_stay_finite_where_the_formula_does_not():
    far = jnp.array([-80.0, 80.0])
    for name in ("reverse_kl", "jensen_shannon"):
        assert np.isfinite(F_DIVERGENCES[name].composed(far)).all()
        assert np.isfinite(jax.vmap(jax.grad(F_DIVERGENCES[name].composed))(far)).all()


def test_the_actor_minimises_the_estimate_or_maximises_what_the_critic_says():
    v = jnp.array([-1.0, 0.5])
    for name, f in F_DIVERGENCES.items():
        np.testing.assert_array_equal(LOSSES[name].utility(v), f.composed(v))
        np.testing.assert_array_equal(f_gan(name, saturating=False).utility(v), f.activation(v))


DATA = np.random.RandomState(0).randn(20, 2).astype(np.float32)
GENERATOR = (lambda key: jnp.array([0.5, -1.5]), lambda p, z: jnp.tanh(z * p[None]))
CRITIC = (lambda key: jnp.array([0.7, 1.1]), lambda p, x: jnp.sum(jnp.sin(x) * p[None], axis=-1))


def at(game: gacf.Game) -> Any:
    @jax.jit
    def everything() -> Any:
        params, world = game.init(KEY)
        batch = game.sample(world, KEY)
        here = field(game, world, batch, KEY)
        losses = {p: here.loss(p, params[p], params) for p in game.losses}
        return params, world, batch, losses, {p: here.gradient(p, params)[0] for p in game.losses}

    return everything()


def log_sigmoid(v: Any) -> Any:
    return -np.log1p(np.exp(-v))


# name -> D(1 ‖ v) and D(0 ‖ v)
RELATIVE = {
    "relativistic": (lambda v: -log_sigmoid(v), lambda v: -log_sigmoid(-v)),
    "relativistic_least_squares": (lambda v: (v - 1) ** 2, lambda v: (v + 1) ** 2),
    "relativistic_hinge": (lambda v: np.maximum(0, 1 - v), lambda v: np.maximum(0, 1 + v)),
}


@pytest.mark.long
@pytest.mark.parametrize("loss", RELATIVE)
def test_relativistic_losses_are_their_formulas(loss):
    game = gacf.gan(GENERATOR, CRITIC, DATA, loss, batch_size=6, noise=2, penalty=r1(3.0))
    params, _, batch, losses, gradients = at(game)
    x, z = (np.asarray(batch[name]) for name in ("real", "noise"))
    real = np.sin(x) @ np.array([0.7, 1.1])
    fake = np.sin(np.tanh(z * np.array([0.5, -1.5]))) @ np.array([0.7, 1.1])
    r, f = real - fake.mean(), fake - real.mean()
    one, zero = RELATIVE[loss]
    slope = jnp.cos(batch["real"]) * params["critic"][None]
    penalty = 1.5 * float(jnp.mean(jnp.sum(slope**2, axis=-1)))
    assert float(losses["critic"][1].metrics["penalty"]) == pytest.approx(penalty, rel=1e-5)
    wanted = one(r).mean() + zero(f).mean() + penalty
    assert float(losses["critic"][0]) == pytest.approx(wanted, rel=1e-5)
    assert float(losses["actor"][0]) == pytest.approx(zero(r).mean() + one(f).mean(), rel=1e-5)
    assert np.abs(gradients["actor"]).min() > 1e-4


@pytest.mark.long
def test_relativistic_groups_keep_statistics_of_their_own():
    far = 5 + 2 * jax.random.normal(jax.random.key(9), (32, 2))
    critic = model("critic", Whitened()).then(lambda x: jnp.sum(x, axis=-1))
    game = gacf.gan(MLP((), (2,)), critic, far, "relativistic", batch_size=8, noise=2)
    _, _, batch, losses, _ = at(game)
    # each group is centred by itself, so that the means it is compared with are 0
    found = losses["critic"][1].world["stats/critic"]["batch_stats"]["BatchNorm_0"]["mean"]
    params, world = game.init(KEY)
    fake, _ = model("actor", MLP((), (2,))).apply(params["actor"], world, batch["noise"])
    wanted = 0.9 * 0.1 * batch["real"].mean(0) + 0.1 * fake.mean(0)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert set(losses["actor"][1].world) == set()


def test_a_relativistic_critic_needs_both_groups():
    with pytest.raises(
        ValueError, match="show: 'bernoulli' was given; allowed with a relativistic"
    ):
        gacf.gan(GENERATOR, CRITIC, DATA, "relativistic", show="bernoulli", noise=2)


def test_energy_based_pushes_no_further_than_its_margin():
    loss = energy_based(2.0)
    v = jnp.array([0.5, 0.5, 3.0])
    np.testing.assert_allclose(loss.divergence(v, jnp.array([1.0, 0.0, 0.0])), [0.5, 1.5, 0.0])
    np.testing.assert_allclose(loss.utility(v), -v)


@pytest.mark.long
def test_the_autoencoders_energy_is_its_error():
    critic, x = Autoencoder((3, 2), linen.tanh), jax.random.normal(KEY, (4, 2, 3))
    energy, variables = critic.init_with_output(KEY, x)
    p = jax.tree.map(np.asarray, variables["params"])
    flat = np.asarray(x).reshape(4, 6)
    dense = lambda name, y: y @ p[name]["kernel"] + p[name]["bias"]  # noqa: E731
    code = dense("encoder_1", np.tanh(dense("encoder_0", flat)))
    np.testing.assert_allclose(critic.apply(variables, x, method="encode"), code, rtol=1e-4)
    made = dense("Dense_0", np.tanh(dense("decoder_0", np.tanh(code))))
    np.testing.assert_allclose(energy, ((made - flat) ** 2).mean(1), rtol=1e-4)


@pytest.mark.long
def test_pulling_away_against_the_double_sum():
    s = np.random.RandomState(1).randn(5, 3)
    total = sum(
        (s[i] @ s[j]) ** 2 / (s[i] @ s[i]) / (s[j] @ s[j])
        for i in range(5)
        for j in range(5)
        if i != j
    )
    np.testing.assert_allclose(likeness(jnp.asarray(s)), total / 20, rtol=1e-5)
    assert np.isfinite(jax.grad(likeness)(jnp.zeros((3, 2)))).all()
    with pytest.raises(ValueError, match=r"codes: shape \(1, 2\) was given"):
        likeness(jnp.zeros((1, 2)))


@pytest.mark.long
def test_pulling_away_is_added_to_the_actors_loss_alone():
    critic = Autoencoder((3, 2))
    plain = gacf.gan(GENERATOR, critic, DATA, "energy_based", batch_size=6, noise=2)

    def code(params: Any, x: jax.Array) -> Any:
        return critic.apply({"params": params}, x, method="encode")

    _, _, _, bare, _ = at(plain)
    params, _, batch, losses, _ = at(pulling_away(plain, GENERATOR, code, weight=0.5))
    made = jnp.tanh(batch["noise"] * params["actor"][None])
    alike = float(likeness(code(params["critic"], made)))
    assert float(losses["actor"][0] - bare["actor"][0]) == pytest.approx(alike / 2, rel=1e-3)
    assert float(losses["actor"][1].metrics["likeness"]) == pytest.approx(alike, rel=1e-4)
    assert float(losses["critic"][0]) == pytest.approx(float(bare["critic"][0]), rel=1e-6)
