"""The actor meets the batch means of the critic's features: fixed points in closed form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import gacf
from gacf import Outcome, rules
from gacf.networks import MLP
from gacf.stabilizers import activations, feature_matching

KEY = jax.random.key(0)
S = jax.random.normal(jax.random.key(1), (20, 1))
A = 0.5 * S + jax.random.normal(jax.random.key(2), (20, 1)) + 0.3


def game_of(apply: Any, start: Any, verdict: Any) -> tuple[gacf.Game, Any]:
    """An actor that sees S, and is judged by `verdict` of what it puts out."""

    def actor(own, params, world, batch, key):
        return verdict(apply(own, batch["s"])), Outcome({}, {})

    game = gacf.Game(
        {"actor": actor},
        lambda key: ({"actor": start, "critic": jnp.array(2.0)}, {}),
        sample=lambda world, key: {"s": S, "a": A},
    )
    return game, (lambda key: start, apply)


def settled(game: gacf.Game) -> Any:
    algorithm = gacf.compose(game, rules.player_step("actor", optax.sgd(0.02)))
    state = algorithm.init(KEY)
    return jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), state, length=400)[0].params


def sees(batch: Any) -> Any:
    return batch["s"]


def test_a_sampler_meets_the_mean_of_the_evidence():
    """x = s + θ, f(x) = 2x: at strength 1 the mean is theirs; at ½ verdict and distance balance."""
    game, actor = game_of(lambda theta, s: s + theta, jnp.array(-1.0), lambda x: jnp.mean(x))

    def of(strength: Any) -> Any:
        matched = feature_matching(
            game, actor, sees, lambda b, x: (b["a"], x), lambda p, x: p * x, strength
        )
        return settled(matched)["actor"]

    gap = float(jnp.mean(A) - jnp.mean(S))
    half, whole = jax.jit(jax.vmap(of))(jnp.array([0.5, 1.0]))
    assert float(whole) == pytest.approx(gap, abs=1e-4)
    assert float(half) == pytest.approx(gap - 1 / 8, abs=1e-4)  # 1 + 8 (θ − gap) = 0


def test_a_deterministic_actor_meets_the_behaviour_that_was_replayed():
    """a = k s, f(s, a) = s·a: k = E[s a] / E[s²], the least-squares fit of the data's actions."""
    game, actor = game_of(lambda k, s: k * s, jnp.array(-1.0), lambda a: -jnp.mean(a))
    matched = feature_matching(
        game, actor, sees, lambda b, a: ((b["s"], b["a"]), (b["s"], a)), lambda p, s, a: p * s * a
    )
    found = jax.jit(lambda: settled(matched))()["actor"]
    assert float(found) == pytest.approx(float(jnp.mean(S * A) / jnp.mean(S**2)), abs=1e-4)


def test_it_is_the_distance_of_means_not_the_mean_distance():
    """Two batches of the same mean, no two examples alike."""
    generator = (lambda key: jnp.ones(()), lambda theta, z: theta * z)
    points = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    game = gacf.gan(
        generator, MLP(()), lambda key, n: points, batch_size=4, noise=lambda key, n: 3 * points
    )
    matched = feature_matching(
        game, generator, lambda b: b["noise"], lambda b, x: (b["real"], x), lambda p, x: x
    )
    params, world = matched.init(KEY)
    batch = matched.sample(world, KEY)
    _, told = matched.losses["actor"](params["actor"], params, world, batch, KEY)
    assert float(told.metrics["feature_distance"]) == 0
    # the critic's loss is the game's own
    for g in (game, matched):
        assert g.losses["critic"] is game.losses["critic"]


def test_activations_are_those_of_the_named_layer():
    class Judge(linen.Module):
        @linen.compact
        def __call__(self, s: jax.Array, a: jax.Array) -> jax.Array:
            x = linen.tanh(linen.Dense(3, name="first")(jnp.concatenate([s, a], -1)))
            return linen.Dense(1, name="last")(x)

    judge = Judge()
    params = judge.init(KEY, S, A)["params"]
    first = jnp.concatenate([S, A], -1) @ params["first"]["kernel"]
    np.testing.assert_allclose(activations(judge, "first")(params, S, A), first, rtol=1e-5)
    message = "layer: 0 outputs are called 'fist'; did you mean 'first'"
    with pytest.raises(ValueError, match=message):
        activations(judge, "fist")(params, S, A)


def test_errors():
    game, actor = game_of(lambda k, s: k * s, jnp.array(-1.0), jnp.mean)

    def matched(strength: Any = 1.0, view: Any = lambda b, a: (b["a"], a), of: Any = game) -> Any:
        return feature_matching(of, actor, sees, view, lambda p, x: p * x, strength)

    with pytest.raises(ValueError, match=r"strength: 2\.0 was given; allowed: a number in \[0, 1"):
        matched(2.0)
    with pytest.raises(ValueError, match="the features do not depend on the actor's output"):
        settled(matched(view=lambda b, a: (b["s"], b["s"])))
    with pytest.raises(ValueError, match="'feature_distance' of 'actor' is reported already"):
        settled(matched(of=matched()))
