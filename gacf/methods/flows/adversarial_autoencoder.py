"""Adversarial autoencoder, Makhzani et al. 2016: a critic of codes instead of a KL term."""

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
    square_error,
)
from gacf.networks import model


def adversarial_autoencoder(
    decoder: Any,
    encoder: Any,
    discriminator: Any,
    data: Any,
    noise: int = 8,
    weight: float | jax.Array = 1.0,
    batch_size: int = 64,
    divergence: str = "cross_entropy",
    penalty: Penalty | None = None,
    evaluate: Callable[[Params, World, Key], Metrics] = no_metrics,
) -> Game:
    """An autoencoder whose codes a critic cannot distinguish from samples of the prior.

        critic   min D(1 ‖ C(z)) + D(0 ‖ C(E(x)))
        encoder  min mean ‖x − A(E(x))‖² + weight · D(1 ‖ C(E(x)))
        actor    min mean ‖x − A(E(x))‖²

    The decoder is the actor: after training it turns codes drawn from the prior into samples.

    Args:
        decoder: the actor's network, [B, Z] -> [B, …].
        encoder: [B, …] -> [B, Z].
        discriminator: codes [B, Z] -> logits.
        data: examples [n, …].
        noise: Z, the size of a code; the prior is standard normal.
        weight: the weight of the critic's verdict; with 0 it is a plain autoencoder.
        batch_size: B.
        divergence: a name in `DIVERGENCES`.
        penalty: added to the critic's loss.
        evaluate: `(params, world, key) -> metrics`.

    Returns:
        A `Game` of the players `actor`, `encoder` and `critic`.

    Reference:
        Makhzani et al. 2016, section 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from gacf.networks import MLP
        >>> game = adversarial_autoencoder(
        ...     MLP((8,), (3,)), MLP((8,), (2,)), MLP((8,)), jnp.ones((4, 3)), noise=2)
        >>> sorted(game.losses)
        ['actor', 'critic', 'encoder']
    """
    sample = real_and_noise(data, noise, batch_size)
    actor, coder = model("actor", decoder), model("encoder", encoder)
    critic = model("critic", discriminator)
    judge = adversary(critic, divergence, penalty)
    stages = [
        Stage(coder, "encoder", lambda known: (known["real"],), [(batch_size, noise)]),
        Stage(actor, "decoder", lambda known: (known["encoder"],), "real"),
        Stage(
            critic, "discriminator", lambda known: (known["noise"],),
            [(batch_size,), (batch_size, 1)],
        ),
    ]  # fmt: skip

    def critic_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, judge_key = jax.random.split(key)
        code, _ = coder.apply(params["encoder"], world, batch["real"], key=code_key)
        groups = {"real": batch["noise"], "fake": code}
        loss, metrics, entries = judge.learn(own, params, world, groups, judge_key)
        return loss, Outcome(metrics, entries)

    def encoder_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, draw_key, judge_key = jax.random.split(key, 3)
        code, entries = coder.apply(own, world, batch["real"], key=code_key)
        drawn, _ = actor.apply(params["actor"], world, code, key=draw_key)
        error = square_error(batch["real"], drawn)
        detected = judge.fool(params, world, {"fake": code}, judge_key)
        metrics = {"reconstruction": error, "told": detected}
        return error + weight * detected, Outcome(metrics, entries)

    def actor_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, draw_key = jax.random.split(key)
        code, _ = coder.apply(params["encoder"], world, batch["real"], key=code_key)
        drawn, entries = actor.apply(own, world, code, key=draw_key)
        return square_error(batch["real"], drawn), Outcome({}, entries)

    losses = {"actor": actor_loss, "encoder": encoder_loss, "critic": critic_loss}
    propose = of_noise(actor, noise)
    return game_of_stages(losses, stages, sample, evaluate)._replace(propose=propose)
