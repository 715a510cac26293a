"""Penalties: a norm an example, closed forms, Q-functions, and strength 0."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import gacf
from gacf.methods.gan import (
    PENALTIES,
    between,
    dragan,
    r1,
    r2,
    slopes,
    wgan_gp,
    zero_centred,
    zero_centred_between,
)
from gacf.networks import MLP, computed_in, model
from gacf.networks.images import DCGANCritic
from gacf.stabilizers import (
    MinibatchDiscrimination,
    Normalised,
    VirtualBatchNorm,
    spectral_norm,
    with_reference,
)
from tests.methods.actor_critic.probes import one_reward

KEY = jax.random.key(0)


def judge(x: jax.Array) -> jax.Array:
    """Its slope is 3 x²: gentle near 0, steep far away."""
    return jnp.sum(x**3, axis=-1)


STEEP = jnp.array([[0.1, 0.2], [3.0, -4.0]])
# both groups the same: whatever lies between an example and itself is that example
SAME = {"real": STEEP, "fake": STEEP}
NORMS = 3 * np.sqrt(np.sum(np.asarray(STEEP) ** 4, axis=1))


@pytest.mark.parametrize(
    ("penalty", "wanted"),
    [
        (r1(2.0), np.mean(NORMS**2)),
        (r2(2.0), np.mean(NORMS**2)),
        (zero_centred(2.0), 2 * np.mean(NORMS**2)),
        (zero_centred_between(2.0), np.mean(NORMS**2)),
        (wgan_gp(2.0), 2 * np.mean((NORMS - 1) ** 2)),
        (wgan_gp(2.0, target=5.0), 2 * np.mean((NORMS - 5) ** 2)),
        (wgan_gp(2.0, one_sided=True), np.mean([0, 2 * (NORMS[1] - 1) ** 2])),
        (dragan(2.0, scale=0.0), 2 * np.mean((NORMS - 1) ** 2)),
    ],
)
def test_a_norm_an_example(penalty, wanted):
    """One gentle and one steep example: the norm of the batch's or of the mean would differ."""
    assert NORMS[0] < 1 < NORMS[1]
    assert float(penalty(judge, SAME, KEY)) == pytest.approx(float(wanted), rel=1e-5)


def test_points_between_have_a_share_of_their_own():
    real = jnp.array([[0.0, 0.0, 10.0]]) + jnp.zeros((2_000, 3))
    fake = jnp.array([[1.0, 2.0, 10.0]]) + jnp.zeros((2_000, 3))
    (points,) = between({"real": real, "fake": fake}, KEY)
    share = np.asarray(points[:, 0])
    # one number for all of an example's inputs, another for each example, uniform
    np.testing.assert_allclose(points[:, 1], 2 * share, rtol=1e-5)
    np.testing.assert_allclose(points[:, 2], 10, rtol=1e-6)
    assert len(np.unique(share)) > 1_900
    np.testing.assert_allclose(np.quantile(share, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


def test_between_the_examples_of_a_lone_group():
    s, a = jnp.arange(6.0).reshape(3, 2), 10 * jnp.arange(3.0)
    points = between({"taken": (s, a)}, KEY)
    share = (np.asarray(points[1]) - np.roll(a, 1)) / (np.asarray(a) - np.roll(a, 1))
    assert np.all((share > 0) & (share < 1)) and len(set(share.tolist())) == 3
    wanted = share[:, None] * np.asarray(s) + (1 - share[:, None]) * np.roll(s, 1, axis=0)
    np.testing.assert_allclose(points[0], wanted, rtol=1e-5, atol=1e-6)


Q_GROUPS = {"taken": (jax.random.normal(KEY, (5, 3)), jax.random.normal(KEY, (5, 2)))}
W, V = jnp.array([1.0, -2.0, 2.0]), jnp.array([4.0, 12.0])


def linear_q(s: jax.Array, a: jax.Array) -> jax.Array:
    """Slope (W, V) everywhere: of norm √(9 + 160) = 13."""
    return s @ W + a @ V


@pytest.mark.long
@pytest.mark.parametrize(
    ("penalty", "wanted"),
    [
        (zero_centred(2.0), 169),
        (zero_centred(2.0, of=("taken",)), 169),
        (zero_centred_between(2.0), 169),
        (wgan_gp(2.0), 288),
        (wgan_gp(2.0, one_sided=True, target=14.0), 0),
        (dragan(2.0, of="taken"), 288),
        (dragan(2.0), 288),
    ],
)
def test_on_a_linear_q_function(penalty, wanted):
    found = float(penalty(linear_q, Q_GROUPS, KEY))
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.long
def test_labels_are_not_differentiated():
    x, label = jnp.ones((4, 2)), jnp.arange(4)

    def conditional(x: jax.Array, label: jax.Array) -> jax.Array:
        return (label + 1) * jnp.sum(x, axis=1)

    np.testing.assert_allclose(slopes(conditional, (x, label)), 2 * np.arange(1, 5) ** 2)
    groups = {"real": (x, label), "fake": (0 * x, label)}
    np.testing.assert_array_equal(between(groups, KEY)[1], label)
    wanted = np.mean((np.sqrt(2) * np.arange(1, 5) - 1) ** 2)
    for penalty in (wgan_gp(1.0), dragan(1.0)):
        np.testing.assert_allclose(penalty(conditional, groups, KEY), wanted, rtol=1e-5)


@pytest.mark.long
def test_dragan_looks_around_by_each_inputs_own_spread():
    def bowl(x: jax.Array, y: jax.Array) -> jax.Array:
        """Its slope is (x, y / 100): the penalty with target 0 is the mean of its square."""
        return jnp.sum(x**2 + y**2 / 100, axis=1) / 2

    x, y = (jax.random.normal(key, (20_000, 1)) for key in jax.random.split(jax.random.key(5)))
    groups = {"real": (x, 100 * y)}
    still, moved = (float(dragan(1.0, scale, 0.0)(bowl, groups, KEY)) for scale in (0.0, 0.3))
    assert still == pytest.approx(2, rel=0.05)
    assert moved - still == pytest.approx(2 * 0.3**2, abs=0.02)


@pytest.mark.long
@pytest.mark.parametrize("name", PENALTIES)
def test_no_strength_is_off_to_the_bit(name):
    """Loss and gradients, for a strength that the program is told."""
    data = np.random.RandomState(0).randn(20, 2).astype(np.float32)
    generator = (lambda key: jnp.array([0.5, -1.5]), lambda p, z: z * p[None])
    critic = (lambda key: jnp.array([0.7, 1.1]), lambda p, x: jnp.sin(x) @ p)

    def loss(own: Any, **options: Any) -> Any:
        game = gacf.gan(generator, critic, data, batch_size=6, noise=2, **options)
        params, world = game.init(KEY)
        batch = game.sample(world, KEY)
        return game.losses["critic"](own, {**params, "critic": own}, world, batch, KEY)[0]

    at = jnp.array([0.0, 1.3])  # flat in one direction
    penalised = jax.jit(
        jax.value_and_grad(lambda own, weight: loss(own, penalty=PENALTIES[name](weight)))
    )
    bare = jax.jit(jax.value_and_grad(loss))(at)
    assert [np.asarray(x).tobytes() for x in penalised(at, 0.0)] == [
        np.asarray(x).tobytes() for x in bare
    ]
    assert float(penalised(at, 1.0)[0]) != float(bare[0])


@pytest.mark.long
def test_a_flat_critic_has_a_finite_penalty():
    def flat(x: jax.Array, w: jax.Array) -> jax.Array:
        return w * jnp.sum(x, axis=1)

    for penalty in (wgan_gp(1.0), dragan(1.0)):
        value, slope = jax.value_and_grad(lambda w: penalty(lambda x: flat(x, w), SAME, KEY))(0.0)
        assert float(value) == pytest.approx(1, abs=1e-5) and np.isfinite(slope)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wgan_gp(-1.0), "weight: -1.0 was given; allowed: a number >= 0"),
        (lambda: dragan(scale=-1.0), "scale: -1.0 was given"),
        (lambda: dragan(of="reel")(judge, SAME, KEY), "penalty: group: 'reel' is unknown; did you"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Normed(linen.Module):
    """A critic with one layer by which examples may or may not meet."""

    layer: Any

    @linen.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        x = jnp.concatenate([jnp.reshape(x, (x.shape[0], -1)) for x in inputs], axis=-1)
        x = linen.relu(linen.Dense(4)(x))
        return linen.Dense(1)(self.layer(x, train))


class NnxBatch(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.last = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.norm(x))


def batch_norm(x: jax.Array, train: bool) -> jax.Array:
    return linen.BatchNorm(use_running_average=not train)(x)


RING = gacf.data.ring()
MIXING = {
    "batch norm": Normed(batch_norm),
    "by degrees": Normed(lambda x, train: Normalised(linen.BatchNorm(not train), 0.5)(x)),
    "minibatch discrimination": Normed(lambda x, train: MinibatchDiscrimination(2, 2)(x)),
    "spectral and batch norm": spectral_norm(Normed(batch_norm)),
    "nnx batch norm": NnxBatch,
    "bare, centred": (lambda key: jnp.ones(2), lambda w, x: jnp.tanh(x - x.mean(0)[None]) @ w),
    "bfloat16 batch norm": computed_in("bfloat16", Normed(batch_norm)),
}
APART = {
    "layer norm": Normed(lambda x, train: linen.LayerNorm()(x)),
    "batch norm, off": Normed(lambda x, train: Normalised(linen.BatchNorm(not train), 0.0)(x)),
    "frozen statistics": Normed(lambda x, train: linen.BatchNorm(True)(x)),
    "virtual batch norm": with_reference(
        Normed(lambda x, train: VirtualBatchNorm()(x, train)), RING.sample(KEY, 4)
    ),
    "zero at the start": Normed(
        lambda x, train: linen.Dense(2, kernel_init=linen.initializers.zeros)(x)
    ),
    "dropout and spectral norm": spectral_norm(
        Normed(lambda x, train: linen.Dropout(0.5, deterministic=not train)(x))
    ),
}  # fmt: skip


def evaluated(critic: Any, penalty: Any, **options: Any) -> Any:
    game = gacf.gan(MLP((), (2,)), critic, RING, batch_size=4, noise=2, penalty=penalty, **options)
    params, world = jax.eval_shape(game.init, KEY)
    batch = jax.eval_shape(game.sample, world, KEY)
    return jax.eval_shape(game.losses["critic"], params["critic"], params, world, batch, KEY)


@pytest.mark.long
@pytest.mark.parametrize("kind", MIXING)
def test_a_critic_that_mixes_examples_has_no_slope_per_example(kind):
    for name in PENALTIES if kind == "batch norm" else ("r1",):
        with pytest.raises(ValueError, match=f"penalty: {name} is a mean of slopes per") as caught:
            evaluated(MIXING[kind], PENALTIES[name](1.0))
        assert "batch normalisation" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.long
@pytest.mark.parametrize("kind", APART)
def test_other_critics_have(kind):
    evaluated(APART[kind], r1(1.0))


@pytest.mark.long
def test_packs_relativistic_losses_and_traced_strengths():
    evaluated(MLP((4,)), wgan_gp(1.0), pack=2)
    evaluated(MLP((4,)), r1(1.0), loss="relativistic")

    @jax.jit
    def swept(strength: jax.Array) -> Any:
        for norm in (linen.LayerNorm(), linen.BatchNorm(False)):
            evaluated(Normed(lambda x, train, n=norm: Normalised(n, strength)(x)), r1(1.0))

    with pytest.raises(ValueError, match="penalty: r1 is a mean"):
        swept(0.5)


@pytest.mark.long
def test_q_functions_too():
    def loss(layer: Any) -> Any:
        game = gacf.ddpg(
            one_reward(), critic=Normed(layer), penalty=zero_centred(1.0),
            replay=gacf.Replay(capacity=8, batch_size=4, warmup=1),
        )  # fmt: skip
        params, world = jax.eval_shape(game.init, KEY)
        batch = jax.eval_shape(game.sample, world, KEY)
        jax.eval_shape(game.losses["critic"], params["critic"], params, world, batch, KEY)

    loss(lambda x, train: linen.LayerNorm()(x))
    with pytest.raises(ValueError, match="penalty: zero_centred is a mean of slopes"):
        loss(batch_norm)


@pytest.mark.long
@pytest.mark.parametrize("norm", ["batch", "layer", "instance", False])
def test_dcgan_critics_by_their_norm(norm):
    """The default is the published one; with a penalty another is chosen, and r1 is right."""
    critic = DCGANCritic(2, 2, norm=norm)
    made = model("critic", critic)
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    params, world = made.init(KEY, x)
    assert bool(world) == (norm in ("batch", True))

    def judge(x: jax.Array) -> jax.Array:
        return made.apply(params, world, x)[0]

    if world:
        assert critic == DCGANCritic(2, 2) or norm is True
        with pytest.raises(ValueError, match=r"norm='layer'"):
            slopes(judge, x)
        return
    each = [jnp.sum(jax.grad(lambda x: judge(x[None])[0])(one) ** 2) for one in x]
    np.testing.assert_allclose(slopes(judge, x), each, rtol=1e-3)


def test_an_unknown_norm():
    with pytest.raises(ValueError, match="norm: 'layr' is unknown; did you mean 'layer'"):
        DCGANCritic(2, 2, norm="layr").init(KEY, jnp.zeros((2, 8, 8, 1)), train=True)
