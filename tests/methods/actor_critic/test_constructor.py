"""The constructor on bandits, where values, own gradients and cross gradients are enumerable."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gacf
from gacf.methods.actor_critic import DIVERGENCES, Source, pathwise, score_function
from gacf.rules import field

KEY = jax.random.key(0)
# A batch in which the policy (1/2, 1/4, 1/4) is represented exactly.
ACTIONS = jnp.array([0, 0, 1, 2])
LOGITS = jnp.log(jnp.array([0.5, 0.25, 0.25]))
Q = jnp.array([0.3, -1.2, 0.8])


def bandit(improve: Any, **changes: Any) -> gacf.Game:
    def sample(world: Any, key: Any) -> Any:
        return {"observation": jnp.zeros((4, 1)), "action": ACTIONS, "reward": jnp.arange(4.0)}

    arguments: dict[str, Any] = {
        "actor": (lambda key: LOGITS, lambda p, o: jnp.tile(p[None], (len(o), 1))),
        "critic": (lambda key: Q, lambda q, action: jnp.tanh(q)[action]),
        "source": Source(lambda key: {}, sample),
        "view": lambda batch, action: {"taken": action},
        "target": lambda params, world, batch, key: {"taken": batch["reward"]},
        "divergence": DIVERGENCES["squared_error"],
        "improve": improve,
    }
    return gacf.actor_critic(**{**arguments, **changes})


def at(game: gacf.Game) -> Any:
    params, world = game.init(KEY)
    return field(game, world, game.sample(world, KEY), KEY), params


def derivatives(game: gacf.Game) -> Any:
    """Of the actor's loss: value, own gradient, its Jacobian in the critic, gradient in it."""
    here, params = at(game)

    def loss(q: jax.Array) -> jax.Array:
        return here.loss("actor", params["actor"], {**params, "critic": q})[0]

    def own(q: jax.Array) -> jax.Array:
        return here.gradient("actor", {**params, "critic": q})[0]

    return jax.jit(lambda q: (loss(q), own(q), jax.jacobian(own)(q), jax.grad(loss)(q)))(
        params["critic"]
    )


def wanted(loss: Any, theta: jax.Array, phi: jax.Array) -> Any:
    own = jax.grad(loss)
    return jax.jit(
        lambda: (loss(theta, phi), own(theta, phi), jax.jacobian(own, 1)(theta, phi),
                 jax.grad(loss, 1)(theta, phi))
    )()  # fmt: skip


def log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=1)[:, 0]


def utility(verdict: jax.Array) -> jax.Array:
    return verdict + 0.5 * verdict**2


def expected(logits: jax.Array, q: jax.Array) -> jax.Array:
    """−Σ_a π(a) u(Q(a)), by enumeration."""
    return -jnp.sum(jax.nn.softmax(logits) * utility(jnp.tanh(q)))


@pytest.mark.long
def test_score_function_has_the_enumerated_value_and_gradients():
    found = derivatives(bandit(score_function(log_prob, utility)))
    chex.assert_trees_all_close(found, wanted(expected, LOGITS, Q), rtol=1e-5, atol=1e-7)


def test_pathwise_has_the_value_and_gradients_of_the_chain():
    scale = jnp.array([0.5, -1.0, 2.0, 0.1])

    def chain(theta: jax.Array, phi: jax.Array) -> jax.Array:
        return -jnp.mean(utility(jnp.sin(phi * (theta * scale)) + phi**2))

    def sample(world: Any, key: Any) -> Any:
        return {"observation": scale[:, None], "reward": scale}

    game = bandit(
        pathwise(utility),
        actor=(lambda key: jnp.array(0.7), lambda theta, o: theta * o),
        critic=(lambda key: jnp.array(-0.4), lambda phi, a: jnp.sin(phi * a) + phi**2),
        source=Source(lambda key: {}, sample),
    )
    found = derivatives(game)
    exact = wanted(chain, jnp.array(0.7), jnp.array(-0.4))
    chex.assert_trees_all_close(found, exact, rtol=1e-5, atol=1e-7)


def test_groups_are_summed_and_chosen():
    def view(batch: Any, action: Any) -> Any:
        return {"one": action, "two": action[::2]}

    def target(params: Any, world: Any, batch: Any, key: Any) -> Any:
        return {"one": jnp.zeros(4), "two": jnp.ones(2)}

    verdict = np.tanh(np.asarray(Q))[np.asarray(ACTIONS)]
    critic = 0.5 * np.mean(verdict**2) + 0.5 * np.mean((verdict[::2] - 1) ** 2)
    here, params = at(bandit(pathwise(), view=view, target=target))
    loss, outcome = here.loss("critic", params["critic"], params)
    np.testing.assert_allclose(loss, critic, rtol=1e-6)
    np.testing.assert_allclose(outcome.metrics["verdict/two"], verdict[::2].mean(), rtol=1e-6)

    both = pathwise()(None, _evidence(verdict))[0]
    second = pathwise(of=("two",))(None, _evidence(verdict))[0]
    np.testing.assert_allclose(both, -verdict.mean() - verdict[::2].mean(), rtol=1e-6)
    np.testing.assert_allclose(second, -verdict[::2].mean(), rtol=1e-6)


def _evidence(verdict: Any) -> Any:
    from gacf.methods.actor_critic.improve import Evidence

    judged = {"one": jnp.asarray(verdict), "two": jnp.asarray(verdict[::2])}
    return Evidence(lambda own: (own, {}), lambda action: judged, None, {})


def test_a_critic_judges_the_actors_own_action_where_the_batch_has_none():
    def sample(world: Any, key: Any) -> Any:
        return {"observation": jnp.ones((4, 1)), "reward": jnp.zeros(4)}

    game = bandit(
        pathwise(),
        actor=(lambda key: jnp.array(3.0), lambda theta, o: theta * o),
        critic=(lambda key: jnp.array(2.0), lambda phi, a: phi * a),
        source=Source(lambda key: {}, sample),
    )
    here, params = at(game)
    value, _ = here.loss("critic", params["critic"], params)
    assert float(value) == pytest.approx(0.5 * 6.0**2)


def test_a_target_may_be_transformed():
    here, params = at(
        bandit(pathwise(lambda v: v * 0), transform_target=lambda target: 10 + 0 * target)
    )
    verdict = np.tanh(np.asarray(Q))[np.asarray(ACTIONS)]
    value, _ = here.loss("critic", params["critic"], params)
    np.testing.assert_allclose(value, 0.5 * np.mean((verdict - 10) ** 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("player", "changes", "message"),
    [
        (
            "critic",
            {"target": lambda params, world, batch, key: {"fake": jnp.zeros(4)}},
            r"target: groups \['fake'\]; those of view: \['taken'\]",
        ),
        (
            "critic",
            {"target": lambda params, world, batch, key: {"taken": jnp.zeros((4, 1))}},
            r"target: shape \(4, 1\) in group 'taken'; the critic's: \(4,\)",
        ),
        (
            "actor",
            {
                "improve": pathwise(of=("takn",)),
                "critic": (lambda key: Q, lambda q, action: action[:, 0]),
            },
            "improve: group: 'takn' is unknown; did you mean 'taken'",
        ),
        (
            "actor",
            {
                "improve": score_function(log_prob),
                "source": Source(
                    lambda key: {}, lambda world, key: {"observation": jnp.zeros((4, 1))}
                ),
                "critic": (lambda key: Q, lambda q, action: action[:, 0]),
            },
            "score_function: batch: 'action' is unknown",
        ),
    ],
)
def test_what_does_not_fit_is_refused(player, changes, message):
    game = bandit(**{"improve": pathwise(), **changes})
    here, params = at(game)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: here.gradient(player, params))
