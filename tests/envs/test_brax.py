"""brax's environments, where brax is installed."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gacf import envs
from gacf.envs import brax
from tests.envs.contract import check_contract, play

needs_brax = pytest.mark.skipif(
    importlib.util.find_spec("brax") is None, reason="brax is not installed"
)


@pytest.mark.long
def test_listing_names_imports_none_of_the_packages():
    code = (
        "import sys; from gacf.lab.registry import names; found = names()['environments'];"
        "assert {'brax-ant', 'LQR', 'CartPole-v1'} <= set(found) and all(found.values());"
        "assert not {'brax', 'gymnax', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


CASES = [(name, "spring") for name in brax.NAMES]
CASES += [("inverted_pendulum", backend) for backend in brax.BACKENDS[1:]]


@needs_brax
@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), CASES)
def test_contract_of_all(name, backend):
    env, seen = check_contract(f"brax-{name}", 8, horizon=4, backend=backend)
    assert np.all(seen.truncated[3] | seen.terminated[:4].any())
    assert np.all(env.action.low == -1) and np.all(env.action.high == 1)


@needs_brax
@pytest.mark.slow
def test_truncation_and_termination_are_told_apart():
    def push(observation):
        return jnp.ones(1)

    env = envs.make("brax-inverted_pendulum", horizon=5)
    seen = jax.jit(lambda: play(env, 12, policy=push))()
    np.testing.assert_array_equal(np.flatnonzero(seen.truncated), [4, 9])
    assert not np.any(seen.terminated)
    # it led to a faster cart, and the next episode starts at rest, each somewhere else
    assert np.all(np.abs(seen.next_observation[4:10:5, 2]) > 0.1)
    starts = np.asarray(seen.observation[4:10:5])
    assert np.abs(starts).max() < 0.05 and not np.allclose(starts[0], starts[1], atol=1e-6)

    long = jax.jit(lambda: play(envs.make("brax-inverted_pendulum"), 80, policy=push))()
    ends = np.flatnonzero(long.terminated)
    assert len(ends) >= 2 and not np.any(long.truncated)
    assert np.all(np.abs(long.next_observation[ends, 1]) > 0.2)  # has fallen
    assert np.abs(long.observation[ends]).max() < 0.05
    # the cut episode is the beginning of the long one
    np.testing.assert_allclose(
        seen.next_observation[:5], long.next_observation[:5], rtol=1e-4, atol=1e-5
    )


@needs_brax
def test_errors():
    for call, message in (
        (lambda: envs.make("brax-antt"), "did you mean 'brax-ant'"),
        (lambda: envs.from_brax("antt"), "did you mean 'ant'"),
        (lambda: envs.make("brax-ant", backend="springs"), "did you mean 'spring'"),
        (lambda: envs.make("brax-ant", frames=3), "did you mean 'n_frames'"),
        (lambda: envs.make("brax-ant", horizon=0), "horizon: 0 was given"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@needs_brax
def test_all_of_brax_is_there():
    package = importlib.import_module("brax.envs")

    assert set(brax.NAMES) == set(package._envs) - {"fast", "swimmer"}
