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
from gacf.networks import MLP
from gacf.stabilizers import Normalised, VirtualBatchNorm, with_reference

KEY = jax.random.key(0)


class Virtual(linen.Module):
    strength: Any = 1.0
    width: int = 2

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = VirtualBatchNorm(self.strength)(linen.Dense(4)(x), train)
        return linen.Dense(self.width)(linen.relu(x))


class Batch(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = linen.BatchNorm(use_running_average=not train)
        return linen.Dense(2)(Normalised(norm)(linen.Dense(4)(x)))


@pytest.mark.long
@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_virtual_normalisation_against_the_formula(shape: Any):
    rng = np.random.RandomState(0)
    reference = rng.randn(5, *shape).astype(np.float32)
    x = (2 + 3 * rng.randn(4, *shape)).astype(np.float32)
    layer = with_reference(VirtualBatchNorm(), jnp.asarray(reference))
    found, news = layer.apply(*layer.init(KEY, x), jnp.asarray(x))
    assert news == {}
    for i in range(4):
        both = np.concatenate([reference, x[i : i + 1]]).reshape(-1, 3)
        wanted = (x[i] - both.mean(0)) / np.sqrt(both.var(0) + 1e-5)
        np.testing.assert_allclose(found[i], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_the_company_of_an_example_matters_to_the_batch_norm_alone():
    x = jax.random.normal(KEY, (6, 3))
    virtual = with_reference(Virtual(), jax.random.normal(jax.random.key(1), (5, 3)))
    params, world = virtual.init(KEY, x)
    alone = virtual.apply(params, world, x[:2])[0]
    np.testing.assert_allclose(virtual.apply(params, world, x)[0][:2], alone, rtol=1e-5, atol=1e-6)
    batch = gacf.networks.model("critic", Batch())
    params, world = batch.init(KEY, x)
    whole, part = (batch.apply(params, world, given)[0][:2] for given in (x, x[:2]))
    assert np.abs(whole - part).max() > 0.1


def test_strength_none_is_off_to_the_bit_and_is_swept():
    x = jax.random.normal(KEY, (4, 3))
    seen = []

    @jax.jit
    @jax.vmap
    def swept(strength: jax.Array) -> Any:
        seen.append(strength)
        virtual = VirtualBatchNorm(strength)
        layer = with_reference(virtual, x[:2])
        normed = Normalised(linen.LayerNorm(), strength).init_with_output(KEY, x)[0]
        return layer.apply(*layer.init(KEY, x), x)[0], normed

    for found in swept(jnp.array([0.0, 0.5, 1.0])):
        assert np.asarray(found[0]).tobytes() == np.asarray(x).tobytes()
        np.testing.assert_allclose(found[1], (found[0] + found[2]) / 2, rtol=1e-5, atol=1e-6)
        assert np.abs(found[2] - x).max() > 0.1
    np.testing.assert_allclose(found[2].mean(1), 0, atol=1e-5)
    assert len(seen) == 1


@pytest.mark.long
@pytest.mark.parametrize("mover", ["actor", "critic"])
def test_batch_statistics_never_cross_players(mover: str):
    other = {"actor": "critic", "critic": "actor"}[mover]
    game = gacf.gan(Batch(), linen.Sequential([MLP((4,))]), gacf.data.ring(), batch_size=4, noise=2)
    virtual = with_reference(Virtual(width=1), gacf.data.ring().sample(KEY, 4))
    judged = gacf.gan(Batch(), virtual, gacf.data.ring(), batch_size=4, noise=2)
    for played in (game, judged):
        algorithm = gacf.compose(played, rules.player_step(mover, optax.sgd(0.1)), still=other)
        before = algorithm.init(KEY)
        after, _ = jax.jit(algorithm.step)(before)
        chex.assert_tree_all_finite(after.params)
        chex.assert_trees_all_equal(before.params[other], after.params[other])
        moved = np.abs(
            after.world["stats/actor"]["batch_stats"]["BatchNorm_0"]["mean"]
            - before.world["stats/actor"]["batch_stats"]["BatchNorm_0"]["mean"]
        ).max()
        assert (moved > 0) == (mover == "actor")
        if "stats/critic" in before.world:
            chex.assert_trees_all_equal(before.world["stats/critic"], after.world["stats/critic"])


@pytest.mark.long
def test_errors():
    x = jnp.ones((4, 3))
    with pytest.raises(ValueError, match=r"statistics \[\] were found; allowed: those of Virtual"):
        with_reference(MLP((4,)), x).init(KEY, x)
    with pytest.raises(ValueError, match=r"statistics \['batch_stats'\] were found"):
        with_reference(Batch(), x).init(KEY, x)
    with pytest.raises(ValueError, match=r"reference: .* allowed: a batch \[n, …\] with n >= 2"):
        with_reference(Virtual(), x[:1])
    with pytest.raises(ValueError, match=r"strength: 2 was given; allowed: a number in \[0, 1\]"):
        Normalised(linen.LayerNorm(), 2).init(KEY, x)
