"""The compatible critic: at its fit the actor's gradient is the true one, w the natural one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import gacf
from gacf import rules
from gacf.games import LQR, gain_gradient, optimal_gain, value
from gacf.methods.actor_critic import (
    DIVERGENCES,
    Source,
    actor_critic,
    natural,
    pathwise,
    policies,
    score_function,
)
from gacf.networks import MLP, model
from gacf.stabilizers import compatible

KEY = jax.random.key(0)


def game_of(actor: Any, critic: Any, batch: Any, improve: Any) -> gacf.Game:
    return actor_critic(
        actor,
        critic,
        Source(lambda key: {}, lambda world, key: batch),
        view=lambda batch, action: {"taken": (batch["observation"], action)},
        target=lambda params, world, batch, key: {"taken": batch["reward"]},
        divergence=DIVERGENCES["squared_error"],
        improve=improve,
    )


def fitted(game: gacf.Game) -> Any:
    """The field and the params where the critic's loss, which is quadratic in it, is least."""
    params, world = game.init(KEY)
    here = rules.field(game, world, game.sample(world, KEY), KEY)
    flat, back = ravel_pytree(params["critic"])

    def loss(flat: jax.Array) -> jax.Array:
        return here.loss("critic", back(flat), params)[0]

    slope, curvature = jax.jit(lambda x: (jax.grad(loss)(x), jax.hessian(loss)(x)))(flat)
    found = np.asarray(flat) - np.linalg.solve(curvature, slope)
    return here, {**params, "critic": back(jnp.asarray(found))}


# Two states, three actions; π(a|s) is ½, ¼, ¼ and ¼, ¼, ½ where θ = 0, as is this batch.
STATES, ACTIONS = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 2, 0, 1, 2, 2])
BASE = np.log([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
SLOPES = np.random.default_rng(0).normal(size=(2, 3, 2))  # fewer parameters than there are cells
Q = np.array([[0.3, -1.2, 0.8], [2.0, 0.1, -0.4]])


def stochastic(improve: Any) -> gacf.Game:
    def logits(theta: jax.Array, o: jax.Array) -> jax.Array:
        state = o[:, 0].astype(int)
        return jnp.asarray(BASE)[state] + jnp.asarray(SLOPES)[state] @ theta

    actor = model("actor", (lambda key: jnp.zeros(2), logits))
    policy = policies.categorical(3)
    table = (lambda key: jnp.zeros(2), lambda v, o: v[o[:, 0].astype(int)])
    batch = {
        "observation": jnp.asarray(STATES, float)[:, None],
        "action": jnp.asarray(ACTIONS),
        "reward": jnp.asarray(Q[STATES, ACTIONS]),
    }
    return game_of(actor, compatible(actor, table, policy.log_prob), batch, improve)


def truth() -> tuple[np.ndarray, np.ndarray]:
    """∇J and F⁻¹∇J of J = mean_s Σ_a π(a|s) Q(s, a), by enumeration."""
    p = np.exp(BASE)
    scores = SLOPES - np.einsum("sa,sai->si", p, SLOPES)[:, None]
    gradient = np.einsum("sa,sai,sa->i", p, scores, Q) / 2
    fisher = np.einsum("sa,sai,saj->ij", p, scores, scores) / 2
    return gradient, np.linalg.solve(fisher, gradient)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_the_gradient_of_a_stochastic_actor_is_the_true_one():
    here, params = fitted(stochastic(score_function(policies.categorical(3).log_prob)))
    gradient, step = truth()
    found, _ = jax.jit(lambda p: here.gradient("actor", p))(params)
    np.testing.assert_allclose(found, -gradient, rtol=1e-8)
    np.testing.assert_allclose(params["critic"]["weights"], step, rtol=1e-8)
    # the critic is not the true one, which has more cells than it has parameters
    verdict = here.loss("critic", params["critic"], params)[0]
    assert float(verdict) > 1e-3
    np.testing.assert_allclose(params["critic"]["baseline"], np.sum(np.exp(BASE) * Q, 1), rtol=1e-8)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_the_natural_actor_moves_along_the_natural_gradient():
    here, params = fitted(stochastic(natural(lambda critic: critic["weights"])))
    found, _ = jax.jit(lambda p: here.gradient("actor", p))(params)
    np.testing.assert_allclose(found, -truth()[1], rtol=1e-8)


SPEC = LQR([[0.9, 0.3], [-0.2, 0.8]], [[0.2], [0.7]], [[1.0, 0.2], [0.2, 0.5]], 0.3, 0.95)
GAIN = np.array([[0.1, 0.4]])


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_the_gradient_of_a_deterministic_actor_is_the_true_one():
    """On states as often visited as by the policy, after discounting: theorem 3 of Silver et al."""
    a, b, q, r = SPEC.matrices()
    first = np.array([[1.0, 0.2], [0.2, 0.6]])
    closed = np.sqrt(SPEC.discount) * (a - b @ GAIN)
    visited = first.copy()
    for _ in range(2000):
        visited = first + closed @ visited @ closed.T
    # four states with just this second moment, each with two deviations from the actor's action
    half = np.sqrt(2) * np.linalg.cholesky(visited).T
    s = np.repeat(np.concatenate([half, -half]), 2, axis=0)
    u = -s @ GAIN.T + np.tile([[0.3], [-0.3]], (4, 1))
    after, form = s @ a.T + u @ b.T, value(SPEC, GAIN)
    cost = np.sum(s @ q * s, 1) + np.sum(u @ r * u, 1)
    cost += SPEC.discount * np.sum(after @ form * after, 1)

    actor = model("actor", (lambda key: jnp.asarray(GAIN), lambda gain, o: -o @ gain.T))
    square = (
        lambda key: jnp.zeros(2),
        lambda v, o: jnp.stack([o[:, 0] ** 2, jnp.ones(len(o))], 1) @ v,
    )
    batch = {"observation": s, "action": u, "reward": -cost}
    batch = {name: jnp.asarray(x) for name, x in batch.items()}
    here, params = fitted(game_of(actor, compatible(actor, square), batch, pathwise()))
    total, _ = gain_gradient(SPEC, GAIN, first)
    found, _ = jax.jit(lambda p: here.gradient("actor", p))(params)
    np.testing.assert_allclose(found, total, rtol=1e-8)  # costs are rewards' negatives
    w = params["critic"]["weights"]
    assert w.shape == GAIN.shape
    # the natural gradient: E ∇μ ∇μᵀ is the visited states' second moment
    np.testing.assert_allclose(w, -total @ np.linalg.inv(visited), rtol=1e-8)
    assert np.linalg.norm(GAIN + w - optimal_gain(SPEC)) > 0.01  # and not where it leads at once


@pytest.mark.long
def test_weights_are_like_the_actors_params_and_traced_as_they_are():
    actor = model("actor", MLP((3,), (2,), jnp.tanh))
    critic = compatible(actor, MLP((3,)))

    def judge(key, o, a):
        actor_params, _ = actor.init(key, o)
        own, _ = critic.init(key, o, a)
        own["weights"] = jax.tree.map(jnp.ones_like, own["weights"])
        found, _ = critic.given({"actor": actor_params}).apply(own, {}, o, a)
        return actor_params, own, found

    o, a = jnp.ones((5, 4)), jnp.full((5, 2), 0.3)
    keys = jax.random.split(KEY, 3)
    theta, own, found = jax.jit(jax.vmap(judge, in_axes=(0, None, None)))(keys, o, a)
    assert found.shape == (3, 5)
    assert jax.tree.map(jnp.shape, own["weights"]) == jax.tree.map(jnp.shape, theta)
    # against features that are formed
    one = jax.tree.map(lambda x: x[1], theta)
    mean = actor.apply(one, {}, o)[0]
    jacobian = jax.jacobian(lambda p: actor.apply(p, {}, o)[0])(one)
    moved = sum(leaf.reshape(5, 2, -1).sum(-1) for leaf in jax.tree.leaves(jacobian))
    base = MLP((3,)).apply({"params": jax.tree.map(lambda x: x[1], own["baseline"])}, o)
    np.testing.assert_allclose(found[1], np.sum((a - mean) * moved, -1) + base, rtol=1e-4)


@pytest.mark.long
def test_a_compatible_discriminator_plays_a_dirac_gan():
    """It judges x by how the generator would have to move to make it: D(x) = ⟨x − θ, w⟩ + v."""
    actor = model("actor", (lambda key: jnp.ones(1), lambda theta, z: theta[None] + 0 * z))
    critic = compatible(actor, (lambda key: jnp.zeros(()), lambda v, z: v + 0 * z[:, 0]))
    game = actor_critic(
        actor,
        critic,
        Source(
            lambda key: {},
            lambda world, key: {"noise": jax.random.normal(key, (8, 1)), "real": jnp.zeros((8, 1))},
        ),
        view=lambda batch, x: {
            "real": (batch["noise"], batch["real"]),
            "fake": (batch["noise"], x),
        },
        target=lambda params, world, batch, key: {"real": jnp.ones(8), "fake": jnp.zeros(8)},
        divergence=DIVERGENCES["cross_entropy"],
        improve=pathwise(jax.nn.log_sigmoid, of=("fake",)),
        sees=lambda batch: batch["noise"],
    )
    params, world = game.init(KEY)
    here = rules.field(game, world, game.sample(world, KEY), KEY)
    params = {**params, "critic": {"weights": jnp.array([0.4]), "baseline": jnp.array(0.1)}}
    _, told = here.loss("critic", params["critic"], params)
    # θ = 1: a real 0 is judged by −w, a fake by nothing
    np.testing.assert_allclose(told.metrics["verdict/real"], -0.3, rtol=1e-6)
    np.testing.assert_allclose(told.metrics["verdict/fake"], 0.1, rtol=1e-6)
    slope, _ = here.gradient("actor", params)
    np.testing.assert_allclose(slope, -0.4 * jax.nn.sigmoid(-0.1), rtol=1e-5)

    algorithm = gacf.compose(game, rules.alternating({p: optax.sgd(0.05) for p in game.losses}))
    state, _ = gacf.run(algorithm, KEY, 100, seeds=2, log_every=100, map="vmap")
    theta = np.asarray(state.params["actor"])
    assert np.all(np.isfinite(theta)) and np.all(np.abs(theta) < 1) and theta.shape == (2, 1)


def test_it_has_to_see_the_actor():
    actor = model("actor", (lambda key: jnp.ones(1), lambda k, o: k * o))
    critic = compatible(actor, (lambda key: 0.0, lambda v, o: v + o[:, 0]))
    own, _ = critic.init(KEY, jnp.ones((2, 1)), jnp.ones((2, 1)))
    with pytest.raises(ValueError, match="compatible: the critic has to see the actor"):
        critic.apply(own, {}, jnp.ones((2, 1)), jnp.ones((2, 1)))
