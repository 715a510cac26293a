"""Networks of images: shapes, conditions, and a short training of each pair."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf.networks import MLP, model
from gacf.networks.images import (
    DCGANCritic,
    DCGANGenerator,
    ResNetCritic,
    ResNetGenerator,
    maxout,
)
from gacf.runner import MAPS
from gacf.stabilizers import spectral_norm

KEY = jax.random.key(0)
PAIRS = {"dcgan": (DCGANGenerator, DCGANCritic), "resnet": (ResNetGenerator, ResNetCritic)}


def shapes(function: Any, *args: Any) -> Any:
    return jax.eval_shape(function, *args)


@pytest.mark.long
@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(
    ("shape", "stages"),
    [((8, 8, 1), 2), ((28, 28, 1), 2), ((32, 32, 3), 2), ((32, 32, 3), 3), ((12, 4, 2), 2)],
)
def test_images_of_every_size(kind, shape, stages):
    generator, critic = PAIRS[kind]
    make, judge = (
        model("actor", generator(shape, width=4, stages=stages)),
        model("critic", critic(width=4, stages=stages)),
    )
    z, x = jnp.zeros((2, 5)), jnp.zeros((2, *shape))
    for one, given, wanted in ((make, z, (2, *shape)), (judge, x, (2,))):
        made = shapes(one.init, KEY, given)
        assert shapes(lambda p, w, i, one=one: one.apply(p, w, i)[0], *made, given).shape == wanted


def test_widths_double_where_images_halve():
    params = shapes(model("critic", DCGANCritic(width=4)).init, KEY, jnp.zeros((2, 8, 8, 3)))[0]
    assert [params[f"Conv_{i}"]["kernel"].shape for i in (0, 1)] == [(4, 4, 3, 4), (4, 4, 4, 8)]
    assert params["_Verdict_0"]["Dense_0"]["kernel"].shape == (2 * 2 * 8, 1)
    params = shapes(model("actor", DCGANGenerator((8, 8, 3), 4)).init, KEY, jnp.zeros((2, 5)))[0]
    assert params["Dense_0"]["kernel"].shape == (5, 2 * 2 * 8)
    kernels = [params[f"ConvTranspose_{i}"]["kernel"].shape for i in (0, 1)]
    assert kernels == [(4, 4, 8, 4), (4, 4, 4, 3)]


@pytest.mark.long
@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("condition", ["concatenation", "projection"])
def test_conditional_verdicts_and_images_depend_on_the_label(kind, condition):
    generator, critic = PAIRS[kind]
    plain = {} if kind == "resnet" else {"norm": False}
    size = {"width": 2, "stages": 1, "classes": 4}
    z, x = jax.random.normal(KEY, (3, 5)), jax.random.normal(KEY, (3, 2, 2, 1))
    make = model("actor", generator((2, 2, 1), norm=False, **size))
    judge = model("critic", critic(condition=condition, **size, **plain))
    # how the critic is conditioned does not concern the generator
    for one, given in [(judge, x)] + [(make, z)] * (condition == "concatenation"):
        y = jnp.array([0, 1, 1])
        params, world = jax.jit(one.init)(KEY, given, y)
        apply = jax.jit(lambda p, i, y, one=one, world=world: one.apply(p, world, i, y)[0])
        first, other = (apply(params, given, labels) for labels in (y, jnp.array([0, 1, 3])))
        np.testing.assert_allclose(first[:2], other[:2], rtol=1e-5, atol=1e-7)
        assert np.abs(first[2] - other[2]).max() > 1e-6
        if condition == "projection" and one is judge:
            # v(x, y) − v(x, y′) = (e_y − e_y′)·φ(x): the table alone tells labels apart
            table = params["_Verdict_0"]["Embed_0"]["embedding"]
            assert table.shape[0] == 4
            alike = jax.tree_util.tree_map_with_path(
                lambda path, leaf: leaf * ("Embed_0" not in jax.tree_util.keystr(path)), params
            )
            np.testing.assert_array_equal(
                apply(alike, given, y), apply(alike, given, jnp.array([3, 2, 0]))
            )


@pytest.mark.long
def test_a_projection_by_hand():
    judge = model("critic", ResNetCritic(width=4, stages=1, classes=3, condition="projection"))
    x, y = jax.random.normal(KEY, (3, 2, 2, 1)), jnp.array([2, 0, 1])
    params, world = jax.jit(judge.init)(KEY, x, y)
    apply = jax.jit(lambda params: judge.apply(params, world, x, y)[0])
    last = params["_Verdict_0"]
    nothing = jax.tree.map(jnp.zeros_like, last["Dense_0"])

    def feature(i: int) -> jax.Array:
        """φ_i, which a table of unit vectors alone reads off."""
        table = jnp.tile(jnp.eye(4)[i], (3, 1))
        reads = {"Dense_0": nothing, "Embed_0": {"embedding": table}}
        return apply({**params, "_Verdict_0": reads})

    features = jnp.stack([feature(i) for i in range(4)], axis=1)
    table, dense = np.asarray(last["Embed_0"]["embedding"]), last["Dense_0"]
    wanted = np.asarray(features) @ np.asarray(dense["kernel"])[:, 0] + np.asarray(dense["bias"])
    wanted += np.sum(table[np.asarray(y)] * np.asarray(features), axis=1)
    np.testing.assert_allclose(apply(params), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["dcgan", pytest.param("resnet", marks=pytest.mark.slow)])
def test_a_short_training(kind):
    """Both players' losses are finite, both move, and only their own statistics are renewed."""
    generator, critic = PAIRS[kind]
    data = np.random.RandomState(0).randn(20, 4, 4, 1).astype(np.float32)
    size = {"width": 4, "stages": 1}
    game = gacf.gan(
        generator((4, 4, 1), **size), spectral_norm(critic(**size)), data, "hinge",
        batch_size=8, noise=4,
    )  # fmt: skip
    rule = gacf.rules.alternating({p: optax.adam(1e-3) for p in game.losses})
    algorithm = gacf.compose(game, rule)

    @jax.jit
    def run(key: jax.Array) -> Any:
        start = algorithm.init(key)
        end, metrics = jax.lax.scan(lambda s, _: algorithm.step(s), start, length=3)
        return start, end, metrics

    start, end, metrics = run(KEY)
    for player in ("actor", "critic"):
        assert np.isfinite(metrics[f"{player}/loss"]).all()
        moved = jax.tree.map(
            # biases in front of a batch norm have no gradient
            lambda a, b: np.abs(a - b).max() if a.ndim > 1 else 1,
            start.params[player],
            end.params[player],
        )
        assert min(jax.tree.leaves(moved)) > 1e-4
    assert set(end.world) == {"stats/actor", "spectral/critic"}


@pytest.mark.slow
def test_every_seed_strategy_trains_the_same_networks():
    """Convolutions, batch and spectral norm, sharded over devices or not, by vmap or a loop."""
    game = gacf.gan(
        DCGANGenerator((4, 4, 1), width=2, stages=1),
        spectral_norm(DCGANCritic(width=2, stages=1)),
        lambda key, n: jax.random.normal(key, (n, 4, 4, 1)),
        batch_size=4,
        noise=3,
    )
    algorithm = gacf.compose(game, gacf.rules.alternating({p: optax.sgd(0.1) for p in game.losses}))
    ends = [
        gacf.run(algorithm, KEY, steps=3, seeds=4, log_every=3, map=way)[0]
        for way in MAPS
        if way != "auto"
    ]
    assert len(ends) == 4
    for end in ends[1:]:
        for one, other in zip(
            jax.tree.leaves((end.params, end.world)),
            jax.tree.leaves((ends[0].params, ends[0].world)),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.long
def test_maxout_keeps_the_largest_piece():
    x = jax.random.normal(KEY, (3, 10))
    pieces = np.asarray(x).reshape(3, 2, 5)
    np.testing.assert_array_equal(maxout(5)(x), pieces.max(-1))
    params = MLP((10,), activation=maxout(5)).init(KEY, x)["params"]
    assert params["Dense_1"]["kernel"].shape == (2, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, y: DCGANCritic().init(KEY, x[:, :6], train=True),
            r"shape: \(6, 8, 1\) was given; allowed: height and width that are multiples of 4",
        ),
        (
            lambda x, y: ResNetGenerator((8, 10, 1)).init(KEY, x[:, 0, :, 0], train=True),
            r"shape: \(8, 10, 1\) was given",
        ),
        (
            lambda x, y: DCGANCritic().init(KEY, x, y, train=True),
            "label: 1 inputs after the first were given; allowed: none, since `classes` is None",
        ),
        (
            lambda x, y: ResNetCritic(classes=3).init(KEY, x),
            r"label: 0 inputs .*; allowed: one, of labels \[B\]",
        ),
        (
            lambda x, y: ResNetCritic(classes=3, condition="project").init(KEY, x, y),
            "condition: 'project' is unknown; did you mean 'projection'",
        ),
        (lambda x, y: maxout(3)(x), "maxout: width 1 was given; allowed: multiples of 3"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros((2, 8, 8, 1)), jnp.zeros(2, int))
