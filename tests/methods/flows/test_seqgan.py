"""SeqGAN where all sequences can be counted: three tokens, two places."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gacf
from gacf.core.clock import with_clock
from gacf.lab.inspect import draw
from gacf.methods import flows
from gacf.rules import field

V, T = 3, 2
ALL = jnp.array(list(itertools.product(range(V), repeat=T)))
# logits of the next token, given the one before
TABLE = flows.Autoregressive(
    init=lambda key: jax.random.normal(key, (V, V)),
    start=lambda n: jnp.zeros((n, 0)),
    step=lambda params, memory, token: (memory, params[token]),
)
JUDGE = (lambda key: jax.random.normal(key, (V, V)), lambda w, y: 2 * w[y[:, 0], y[:, 1]])


def game(**settings: Any) -> gacf.Game:
    return flows.seqgan(TABLE, JUDGE, ALL, batch_size=8, **settings)


def chance(table: Any, y: jax.Array) -> jax.Array:
    each = jax.nn.log_softmax(table)
    return jnp.exp(each[0, y[:, 0]] + each[y[:, 0], y[:, 1]])


def reward(params: Any) -> jax.Array:
    """E σ(C(y))."""
    return jnp.sum(chance(params["actor"], ALL) * jax.nn.sigmoid(JUDGE[1](params["critic"], ALL)))


def critic_loss(params: Any) -> jax.Array:
    v = JUDGE[1](params["critic"], ALL)
    fakes = jnp.sum(chance(params["actor"], ALL) * jax.nn.softplus(v))
    return jnp.mean(jax.nn.softplus(-v)) + fakes


def estimates(made: gacf.Game, of: Any, n: int) -> tuple[Any, Any]:
    """Mean and standard error over batches, at fixed params."""
    params, world = made.init(jax.random.key(0))

    def one(key: Any) -> Any:
        batch_key, key = jax.random.split(key)
        return of(field(made, world, made.sample(world, batch_key), key), params)

    found = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), n)))
    return found.mean(0), found.std(0) / np.sqrt(n)


PARAMS = game().init(jax.random.key(0))[0]


@pytest.mark.long
@pytest.mark.parametrize("baseline", [True, False])
def test_the_actors_gradient_is_that_of_the_expected_verdict(baseline: bool) -> None:
    made = game(baseline=baseline, rollouts=2)
    mean, error = estimates(made, lambda f, p: f.gradient("actor", p)[0], 4_000)
    exact = np.asarray(-jax.grad(lambda a: reward({**PARAMS, "actor": a}))(PARAMS["actor"]))
    assert np.abs(exact).max() > 20 * error.max()
    assert np.all(np.abs(mean - exact) <= 4.5 * error + 1e-6)


@pytest.mark.long
def test_the_baseline_lessens_the_variance() -> None:
    errors = [
        estimates(game(baseline=b), lambda f, p: f.gradient("actor", p)[0], 500)[1]
        for b in (True, False)
    ]
    assert np.sum(errors[0] ** 2) < 0.9 * np.sum(errors[1] ** 2)


@pytest.mark.long
@pytest.mark.parametrize("player", ["actor", "critic"])
def test_cross_derivatives_are_right_in_expectation(player: str) -> None:
    other = {"actor": "critic", "critic": "actor"}[player]
    exact_loss = {"actor": lambda p: -reward(p), "critic": critic_loss}[player]

    def cross(own_gradient: Any, params: Any) -> Any:
        return jax.jacobian(lambda x: own_gradient({**params, other: x}))(params[other])

    def exact_gradient(p: Any) -> Any:
        return jax.grad(lambda own: exact_loss({**p, player: own}))(p[player])

    made = game(rollouts=2)
    mean, error = estimates(made, lambda f, p: cross(lambda q: f.gradient(player, q)[0], p), 4_000)
    exact = np.asarray(cross(exact_gradient, PARAMS))
    assert np.abs(exact).max() > 10 * error.max()
    assert np.all(np.abs(mean - exact) <= 4.5 * error + 1e-6)


@pytest.mark.long
def test_the_critic_sees_real_sequences_and_the_actors() -> None:
    made = game()
    params, _world = made.init(jax.random.key(0))
    losses = lambda f, p: f.loss("critic", p["critic"], p)[0]  # noqa: E731
    mean, error = estimates(made, losses, 2_000)
    assert abs(mean - critic_loss(params)) < 4.5 * error


def test_the_drawing_shows_the_score_function() -> None:
    flow = draw.trace(game())
    both = frozenset(("actor", "critic"))
    assert flow.depends == {"actor": both, "critic": both}
    # tokens are no path for a gradient: the actor hears the critic as a number, at the loss
    assert ("actor", "critic") in flow.forward["actor"] - flow.gradient["actor"]


@pytest.mark.long
def test_pretraining_is_maximum_likelihood() -> None:
    made = game(pretrain=5)
    params, world = made.init(jax.random.key(0))
    batch = made.sample(world, jax.random.key(1))
    for step, imitates in ((4, True), (5, False)):
        here = field(made, with_clock(world, step), batch, jax.random.key(2))
        loss = here.loss("actor", params["actor"], params)[0]
        wanted = -np.log(chance(params["actor"], batch["real"])).mean() / T
        assert (loss == pytest.approx(wanted, rel=1e-5)) == imitates


@pytest.mark.long
def test_sequences_are_as_likely_as_said_and_beginnings_are_kept() -> None:
    network = flows.lstm(V, 4, scale=1.0)
    params = network.init(jax.random.key(0))
    noise = jax.random.gumbel(jax.random.key(1), (20_000, T, V))
    counts = np.zeros((V, V))
    np.add.at(counts, tuple(np.asarray(flows.speak(network, params, noise)).T), 1 / len(noise))
    wanted = np.exp(np.asarray(flows.log_likelihood(network, params, ALL).sum(1)))
    assert wanted.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(counts.ravel(), wanted, atol=0.015)
    begun = jnp.full((20_000, T), 2)
    kept = jnp.arange(20_000) % 3
    done = flows.speak(network, params, noise, begun, kept)
    assert np.all(np.asarray(done)[kept >= 1, 0] == 2) and np.all(np.asarray(done)[kept == 2] == 2)
    assert set(np.unique(np.asarray(done)[kept == 1, 1])) == {0, 1, 2}


def test_data_are_sequences_of_whole_numbers() -> None:
    with pytest.raises(ValueError, match=r"data: float32\[2, 3\] was given"):
        flows.seqgan(TABLE, JUDGE, jnp.zeros((2, 3)))
