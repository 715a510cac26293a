"""What the probes are said to be worth, against what they do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gacf import envs
from gacf.envs import probes
from tests.envs.contract import origins, play_all

GAMMA = 0.8
KINDS = ("continuous", "discrete")

# name, o, action (continuous, discrete), V(o), Q(o, action)
KNOWN = [
    ("probe-constant", [1.0], (0.3, 0), 1, 1),
    ("probe-observation", [-1.0], (0.3, 0), -1, -1),
    ("probe-observation", [1.0], (0.3, 0), 1, 1),
    ("probe-action", [1.0], (0.5, 1), 1, 1),
    ("probe-action", [1.0], (-0.5, 0), 1, 0),
    ("probe-match", [-1.0], (-0.5, 0), 1, 1),
    ("probe-match", [-1.0], (0.5, 1), 1, 0),
    ("probe-match", [1.0], (0.5, 1), 1, 1),
    ("probe-discount", [0.0], (0.3, 0), 0.8, 0.8),
    ("probe-discount", [1.0], (0.3, 0), 1, 1),
    ("probe-delayed", [-1.0, 0.0], (0.5, 1), 0.64, 0.64),
    ("probe-delayed", [-1.0, 0.0], (-0.5, 0), 0.64, 0),
    ("probe-delayed", [0.0, 0.25], (0.3, 0), 0.2, 0.2),
    ("probe-delayed", [1.0, 0.25], (0.3, 0), 0.25, 0.25),
    ("probe-termination", [1.0], (0.3, 0), 1, 1),
    ("probe-termination", [-1.0], (0.3, 0), 0, 0),
    ("probe-truncation", [1.0], (0.3, 0), 1 / 0.36, 1 / 0.36),
    ("probe-truncation", [-1.0], (0.3, 0), 0.8 / 0.36, 0.8 / 0.36),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "o", "taken", "v", "q"), KNOWN)
def test_values_in_numbers(name, o, taken, v, q):
    o = np.array(o)
    assert float(probes.value(name, GAMMA, o)) == pytest.approx(v)
    for action in (np.array([taken[0]]), np.array(taken[1])):
        assert float(probes.action_value(name, GAMMA, o, action)) == pytest.approx(q, abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("actions", KINDS)
@pytest.mark.parametrize("name", probes.PROBES)
def test_what_is_played_obeys_the_bellman_equation(name, actions):
    """Q(o, a) = r + γ [not terminated] V(o') has one solution; with both, V = max_a Q too."""
    env = envs.make(name, actions=actions)
    assert (env.name, isinstance(env.action, envs.Discrete)) == (name, actions == "discrete")
    first, action, seen = jax.jit(lambda: play_all(env, 60))()
    o = origins(first, seen)
    later = np.where(seen.terminated, 0, probes.value(name, GAMMA, seen.next_observation))
    q = probes.action_value(name, GAMMA, o, action)
    np.testing.assert_allclose(seen.reward + GAMMA * later, q, rtol=1e-5, atol=1e-6)
    v = np.asarray(probes.value(name, GAMMA, o))
    best = probes.best_action(name, o, actions)
    if best is None:
        np.testing.assert_allclose(q, v, rtol=1e-5)
        return
    assert best.shape == action.shape
    # after its first step, the delayed probe's value is what that step has earned
    free = o[:, 0] < -0.5 if name == "probe-delayed" else np.full(60, True)
    assert free.sum() >= 20 and np.all(q[free] <= v[free] + 1e-6) and np.ptp(q[free]) > 0.1
    top = probes.action_value(name, GAMMA, o, best)
    np.testing.assert_allclose(top[free], v[free], rtol=1e-6)


@pytest.mark.long
def test_episodes_end_as_they_should():
    ends = {
        "probe-constant": (1, "terminated"),
        "probe-discount": (2, "terminated"),
        "probe-delayed": (3, "terminated"),
        "probe-termination": (1, "terminated"),
        "probe-truncation": (1, "truncated"),
    }
    made = {name: envs.make(name) for name in ends}
    played = jax.jit(lambda: {name: play_all(env, 6)[2] for name, env in made.items()})()
    for name, (length, how) in ends.items():
        env, seen = made[name], played[name]
        done = {"terminated": seen.terminated, "truncated": seen.truncated}
        np.testing.assert_array_equal(done.pop(how), np.arange(1, 7) % length == 0)
        assert not np.any(*done.values()) and env.horizon == length
    _, _, seen = play_all(envs.make("probe-truncation", length=4), 8)
    np.testing.assert_array_equal(np.flatnonzero(seen.truncated), [3, 7])


def least_squares(o, reward, follows, going_on, discount):
    """V(−1) and V(1) where V(o) = mean of r + γ V(o'), from what was seen."""
    now, then = (np.stack([x < 0, x > 0], -1).astype(float) for x in (o, follows))
    return np.linalg.solve(now.T @ (now - discount * going_on[:, None] * then), now.T @ reward)


@pytest.mark.long
def test_truncation_tells_the_three_wirings_apart():
    first, _, seen = jax.jit(lambda: play_all(envs.make("probe-truncation"), 20_000))()
    o, to, after = (
        np.asarray(x)[:, 0] for x in (origins(first, seen), seen.next_observation, seen.observation)
    )
    reward, on = np.asarray(seen.reward, np.float64), np.ones(len(o))
    known = np.asarray(probes.value("probe-truncation", GAMMA, [[-1.0], [1.0]]))
    right = least_squares(o, reward, to, on, GAMMA)
    np.testing.assert_allclose(right, known, rtol=1e-6)
    # as its docstring says of those who err
    wrong = least_squares(o, reward, after, on, GAMMA)
    np.testing.assert_allclose(wrong, np.array([0, 1]) + 0.8 / (2 * 0.2), rtol=0.05)
    as_end = least_squares(o, reward, to, 0 * on, GAMMA)
    ended = np.asarray(probes.value("probe-termination", GAMMA, [[-1.0], [1.0]]))
    np.testing.assert_allclose(as_end, ended, atol=1e-6)
    # and the two probes differ by the bootstrap alone
    np.testing.assert_allclose(known - ended, GAMMA * known[::-1], rtol=1e-6)


def test_starts_are_drawn_anew():
    names = ("probe-observation", "probe-match", "probe-truncation")
    played = jax.jit(lambda: [play_all(envs.make(name), 400)[2] for name in names])()
    for seen in played:
        assert abs(float(jnp.mean(seen.observation))) < 5 / 400**0.5


def test_docstrings_state_the_values():
    for constructor in probes.CONSTRUCTORS.values():
        assert "V" in constructor.__doc__ and "Q" in constructor.__doc__
    assert list(probes.CONSTRUCTORS) == list(probes.PROBES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probes.value("probe-delay", 0.9, [0.0]), "did you mean 'probe-delayed'"),
        (lambda: probes.best_action("action", [1.0]), "'action' is unknown"),
        (lambda: envs.make("probe-action", actions="both"), "actions: 'both' is unknown"),
        (lambda: envs.make("probe-acton"), "did you mean 'probe-action'"),
        (lambda: envs.make("probe-action", action="discrete"), "did you mean 'actions'"),
        (lambda: envs.make("probe-truncation", length=0), "length: 0 was given"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
