from __future__ import annotations

import collections
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gacf.stabilizers import buffer as replay

KEY = jax.random.key(0)
ITEM = {"number": jnp.array(0), "pair": jnp.zeros(2), "flag": jnp.array(False)}


def items_of(numbers):
    numbers = jnp.asarray(numbers)
    return {
        "number": numbers,
        "pair": jnp.stack([numbers, -numbers], axis=-1).astype(jnp.float32),
        "flag": numbers % 2 == 0,
    }


@pytest.mark.long
@pytest.mark.parametrize("lengths", [(1,) * 20, (4,) * 7, (3, 5, 1, 7, 7, 2, 6, 3)])
def test_holds_the_newest_items_wherever_it_wraps(lengths):
    capacity = 8
    buffer, newest, count = replay.init(ITEM, capacity), collections.deque(maxlen=capacity), 0
    for n in lengths:
        numbers = range(count, count + n)
        buffer, count = replay.add(buffer, items_of(list(numbers))), count + n
        newest.extend(numbers)
        size = int(buffer.size)
        assert size == len(newest)
        assert int(buffer.cursor) == count % capacity
        held = jax.tree.map(lambda leaf, size=size: leaf[:size], buffer.items)
        assert sorted(held["number"].tolist()) == sorted(newest)
        jax.tree.map(np.testing.assert_array_equal, held, items_of(held["number"]))
    assert buffer.items["flag"].dtype == jnp.bool_


def test_an_item_may_be_described_by_its_shape_alone():
    shape = jax.eval_shape(lambda: ITEM)
    jax.tree.map(np.testing.assert_array_equal, replay.init(shape, 4), replay.init(ITEM, 4))


@pytest.mark.long
def test_samples_are_uniform_over_what_is_there_and_independent():
    buffer = replay.add(replay.init(jnp.array(-1), 100), jnp.arange(20))
    drawn = np.asarray(replay.sample(buffer, KEY, 20_000))
    counts = np.bincount(drawn, minlength=20)
    assert len(counts) == 20  # an empty slot would show as -1 and fail in bincount
    assert stats.chisquare(counts).pvalue > 1e-3
    pairs = np.bincount(drawn[::2] * 20 + drawn[1::2], minlength=400)
    assert stats.chisquare(pairs).pvalue > 1e-3  # with replacement


@pytest.mark.long
def test_ages_are_uniform_up_to_the_capacity():
    capacity, n, steps = 60, 7, 100

    def step(buffer, i):
        buffer = replay.add(buffer, i * n + jnp.arange(n))
        newest = (i + 1) * n - 1
        return buffer, newest - replay.sample(buffer, jax.random.fold_in(KEY, i), 200)

    _, ages = jax.lax.scan(step, replay.init(jnp.array(0), capacity), jnp.arange(steps))
    settled = np.asarray(ages[20:]).ravel()
    assert settled.min() == 0 and settled.max() == capacity - 1
    assert stats.chisquare(np.bincount(settled)).pvalue > 1e-3
    assert np.asarray(ages[0]).max() == n - 1


@pytest.mark.long
def test_vmap_and_map_equal_a_loop():
    def play(key):
        def step(buffer, key):
            buffer = replay.add(buffer, jax.random.normal(key, (3, 2)))
            return buffer, replay.sample(buffer, key, 5)

        return jax.lax.scan(step, replay.init(jnp.zeros(2), 8), jax.random.split(key, 6))

    keys = jax.random.split(KEY, 3)
    loop = [play(key) for key in keys]
    for many in (jax.vmap(play)(keys), jax.lax.map(play, keys)):
        for i, one in enumerate(loop):
            jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), many, one)


def test_an_empty_buffer_yields_zeros():
    assert replay.sample(replay.init(jnp.array(1.0), 5), KEY, 3).tolist() == [0, 0, 0]


def whole_copies(compiled_text: Any, capacity: int) -> list[str]:
    """Instructions in the bodies of loops that copy a whole buffer of that capacity."""
    entry = compiled_text.index("\nENTRY")
    return re.findall(
        rf"= \S*\[(?:\d+,)*{capacity}\b\S* (?:copy|select)\(.*", compiled_text[:entry]
    )


@pytest.mark.long
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("over", ["one", "vmap", "map"])
def test_no_step_copies_the_whole_buffer(n, over):
    capacity, lanes = 10_007, 2

    def play(buffer, key):
        def step(carry, key):
            buffer, x = carry
            x = -0.9 * x  # so cheap that XLA may compute it twice, to fuse it with what reads it
            buffer = replay.add(
                buffer, {"vector": jax.random.normal(key, (n, 2)), "cheap": jnp.full(n, x)}
            )
            drawn = replay.sample(buffer, key, 5)
            return (buffer, x), drawn["vector"].sum() + drawn["cheap"].sum()

        start = (buffer, jnp.ones(()))
        (buffer, _), sums = jax.lax.scan(step, start, jax.random.split(key, 50))
        return buffer, sums

    def lane(x):
        return play(*x)

    item = {"vector": jnp.zeros(2), "cheap": jnp.zeros(())}
    buffer, keys = replay.init(item, capacity), jax.random.split(KEY, lanes)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * lanes), buffer)
    program, args = {
        "one": (play, (buffer, KEY)),
        "vmap": (jax.vmap(play), (many, keys)),
        "map": (lambda *x: jax.lax.map(lane, x), (many, keys)),
    }[over]
    text = jax.jit(program, donate_argnums=0).lower(*args).compile().as_text() or ""
    assert f"{capacity}" in text
    # lax.map takes each lane's buffer out and puts it back once a call, which is no step
    allowed = 2 if over == "map" else 0
    assert len(whole_copies(text, capacity)) <= allowed, whole_copies(text, capacity)


def test_the_check_for_copies_can_fail():
    capacity = 10_007

    def step(buffer, x):
        kept = jax.lax.cond(x > 0, lambda b: b.at[0].set(x), lambda b: b, buffer)
        return kept, kept.sum() + buffer[3]

    args = (jnp.zeros(capacity), jnp.arange(50.0))
    text = jax.jit(lambda b, x: jax.lax.scan(step, b, x), donate_argnums=0).lower(*args).compile()
    assert whole_copies(text.as_text(), capacity)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: replay.init(ITEM, 0), "capacity: 0 was given; allowed: a whole number >= 1"),
        (lambda: replay.add(replay.init(jnp.array(0), 2), jnp.arange(3)), r"items: .*\[3\].*2"),
        (
            lambda: replay.add(replay.init(ITEM, 9), {**items_of([1]), "flag": jnp.zeros(2, bool)}),
            r"items: .*\[1, 2\]",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
