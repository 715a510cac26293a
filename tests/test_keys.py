"""No key is used for two draws, in any game: checked by jax's own analysis of what is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Game, rules
from gacf.methods import flows
from gacf.methods.gan import dragan, wgan_gp, zero_centred
from gacf.networks import MLP, Model, model
from tests.contract_cases import FEW, GAMES, OFF, ON

DATA = np.random.RandomState(0).randn(12, 2).astype(np.float32)
IMAGES = np.random.RandomState(0).uniform(-1, 1, (8, 4, 4, 1)).astype(np.float32)
LABELS = np.arange(12) % 3


def drawing(player: str, network: Any) -> Model:
    """A network that draws with the very key that it is given, as dropout does.

    (Flax folds names into a key before it draws, which hides a second use from the checker.)
    """
    plain = model(player, network)

    def apply(
        params: Any, world: Any, *inputs: Any, key: Any = None, train: bool = True
    ) -> tuple[Any, Any]:
        if key is None or not train:
            return plain.apply(params, world, *inputs, train=train)
        keep = jax.random.bernoulli(key, 0.5, (1,))[0]
        shown = [
            jnp.where(keep, x, 0) if jnp.issubdtype(x.dtype, jnp.inexact) else x for x in inputs
        ]
        return plain.apply(params, world, *shown, key=jax.random.fold_in(key, 1), train=train)

    return plain._replace(apply=apply)


def net(player: str, *shape: int) -> Model:
    return drawing(player, MLP((4,), shape))


ACTOR, PLAYS = net("actor", 2), net("actor", 1)
CRITIC, TWINS = net("critic"), net("critic", 2)


def conditional() -> Game:
    actor, critic = flows.Labelled((4,), 3, (2,)), flows.Projection((4,), 3)
    return gacf.gan(
        drawing("actor", actor), drawing("critic", critic), (DATA, LABELS), "relativistic", 4, 2,
        penalty=zero_centred(0.1), evaluate=lambda made, key: {"mean": jnp.mean(made[0])},
        samples=4,
    )  # fmt: skip


def adversarial(**options: Any) -> Game:
    return gacf.gan(ACTOR, CRITIC, DATA, batch_size=4, noise=2, **options)


def expert() -> dict[str, Any]:
    seen = {"observation": jnp.ones((5, 1)), "action": jnp.ones((5, 1))}
    return {**seen, "next_observation": jnp.ones((5, 1)), "terminated": jnp.zeros(5, bool)}


def pulled() -> Game:
    return gacf.stabilizers.entropy(adversarial(), ACTOR, lambda batch: batch["noise"], 0.1)


def replayed() -> Game:
    game = gacf.stabilizers.ema(gacf.stabilizers.target_networks(adversarial(), 0.1))
    return gacf.stabilizers.replay(game, 8, 4, warmup=2, join=gacf.stabilizers.mixed(0.5))


# What the contract suite plays with networks that draw nothing, and what it does not play.
DRAWING: dict[str, Callable[[], Game]] = {
    "gan, penalty on both": lambda: adversarial(penalty=zero_centred(0.1), real_term=True),
    "gan, penalty between": lambda: adversarial(penalty=wgan_gp(0.1), pack=2),
    "gan, penalty around": lambda: adversarial(penalty=dragan(0.1), instance_noise=0.1),
    "gan, coin": lambda: adversarial(show="bernoulli", penalty=wgan_gp(0.1)),
    "gan, labels": conditional,
    "gan, entropy": pulled,
    "gan, replay": replayed,
    "bigan": lambda: flows.bigan(
        ACTOR, net("encoder", 2), CRITIC, DATA, noise=2, batch_size=4, penalty=zero_centred(0.1)
    ),
    "vae_gan": lambda: flows.vae_gan(
        ACTOR,
        net("encoder", 4),
        drawing("critic", flows.WithFeatures((4,))),
        DATA,
        2,
        batch_size=4,
        penalty=zero_centred(0.1),
    ),
    "adversarial_autoencoder": lambda: flows.adversarial_autoencoder(
        ACTOR, net("encoder", 2), CRITIC, DATA, 2, batch_size=4, penalty=wgan_gp(0.1)
    ),
    "infogan": lambda: flows.infogan(
        ACTOR,
        CRITIC,
        net("posterior", 3),
        DATA,
        3,
        noise=2,
        batch_size=4,
        penalty=zero_centred(0.1),
    ),
    "lapgan": lambda: flows.lapgan(
        {"2x2": net("actor", 2, 2, 1), "4x4": net("actor", 4, 4, 1)},
        {"2x2": CRITIC, "4x4": CRITIC},
        IMAGES,
        2,
        batch_size=4,
        penalty=zero_centred(0.1),
    ),
    "domain_adversarial": lambda: flows.domain_adversarial(
        net("encoder", 4), net("posterior", 3), CRITIC, (DATA, LABELS), DATA, flows.ramp(10), 4
    ),
    "seqgan": lambda: flows.seqgan(
        flows.lstm(3, 2),
        drawing("critic", flows.SequenceCritic(3, 4, (1, 2))),
        np.ones((8, 3), int),
        2,
        batch_size=4,
    ),
    "ddpg": lambda: gacf.ddpg("probe-match", PLAYS, CRITIC, penalty=zero_centred(0.1), **OFF),
    "td3": lambda: gacf.td3("probe-match", PLAYS, TWINS, **OFF),
    "sac": lambda: gacf.sac("probe-match", ACTOR, TWINS, **OFF),
    "gail": lambda: flows.gail(
        gacf.sac("probe-match", ACTOR, TWINS, **OFF),
        net("discriminator"),
        expert(),
        zero_centred(0.1),
    ),
    "a2c": lambda: gacf.a2c("probe-match", PLAYS, CRITIC, entropy=0.1, **ON),
    "ppo": lambda: gacf.ppo("probe-match", PLAYS, CRITIC, entropy=0.1, **ON),
    "dpg": lambda: gacf.dpg("probe-match", PLAYS, CRITIC, **ON),
    "natural": lambda: gacf.natural_actor_critic("probe-match", PLAYS, CRITIC, **ON),
    "nfqca": lambda: gacf.nfqca("probe-match", PLAYS, CRITIC, transitions=8, rollout=FEW),
    "svg": lambda: gacf.svg("probe-match", 2, PLAYS, CRITIC, net("model", 2), rollout=FEW),
}


def trace(game: Game) -> None:
    """Traces a step of the game, and so all that it consists of, with the checker of keys on."""
    # (simultaneous moves share batch and key on purpose)
    rule = rules.alternating({player: optax.sgd(0.1) for player in game.losses})
    algorithm = gacf.compose(game, rule)

    def play(key: jax.Array) -> Any:
        state, metrics = algorithm.step(algorithm.init(key))
        return metrics, algorithm.evaluate(state)

    with jax.debug_key_reuse(True):
        jax.eval_shape(jax.jit(play), jax.random.key(0))


@pytest.mark.long
@pytest.mark.parametrize("name", GAMES)
def test_the_contract_suites_games_use_each_key_once(name: str) -> None:
    trace(GAMES[name].make())


@pytest.mark.long
@pytest.mark.parametrize("name", DRAWING)
def test_games_of_networks_that_draw_use_each_key_once(name: str) -> None:
    trace(DRAWING[name]())


def drawn_twice(place: str) -> Game:
    """A game in which one place uses its key for two draws."""

    def draw(key: jax.Array, where: str) -> jax.Array:
        one = jax.random.normal(key, ())
        return one + jax.random.uniform(key, ()) if where == place else one

    def loss(own: Any, params: Any, world: Any, batch: Any, key: jax.Array) -> Any:
        return own * draw(key, "loss"), gacf.Outcome({}, {})

    def observe(params: Any, world: Any, key: jax.Array) -> Any:
        return {**world, "seen": draw(key, "observe")}, {}

    return Game(
        {"actor": loss},
        lambda key: ({"actor": draw(key, "init")}, {"seen": jnp.zeros(())}),
        observe,
        lambda world, key: draw(key, "sample"),
        evaluate=lambda params, world, key: {"score": draw(key, "evaluate")},
    )


@pytest.mark.parametrize("place", ["init", "observe", "sample", "loss", "evaluate"])
def test_a_key_used_twice_is_found_wherever_it_is(place: str) -> None:
    trace(drawn_twice("nowhere"))
    with pytest.raises(jax.errors.KeyReuseError):
        trace(drawn_twice(place))
