"""The Laplacian pyramid, levels that are GANs of their own, and samples chained from them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf.methods import flows
from gacf.methods.gan import r1
from gacf.networks import MLP
from gacf.rules import field

IMAGES = np.random.RandomState(0).rand(12, 4, 4, 1).astype(np.float32)
MAKERS = {"2x2": MLP((3,), (2, 2, 1)), "4x4": MLP((3,), (4, 4, 1))}
JUDGES = {"2x2": MLP((3,)), "4x4": MLP((3,))}


def made(**settings: Any) -> gacf.Game:
    return flows.lapgan(MAKERS, JUDGES, jnp.asarray(IMAGES), 2, batch_size=4, **settings)


@pytest.mark.long
def test_a_pyramid_is_rebuilt_exactly() -> None:
    # eighths, as the digits' pixels are: no rounding
    images = jnp.asarray(np.random.RandomState(0).randint(0, 17, (5, 8, 16, 2)) / 8 - 1)
    pyramid = flows.laplacian_pyramid(images, 3)
    assert [h.shape for h in pyramid] == [(5, 8 // k, 16 // k, 2) for k in (1, 2, 4, 8)]
    np.testing.assert_array_equal(flows.reconstruct(pyramid), images)
    whole = np.asarray(images).reshape(5, 8, 2, 8, 2).mean((1, 3))
    np.testing.assert_allclose(pyramid[-1][:, 0], whole, atol=1e-6)
    # what is added to the coarser image has mean 0 in each of its pixels
    np.testing.assert_allclose(flows.down(pyramid[0]), 0, atol=1e-6)
    with pytest.raises(ValueError, match="images: 1 × 2 were given"):
        flows.laplacian_pyramid(images, 4)


@pytest.mark.long
def test_each_level_is_a_gan_of_what_the_coarser_lacks() -> None:
    game = made()
    params, world = game.init(jax.random.key(0))
    batch = game.sample(world, jax.random.key(1))
    coarse = IMAGES.reshape(12, 2, 2, 2, 2, 1).mean((2, 4))
    low = coarse.repeat(2, 1).repeat(2, 2)
    rows = lambda x: {np.asarray(row).round(5).tobytes() for row in x}  # noqa: E731
    assert rows(batch["2x2/real"]) <= rows(coarse)
    both = np.concatenate([IMAGES - low, low], -1)
    shown = np.concatenate([batch["4x4/real"], batch["4x4/label"]], -1)
    assert rows(shown) <= rows(both)
    added = MAKERS["4x4"].apply(
        {"params": params["4x4/actor"]}, batch["4x4/noise"], batch["4x4/label"]
    )
    judge = lambda x: JUDGES["4x4"].apply({"params": params["4x4/critic"]}, x, batch["4x4/label"])  # noqa: E731
    wanted = np.log1p(np.exp(-judge(batch["4x4/real"]))) + np.log1p(np.exp(judge(added)))
    loss = field(game, world, batch, jax.random.key(2)).loss(
        "4x4/critic", params["4x4/critic"], params
    )[0]
    assert loss == pytest.approx(wanted.mean(), rel=1e-5)


@pytest.mark.long
def test_levels_do_not_hear_of_each_other() -> None:
    game = made(penalty=r1(0.1))
    params, world = game.init(jax.random.key(0))
    here = field(game, world, game.sample(world, jax.random.key(1)), jax.random.key(2))
    for player in game.losses:
        level = player.partition("/")[0]
        others = {
            name: own if name.startswith(level) else jax.tree.map(lambda x: x + 1, own)
            for name, own in params.items()
        }
        one, two = (here.gradient(player, p)[0] for p in (params, others))
        jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.long
def test_samples_are_chained() -> None:
    game = made()
    params, world = game.init(jax.random.key(0))
    drawn = flows.draw_pyramid(MAKERS, params, world, jax.random.key(1), 6, 2)
    assert {level: x.shape for level, x in drawn.items()} == {
        "2x2": (6, 2, 2, 1),
        "4x4": (6, 4, 4, 1),
    }
    still = {**params, "4x4/actor": jax.tree.map(jnp.zeros_like, params["4x4/actor"])}
    same = flows.draw_pyramid(MAKERS, still, world, jax.random.key(1), 6, 2)
    np.testing.assert_array_equal(same["2x2"], drawn["2x2"])
    np.testing.assert_array_equal(same["4x4"], flows.up(drawn["2x2"]))


class Counting:
    """A game with all that a game has: an environment, statistics, a settling of its own."""

    @staticmethod
    def game(start: float) -> gacf.Game:
        def loss(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
            outcome = gacf.Outcome({"seen": batch}, {"mean": own + batch + 0 * world["step"]})
            return (own - batch) ** 2, outcome

        return gacf.Game(
            {"actor": loss},
            lambda key: ({"actor": jnp.asarray(start)}, {"env": jnp.zeros(()), "mean": start}),
            lambda params, world, key: ({**world, "env": world["env"] + 1}, {"at": world["env"]}),
            lambda world, key: world["env"],
            evaluate=lambda params, world, key: {"mean": world["mean"]},
        )


@pytest.mark.long
def test_side_by_side_is_each_alone() -> None:
    """Each of two games with worlds of their own goes its way, whatever the other does."""
    rule = lambda *players: gacf.rules.simultaneous({p: optax.sgd(0.1) for p in players})  # noqa: E731
    pair = flows.side_by_side({"left": Counting.game(1.0), "right": Counting.game(5.0)})
    both = gacf.compose(pair, rule(*pair.losses))
    state, metrics = gacf.run(both, jax.random.key(0), 3)
    for name, start in (("left", 1.0), ("right", 5.0)):
        alone = gacf.compose(Counting.game(start), rule("actor"))
        wanted, found = gacf.run(alone, jax.random.key(0), 3)
        np.testing.assert_allclose(state.params[f"{name}/actor"], wanted.params["actor"])
        for entry in ("env", "mean"):
            np.testing.assert_allclose(state.world[f"{name}/{entry}"], wanted.world[entry])
        for metric in ("at", "actor/seen", "actor/loss"):
            np.testing.assert_allclose(metrics[f"{name}/{metric}"], found[metric])
    end = both.evaluate(gacf.take_seed(state, 0))
    assert set(end) == {"left/mean", "right/mean"}
