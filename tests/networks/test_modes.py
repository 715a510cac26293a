"""Whether a network trains reaches all that it consists of, however it hides it; streams; `sow`."""

from __future__ import annotations

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import gacf
from gacf.networks import MLP, ensemble, model
from gacf.stabilizers import compatible, noisy

KEY = jax.random.key(0)
X = 2 + jax.random.normal(jax.random.key(1), (6, 3))


class Inner(linen.Module):
    """Batch normalisation of the inputs, in evaluation mode unless it is told otherwise."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        norm = linen.BatchNorm(use_running_average=not train, use_bias=False, use_scale=False)
        return norm(x) * self.param("gain", lambda key: jnp.ones(()))


class Deterministic(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        return Inner()(x, not deterministic)


class Field(linen.Module):
    training: bool = False

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Inner()(x, self.training)


class Two(linen.Module):
    """Both of the usual arguments at once."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False, deterministic: bool = True) -> jax.Array:
        assert train != deterministic
        return Inner()(x, train)


class Layer(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, _: Any, train: bool = False) -> Any:
        return Inner()(x, train), None


def over(call: Any) -> linen.Module:
    """A module that calls others by `call(x, **options)`."""

    class Over(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array, **options: Any) -> jax.Array:
            return call(x, **options)

    return Over()


def around(call: Any) -> linen.Module:
    class Around(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return call(x)

    return Around()


KEPT = {"params": None, "batch_stats": 0}
SPLIT = {"split_rngs": {"params": False}}
LINEN = {
    "keywords handed on": over(lambda x, **o: Inner()(x, **o)),
    "keywords of another name": over(lambda x, **o: Deterministic()(x, **o)),
    "keywords that it reads": over(lambda x, **o: Inner()(x, o.get("is_training", False))),
    "nothing handed on": around(lambda x: Inner()(x)),
    "two arguments": Two(),
    "remat": linen.remat(Inner)(),
    "remat within": around(lambda x: linen.remat(Inner)()(x)),
    "remat, static": over(
        lambda x, **o: linen.remat(Inner, static_argnums=(2,))()(x, o.get("train", False))
    ),
    "jit": linen.jit(Inner)(),
    "jit of a wrapper": linen.jit(type(around(lambda x: Inner()(x))))(),
    "scan": around(lambda x: linen.scan(
        Layer, variable_broadcast="params", variable_axes={"batch_stats": 0}, length=1, **SPLIT
    )()(x, None)[0]),
    "vmap": around(lambda x: linen.vmap(
        Inner, variable_axes=KEPT, in_axes=None, axis_size=2, **SPLIT
    )()(x)[0]),
    "a field": Field(),
    "a field handed on": type("Outer", (Field,), {
        "__annotations__": {}, "__call__": linen.compact(lambda self, x: Field(self.training)(x)),
    })(),
    "partial": around(lambda x: functools.partial(Inner())(x)),
    "sequence": linen.Sequential([linen.BatchNorm(use_bias=False, use_scale=False)]),
}  # fmt: skip


class NnxInner(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(3, use_bias=False, use_scale=False, rngs=rngs)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return self.norm(x, use_running_average=not train)


class NnxField(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.inner, self.train = NnxInner(rngs), False

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x, train=self.train)


def nnx_over(call: Any) -> Any:
    class Over(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.inner = NnxInner(rngs)

        def __call__(self, x: jax.Array, **options: Any) -> jax.Array:
            return call(self.inner, x, **options)

    return Over


NNX = {
    "nnx argument": NnxInner,
    "nnx field": NnxField,
    "nnx keywords": nnx_over(lambda inner, x, **o: inner(x, **o)),
    "nnx nothing handed on": nnx_over(lambda inner, x, **o: inner(x)),
    "nnx jit": nnx_over(lambda inner, x, **o: nnx.jit(lambda m, x: m(x))(inner, x)),
    "nnx remat": nnx_over(lambda inner, x, **o: nnx.remat(lambda m, x: m(x))(inner, x)),
}


def centred(params: Any, x: jax.Array, train: bool = False) -> jax.Array:
    return (x - jnp.mean(x, 0)[None]) / jnp.std(x, 0)[None] * params if train else x


def one(key: Any) -> jax.Array:
    return jnp.ones(())


PAIRS = {
    "pair": (one, centred),
    "pair, partial": (one, functools.partial(centred, train=False)),
    "pair, keywords": (one, lambda params, x, **options: centred(params, x, **options)),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", [*LINEN, *NNX, *PAIRS])
def test_both_modes_reach_what_is_within(kind: str):
    """By the formula: normalised by the batch in training, by mean 0 and variance 1 at first."""
    made = model("critic", (LINEN | NNX | PAIRS)[kind])
    params, world = made.init(KEY, X)
    resting, nothing = made.apply(params, world, X, train=False)
    np.testing.assert_allclose(resting, X, rtol=1e-4)
    assert nothing == {}
    training, news = made.apply(params, world, X)
    x = np.asarray(X)
    np.testing.assert_allclose(training, (x - x.mean(0)) / x.std(0), rtol=1e-3, atol=1e-4)
    if kind in PAIRS:
        return
    chex.assert_trees_all_equal_shapes_and_dtypes(news, world)
    leaves = {
        jax.tree_util.keystr(path).rstrip("']").split("'")[-1]: leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(news)
    }
    np.testing.assert_allclose(leaves["mean"].reshape(-1, 3)[0], 0.01 * x.mean(0), rtol=1e-3)
    again, _ = made.apply(params, world, X, train=False)
    np.testing.assert_array_equal(again, resting)  # whatever programs are kept


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (around(lambda x: Field()(x)), "critic: Field_0 has training=False as a field, whatever"),
        ((Inner().init, Inner().apply), "critic: its network fails with train=True, in training "
         r"\(ModifyScopeVariableError.*allowed: the module itself in place of a pair"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(network: Any, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        model("critic", network).init(KEY, X)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_a_layer_that_is_fixed_on_purpose_stays_so():
    made = model("critic", linen.Sequential([linen.BatchNorm(use_running_average=True)]))
    params, world = made.init(KEY, X)
    np.testing.assert_allclose(made.apply(params, world, X)[0], X, rtol=1e-4)
    always = model("critic", linen.BatchNorm(use_running_average=False))
    params, world = always.init(KEY, X)
    output, news = always.apply(params, world, X, train=False)
    np.testing.assert_allclose(jnp.mean(output, 0), 0, atol=1e-5)
    assert news == {}


class Streams(linen.Module):
    """Noise of two streams beside dropout, values sown into several collections, and a count."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        first, second = (jax.random.normal(self.make_rng(n), x.shape) for n in ("noise", "other"))
        dropped = linen.Dropout(0.5, deterministic=not train)(jnp.ones_like(x))
        self.sow("intermediates", "x", x)
        self.sow("losses", "size", jnp.sum(x))
        self.sow("sums", "size", jnp.sum(x), init_fn=lambda: 0.0, reduce_fn=lambda a, b: a + b)
        count = self.variable("counts", "pair", lambda: (jnp.zeros(()), jnp.zeros(())))
        self.sow("counts", "x", jnp.sum(x))
        if train and not self.is_initializing():
            count.value = (count.value[0] + 1, count.value[1])
        return jnp.stack([first, second, dropped], axis=-1)


def test_every_stream_has_a_key_and_what_is_sown_is_dropped():
    made = model("critic", Streams())
    params, world = made.init(KEY, X)
    assert jax.tree.structure(world) == jax.tree.structure(
        {"stats/critic": {"counts": {"pair": (0.0, 0.0)}}}
    )
    keys = jax.random.split(KEY)
    output, news = made.apply(params, world, X, key=keys[0])
    assert float(news["stats/critic"]["counts"]["pair"][0]) == 1
    chex.assert_trees_all_equal_shapes_and_dtypes(news, world)
    flat = np.asarray(output).reshape(-1, 3)
    assert len(np.unique(flat[:, :2])) == flat[:, :2].size and set(flat[:, 2]) == {0.0, 2.0}
    same, other = (made.apply(params, news, X, key=key, train=False)[0] for key in keys)
    np.testing.assert_array_equal(same[..., :2], output[..., :2])
    assert np.abs(other - same)[..., :2].min() > 0
    # dropout alone draws as it would without the others
    alone = model("critic", linen.Dropout(0.5)).apply({}, {}, jnp.ones_like(X), key=keys[0])[0]
    assert set(np.unique(alone)) == {0.0, 2.0}
    with pytest.raises(
        ValueError,
        match="critic: key: None was given; allowed: a key, since its network draws from",
    ):
        made.apply(params, world, X)


def test_streams_within_a_scan():
    class Draw(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array, _: None) -> Any:
            self.sow("intermediates", "x", x)
            return x, jax.random.normal(self.make_rng("noise"), ())

    kind = linen.scan(Draw, variable_axes={"params": 0}, split_rngs={"noise": True}, length=3)
    made = model("critic", around(lambda x: kind()(x, None)[1]))
    params, world = made.init(KEY, X)
    drawn, _ = made.apply(params, world, X, key=KEY, train=False)
    assert world == {} and len(np.unique(drawn)) == 3


def test_nnx_sown_values_are_dropped():
    class Sows(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.norm = nnx.BatchNorm(3, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            self.sow(nnx.Intermediate, "x", x)
            return self.norm(x)

    made = model("critic", Sows)
    params, world = made.init(KEY, X)
    chex.assert_trees_all_equal_shapes_and_dtypes(made.apply(params, world, X)[1], world)


def test_such_networks_train():
    """Noise and sown values in a generator, whose samples evaluation draws too."""

    class Generator(linen.Module):
        @linen.compact
        def __call__(self, z: jax.Array) -> jax.Array:
            self.sow("intermediates", "z", z)
            return linen.Dense(2)(z + jax.random.normal(self.make_rng("noise"), z.shape))

    game = gacf.gan(
        Generator(), linen.remat(MLP)((4,)), gacf.data.ring(), batch_size=4, noise=2, samples=3,
        evaluate=lambda samples, key: {"spread": jnp.std(samples)},
    )  # fmt: skip
    rule = gacf.rules.alternating({p: optax.sgd(0.1) for p in game.losses})
    algorithm = gacf.compose(game, rule)
    state, metrics = jax.eval_shape(algorithm.step, jax.eval_shape(algorithm.init, KEY))
    assert not {name for name in state.world if name.startswith("stats/")}
    assert "critic/loss" in metrics and "spread" in jax.eval_shape(algorithm.evaluate, state)


@pytest.mark.long
def test_a_model_that_sees_the_actor_keeps_doing_so():
    """`then` acts on what the bound model yields, within other wrappers too."""
    line = (lambda key: jnp.ones(()), lambda k, s: k * s)
    critic = compatible(model("actor", line), (lambda key: jnp.ones(()), lambda v, s: v * s))
    own, params = {"weights": jnp.ones(()), "baseline": 0.0}, {"actor": jnp.ones(())}
    s, a = jnp.full((1, 1), 2.0), jnp.full((1, 1), 5.0)
    plain = critic.given(params).apply(own, {}, s, a)[0]
    for made in (critic.then(jnp.negative), noisy(critic, 0.0).then(jnp.negative)):
        found, _ = made.given(params).apply(own, {}, s, a, key=KEY)
        np.testing.assert_array_equal(found, -plain)
    assert model("critic", ensemble(ensemble(MLP(()), 2), 3)).members == 2
