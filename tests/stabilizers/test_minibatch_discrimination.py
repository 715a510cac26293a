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
from gacf.stabilizers import MinibatchDiscrimination, closeness

KEY = jax.random.key(0)


class Judge(linen.Module):
    """A critic of a GAN or of state and action, with and without."""

    strength: Any = None

    @linen.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        x = linen.relu(linen.Dense(8)(jnp.concatenate(inputs, axis=-1)))
        if self.strength is not None:
            x = MinibatchDiscrimination(3, 2, self.strength)(x)
        return linen.Dense(1)(x)


@pytest.mark.long
def test_identical_and_far_examples():
    same = jnp.ones((6, 3, 2))
    np.testing.assert_array_equal(closeness(same), np.full((6, 3), 5.0))
    far = 1e3 * jnp.arange(6.0)[:, None, None] * same
    np.testing.assert_array_equal(closeness(far), np.zeros((6, 3)))
    assert closeness(same[:1]).tolist() == [[0, 0, 0]]


@pytest.mark.long
def test_against_the_formula():
    codes = np.random.RandomState(0).randn(5, 3, 2).astype(np.float32)
    wanted = [
        [sum(np.exp(-np.abs(codes[i, b] - codes[j, b]).sum()) for j in range(5) if j != i)
         for b in range(3)]
        for i in range(5)
    ]  # fmt: skip
    np.testing.assert_allclose(closeness(jnp.asarray(codes)), wanted, rtol=1e-5)


@pytest.mark.long
def test_a_collapsed_batch_is_told_from_a_spread_one():
    """One and the same example, in two batches: only the company differs."""
    judge = Judge(1.0)
    spread = 5 * jax.random.normal(KEY, (8, 2))
    params = judge.init(KEY, spread)
    alone = Judge().apply({"params": {k: v for k, v in params["params"].items() if "Dense" in k}},
                          spread)  # fmt: skip
    collapsed = judge.apply(params, jnp.tile(spread[:1], (8, 1)))
    assert jnp.ptp(collapsed) == 0
    assert abs(float(collapsed[0, 0] - alone[0, 0])) > 10 * abs(
        float(judge.apply(params, spread[:1])[0, 0] - alone[0, 0])
    )
    assert abs(float(collapsed[0, 0] - judge.apply(params, spread)[0, 0])) > 0.1


def gan(strength: Any) -> gacf.Game:
    return gacf.gan(MLP((4,), (2,)), Judge(strength), gacf.data.ring(), batch_size=4, noise=2)


def ddpg(strength: Any) -> gacf.Game:
    replay = gacf.Replay(capacity=16, batch_size=4, warmup=8)
    return gacf.ddpg("Pendulum-v1", MLP((4,), (1,)), Judge(strength), replay=replay)


@pytest.mark.long
@pytest.mark.parametrize("make", [gan, ddpg])
def test_both_families_train_and_none_is_off_to_the_bit(make: Any):
    rule = rules.simultaneous({p: optax.adam(1e-2) for p in ("actor", "critic")})

    @chex.assert_max_traces(1)
    def trained(strength: Any) -> Any:
        algorithm = gacf.compose(make(strength), rule)
        state = algorithm.init(KEY)
        return jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), state, length=2)[0].params

    swept = jax.jit(jax.vmap(trained))(jnp.array([0.0, 1.0]))
    chex.assert_tree_all_finite(swept)
    off, on = (jax.tree.map(lambda leaf, i=i: leaf[i], swept) for i in (0, 1))
    chex.clear_trace_counter()

    # of the same program: a fused and an unfused one round apart
    plain = jax.jit(jax.vmap(lambda _: _trained(make, rule)))(jnp.array([0.0, 1.0]))
    plain = jax.tree.map(lambda leaf: leaf[0], plain)
    kept = {p: {k: off[p][k] for k in plain[p]} for p in plain}
    chex.assert_trees_all_close(kept, plain, rtol=1e-5, atol=1e-6)
    exact = jax.jit(lambda: _trained(make, rule))()
    zero = jax.jit(lambda: _trained(make, rule, 0.0))()
    chex.assert_trees_all_equal({p: {k: zero[p][k] for k in exact[p]} for p in exact}, exact)
    assert np.abs(on["critic"]["Dense_1"]["kernel"] - kept["critic"]["Dense_1"]["kernel"]).max() > 0


def _trained(make: Any, rule: Any, strength: Any = None) -> Any:
    algorithm = gacf.compose(make(strength), rule)
    state = algorithm.init(KEY)
    return jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), state, length=2)[0].params


def test_errors():
    with pytest.raises(ValueError, match=r"features: shape \(2, 3, 4\) was given"):
        MinibatchDiscrimination().init(KEY, jnp.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="kernels: 0 was given"):
        MinibatchDiscrimination(kernels=0).init(KEY, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="strength: -1 was given; allowed: a number >= 0"):
        MinibatchDiscrimination(strength=-1).init(KEY, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"codes: shape \(2, 3\) was given"):
        closeness(jnp.ones((2, 3)))
