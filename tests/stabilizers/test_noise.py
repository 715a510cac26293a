from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gacf.core.clock import with_clock
from gacf.networks import Model, model
from gacf.stabilizers import compatible, noisy

KEY = jax.random.key(0)
SHOWN = (lambda key, *inputs: jnp.zeros(()), lambda own, *inputs: inputs)


def shown(judge: Model, *inputs: Any, key: Any = KEY, **world: Any) -> Any:
    return judge.apply(jnp.zeros(()), world, *inputs, key=key)[0]


def test_the_noise_has_its_deviation_and_each_evaluation_its_own():
    x, a = jnp.ones((200, 30)), jnp.zeros((200, 30))
    seen, acted = shown(noisy(SHOWN, 0.3), x, a)
    for blur in (np.asarray(seen - x), np.asarray(acted - a)):
        assert abs(blur.mean()) < 0.02 and blur.std() == pytest.approx(0.3, rel=0.05)
    assert abs(np.corrcoef((seen - x).ravel(), acted.ravel())[0, 1]) < 0.05
    again, _ = shown(noisy(SHOWN, 0.3), x, a, key=jax.random.key(1))
    assert np.abs(again - seen).max() > 0.1
    np.testing.assert_array_equal(shown(noisy(SHOWN, 0.3), x, a)[0], seen)


def test_clipped_noise_on_the_action_alone_is_target_smoothing():
    x, a, label = jnp.ones((50, 2)), jnp.zeros((50, 2)), jnp.arange(50)
    seen, acted, kind = shown(noisy(SHOWN, 5.0, inputs=(1,), clip=0.5), x, a, label)
    np.testing.assert_array_equal(seen, x)
    np.testing.assert_array_equal(kind, label)
    assert np.abs(acted).max() == 0.5 and np.abs(acted).min() > 0
    # whole numbers stay as they are, chosen or not
    np.testing.assert_array_equal(shown(noisy(SHOWN, 5.0), x, a, label)[2], label)


def test_it_is_annealed_by_the_step_and_absent_from_evaluation():
    judge, x = noisy(SHOWN, lambda step: 1.0 * 0.5**step), jnp.ones((4, 2))
    first, second = (shown(judge, x, step=jnp.array(i))[0] - x for i in (0, 1))
    np.testing.assert_allclose(second, first / 2, rtol=1e-5)
    np.testing.assert_array_equal(judge.apply((), with_clock({}), x, key=KEY, train=False)[0][0], x)


def test_none_is_off_to_the_bit_and_is_swept():
    x = jnp.array([[1.0, -0.0], [1e30, 1e-30]])
    found = jax.jit(jax.vmap(lambda s: shown(noisy(SHOWN, s), x)[0]))(jnp.array([0.0, 1.0]))
    assert np.asarray(found[0]).tobytes() == np.asarray(x).tobytes()
    assert np.abs(found[1] - x).max() > 0.1


@pytest.mark.long
def test_a_compatible_critic_still_sees_the_actor():
    actor = model("actor", (lambda key: jnp.ones(()), lambda k, s: k * s))
    critic = compatible(actor, (lambda key: jnp.ones(()), lambda v, s: v * s))
    own = {"weights": jnp.ones(()), "baseline": jnp.zeros(())}
    s, a = jnp.full((3, 1), 2.0), jnp.full((3, 1), 5.0)
    plain, noised = (
        m.given({"actor": jnp.ones(())}).apply(own, {}, s, a, key=KEY)[0]
        for m in (critic, noisy(critic, 0.1, inputs=(1,)))
    )
    moved = np.asarray(noised - plain)
    assert 0 < np.abs(moved).max() < 2  # Q = (a − s) s: the noise times 2


def test_errors():
    x = jnp.ones((2, 1))
    with pytest.raises(ValueError, match=r"deviation: -1\.0 was given; allowed: a number >= 0"):
        noisy(SHOWN, -1.0)
    with pytest.raises(ValueError, match="clip: 0 was given; allowed: a number > 0, or None"):
        noisy(SHOWN, 1.0, clip=0)
    with pytest.raises(ValueError, match="noisy: inputs: 1 was given; critic has 1 of them"):
        shown(noisy(SHOWN, 1.0, inputs=(1,)), x)
    with pytest.raises(ValueError, match="noisy: critic: key: None was given"):
        shown(noisy(SHOWN, 1.0), x, key=None)
