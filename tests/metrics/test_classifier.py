from __future__ import annotations

import jax
import numpy as np
import pytest

from gacf.data import digits
from gacf.metrics import digits_classifier, fid, prdc


@pytest.mark.long
def test_it_knows_digits_and_says_how_well():
    features, accuracy, logits = digits_classifier()
    images, labels = digits("test")
    assert accuracy == pytest.approx(float((logits(images).argmax(-1) == labels).mean()), abs=1e-6)
    assert accuracy > 0.96
    assert features(images).shape == (len(images), 64)
    assert digits_classifier() is digits_classifier()


@pytest.mark.long
def test_it_is_the_same_when_trained_again():
    first, second = digits_classifier(), digits_classifier.__wrapped__()
    images, _ = digits("test")
    np.testing.assert_array_equal(first.features(images), second.features(images))


@pytest.mark.long
def test_it_may_be_made_and_used_inside_a_trace():
    images, _ = digits("test")
    features = digits_classifier().features
    batched = jax.jit(jax.vmap(features))(images[:6].reshape(2, 3, 8, 8, 1))
    expected = features(images[:6]).reshape(2, 3, -1)
    np.testing.assert_allclose(batched, expected, rtol=1e-4, atol=1e-5)
    inside = jax.jit(lambda x: digits_classifier.__wrapped__().features(x))(images[:6])
    np.testing.assert_allclose(inside, features(images[:6]), rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_distances_in_its_features_tell_real_from_bad():
    features = digits_classifier().features
    train, test = (features(digits(split)[0]) for split in ("train", "test"))
    noise = features(jax.random.uniform(jax.random.key(0), (899, 8, 8, 1), minval=-1.0))
    assert fid(train, test) < 0.02 * fid(train, noise)
    real, bad = prdc(train, test), prdc(train, noise)
    assert real["coverage"] > 0.9 > 0.1 > bad["coverage"]
