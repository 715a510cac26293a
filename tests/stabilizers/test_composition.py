"""Stabilisers together: all at once; where the order matters, and where it does not."""

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
from gacf.methods.gan import r1, zero_centred
from gacf.networks import ensemble, model
from gacf.stabilizers import (
    MinibatchDiscrimination,
    Normalised,
    activations,
    compatible,
    ema,
    entropy,
    feature_matching,
    freeze,
    historical_averaging,
    mixed,
    noisy,
    replay,
    smooth,
    spectral_norm,
    target_networks,
    weight_clip,
    with_reference,
)
from tests.stabilizers.parts import ACTOR, FAMILIES, MOVE, B, Judge, Virtual

KEY = jax.random.key(0)


def played(game: gacf.Game, optimizer: Any = MOVE, steps: int = 2) -> gacf.State:
    moves = dict.fromkeys(game.losses, optimizer)
    algorithm = gacf.compose(game, rules.alternating(moves, order=("critic", "actor")))
    with jax.disable_jit():
        state = algorithm.init(KEY)
        for _ in range(steps):
            state, _ = algorithm.step(state)
    return state


def everything(family: str) -> tuple[gacf.Game, Any]:
    of = FAMILIES[family]

    def layer() -> linen.Module:
        return Normalised(linen.LayerNorm(), 0.5)

    judge = Judge(layer)
    critic = noisy(spectral_norm(judge, strength=0.5), 0.1)
    game = of.make(critic, smooth(0.1), zero_centred(0.1))
    game = entropy(game, ACTOR, of.sees, 0.01)
    game = feature_matching(game, ACTOR, of.sees, of.view, activations(judge, "first"), 0.5)
    game = ema(target_networks(replay(game, 4 * B, B, join=mixed(0.5)), 0.1))
    optimizer = freeze(
        optax.chain(
            historical_averaging(0.1), optax.clip_by_global_norm(1.0), MOVE, weight_clip(2.0)
        ),
        lambda step, metrics: step == 1,
    )
    return game, optimizer


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_all_at_once_keep_the_shape_of_a_state(family: str):
    game, optimizer = everything(family)
    rule = rules.alternating(dict.fromkeys(game.losses, optimizer), order=("critic", "actor"))
    algorithm = gacf.compose(game, rule)
    state = jax.eval_shape(algorithm.init, KEY)
    after, metrics = jax.eval_shape(algorithm.step, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert {"actor/entropy_estimate", "actor/feature_distance", "critic/penalty"} <= set(metrics)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_all_at_once_train_and_rest(family: str):
    game, optimizer = everything(family)
    first, second, third = (played(game, optimizer, steps) for steps in (1, 2, 3))
    chex.assert_tree_all_finite(third.params)
    for part in ("params", "opt_state"):
        chex.assert_trees_all_equal(getattr(first, part), getattr(second, part))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), second.params, third.params)
    assert min(max(jax.tree.leaves(moved[player])) for player in ("actor", "critic")) > 0
    assert {"buffer", "slow", "ema", "spectral/critic"} <= set(third.world)


@pytest.mark.long
@pytest.mark.parametrize("family", ["gan", pytest.param("actor_critic", marks=pytest.mark.slow)])
def test_changes_of_different_parts_of_a_game_commute(family: str):
    of = FAMILIES[family]

    def bonus(game: gacf.Game) -> gacf.Game:
        return entropy(game, ACTOR, of.sees, 0.1)

    def slow(game: gacf.Game) -> gacf.Game:
        return target_networks(game, 0.1)

    game = of.make()
    one, other = played(ema(slow(bonus(game)))), played(bonus(slow(ema(game))))
    chex.assert_trees_all_equal(one.params, other.params)
    chex.assert_trees_all_equal(one.world, other.world)


@pytest.mark.long
def test_a_term_added_after_slow_copies_sees_the_live_parameters():
    """Where the actor's own loss reads slow critics, so does what was added before."""
    of = FAMILIES["gan"]
    game, reads = of.make(), {"actor": ("critic",)}

    def matched(game: gacf.Game) -> gacf.Game:
        return feature_matching(game, ACTOR, of.sees, of.view, activations(Judge(), "first"))

    within = target_networks(matched(game), 0.1, None, reads)
    after = matched(target_networks(game, 0.1, None, reads))
    params, world = within.init(KEY)
    batch = within.sample(world, KEY)
    moved = {**params, "critic": jax.tree.map(lambda leaf: leaf + 1, params["critic"])}

    def distance(game: gacf.Game, params: Any) -> float:
        told = game.losses["actor"](params["actor"], params, world, batch, KEY)[1]
        return float(told.metrics["feature_distance"])

    assert distance(within, moved) == distance(within, params) == distance(after, params)
    assert distance(after, moved) == distance(matched(game), moved) != distance(within, moved)


def test_freezing_goes_outermost():
    """Inside a chain it holds its own optimiser; what stands beside it goes on."""
    x, g = jnp.array([3.0, -0.5]), jnp.array([1.0, 1.0])
    told: Any = {"step": 0, "metrics": {}}

    def rests(optimizer: Any) -> Any:
        return freeze(optimizer, lambda step, metrics: True)

    around = rests(optax.chain(historical_averaging(1.0), optax.sgd(1.0), weight_clip(1.0)))
    state = around.init(x)
    change, after = around.update(g, state, x, **told)
    np.testing.assert_array_equal(x + change, x)
    chex.assert_trees_all_equal(state, after)
    beside = optax.chain(historical_averaging(1.0), rests(optax.sgd(1.0)), weight_clip(1.0))
    change, after = beside.update(g, beside.init(x), x, **told)
    np.testing.assert_array_equal(x + change, [1.0, -0.5])  # still clipped
    assert int(after[0].count) == 1  # and the history has gone on


def test_weight_clipping_goes_last():
    x, g = jnp.array([0.9]), jnp.array([-5.0])
    for order, end in (((optax.sgd(1.0), weight_clip(1.0)), 1.0),
                       ((weight_clip(1.0), optax.sgd(1.0)), 2.8)):  # fmt: skip
        chain = optax.chain(*order)
        change, _ = chain.update(g, chain.init(x), x)
        assert float((x + change)[0]) == pytest.approx(end)


@pytest.mark.long
def test_noise_outside_or_inside_of_spectral_norm_is_the_same():
    judges = [spectral_norm(noisy(Judge(), 0.3)), noisy(spectral_norm(Judge()), 0.3)]
    x = jnp.ones((3, 2))
    params, world = judges[0].init(KEY, x)
    one, other = (judge.apply(params, world, x, key=KEY)[0] for judge in judges)
    np.testing.assert_array_equal(one, other)


COMPATIBLE = compatible(model("actor", ACTOR), Judge())


@pytest.mark.long
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral_norm(COMPATIBLE), "a compatible critic was given, whose weights are no"),
        (lambda: with_reference(COMPATIBLE, jnp.ones((2, 2))), "a compatible critic was given, wh"),
        (lambda: model("critic", ensemble(COMPATIBLE, 2)), "critic: Model was given; allowed: a L"),
        (lambda: with_reference(Judge(), jnp.ones((2, 2))).init(KEY, jnp.ones((2, 2))),
         r"statistics \[\] were found; allowed: those of VirtualBatchNorm alone"),
        (lambda: with_reference(Virtual(1.0), jnp.ones((1, 2))), "allowed: a batch"),
        (lambda: Judge(Flat).init(KEY, jnp.ones((2, 2))),
         "features: shape .* was given"),
        (lambda: played(target_networks(target_networks(FAMILIES["gan"].make()))),
         r"world\['slow'\] is taken; one call serves all readers"),
        (lambda: played(ema(ema(FAMILIES["gan"].make()))), r"world\['ema'\] is taken"),
        (lambda: played(replay(replay(FAMILIES["gan"].make(), 8, B), 8, B)),
         r"world\['buffer'\] is taken"),
        (lambda: played(FAMILIES["actor_critic"].make(penalty=r1())),
         "penalty: group: 'real' is unknown"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error_that_says_why(call: Any, message: str):
    with pytest.raises(ValueError, match=message):
        call()


class Flat(linen.Module):
    """Features of three axes, which minibatch discrimination does not take."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return MinibatchDiscrimination()(x[:, None])
