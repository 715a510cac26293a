"""How the verdict reaches the actor, on bandits where all can be enumerated."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf.methods.actor_critic import (
    Source,
    advantage,
    clipped,
    natural,
    policies,
    reparameterised,
)
from tests.methods.actor_critic.test_constructor import (
    ACTIONS,
    LOGITS,
    at,
    bandit,
    derivatives,
    log_prob,
    wanted,
)

POLICY = policies.categorical(3)
REWARD = jnp.array([0.3, -1.2, 0.8])
VALUE = jnp.array([0.2])


def of_states(improve: Any, **extra: Any) -> gacf.Game:
    """The bandit with a critic of states, whose target goes on from the critic's own value."""

    def sample(world: Any, key: Any) -> Any:
        return {"observation": jnp.zeros((4, 1)), "action": ACTIONS, **extra}

    def target(params: Any, world: Any, batch: Any, key: Any) -> Any:
        return {"taken": REWARD[batch["action"]] + 0.5 * jnp.tanh(params["critic"])}

    return bandit(
        improve,
        critic=(lambda key: VALUE, lambda v, o: jnp.tile(v, len(o))),
        source=Source(lambda key: {}, sample),
        view=lambda batch, action: {"taken": batch["observation"]},
        target=target,
    )


def entropy(logits: jax.Array) -> jax.Array:
    p = jax.nn.softmax(logits)
    return -jnp.sum(p * jnp.log(p))


def better(value: jax.Array) -> jax.Array:
    return REWARD + 0.5 * jnp.tanh(value) - value


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_advantage_has_the_enumerated_value_and_gradients(weight):
    def expected(logits: jax.Array, value: jax.Array) -> jax.Array:
        return -jnp.sum(jax.nn.softmax(logits) * better(value)) - weight * entropy(logits)

    found = derivatives(of_states(advantage(POLICY, weight)))
    chex.assert_trees_all_close(found, wanted(expected, LOGITS, VALUE), rtol=1e-5, atol=1e-6)


def test_the_critic_that_shifts_all_advantages_alike_has_no_cross_gradient_in_the_actor():
    """A baseline moves the loss, but not its gradient in the actor, to any order."""
    found = derivatives(of_states(advantage(POLICY)))
    np.testing.assert_allclose(found[2], 0, atol=1e-6)
    slope = 0.5 / np.cosh(0.2) ** 2 - 1
    np.testing.assert_allclose(found[3], -slope, rtol=1e-5)


@pytest.mark.long
def test_standardised_advantages():
    game = of_states(advantage(POLICY, standardise=True))
    here, params = at(game)
    gradient, outcome = jax.jit(lambda p: here.gradient("actor", p))(params)
    assert float(outcome.metrics["loss"]) == pytest.approx(0, abs=1e-6)
    a = np.asarray(better(VALUE))[np.asarray(ACTIONS)].astype(np.float64)
    a = (a - a.mean()) / a.std()
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    scores = np.eye(3)[np.asarray(ACTIONS)] - p
    np.testing.assert_allclose(gradient, -(a @ scores) / 4, rtol=1e-4, atol=1e-6)


RATIO = np.array([1.0, 1.5, 0.5, 1.1])
GAIN = np.array([2.0, 1.0, -3.0, -1.0])


@pytest.mark.long
@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_clipped_is_flat_where_more_would_be_too_much(weight, standardise):
    """Of the ratios 1, 1.5, 0.5, 1.1 the second gains no more, the third loses no more."""
    acted = log_prob(jnp.tile(LOGITS[None], (4, 1)), ACTIONS) - jnp.log(jnp.asarray(RATIO))
    game = of_states(
        clipped(POLICY, 0.2, weight, standardise),
        log_prob=acted.astype(jnp.float32), advantage=jnp.asarray(GAIN, jnp.float32),
    )  # fmt: skip
    here, params = at(game)
    gain = (GAIN - GAIN.mean()) / GAIN.std() if standardise else GAIN
    kept = np.clip(RATIO, 0.8, 1.2)
    value = -np.minimum(RATIO * gain, kept * gain).mean() - weight * float(entropy(LOGITS))
    found, outcome = jax.jit(lambda p: here.gradient("actor", p))(params)
    assert float(outcome.metrics["loss"]) == pytest.approx(value, rel=1e-5)
    assert float(outcome.metrics["ratio_clipped"]) == 0.5
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    scores = np.eye(3)[np.asarray(ACTIONS)] - p
    moves = RATIO * gain <= kept * gain  # the unclipped one is the smaller
    assert moves.tolist() == [True, False, False, True]
    slope = -(np.where(moves, RATIO * gain, 0) @ scores) / 4
    slope -= weight * np.asarray(jax.grad(entropy)(LOGITS))
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-6)


def test_clipped_is_no_function_of_the_critic():
    recorded = {"log_prob": jnp.full(4, -1.0), "advantage": jnp.arange(4.0)}
    _, _, cross, slope = derivatives(of_states(clipped(POLICY), **recorded))
    assert not np.any(cross) and not np.any(slope)


NOISE = jnp.array([[0.5], [-1.0], [0.2], [1.5]])


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_reparameterised_has_the_value_and_gradients_of_the_path(alpha):
    policy = policies.gaussian(1)
    start, phi = jnp.array([0.4, -0.7]), jnp.array(0.9)

    def expected(theta: jax.Array, phi: jax.Array) -> jax.Array:
        mean, log_scale = theta
        action = mean + jnp.exp(log_scale) * NOISE[:, 0]
        log_p = -0.5 * NOISE[:, 0] ** 2 - log_scale - 0.5 * jnp.log(2 * jnp.pi)
        return jnp.mean((alpha or 0.0) * log_p - jnp.sin(phi * action))

    def sample(world: Any, key: Any) -> Any:
        zeros = jnp.zeros((4, 1))
        return {"observation": zeros, "action": zeros, "noise": NOISE, "reward": jnp.zeros(4)}

    game = bandit(
        reparameterised(policy, None if alpha is None else lambda params: alpha),
        actor=(lambda key: start, lambda p, o: jnp.tile(p[None], (len(o), 1))),
        critic=(lambda key: phi, lambda c, a: jnp.sin(c * a[:, 0])),
        source=Source(lambda key: {}, sample),
    )
    found = derivatives(game)
    chex.assert_trees_all_close(found, wanted(expected, start, phi), rtol=1e-5, atol=1e-6)
    here, params = at(game)
    told = here.loss("actor", params["actor"], params)[1].metrics["entropy"]
    log_p = -0.5 * np.asarray(NOISE) ** 2 + 0.7 - 0.5 * np.log(2 * np.pi)
    assert float(told) == pytest.approx(-log_p.mean(), rel=1e-5)


@pytest.mark.long
def test_natural_moves_along_the_critics_weights():
    weights = {"w": jnp.array([0.5, -2.0, 3.0]), "other": jnp.array(7.0)}
    game = bandit(
        natural(lambda critic: critic["w"]),
        critic=(lambda key: weights, lambda c, action: c["w"][action]),
    )
    here, params = at(game)
    gradient, _ = here.gradient("actor", params)
    np.testing.assert_array_equal(gradient, -weights["w"])
    slope = jax.jacobian(lambda c: here.gradient("actor", {**params, "critic": c})[0])(weights)
    np.testing.assert_array_equal(slope["w"], -np.eye(3))
    assert not np.any(slope["other"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: advantage(POLICY, -0.1), "entropy: -0.1 was given; allowed: a number >= 0"),
        (lambda: clipped(POLICY, 0), "clip: 0 was given; allowed: a number > 0"),
        (lambda: clipped(POLICY, entropy=-1), "entropy: -1 was given"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def recorded(*gains: Any) -> gacf.Game:
    rows = len(gains)

    def sample(world: Any, key: Any) -> Any:
        return {
            "observation": jnp.zeros((rows, 1)),
            "action": ACTIONS[:rows],
            "log_prob": jnp.full(rows, -1.0),
            "advantage": jnp.array(gains, jnp.float32),
        }

    return of_states(clipped(POLICY))._replace(sample=sample)


def test_advantages_that_are_all_equal_move_nothing():
    """No action was better than another; what rounding leaves of their mean is no difference."""

    @jax.jit
    def slope(gains):
        here, params = at(recorded(*gains))
        return here.gradient("actor", params)[0]

    for gain in np.array([0.1, 1e4, 3e-7], np.float32):
        above = np.nextafter(gain, np.float32(np.inf))
        for gains in ([gain] * 4, [gain, above] * 2):
            assert not np.any(slope(np.array(gains)))
    assert np.any(slope(np.array([0.1, 0.1, 0.1, 0.1001], np.float32)))


def test_equal_advantages_have_a_cross_gradient():
    """The deviation of equal advantages has no derivative; that of their loss is 0."""
    game = of_states(advantage(POLICY, standardise=True))
    still = {"observation": jnp.zeros((4, 1)), "action": jnp.zeros(4, jnp.int32)}
    here, params = at(game._replace(sample=lambda world, key: still))
    cross = jax.jit(jax.jacobian(lambda v: here.gradient("actor", {**params, "critic": v})[0]))
    assert not np.any(cross(params["critic"]))


@pytest.mark.long
def test_a_single_advantage_is_not_standardised():
    message = "standardise: True was given with an advantage of one transition"
    here, params = at(recorded(0.5))
    with pytest.raises(ValueError, match=message):
        here.gradient("actor", params)
    one = gacf.Rollout(num_envs=1, length=1)
    for game, rule in (
        (gacf.ppo("probe-match", rollout=one), gacf.rules.simultaneous),
        (
            gacf.ppo("probe-match", rollout=gacf.Rollout(num_envs=2, length=2)),
            lambda o: gacf.rules.minibatches(gacf.rules.simultaneous(o), 1, 4),
        ),
        (gacf.a2c("probe-match", rollout=one, standardise=True), gacf.rules.simultaneous),
    ):
        algorithm = gacf.compose(game, rule({p: optax.sgd(0.1) for p in game.losses}))
        with pytest.raises(ValueError, match=message) as error:
            jax.eval_shape(lambda key, a=algorithm: a.step(a.init(key)), jax.random.key(0))
        assert "\n" not in str(error.value)


@pytest.mark.long
def test_an_entropy_without_closed_form_has_the_right_gradient():
    """Each action once, weighted by how likely it is: the sum over all is the expectation."""
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    open_form = POLICY._replace(entropy=None)

    @jax.jit
    def slope(action):
        batch = {"observation": jnp.zeros((4, 1)), "action": jnp.full(4, action)}
        both = (of_states(advantage(policy, 1.0)) for policy in (open_form, POLICY))
        games = [*both, of_states(advantage(POLICY))]
        of_batch = [at(game._replace(sample=lambda world, key: batch)) for game in games]
        found = [here.gradient("actor", params)[0] for here, params in of_batch]
        return found[0] - found[2], found[1] - found[2]

    found, closed = zip(*[slope(action) for action in range(3)], strict=True)
    wanted = -np.asarray(jax.grad(entropy)(LOGITS))
    np.testing.assert_allclose(p @ np.stack(found), wanted, atol=1e-6)
    np.testing.assert_allclose(closed[0], wanted, atol=1e-6)
