from __future__ import annotations

import gzip
import struct
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gacf import data

KEY = jax.random.key(0)


def test_ring_has_eight_different_means_on_the_circle():
    means = np.asarray(data.ring().means)
    assert means.shape == (8, 2) and means.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, rtol=1e-6)
    angles = np.sort(np.arctan2(means[:, 1], means[:, 0]))
    np.testing.assert_allclose(np.diff(angles), np.pi / 4, atol=1e-6)


def test_grid_is_the_published_one():
    means = {tuple(mean) for mean in np.asarray(data.grid().means).tolist()}
    assert means == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert data.grid().scale == 0.05 and data.ring().scale == 0.01


@pytest.mark.long
def test_samples_follow_the_mixture():
    mixture = data.ring(modes=5, radius=2.0, scale=0.1)
    samples: Any = np.asarray(mixture.sample(KEY, 20_000), np.float64)
    means = np.asarray(mixture.means, np.float64)
    apart = np.asarray(samples[:, None] - means)
    nearest = np.argmin(np.square(apart).sum(-1), axis=1)
    assert stats.chisquare(np.bincount(nearest, minlength=5)).pvalue > 1e-3
    residual: Any = np.take_along_axis(apart, nearest[:, None, None], axis=1)[:, 0] / 0.1
    for coordinate in residual.T:
        assert stats.kstest(coordinate, "norm").pvalue > 1e-3
    assert abs(np.mean(np.prod(residual, axis=1))) < 0.03


@pytest.mark.long
def test_samples_are_fresh_and_the_scale_may_be_traced():
    first, second = (data.ring().sample(key, 10) for key in jax.random.split(KEY))
    assert not np.array_equal(first, second)
    scales = jnp.array([1e-4, 0.5])
    one = jax.jit(jax.vmap(lambda scale: data.ring(1, scale=scale).sample(KEY, 500)))
    np.testing.assert_allclose(one(scales).std(1), [[1e-4] * 2, [0.5] * 2], rtol=0.2)


def test_digits_are_sklearns_and_split_in_fixed_stratified_halves():
    from sklearn.datasets import load_digits

    raw, classes = load_digits(return_X_y=True)
    images, labels = data.digits("all")
    np.testing.assert_array_equal((images.reshape(-1, 64) + 1) * 8, raw)
    np.testing.assert_array_equal(labels, classes)
    assert images.dtype == jnp.float32 and labels.dtype == jnp.int32
    assert float(images.min()) == -1 and float(images.max()) == 1
    halves = [data.digits("train"), data.digits("test")]
    counts = [np.bincount(labels) for _, labels in halves]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    flat = [np.asarray(images).reshape(-1, 64) for images, _ in halves]
    together = np.concatenate(flat)
    order = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
    np.testing.assert_array_equal(order(together), order(np.asarray(images).reshape(-1, 64)))
    # a fixed split: these two sums change if it does
    assert [int(labels.sum()) for _, labels in halves] == [4037, 4033]


def test_digits_inside_a_trace_are_values():
    seen = []
    jax.jit(lambda x: seen.append(data.digits("test")[0]) or x)(0.0)
    assert isinstance(seen[0], jax.Array) and float(seen[0].max()) == 1.0


def idx_bytes(array, code, width):
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.dtype(width).newbyteorder(">")).tobytes()


@pytest.mark.parametrize(
    ("code", "width"),
    [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_round_trip(tmp_path, code, width, packed):
    array = np.arange(24).reshape(2, 3, 4).astype(width)
    raw = idx_bytes(array, code, width)
    path = tmp_path / "images-idx3-ubyte"  # no suffix: the contents tell
    path.write_bytes(gzip.compress(raw) if packed else raw)
    read = data.read_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(width) and read.flags.writeable


GOOD = idx_bytes(np.arange(12).reshape(3, 4), 8, "u1")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "0 bytes, too short for the 4 bytes of the magic number"),
        (b"\x89PNG....", "not an IDX file: it begins with 89 50 4e 47"),
        (bytes([0, 0, 7, 1]) + GOOD[4:], "not an IDX file: it begins with 00 00 07 01"),
        (GOOD[:9], "9 bytes, too short for a header of 2 axes"),
        (GOOD[:-1], r"truncated: shape \(3, 4\) of uint8 needs 12 bytes, there are 11"),
        (GOOD + b"!", r"trailing bytes: shape \(3, 4\) of uint8 needs 12 bytes, there are 13"),
        (gzip.compress(GOOD, mtime=0)[:-3], "truncated or corrupt gzip data"),
        (gzip.compress(GOOD, mtime=0)[:12], "truncated or corrupt gzip data"),
        (gzip.compress(GOOD, mtime=0)[:-6] + b"\0" * 6, "truncated or corrupt gzip data"),
    ],
)
def test_idx_errors_name_file_and_problem(tmp_path, raw, problem):
    path = tmp_path / "bad-idx"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=problem) as error:
        data.read_idx(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.ring(modes=0), "modes: 0 was given"),
        (lambda: data.grid(scale=0.0), "scale: 0.0 was given"),
        (lambda: data.digits("tset"), "split: 'tset' is unknown; did you mean 'test'"),
        (lambda: data.stacked_digits("tset"), "split: 'tset' is unknown; did you mean 'test'"),
        (lambda: data.swiss_roll(noise=-1.0), "noise: -1.0 was given"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_swiss_roll_is_a_spiral_with_noise():
    roll = data.swiss_roll(noise=0.0)
    points: Any = np.asarray(roll.sample(KEY, 20_000), np.float64) * 7.5
    radius = np.linalg.norm(points, axis=1)
    # without noise the distance from the centre tells the angle
    np.testing.assert_allclose(points[:, 0], radius * np.cos(radius), atol=2e-3)
    np.testing.assert_allclose(points[:, 1], radius * np.sin(radius), atol=2e-3)
    share = (radius / (1.5 * np.pi) - 1) / 2
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    # the same key draws the same places, so the difference is the noise
    noisy: Any = np.asarray(data.swiss_roll(noise=0.5).sample(KEY, 20_000), np.float64) * 7.5
    for coordinate in ((noisy - points) / 0.5).T:
        assert stats.kstest(coordinate, "norm").pvalue > 1e-3


@pytest.mark.long
def test_stacked_digits_are_triples_of_digits():
    stacked = data.stacked_digits("train")
    images, modes = stacked.labelled(KEY, 5_000)
    np.testing.assert_array_equal(images, stacked.sample(KEY, 5_000))
    assert images.shape == (5_000, 8, 8, 3) and images.dtype == jnp.float32
    singles, labels = (np.asarray(part) for part in data.digits("train"))
    known = {row.tobytes(): int(y) for row, y in zip(singles, labels, strict=True)}
    layers = np.moveaxis(np.asarray(images[:50]), -1, 0)[..., None]
    hundreds, tens, ones = [
        np.array([known[np.ascontiguousarray(row).tobytes()] for row in layer]) for layer in layers
    ]
    np.testing.assert_array_equal(modes[:50], 100 * hundreds + 10 * tens + ones)
    # the three are drawn apart, each by the digits' own frequencies
    share = np.bincount(labels) / len(labels)
    for digit in (modes // 100, modes // 10 % 10, modes % 10):
        assert stats.chisquare(np.bincount(digit), 5_000 * share).pvalue > 1e-3
    pairs = np.bincount(np.asarray(modes // 10), minlength=100)
    assert stats.chisquare(pairs, 5_000 * np.outer(share, share).ravel()).pvalue > 1e-3
