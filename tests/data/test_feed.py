"""Data that are read ahead: what is read when, by every map, and what is told of broken ones."""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import gacf
from gacf import rules
from gacf.data import Feed, ImageFiles
from gacf.lab.cli import main
from gacf.methods.flows import Labelled, bigan
from gacf.networks import MLP

KEY = jax.random.key(0)
ROWS = np.arange(24, dtype=np.float32)[:, None] * np.ones(2, np.float32)  # record i is [i, i]


class Source:
    """Records that note who asked for them."""

    def __init__(self, records: np.ndarray, wait: float = 0.0):
        self.records, self.wait = records, wait
        self.asked: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(self.wait)
        self.asked.append((threading.current_thread().name, index))
        return self.records[index]


def game(data: Any, batch_size: int = 4) -> gacf.Algorithm:
    made = gacf.gan(MLP((4,), (2,)), MLP((4,)), data, batch_size=batch_size, noise=2)
    return gacf.compose(made, rules.alternating({p: optax.sgd(0.01) for p in made.losses}))


@pytest.mark.long
def test_an_epoch_is_a_permutation_and_every_seed_has_its_own() -> None:
    feed = Feed(ROWS, rows=4, buffer=4)
    orders = []
    for seed in range(2):
        entry, seen = feed.init(jax.random.key(seed)), []
        for i in range(12):  # two epochs
            seen.append(np.asarray(feed.draw(entry, jax.random.key(i), 4))[:, 0].astype(int))
            entry = feed.refresh(entry)
        first, second = np.reshape(seen, (2, 24))
        assert sorted(first) == sorted(second) == list(range(24))
        assert list(first) != list(second)
        orders.append(list(first))
    assert orders[0] != orders[1]


@pytest.mark.long
def test_the_oldest_rows_give_way() -> None:
    feed = Feed(ROWS, rows=2, buffer=6)
    entry = feed.init(KEY)
    later = feed.refresh(entry)
    before, after = (np.asarray(e["held"])[:, 0] for e in (entry, later))
    assert list(before[2:]) == list(after[2:])
    assert not set(before) & set(after[:2])
    drawn = feed.draw(later, KEY, 6)
    assert sorted(np.asarray(drawn)[:, 0]) == sorted(after)
    assert feed.draw(later, KEY, 9).shape == (9, 2)


@pytest.mark.long
@pytest.mark.parametrize("map", ["vmap", "loop", "sharded-vmap", "sharded-loop"])
def test_all_maps_read_the_same(map: str) -> None:
    algorithm = game(Feed(ROWS, rows=4, buffer=8))
    state, _ = gacf.run(algorithm, KEY, 5, seeds=3, map=map)
    step = jax.jit(algorithm.step)
    one = algorithm.init(jax.random.fold_in(KEY, 2))
    for _ in range(5):
        one, _ = step(one)
    np.testing.assert_array_equal(one.world["data"]["held"], state.world["data"]["held"][2])
    np.testing.assert_allclose(
        jax.tree.leaves(one.params)[0], jax.tree.leaves(state.params)[0][2], rtol=1e-5
    )


def test_what_has_been_read_ahead_is_not_waited_for() -> None:
    source = Source(ROWS)
    feed = Feed(source, rows=4, buffer=4, ahead=2)
    entry = feed.init(KEY)
    entry = feed.refresh(entry)
    while len(source.asked) < 1 + 4 * (1 + 1 + 2):  # the first, buffer, step, and two ahead
        time.sleep(0.01)
    source.wait = 10.0
    began = time.perf_counter()
    jax.block_until_ready(feed.refresh(feed.refresh(entry)))
    assert time.perf_counter() - began < 5.0
    source.wait = 0.0
    assert {name for name, _ in source.asked[1:]} <= {f"gacf-feed_{i}" for i in range(4)}


def test_a_state_of_before_reads_the_same_again() -> None:
    feed = Feed(ROWS, rows=4, buffer=8)
    entries = [feed.init(KEY)]
    for _ in range(6):
        entries.append(feed.refresh(entries[-1]))
    again = feed.refresh(entries[2])
    np.testing.assert_array_equal(again["held"], entries[3]["held"])
    fresh = Feed(ROWS, rows=4, buffer=8)  # as after a restart
    np.testing.assert_array_equal(fresh.refresh(entries[5])["held"], entries[6]["held"])


@pytest.mark.long
def test_bytes_are_held_as_they_are_and_scaled_when_drawn() -> None:
    images = np.arange(12, dtype=np.uint8).reshape(6, 2)
    feed = Feed(
        images, 2, transform=lambda x: (x, x[0] % 2), scale=lambda x: x.astype(jnp.float32) / 255
    )
    entry = feed.init(KEY)
    assert [leaf.dtype for leaf in entry["held"]] == [np.uint8, np.uint8]
    for x, label in (feed.draw(entry, KEY, 5), feed.sample(KEY, 5)):
        assert x.dtype == jnp.float32 and float(x.max()) < 0.05
        np.testing.assert_array_equal(jnp.round(255 * x[:, 0]).astype(int) % 2, label)


@pytest.mark.long
def test_it_trains_on_what_grain_transforms_with_labels() -> None:
    import grain

    digits, labels = (np.asarray(x) for x in gacf.data.digits("train"))
    records = grain.MapDataset.range(len(digits)).map(lambda i: (digits[i], labels[i]))
    made = gacf.gan(
        Labelled((8,), 10, (8, 8, 1)), Labelled((8,), 10), Feed(records, rows=8),
        batch_size=8, noise=2, evaluate=lambda made, key: {"labels": jnp.mean(made[1])}, samples=16,
    )  # fmt: skip
    algorithm = gacf.compose(made, rules.alternating({p: optax.sgd(0.01) for p in made.losses}))
    state, metrics = gacf.run(algorithm, KEY, 3, seeds=2, log_every=3, evaluate_every=3)
    assert 0 <= float(metrics["evaluate/labels"][0, 0]) <= 9
    assert not bool(metrics["diverged"].any())
    assert int(state.world["data"]["read"][0]) == 8 + 3


def test_other_games_take_it_for_a_sampler() -> None:
    made = bigan(MLP((4,), (2,)), MLP((4,), (2,)), MLP((4,)), Feed(ROWS), noise=2, batch_size=4)
    batch = made.sample({}, KEY)
    assert batch["real"].shape == (4, 2)
    assert set(np.asarray(batch["real"]).ravel()) <= set(range(24))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows: 0 was given"),
        ({"rows": 4, "buffer": 6}, "buffer: 6 was given; allowed: a multiple of 4"),
        ({"source": []}, "source: "),
        ({"transform": lambda x: "cat"}, "data: record 0: str was given; allowed: an array"),
        ({"ahead": -1}, "ahead: -1 was given"),
    ],
)
def test_messages_name_the_argument(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Feed(**{"source": ROWS, **change})


def test_records_are_all_like_the_first() -> None:
    ragged = [np.zeros(2, np.float32), np.zeros(3, np.float32)]
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"record 1: float32\[3\] was given"):
        jax.block_until_ready(Feed(ragged, rows=2, buffer=2).init(KEY))
    mixed = [np.zeros(2, np.uint8), np.zeros(2, np.float32)]
    with pytest.raises(
        jax.errors.JaxRuntimeError, match=r"allowed: like the first record, uint8\[2\]"
    ):
        jax.block_until_ready(Feed(mixed, rows=2, buffer=2).init(KEY))
    wider = [np.zeros(2, np.uint8), np.full(2, 300, np.uint16)]
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"uint16 from 300 to 300 was given"):
        jax.block_until_ready(Feed(wider, rows=2, buffer=2).init(KEY))
    with pytest.raises(ValueError, match="record 0: tuple was given"):
        Feed(ROWS, transform=lambda x: (x,))


def test_reading_in_threads_leaves_the_filters_of_warnings_alone(tmp_path: Any) -> None:
    for i in range(40):
        Image.new("RGB", (32, 32), (i, i, i)).save(tmp_path / f"{i:02}.png")
    before, seen = list(warnings.filters), set()

    def watched(record: Any) -> Any:
        seen.add(tuple(map(str, warnings.filters)) == tuple(map(str, before)))
        return record[0]

    feed = Feed(ImageFiles(tmp_path, (16, 16)), rows=8, buffer=16, threads=4, transform=watched)
    entry, step = feed.init(KEY), jax.jit(feed.refresh)
    for _ in range(10):
        entry = step(entry)
    jax.block_until_ready(entry)
    assert list(warnings.filters) == before and seen == {True}


EXPERIMENT = """
from ml_collections import ConfigDict
import gacf, optax
from gacf.networks import MLP


def get_config():
    return ConfigDict({"seeds": 2, "steps": 20, "folder": ""})


def build(config):
    files, scale = gacf.data.ImageFiles(config.folder), lambda x: x / 127.5 - 1
    feed = gacf.data.Feed(files, 2, transform=lambda pair: pair[0], scale=scale)
    game = gacf.gan(MLP((4,), (4, 4, 3)), MLP((4,)), feed, batch_size=2, noise=2)
    rule = gacf.rules.alternating({p: optax.sgd(0.01) for p in game.losses})
    return gacf.compose(game, rule)
"""


@pytest.mark.long
def test_a_broken_image_ends_a_run_with_its_name(tmp_path: Any, capfd: Any) -> None:
    for i in range(40):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{i:02}.png")
    broken = tmp_path / "17.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert ImageFiles(tmp_path).paths[17] == broken
    experiment = tmp_path / "fed.py"
    experiment.write_text(EXPERIMENT)
    where = tmp_path / "run"
    command = ["run", str(experiment), "--workdir", str(where), f"--config.folder={tmp_path}"]
    assert main(command) == 1
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("gacf: cell 'fed', ")
    assert f"data: record 17: read_images: {broken}: not an image, truncated" in said[0]
    assert said[0].endswith(f"go on with: gacf resume {where}")
