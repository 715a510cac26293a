"""InfoGAN, Chen et al. 2016: a third player infers a code from the samples."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require, whole
from gacf.core.game import Game, add_loss
from gacf.core.types import Batch, Key, Outcome, Params, PyTree, World
from gacf.methods.flows.parts import add_model
from gacf.methods.gan import gan, normal
from gacf.methods.gan.inputs import check_output, traced
from gacf.networks import model


def coded_noise(size: int, codes: int) -> Any:
    """Noise and a one-hot code, `(key, n) -> [n, Z + K]`: the code is the last K numbers.

    Example:
        >>> import jax
        >>> z = coded_noise(3, 4)(jax.random.key(0), 5)
        >>> z.shape, z[:, -4:].sum(1).tolist()
        ((5, 7), [1.0, 1.0, 1.0, 1.0, 1.0])
    """
    require("codes", codes, lambda k: whole(k) and k >= 2, "a whole number >= 2")
    plain = normal(size)

    def draw(key: Key, n: int) -> jax.Array:
        noise_key, code_key = jax.random.split(key)
        code = jax.nn.one_hot(jax.random.randint(code_key, (n,), 0, codes), codes)
        return jnp.concatenate([plain(noise_key, n), code], axis=-1)

    return draw


def infogan(
    generator: Any,
    discriminator: Any,
    posterior: Any,
    data: Any,
    codes: int = 10,
    weight: float | jax.Array = 1.0,
    noise: int = 32,
    **settings: Any,
) -> Game:
    """A GAN whose samples reveal which of K codes the actor was given.

        critic     as in the GAN
        actor      its GAN loss − weight · mean log Q(c | A(z, c))
        posterior  min_ψ −mean log Q_ψ(c | A(z, c))

    mean log Q + log K is a lower bound on the mutual information between code and sample.

    Args:
        generator: [B, Z + K] -> [B, …]; the code's one-hot is the last K numbers of its input.
        discriminator: as for `gacf.gan`.
        posterior: [B, …] -> logits [B, K].
        data: as for `gacf.gan`, without labels.
        codes: K.
        weight: the weight of the mutual information; with 0 the actor may ignore the code.
        noise: Z.
        settings: further arguments of `gacf.gan`.

    Returns:
        A `Game` of the players `actor`, `critic` and `posterior`.

    Reference:
        Chen et al. 2016, eq. 6.

    Example:
        >>> import gacf
        >>> from gacf.networks import MLP
        >>> game = infogan(MLP((8,), (2,)), MLP((8,)), MLP((8,), (8,)), gacf.data.ring(), 8)
        >>> sorted(game.losses)
        ['actor', 'critic', 'posterior']
    """
    latent = coded_noise(noise, codes)
    if type(data) is tuple:  # data sets such as rings are named tuples with `sample`
        raise ValueError(f"data: {len(data)} arrays were given; allowed: examples alone")
    game = gan(generator, discriminator, data, noise=latent, **settings)
    actor, reader = model("actor", generator), model("posterior", posterior)

    def code_error(
        own: PyTree, actor_params: PyTree, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, World]:
        """−mean log Q(c | A(z, c))."""
        draw_key, read_key = jax.random.split(key)
        samples, _ = actor.apply(actor_params, world, batch["noise"], key=draw_key)
        logits, entries = reader.apply(own, world, samples, key=read_key)
        return optax.softmax_cross_entropy(logits, batch["noise"][:, -codes:]).mean(), entries

    def information(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        error, _ = code_error(params["posterior"], own, world, batch, key)
        return weight * error, Outcome({"code_lost": error}, {})

    def posterior_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        error, entries = code_error(own, params["actor"], world, batch, key)
        return error, Outcome({}, entries)

    game = add_loss(game, "actor", information)
    game = add_model(game, reader, lambda batch: (batch["real"],), posterior_loss)

    def example_logits(key: Key) -> Any:
        params, world = game.init(key)
        real = game.sample(world, key)["real"]
        return reader.apply(params["posterior"], world, real, train=False)[0]

    logits = traced("posterior", data, example_logits, jax.random.key(0))
    check_output("posterior", logits, [("B", codes)])
    return game
