"""BiGAN and ALI: an encoder learns to invert the generator, because the critic sees pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from gacf.core.game import Game
from gacf.core.types import Batch, Key, Metrics, Outcome, Params, PyTree, World
from gacf.methods.actor_critic.constructor import Penalty
from gacf.methods.flows.parts import (
    Stage,
    adversary,
    game_of_stages,
    no_metrics,
    of_noise,
    real_and_noise,
)
from gacf.networks import model


def bigan(
    generator: Any,
    encoder: Any,
    discriminator: Any,
    data: Any,
    noise: int = 16,
    batch_size: int = 64,
    divergence: str = "cross_entropy",
    penalty: Penalty | None = None,
    evaluate: Callable[[Params, World, Key], Metrics] = no_metrics,
) -> Game:
    """A GAN of pairs: real examples with their codes against samples with their noise.

        critic   min D(1 ‖ C(x, E(x))) + D(0 ‖ C(A(z), z))
        encoder  min D(0 ‖ C(x, E(x)))
        actor    min D(1 ‖ C(A(z), z))

    When the critic cannot distinguish the two kinds of pairs, E and A are inverse to each other.

    Args:
        generator: the actor's network, [B, Z] -> [B, …].
        encoder: [B, …] -> [B, Z].
        discriminator: `(example [B, …], code [B, Z]) -> logits`.
        data: examples [n, …].
        noise: Z, the size of the standard normal noise.
        batch_size: B.
        divergence: a name in `DIVERGENCES`.
        penalty: added to the critic's loss, for instance `gacf.methods.gan.r1`.
        evaluate: `(params, world, key) -> metrics`.

    Returns:
        A `Game` of the players `actor`, `encoder` and `critic`.

    Reference:
        Donahue, Krähenbühl & Darrell 2017; Dumoulin et al. 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> from gacf.networks import MLP
        >>> game = bigan(MLP((8,), (3,)), MLP((8,), (2,)), MLP((8,)), jnp.ones((4, 3)), noise=2)
        >>> sorted(game.losses)
        ['actor', 'critic', 'encoder']
    """
    sample = real_and_noise(data, noise, batch_size)
    actor, coder = model("actor", generator), model("encoder", encoder)
    critic = model("critic", discriminator)
    judge = adversary(critic, divergence, penalty)
    stages = [
        Stage(actor, "generator", lambda known: (known["noise"],), "real"),
        Stage(coder, "encoder", lambda known: (known["real"],), [(batch_size, noise)]),
        Stage(
            critic, "discriminator", lambda known: (known["real"], known["noise"]),
            [(batch_size,), (batch_size, 1)],
        ),
    ]  # fmt: skip

    def real_pair(
        own: PyTree, world: World, batch: Batch, key: Key
    ) -> tuple[dict[str, Any], World]:
        code, entries = coder.apply(own, world, batch["real"], key=key)
        return {"real": (batch["real"], code)}, entries

    def fake_pair(
        own: PyTree, world: World, batch: Batch, key: Key
    ) -> tuple[dict[str, Any], World]:
        drawn, entries = actor.apply(own, world, batch["noise"], key=key)
        return {"fake": (drawn, batch["noise"])}, entries

    def critic_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, draw_key, judge_key = jax.random.split(key, 3)
        pairs, _ = real_pair(params["encoder"], world, batch, code_key)
        fakes, _ = fake_pair(params["actor"], world, batch, draw_key)
        loss, metrics, entries = judge.learn(own, params, world, {**pairs, **fakes}, judge_key)
        return loss, Outcome(metrics, entries)

    def encoder_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, judge_key = jax.random.split(key)
        pairs, entries = real_pair(own, world, batch, code_key)
        return judge.fool(params, world, pairs, judge_key), Outcome({}, entries)

    def actor_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        draw_key, judge_key = jax.random.split(key)
        pairs, entries = fake_pair(own, world, batch, draw_key)
        return judge.fool(params, world, pairs, judge_key), Outcome({}, entries)

    losses = {"actor": actor_loss, "encoder": encoder_loss, "critic": critic_loss}
    propose = of_noise(actor, noise)
    return game_of_stages(losses, stages, sample, evaluate)._replace(propose=propose)
