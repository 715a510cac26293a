"""Targets against sums written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gacf.methods.actor_critic import heads
from gacf.methods.actor_critic.divergence import squared_error
from gacf.methods.actor_critic.policies import gaussian
from gacf.methods.actor_critic.target import (
    as_it_is,
    lambda_return,
    lambda_target,
    q_target,
    sampled,
    smoothed,
    state_value,
)
from gacf.networks import model

KEY = jax.random.key(0)
T, N = 9, 5


def episodes(seed=0):
    """Rewards, ends of both kinds, and V of what each step led to, [T, N]."""
    random = np.random.default_rng(seed)
    reward, value = random.normal(size=(2, T, N))
    terminated = random.random((T, N)) < 0.2
    truncated = ~terminated & (random.random((T, N)) < 0.2)
    assert terminated[1:-1].any() and truncated[1:-1].any()
    assert not (terminated | truncated)[:, 0].all()
    return reward, terminated, terminated | truncated, value


def by_hand(reward, terminated, over, value, discount, trace):
    """(1 − λ) Σ_n λ^{n−1} G^n, the last with all the weight that is left."""
    found = np.zeros((T, N))
    for t in range(T):
        for i in range(N):
            length = next((k for k in range(t, T) if over[k, i]), T - 1) - t + 1
            for n in range(1, length + 1):
                paid = sum(discount**k * reward[t + k, i] for k in range(n))
                last = t + n - 1
                paid += discount**n * (not terminated[last, i]) * value[last, i]
                left = 1 - trace if n < length else 1
                found[t, i] += left * trace ** (n - 1) * paid
    return found


@pytest.mark.usefixtures("x64")
def test_lambda_return_is_the_sum_over_n_step_returns():
    data = episodes()
    found = jax.jit(jax.vmap(lambda g, y: lambda_return(*data, g, y)))(
        jnp.array([0.9, 0.9, 0.9, 1.0, 0.0]), jnp.array([0.0, 0.7, 1.0, 0.5, 0.5])
    )
    for row, (discount, trace) in zip(
        found, [(0.9, 0.0), (0.9, 0.7), (0.9, 1.0), (1.0, 0.5), (0.0, 0.5)], strict=True
    ):
        np.testing.assert_allclose(row, by_hand(*data, discount, trace), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_its_difference_from_the_value_is_the_generalised_advantage():
    reward, terminated, over, then = episodes(1)
    # V(s_t) is V(s') of the step before, but where an episode begins
    now = np.random.default_rng(2).normal(size=(T, N))
    now[1:] = np.where(over[:-1], now[1:], then[:-1])
    discount, trace = 0.95, 0.8
    error = reward + discount * ~terminated * then - now
    wanted = np.zeros((T, N))
    for t in range(T):
        for i in range(N):
            for k in range(t, T):
                wanted[t, i] += (discount * trace) ** (k - t) * error[k, i]
                if over[k, i]:
                    break
    found = lambda_return(reward, terminated, over, then, discount, trace) - now
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_lambda_target_reads_the_live_critic_time_before_copies():
    reward, terminated, over, then = episodes(3)
    critic = model("critic", (lambda key: 0.0, lambda v, o: v * o[:, 0]))
    target = lambda_target(state_value(critic), 0.9, 0.6, T)
    flat = {"reward": reward, "terminated": terminated, "truncated": over & ~terminated}
    batch = {name: jnp.asarray(x).reshape(-1) for name, x in flat.items()}
    batch["next_observation"] = jnp.asarray(then).reshape(-1, 1)

    def mean(scale):
        return jnp.mean(target({"critic": scale}, {}, batch, KEY)["taken"])

    found = target({"critic": 2.0}, {}, batch, KEY)["taken"].reshape(T, N)
    np.testing.assert_allclose(
        found, by_hand(reward, terminated, over, 2 * then, 0.9, 0.6), rtol=1e-10
    )
    ends = [by_hand(reward, terminated, over, s * then, 0.9, 0.6).mean() for s in (1, 2)]
    assert float(jax.grad(mean)(2.0)) == pytest.approx(ends[1] - ends[0], rel=1e-8)  # linear in V


# Transitions that end, that are cut short, and that do neither; the last reaches over 3 steps.
BATCH = {
    "observation": jnp.zeros((4, 1)),
    "next_observation": jnp.array([[1.0], [2.0], [3.0], [4.0]]),
    "reward": jnp.array([0.1, 0.2, 0.3, 0.4]),
    "terminated": jnp.array([True, False, False, False]),
    "truncated": jnp.array([False, True, False, False]),
}
ACTOR = model("actor", (lambda key: 0.0, lambda k, o: k * o))
TWINS = model("critic", (lambda key: 0.0, lambda c, o, a: c[None] + a * o))
PARAMS = {"actor": jnp.array(0.1), "critic": jnp.array([5.0, 4.0])}
PAIR = heads.several(heads.scalar(squared_error), 2)
SEEN = np.arange(1.0, 5.0)


def targets(choose, batch=BATCH, params=PARAMS, discount=0.9, head=PAIR):
    found = q_target(ACTOR, TWINS, discount, head, choose)
    return jax.jit(lambda key: found(params, {}, batch, key)["taken"])


def test_twins_are_heard_by_their_minimum_and_termination_masks():
    wanted = np.array([0.1, 0.2, 0.3, 0.4]) + 0.9 * np.array([0, 1, 1, 1]) * (4 + 0.1 * SEEN**2)
    np.testing.assert_allclose(targets(as_it_is)(KEY), wanted, rtol=1e-5)
    swapped = {**PARAMS, "critic": PARAMS["critic"][::-1]}
    np.testing.assert_allclose(targets(as_it_is, params=swapped)(KEY), wanted, rtol=1e-5)


def test_a_transition_of_several_steps_fades_by_its_span():
    batch = {**BATCH, "span": jnp.array([1.0, 2.0, 1.0, 3.0])}
    fade = np.array([0, 0.9**2, 0.9, 0.9**3])
    wanted = np.array([0.1, 0.2, 0.3, 0.4]) + fade * (4 + 0.1 * SEEN**2)
    np.testing.assert_allclose(targets(as_it_is, batch)(KEY), wanted, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("deviation", "clip"), [(50.0, 0.3), (0.1, 0.5)])
def test_smoothing_is_clipped_noise_on_the_slow_action(deviation, clip):
    play = targets(smoothed(deviation, clip, bounded=False))
    y = np.asarray(jax.vmap(play)(jax.random.split(KEY, 400)))[:, 1:]
    noise = ((y - BATCH["reward"][None, 1:]) / 0.9 - 4) / SEEN[None, 1:] - 0.1 * SEEN[None, 1:]
    assert np.abs(noise).max() <= clip + 1e-5
    if deviation > clip:
        assert np.mean(np.abs(noise) > clip - 1e-5) > 0.95
    else:
        assert noise.std() == pytest.approx(deviation, rel=0.1)
    assert abs(noise.mean()) < 5 * noise.std() / 1200**0.5


def test_a_smoothed_action_stays_in_bounds():
    loud = {**PARAMS, "actor": jnp.array(0.9)}  # actions 0.9, 1.8, …
    y = np.asarray(targets(smoothed(0.0, 0.5, bounded=True), params=loud)(KEY))
    action = ((y - BATCH["reward"])[1:] / 0.9 - 4) / SEEN[1:]
    np.testing.assert_allclose(action, 1, rtol=1e-5)


@pytest.mark.long
def test_a_policy_adds_its_entropy_at_the_live_temperature():
    policy = gaussian(1)
    actor = model("actor", (lambda key: 0.0, lambda k, o: jnp.concatenate([k * o, 0 * o], 1)))
    batch = {**BATCH, "next_noise": jnp.array([[0.5], [-1.0], [0.0], [2.0]])}
    action = 0.1 * SEEN + np.array([0.5, -1, 0, 2])
    log_prob = -0.5 * np.array([0.5, -1, 0, 2]) ** 2 - 0.5 * np.log(2 * np.pi)

    def found(temperature):
        bonus = sampled(policy, lambda params: params["temperature"])
        target = q_target(actor, TWINS, 0.9, PAIR, bonus)
        return target({**PARAMS, "temperature": temperature}, {}, batch, KEY)["taken"]

    going = 0.9 * np.array([0, 1, 1, 1])
    for alpha in (0.0, 0.7):
        wanted = BATCH["reward"] + going * (4 + action * SEEN - alpha * log_prob)
        np.testing.assert_allclose(found(alpha), wanted, rtol=1e-5)
    np.testing.assert_allclose(jax.jacobian(found)(0.3), -going * log_prob, rtol=1e-5)
    silent = q_target(actor, TWINS, 0.9, PAIR, sampled(policy))
    np.testing.assert_allclose(silent(PARAMS, {}, batch, KEY)["taken"], found(0.0), rtol=1e-6)


def test_a_distribution_is_backed_up_quantile_by_quantile():
    head = heads.quantile(2)
    critic = model("critic", (lambda key: 0.0, lambda c, o, a: c[None] + a * o))
    target = q_target(ACTOR, critic, 0.9, head)
    found = target(PARAMS, {}, BATCH, KEY)["taken"]
    base = np.array([[5.0, 4.0]]) + 0.1 * SEEN[:, None] ** 2
    going = 0.9 * np.array([0, 1, 1, 1])[:, None]
    np.testing.assert_allclose(found, BATCH["reward"][:, None] + going * base, rtol=1e-5)
