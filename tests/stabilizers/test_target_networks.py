from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Outcome, rules
from gacf.stabilizers import target_networks

KEY = jax.random.key(0)


def td_game(evaluate=None):
    """A critic whose target reads both players: (own - critic * actor - 1)² / 2."""

    def critic(own, params, world, batch, key):
        target = 1 + jnp.sin(params["critic"]["v"]) * params["actor"]
        return 0.5 * (own["v"] - target) ** 2, Outcome({"target": target}, {})

    def actor(own, params, world, batch, key):
        return own * params["critic"]["v"], Outcome({"read": params["critic"]["v"]}, {})

    def init(key):
        return {"critic": {"v": jnp.array(2.0)}, "actor": jnp.array(0.5)}, {}

    game = gacf.Game(losses={"critic": critic, "actor": actor}, init=init)
    return game if evaluate is None else game._replace(evaluate=evaluate)


def play(game, steps, updates=1):
    rule = rules.alternating({name: optax.sgd(0.1) for name in game.losses})
    algorithm = gacf.compose(game, rule, updates)
    state = algorithm.init(KEY)
    seen = [state]
    step = jax.jit(algorithm.step)
    for _ in range(steps):
        state, metrics = step(state)
        seen.append(state)
    return algorithm, seen, metrics


def test_average_follows_its_closed_form():
    _, states, _ = play(target_networks(td_game(), rate=0.3), 6)
    live = [float(state.params["critic"]["v"]) for state in states]
    for t, state in enumerate(states):
        weights = [0.7**t] + [0.3 * 0.7 ** (t - i) for i in range(1, t + 1)]
        expected = np.dot(weights, live[: t + 1])
        assert float(state.world["slow"]["critic"]["v"]) == pytest.approx(expected, rel=1e-5)
    assert set(states[0].world["slow"]) == {"actor", "critic"}


@pytest.mark.parametrize("updates", [1, 2])
def test_hard_copies_fall_on_every_period_counted_in_updates(updates):
    _, states, _ = play(target_networks(td_game(), period=4), 9, updates)
    for t, state in enumerate(states):
        copied = t * updates // 4 * 4 // updates
        np.testing.assert_array_equal(
            state.world["slow"]["critic"]["v"], states[copied].params["critic"]["v"]
        )


def test_only_the_named_readers_see_slow_copies_and_own_stays_live():
    game = target_networks(td_game(), reads={"critic": ("critic",)})
    _, world = game.init(KEY)
    moved = {"critic": {"v": jnp.array(5.0)}, "actor": jnp.array(0.7)}
    loss, outcome = game.losses["critic"](moved["critic"], moved, world, (), KEY)
    target = 1 + np.sin(2.0) * 0.7  # slow critic, live actor
    assert float(outcome.metrics["target"]) == pytest.approx(target, rel=1e-6)
    assert float(loss) == pytest.approx(0.5 * (5 - target) ** 2, rel=1e-6)
    read = game.losses["actor"](moved["actor"], moved, world, (), KEY)[1].metrics["read"]
    assert float(read) == 5.0


@pytest.mark.long
def test_slow_value_is_exact_and_its_derivative_is_the_live_one():
    base, game = td_game(), target_networks(td_game())
    params, world = game.init(KEY)
    far = {"critic": {"v": jnp.array(1e8)}, "actor": jnp.array(-3e7)}
    own = {"v": jnp.array(1.5)}

    def gradient_at(game, world):
        def of_own(p):
            return jax.grad(lambda own: game.losses["critic"](own, p, world, (), KEY)[0])(own)["v"]

        return of_own

    slow, live = gradient_at(game, world), gradient_at(base, {})
    # the field at far-off live parameters has the value that it has at the slow ones …
    assert float(slow(far)) == float(live(params))
    # … and moves with the live parameters as if they were read there: nothing has been stopped
    got, expected = jax.jacobian(slow)(far), jax.jacobian(live)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, expected)
    assert float(got["critic"]["v"]) != 0 and float(got["actor"]) != 0


def test_evaluation_sees_live_parameters():
    game = td_game(lambda params, world, key: {"actor": params["actor"]})
    algorithm, states, _ = play(target_networks(game, rate=0.0), 3)
    assert float(algorithm.evaluate(states[-1])["actor"]) == float(states[-1].params["actor"])
    assert float(states[-1].world["slow"]["actor"]) == 0.5 != float(states[-1].params["actor"])


@pytest.mark.long
def test_rate_one_without_alternation_is_the_plain_game():
    def params_of(game):
        rule = rules.simultaneous({name: optax.sgd(0.1) for name in game.losses})
        return gacf.run(gacf.compose(game, rule), KEY, 5)[0].params

    slow, plain = params_of(target_networks(td_game(), rate=1.0)), params_of(td_game())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), slow, plain)


@pytest.mark.long
def test_numbers_may_be_traced_and_seeds_batched():
    rule = rules.alternating({"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)})

    def build(hyper):
        game = target_networks(td_game(), rate=hyper["rate"])
        return gacf.compose(game, rule)

    state, _ = gacf.run(build, KEY, 4, seeds=2, hyper={"rate": jnp.array([0.0, 0.3])})
    slow = state.world["slow"]["critic"]["v"]
    assert slow.shape == (2, 2)
    np.testing.assert_array_equal(slow[0], 2.0)
    expected = play(target_networks(td_game(), rate=0.3), 4)[1][-1].world["slow"]["critic"]["v"]
    np.testing.assert_allclose(slow[1], expected, rtol=1e-6)

    def period(hyper):
        return gacf.compose(target_networks(td_game(), period=hyper), rule)

    state, _ = gacf.run(period, KEY, 4, hyper=jnp.array([3, 100]))
    slow = state.world["slow"]["critic"]["v"][:, 0]
    expected = play(target_networks(td_game(), period=3), 3)[1][-1].params["critic"]["v"]
    np.testing.assert_allclose(slow, [expected, 2.0], rtol=1e-6)


def test_the_start_can_be_donated():
    rule = rules.alternating({"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)})
    algorithm = gacf.compose(target_networks(td_game()), rule)
    state = algorithm.init(KEY)
    moved, _ = jax.jit(algorithm.step, donate_argnums=0)(state)
    assert int(moved.step) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: target_networks(td_game(), reads={"critc": ("actor",)}), "did you mean 'critic'"),
        (
            lambda: target_networks(td_game(), reads={"critic": ("acter",)}).init(KEY),
            "'acter' has no params; did you mean 'actor'",
        ),
        (lambda: target_networks(td_game(), rate=1.5), r"rate: 1.5 was given"),
        (lambda: target_networks(td_game(), period=0), r"period: 0 was given"),
        (lambda: target_networks(target_networks(td_game())).init(KEY), "is taken"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
