"""The regulator: SVG's gradients are the analytic ones; all methods reach the Riccati answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import envs, rules
from gacf.core.clock import with_clock
from gacf.games import LQR, gain_gradient, optimal_gain, q_function, value
from tests.methods.actor_critic.packed import packed

KEY = jax.random.key(0)
GAMMA = 0.9
TWO = LQR([[0.9, 0.3], [-0.2, 0.8]], [[0.2], [0.7]], [[1.0, 0.2], [0.2, 0.5]], [[0.3]], GAMMA)
GAIN = np.array([[0.1, 0.4]])


def regulator(spec: LQR, **options: Any) -> envs.Environment:
    a, b, q, r, _ = spec
    return envs.make("LQR", a=a, b=b, q=q, r=r, **options)


def linear(start: Any) -> Any:
    """u = −Ks."""
    return lambda key: jnp.asarray(start, float), lambda gain, o: -o @ gain.T


def exact_value(spec: LQR, gain: Any) -> Any:
    """V_K, by a form that a critic could learn."""
    form = jnp.asarray(-value(spec, gain), float)
    return lambda key: form, lambda p, o: jnp.sum((o @ p) * o, axis=1)


def exact_model(spec: LQR) -> Any:
    """The change of the state, and the reward, as they are."""
    a, b, q, r = (jnp.asarray(x, jnp.float32) for x in spec.matrices())

    def apply(scale: jax.Array, s: jax.Array, u: jax.Array) -> jax.Array:
        cost = jnp.sum((s @ q) * s, 1) + jnp.sum((u @ r) * u, 1)
        return scale * jnp.concatenate([s @ a.T + u @ b.T - s, -cost[:, None]], axis=1)

    return lambda key: jnp.ones(()), apply


def played(game: gacf.Game, steps: int = 1) -> Any:
    """Params, world and batch after some steps of acting."""

    def play(key: jax.Array) -> Any:
        params, world = game.init(key)
        for i in range(steps):
            clocked = with_clock(world, i)
            world, _ = game.observe(params, clocked, jax.random.fold_in(key, i))
        return params, world, game.sample(world, key)

    return jax.jit(play)(KEY)


def actor_gradient(game: gacf.Game, params: Any, world: Any, batch: Any) -> Any:
    here = rules.field(game, world, batch, KEY)
    return jax.jit(lambda p: here.gradient("actor", p)[0])(params)


@pytest.mark.long
@pytest.mark.parametrize(("horizon", "bootstrap"), [(1, True), (4, True), (80, False)])
def test_svg_has_the_analytic_policy_gradient(horizon, bootstrap):
    """Of h steps with the exact V after them: 2 E_K Σ_{t<h} γᵗ Σ_t. One step is the partial
    derivative, all of them the total one.
    """
    env = regulator(TWO, noise=0.0, horizon=100)
    game = gacf.svg(
        env, horizon, linear(GAIN), exact_value(TWO, GAIN), "true", discount=GAMMA,
        bootstrap=bootstrap, log_scale=-20.0, rollout=gacf.Rollout(num_envs=3),
    )  # fmt: skip
    params, world, batch = played(game)
    found = actor_gradient(game, params, world, batch)["mean"]
    first = np.asarray(batch["observation"], float).reshape(horizon, 3, 2)[0]
    moment = first.T @ first / 3
    total, partial = gain_gradient(TWO, GAIN, moment)
    a, b, _, _ = TWO.matrices()
    closed = a - b @ GAIN
    slope = partial @ np.linalg.inv(moment)
    along = sum(
        GAMMA**t * np.linalg.matrix_power(closed, t) @ moment
        @ np.linalg.matrix_power(closed, t).T for t in range(horizon)
    )  # fmt: skip
    np.testing.assert_allclose(found, slope @ along, rtol=1e-3)
    if horizon == 1:
        np.testing.assert_allclose(found, partial, rtol=1e-3)
    if horizon == 80:
        np.testing.assert_allclose(found, total, rtol=1e-3)
    assert np.abs(total - partial).max() > 0.1 * np.abs(total).max(), "a weak test"


@pytest.mark.long
def test_chains_are_what_was_played_and_a_right_model_has_the_true_derivatives():
    """Rows of five steps, in which episodes of three are cut short; with noise of both kinds."""
    horizon, copies = 5, 4
    env = regulator(TWO, noise=0.3, horizon=3)
    arguments = (env, horizon, linear(GAIN), exact_value(TWO, GAIN))
    options = packed(discount=GAMMA, log_scale=-0.7, num_envs=copies)
    true = gacf.svg(*arguments, "true", **options)
    params, world, batch = played(true, 2)

    rows = {
        name: np.asarray(batch[name], float).reshape(horizon, copies, *batch[name].shape[1:])
        for name in ("reward", "truncated", "next_observation")
    }
    assert rows["truncated"].any(axis=0).all() and not rows["truncated"][-1].all()
    form, totals = value(TWO, GAIN), np.zeros(copies)
    weight = np.ones(copies)
    for t in range(horizon):
        totals += weight * rows["reward"][t]
        weight *= GAMMA
        s = rows["next_observation"][t]
        ends = (rows["truncated"][t] > 0) | (t == horizon - 1)
        totals -= np.where(ends, weight * np.sum(s @ form * s, axis=1), 0)
        weight = np.where(ends, 1, weight)
    learned = gacf.svg(*arguments, exact_model(TWO), **options)

    @jax.jit
    def of_all(params: Any) -> Any:
        right, wrong = ({**params, "model": jnp.array(scale)} for scale in (1.0, 0.5))
        found = []
        for game, at in ((true, params), (learned, right), (learned, wrong)):
            slope, told = rules.field(game, world, batch, KEY).gradient("actor", at)
            found.append((told.metrics["loss"], slope))
        return found

    (loss, wanted), (same, found), (again, off) = of_all(params)
    assert float(loss) == pytest.approx(-totals.mean(), rel=1e-4)
    for name in ("mean", "log_scale"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-3)
    # a wrong model has the same values and other derivatives
    assert float(same) == pytest.approx(float(loss), rel=1e-4)
    assert float(again) == pytest.approx(float(loss), rel=1e-4)
    apart = np.abs(off["mean"] - wanted["mean"]).max()
    assert apart > 0.1 * np.abs(wanted["mean"]).max()


UNIT = LQR(1.0, 1.0, 1.0, 1.0, GAMMA)
SEEDS = 32


def quadratic() -> Any:
    """Q as a form in (s, u), and a constant."""

    def features(s: jax.Array, u: jax.Array) -> jax.Array:
        return jnp.concatenate([s**2, s * u, u**2, jnp.ones_like(s)], axis=1)

    return lambda key: jnp.zeros(4), lambda w, s, u: features(s, u) @ w


def square() -> Any:
    """V = w_0 s² + w_1."""
    return lambda key: jnp.zeros(2), lambda w, s: w[0] * s[:, 0] ** 2 + w[1]


def noisy_linear() -> Any:
    """μ = −ks, and σ = e⁻¹."""
    return (
        lambda key: jnp.full((1, 1), 0.1),
        lambda gain, o: jnp.concatenate([-o @ gain.T, jnp.full_like(o, -1.0)], axis=1),
    )


def model() -> Any:
    """Change of the state, linear in (s, u), and reward, a form in them."""

    def apply(w: Any, s: jax.Array, u: jax.Array) -> jax.Array:
        moved = s * w["moved"][0] + u * w["moved"][1]
        paid = s**2 * w["paid"][0] + s * u * w["paid"][1] + u**2 * w["paid"][2]
        return jnp.concatenate([moved, paid], axis=1)

    return lambda key: {"moved": jnp.zeros(2), "paid": jnp.zeros(3)}, apply


class Case(NamedTuple):
    """A method on the regulator.

    Attributes:
        make: `env -> Game`.
        critic: critic's params -> [SEEDS, n]: coefficients of (s², su, u²), or of s² alone.
        rates: of the actor (gradient steps) and the critic and model (Adam); they fall to 0.
        gain: actor's params -> [SEEDS].
        steps: how many.
    """

    make: Callable[[envs.Environment], gacf.Game]
    critic: Callable[[Any], jax.Array]
    rates: tuple[float, float] = (0.05, 0.05)
    gain: Callable[[Any], jax.Array] = lambda p: p["mean"][:, 0, 0]
    steps: int = 2000


START = linear([[0.1]])
OFF = packed(
    discount=GAMMA, batch_size=128, capacity=4096, warmup=50, num_envs=8, target_rate=0.2,
    episodes=2,
)  # fmt: skip
MANY: dict[str, Any] = {"discount": GAMMA, "num_envs": 32, "episodes": 2}
ON = packed(**MANY)
CASES = {
    "ddpg": Case(
        lambda e: gacf.ddpg(e, START, quadratic(), exploration=0.5, **OFF),
        lambda w: w[:, :3], gain=lambda p: p[:, 0, 0],
    ),
    "svg(0)": Case(
        lambda e: gacf.svg(e, 0, noisy_linear(), quadratic(), **OFF),
        lambda w: w[:, :3], gain=lambda p: p[:, 0, 0],
    ),
    "dpg": Case(
        lambda e: gacf.dpg(e, START, square(), exploration=0.5, **packed(length=8, **MANY)),
        lambda w: w["baseline"][:, :1], gain=lambda p: p[:, 0, 0],
    ),
    "natural": Case(
        lambda e: gacf.natural_actor_critic(
            e, START, square(), trace=0.5, log_scale=-1.0, **packed(length=4, **MANY)
        ),
        lambda w: w["baseline"][:, :1],
        (0.03, 0.05),
    ),
    # of whole episodes, without a critic's help
    "svg(∞), true": Case(
        lambda e: gacf.svg(
            e, 20, START, square(), "true", log_scale=-1.0, trace=0.5, bootstrap=False, **ON
        ),
        lambda w: w[:, :1], steps=600,
    ),
    **{
        f"svg({h}), {kind}": Case(
            lambda e, h=h, dynamics=dynamics: gacf.svg(
                e, h, START, square(), dynamics, log_scale=-1.0, trace=0.5, **ON
            ),
            lambda w: w[:, :1],
        )
        for h in (1, 5)
        for kind, dynamics in (("learned", model()), ("true", "true"))
    },
}  # fmt: skip


def still_scale(params: Any) -> Any:
    """Whether a leaf is a policy's log σ, which stays as it is: its optimum is −∞."""
    return {name: name == "log_scale" for name in params} if isinstance(params, dict) else False


def errors(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the gains and of the critics, [SEEDS] and [SEEDS, n]."""
    case, steps = CASES[name], CASES[name].steps
    game = case.make(regulator(UNIT))
    moves = {
        player: optax.adam(optax.cosine_decay_schedule(case.rates[1], steps))
        for player in game.losses
    }
    # the critic knows something before the actor listens
    falls = optax.warmup_cosine_decay_schedule(0.0, case.rates[0], steps // 4, steps)
    still = optax.masked(optax.set_to_zero(), still_scale)
    moves["actor"] = optax.chain(optax.sgd(falls), still)
    algorithm = gacf.compose(game, rules.alternating(moves))

    def learn(key: jax.Array) -> Any:
        step = lambda state, _: (algorithm.step(state)[0], None)  # noqa: E731
        return jax.lax.scan(step, algorithm.init(key), length=steps)[0].params

    params = jax.jit(jax.vmap(learn))(jax.random.split(KEY, SEEDS))
    wanted = -q_function(UNIT, optimal_gain(UNIT))
    critic = np.asarray(case.critic(params["critic"]))
    if critic.shape[1] == 1:
        wanted = -value(UNIT, optimal_gain(UNIT))[0]
    gain = np.asarray(case.gain(params["actor"])) - optimal_gain(UNIT)[0, 0]
    return gain, critic - wanted[None]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_gains_and_critics_reach_the_riccati_answer(name):
    gain, critic = errors(name)
    assert np.abs(gain).max() < 0.03 and np.abs(gain.mean()) < 0.01
    assert np.abs(critic).max() < 0.15  # of coefficients between 1.5 and 3
