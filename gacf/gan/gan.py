"""Generative adversarial networks, Goodfellow et al. 2014, as actor-critic methods (L4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from gacf.actor_critic import Source, actor_critic, pathwise, reward_target
from gacf.actor_critic.constructor import Penalty
from gacf.game import Game
from gacf.gan.losses import LOSSES, GanLoss
from gacf.networks import model
from gacf.types import Batch, Key, Metrics, Params, PyTree, World, lookup, require, whole

Draw = Callable[[Key, int], jax.Array]


def _drawer(name: str, given: Any) -> Draw:
    """`(key, n) -> [n, …]`: from a sampler, an object with one, or an array's rows."""
    if hasattr(given, "sample"):
        return given.sample
    if callable(given):
        return cast(Draw, given)
    rows = jnp.asarray(given)
    if rows.ndim < 1 or rows.shape[0] < 1:
        raise ValueError(f"{name}: shape {rows.shape} was given; allowed: [n, …] with n >= 1")
    return lambda key, n: rows[jax.random.randint(key, (n,), 0, rows.shape[0])]


def gan(
    generator: Any,
    discriminator: Any,
    data: Any,
    loss: str | GanLoss = "non_saturating",
    batch_size: int = 128,
    noise: int | Draw = 64,
    show: str = "both",
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Penalty | None = None,
    evaluate: Callable[[jax.Array, Key], Metrics] | None = None,
    samples: int = 2_500,
) -> Game:
    """A GAN as a setting of `actor_critic`: the Markov decision process of Pfau & Vinyals (2016).

    The actor is blind: it sees noise, and sets every pixel. The environment shows the critic the
    actor's image or a real one; the reward is 1 for a real image; the discount is 0, so that the
    critic's target is the reward; its divergence is cross-entropy.

        critic   min_φ  mean D(1 ‖ C_φ(real)) + mean D(0 ‖ C_φ(A(z)))
        actor    max_θ  mean utility(C(A_θ(z)))

    Args:
        generator: the actor's network, noise [B, Z] -> [B, …].
        discriminator: the critic's network, [B, …] -> logits [B] or [B, 1].
        data: an array [n, …], a sampler `(key, n) -> [n, …]`, or an object with one (`.sample`).
        loss: a name in `LOSSES`, or a `GanLoss`.
        batch_size: B, of real and of fake examples.
        noise: Z of a standard normal, or a sampler `(key, n) -> [n, …]`.
        show: "both" shows the critic B real and B fake examples; "bernoulli" is the paper's
            environment to the letter: B examples, each real with probability ½. Its gradients
            are half as large in expectation.
        transform_target: of the labels, [B] -> [B]: label smoothing.
        penalty: added to the critic's loss, `(judge, groups, key) -> scalar`, for instance `r1`.
        evaluate: `(samples [n, …], key) -> metrics`, of samples made in evaluation mode.
        samples: n for `evaluate`.

    Returns:
        A `Game` of the players `actor` and `critic`; the batch is a dict of `real` and `noise`.

    Raises:
        ValueError: an unknown name, or a size below 1; the message names the nearest.

    Reference:
        Goodfellow et al. 2014; Pfau & Vinyals 2016, section 3.

    Example:
        >>> import gacf, optax
        >>> from gacf.networks import MLP
        >>> game = gacf.gan(MLP((8,), (2,)), MLP((8,)), gacf.data.ring(), noise=2)
        >>> rule = gacf.rules.alternating({p: optax.adam(1e-3) for p in ("actor", "critic")})
        >>> algorithm = gacf.compose(game, rule)
    """
    pair = lookup("loss", loss, LOSSES) if isinstance(loss, str) else loss
    require("batch_size", batch_size, whole, "a whole number >= 1")
    require("samples", samples, whole, "a whole number >= 1")
    lookup("show", show, dict.fromkeys(("both", "bernoulli")))
    actor = model("actor", generator)
    real = _drawer("data", data)
    latent = noise if callable(noise) else normal(noise)
    coin_tossed = show == "bernoulli"

    def sample(world: World, key: Key) -> Batch:
        del world
        real_key, noise_key, coin_key = jax.random.split(key, 3)
        rows = real(real_key, batch_size)
        if not jnp.issubdtype(rows.dtype, jnp.inexact):
            rows = rows.astype(float)  # labels take the data's dtype, and penalties its gradient
        batch = {"real": rows, "noise": latent(noise_key, batch_size)}
        if coin_tossed:
            batch["coin"] = jax.random.bernoulli(coin_key, 0.5, (batch_size,))
        return batch

    def view(batch: Batch, action: PyTree) -> dict[str, jax.Array]:
        if coin_tossed:
            coin = batch["coin"].reshape(-1, *(1 for _ in action.shape[1:]))
            return {"shown": jnp.where(coin, batch["real"], action)}
        return {"real": batch["real"], "fake": action}

    def rewards(batch: Batch) -> dict[str, jax.Array]:
        if coin_tossed:
            return {"shown": batch["coin"].astype(batch["real"].dtype)}
        ones = jnp.ones(batch_size, batch["real"].dtype)
        return {"real": ones, "fake": jnp.zeros_like(ones)}

    def measure(params: Params, world: World, key: Key) -> Metrics:
        draw_key, metric_key = jax.random.split(key)
        made = generate(actor, params, world, draw_key, samples, latent)
        return {} if evaluate is None else evaluate(made, metric_key)

    return actor_critic(
        actor,
        discriminator,
        source=Source(lambda key: {}, sample, evaluate=measure),
        view=view,
        target=reward_target(rewards),
        divergence=pair.divergence,
        # The utility of a real example does not depend on the actor: left out, it costs nothing.
        improve=pathwise(pair.utility, of=None if coin_tossed else ("fake",)),
        sees=lambda batch: batch["noise"],
        transform_target=transform_target,
        penalty=penalty,
    )


def normal(size: int) -> Draw:
    """Standard normal noise, `(key, n) -> [n, Z]`."""
    require("noise", size, whole, "a whole number >= 1, or a sampler `(key, n) -> [n, …]`")
    return lambda key, n: jax.random.normal(key, (n, size))


def generate(
    generator: Any, params: Params, world: World, key: Key, n: int, noise: int | Draw = 64
) -> jax.Array:
    """Samples of the actor in evaluation mode, [n, …].

    Args:
        generator: the actor's network, as given to `gan`.
        params: all players' params of one seed.
        world: its world, which holds the actor's running statistics.
        key: for the noise.
        n: how many.
        noise: as given to `gan`.
    """
    latent = noise if callable(noise) else normal(noise)
    actor = model("actor", generator)
    return actor.apply(params["actor"], world, latent(key, n), train=False)[0]
