from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import gacf
from gacf import rules
from gacf.networks import MLP, ensemble, model
from gacf.networks.conv import Conv
from gacf.stabilizers import compatible, spectral_norm

KEY = jax.random.key(0)


@pytest.mark.long
def test_every_layer_gets_norm_one_and_biases_stay():
    network = linen.Sequential(
        [Conv(5, (3, 2)), linen.relu, lambda x: x.reshape(2, -1), linen.Dense(3)]
    )
    x = jax.random.normal(KEY, (2, 4, 4, 2))
    judge = spectral_norm(network, iterations=50)
    params, world = judge.init(KEY, x)
    params = jax.tree.map(lambda leaf: leaf + (leaf.ndim == 1), params)
    found, _ = judge.apply(params, world, x)

    def divided(weight: jax.Array) -> jax.Array:
        if weight.ndim == 1:
            return weight
        return weight / np.linalg.norm(np.asarray(weight).reshape(-1, weight.shape[-1]), 2)

    wanted = network.apply({"params": jax.tree.map(divided, params)}, x)
    np.testing.assert_allclose(found, wanted, rtol=0.03, atol=1e-3)
    assert set(world) == {"spectral/critic"} and len(world["spectral/critic"]) == 2


@pytest.mark.long
def test_one_power_iteration_by_hand():
    judge = spectral_norm(linen.Dense(2, use_bias=False), player="actor")
    x = jnp.eye(3)
    _, world = judge.init(KEY, x)
    ((name, _),) = world["spectral/actor"].items()
    w, u = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]]), np.array([0.6, 0.8])
    params, world = {"kernel": jnp.asarray(w)}, {"spectral/actor": {name: jnp.asarray(u)}}
    v = w @ u / np.linalg.norm(w @ u)
    new = v @ w / np.linalg.norm(v @ w)
    again = w @ new / np.linalg.norm(w @ new)

    found, news = judge.apply(params, world, x)
    np.testing.assert_allclose(news["spectral/actor"][name], new, rtol=1e-5)
    np.testing.assert_allclose(found, w / (again @ w @ new), rtol=1e-5)
    # evaluation goes by the vector that it finds, and moves none
    found, news = judge.apply(params, world, x, train=False)
    np.testing.assert_allclose(found, w / (v @ w @ u), rtol=1e-5)
    assert news == {}

    # the gradient holds both vectors fixed: d(W/σ) = dW/σ − W (vᵀ dW u)/σ²
    weights = np.random.RandomState(0).randn(3, 2)
    slope = jax.grad(lambda p: jnp.sum(judge.apply(p, world, x)[0] * weights))(params)["kernel"]
    sigma = again @ w @ new
    wanted = weights / sigma - np.sum(weights * w) / sigma**2 * np.outer(again, new)
    np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_the_norm_follows_the_weights():
    """With a power iteration a step, of a matrix that drifts."""
    judge = spectral_norm(linen.Dense(6, use_bias=False))
    params, world = judge.init(KEY, jnp.eye(8))
    drift = 0.02 * jax.random.normal(jax.random.key(1), (8, 6))

    def step(carry: Any, _: None) -> Any:
        params, world = carry
        made, news = judge.apply(params, world, jnp.eye(8))
        return (jax.tree.map(lambda w: w + drift, params), {**world, **news}), made

    made = jax.jit(lambda: jax.lax.scan(step, (params, world), length=40)[1])()
    norms = np.linalg.norm(np.asarray(made[20:]), 2, axis=(1, 2))
    np.testing.assert_allclose(norms, 1, rtol=0.02)


def bare(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["w"]


@pytest.mark.long
def test_vectors_move_in_their_players_step_alone():
    network = (lambda key: {"w": jax.random.normal(key, (2, 1))}, bare)
    game = gacf.gan(
        spectral_norm(MLP((4,), (2,)), "actor"), spectral_norm(network), gacf.data.ring(),
        batch_size=4, noise=2, evaluate=lambda samples, key: {"spread": jnp.std(samples)},
        samples=5,
    )  # fmt: skip
    for mover, other in (("actor", "critic"), ("critic", "actor")):
        algorithm = gacf.compose(game, rules.player_step(mover, optax.sgd(0.1)), still=other)
        made = algorithm.init(KEY)
        # far from what they are to find
        away = {
            name: jax.tree.map(lambda u: jnp.eye(u.size)[0], entry)
            for name, entry in made.world.items()
        }
        before = made._replace(world=away)
        after, _ = jax.jit(algorithm.step)(before)
        chex.assert_trees_all_equal(
            before.world[f"spectral/{other}"], after.world[f"spectral/{other}"]
        )
        moved = jax.tree.map(
            lambda a, b: np.abs(a - b).max() if a.size > 1 else 1.0,
            before.world[f"spectral/{mover}"],
            after.world[f"spectral/{mover}"],
        )
        assert min(jax.tree.leaves(moved)) > 1e-2
        assert np.isfinite(algorithm.evaluate(after)["spread"])


@pytest.mark.long
def test_statistics_of_the_network_itself_go_on():
    class Normed(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            x = linen.BatchNorm(use_running_average=not train)(linen.Dense(3)(x))
            return linen.Dense(1)(x)

    judge = spectral_norm(model("critic", Normed()))
    params, world = judge.init(KEY, jnp.ones((4, 2)))
    assert set(world) == {"stats/critic", "spectral/critic"}
    assert set(judge.apply(params, world, jnp.ones((4, 2)))[1]) == set(world)


def test_by_degrees_and_none_is_off_to_the_bit():
    w = jnp.array([[3.0, 0.0], [0.0, 1.0]])
    layer = linen.Dense(2, use_bias=False)

    def made(strength: Any) -> jax.Array:
        judge = spectral_norm(layer, strength=strength)
        _, world = judge.init(KEY, jnp.eye(2))
        world = jax.tree.map(lambda u: jnp.array([1.0, 0.0]), world)
        return judge.apply({"kernel": w}, world, jnp.eye(2))[0]

    none, half, all_of_it = jax.jit(jax.vmap(made))(jnp.array([0.0, 0.5, 1.0]))
    assert (
        np.asarray(none).tobytes()
        == np.asarray(layer.apply({"params": {"kernel": w}}, jnp.eye(2))).tobytes()
    )
    np.testing.assert_allclose(half, w / np.sqrt(3), rtol=1e-5)
    np.testing.assert_allclose(all_of_it, w / 3, rtol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="iterations: 0 was given; allowed: a whole number >= 1"):
        spectral_norm(MLP((4,)), iterations=0)
    with pytest.raises(ValueError, match="actor: a Model of 'critic' was given"):
        spectral_norm(model("critic", MLP((4,))), "actor")
    with pytest.raises(
        ValueError, match=r"strength: 1\.5 was given; allowed: a number in \[0, 1\]"
    ):
        spectral_norm(MLP((4,)), strength=1.5)
    critic = compatible(model("actor", MLP((4,), (2,))), MLP((4,)))
    with pytest.raises(
        ValueError, match="critic: a compatible critic was given, whose weights are"
    ):
        spectral_norm(critic)


@pytest.mark.slow
def test_twin_critics_train():
    """Their biases [2, width] start at 0: divided by their norm, losses grew to 1e17."""
    twins = spectral_norm(ensemble(MLP((32, 32)), 2))
    game = gacf.td3(
        "Pendulum-v1", critic=twins, rollout=gacf.Rollout(episodes=1),
        replay=gacf.Replay(capacity=100, batch_size=16, warmup=20),
    )  # fmt: skip
    rule = rules.alternating(dict.fromkeys(game.losses, optax.adam(1e-3)))
    algorithm = gacf.compose(game, rule)
    state, metrics = gacf.run(algorithm, KEY, 50, seeds=2, log_every=1, map="vmap")
    chex.assert_tree_all_finite(state.params)
    # rewards are at most 16.3 a step in size, and values of about that size after 50 steps
    assert np.max(metrics["critic/loss"]) < 16.3**2


class Convolved(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(5, (3, 3))(x))
        return linen.Dense(1)(linen.relu(linen.ConvTranspose(3, (2, 2))(x)).mean((1, 2)))


@pytest.mark.long
def test_each_member_of_an_ensemble_of_convolutions_by_itself() -> None:
    x = jax.random.normal(jax.random.key(1), (3, 6, 6, 4))
    critic = spectral_norm(ensemble(Convolved(), 2), iterations=40)
    params, world = critic.init(jax.random.key(0), x)
    for _ in range(3):
        world = {**world, **critic.apply(params, world, x)[1]}
    output = critic.apply(params, world, x, train=False)[0]
    alone = model("critic", Convolved())

    def divided(path: Any, leaf: jax.Array) -> jax.Array:
        if "kernel" not in jax.tree_util.keystr(path):
            return leaf
        matrix = np.asarray(leaf).reshape(-1, leaf.shape[-1])
        return leaf / np.linalg.svd(matrix, compute_uv=False)[0]

    for i in range(2):
        own = jax.tree_util.tree_map_with_path(divided, jax.tree.map(lambda leaf: leaf[i], params))
        np.testing.assert_allclose(alone.apply(own, {}, x)[0][:, 0], output[:, i], atol=1e-6)
