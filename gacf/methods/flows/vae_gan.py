"""VAE-GAN, Larsen et al. 2016: reconstruction is measured in the critic's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

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
from gacf.networks import MLP, model


class WithFeatures(linen.Module):
    """A critic that yields its verdict and its last hidden layer, [B, 1 + F].

    Attributes:
        hidden: widths of the hidden layers; the last is F.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> output = lambda: WithFeatures((8, 4)).init_with_output(
        ...     jax.random.key(0), jnp.zeros((3, 2)))[0]
        >>> jax.eval_shape(output).shape
        (3, 5)
    """

    hidden: Sequence[int]

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = linen.relu(MLP(self.hidden[:-1], (self.hidden[-1],))(x))
        return jnp.concatenate([linen.Dense(1)(features), features], axis=-1)


def vae_gan(
    decoder: Any,
    encoder: Any,
    discriminator: Any,
    data: Any,
    noise: int = 8,
    weight: float | jax.Array = 1.0,
    prior_weight: float | jax.Array = 1.0,
    batch_size: int = 64,
    divergence: str = "cross_entropy",
    penalty: Penalty | None = None,
    evaluate: Callable[[Params, World, Key], Metrics] = no_metrics,
) -> Game:
    """A variational autoencoder whose decoder is a GAN's actor.

        critic   min D(1 ‖ C(x)) + D(0 ‖ C(A(z))) + D(0 ‖ C(A(c)))            c ~ E(x) along the path
        encoder  min prior_weight · KL(E(x) ‖ N(0, 1)) + L,   L = ½ mean ‖f(x) − f(A(c))‖²
        actor    min weight · L + D(1 ‖ C(A(z))) + D(1 ‖ C(A(c)))

    with f the features of the critic, which learns from neither L nor KL. For the critic, samples
    and reconstructions form one group of fakes, twice as large as the group of real examples.

    Args:
        decoder: the actor's network, [B, Z] -> [B, …].
        encoder: [B, …] -> [B, 2Z], mean and log σ of the code.
        discriminator: [B, …] -> [B, 1 + F], the verdict and the features; see `WithFeatures`.
        data: examples [n, …].
        noise: Z, the size of a code; the prior is standard normal.
        weight: γ, the weight of the reconstruction in the actor's loss.
        prior_weight: the weight of the KL term.
        batch_size: B.
        divergence: a name in `DIVERGENCES`.
        penalty: added to the critic's loss.
        evaluate: `(params, world, key) -> metrics`.

    Returns:
        A `Game` of the players `actor`, `encoder` and `critic`.

    Reference:
        Larsen et al. 2016, eqs. 7 to 9 and algorithm 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from gacf.networks import MLP
        >>> game = vae_gan(
        ...     MLP((8,), (3,)), MLP((8,), (4,)), WithFeatures((8,)), jnp.ones((4, 3)), noise=2)
        >>> sorted(game.losses)
        ['actor', 'critic', 'encoder']
    """  # noqa: E501
    sample = real_and_noise(data, noise, batch_size, ("noise", "code_noise"))
    actor, coder = model("actor", decoder), model("encoder", encoder)
    whole_critic = model("critic", discriminator)
    judge = adversary(whole_critic.then(lambda output: output[:, 0]), divergence, penalty)
    stages = [
        Stage(coder, "encoder", lambda known: (known["real"],), [(batch_size, 2 * noise)]),
        Stage(actor, "decoder", lambda known: (known["noise"],), "real"),
        Stage(
            whole_critic, "discriminator", lambda known: (known["real"],), [(batch_size, "1 + F")]
        ),
    ]

    def encode(
        own: PyTree, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, jax.Array, World]:
        """The code, and KL(E(x) ‖ N(0, 1))."""
        output, entries = coder.apply(own, world, batch["real"], key=key)
        mean, log_scale = jnp.split(output, 2, axis=-1)
        spread = jnp.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale
        code = mean + jnp.exp(log_scale) * batch["code_noise"]
        return code, jnp.mean(jnp.sum(spread, axis=-1)) / 2, entries

    def draw(own: PyTree, world: World, batch: Batch, code: jax.Array, key: Key) -> Any:
        """Samples, then reconstructions, [2B, …]."""
        return actor.apply(own, world, jnp.concatenate([batch["noise"], code]), key=key)

    def feature_error(
        params: Params, world: World, x: jax.Array, y: jax.Array, key: Key
    ) -> jax.Array:
        """L; both x and y go through the same network, with the same dropout."""

        def features(z: jax.Array) -> jax.Array:
            same_key = jax.random.clone(key)
            return whole_critic.apply(params["critic"], world, z, key=same_key)[0][:, 1:]

        return square_error(features(x), features(y)) / 2

    def critic_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, draw_key, judge_key = jax.random.split(key, 3)
        code, _, _ = encode(params["encoder"], world, batch, code_key)
        drawn, _ = draw(params["actor"], world, batch, code, draw_key)
        groups = {"real": batch["real"], "fake": drawn}
        loss, metrics, entries = judge.learn(own, params, world, groups, judge_key)
        return loss, Outcome(metrics, entries)

    def encoder_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, draw_key, feature_key = jax.random.split(key, 3)
        code, divergence, entries = encode(own, world, batch, code_key)
        drawn, _ = actor.apply(params["actor"], world, code, key=draw_key)
        error = feature_error(params, world, batch["real"], drawn, feature_key)
        metrics = {"feature_error": error, "kl": divergence}
        return prior_weight * divergence + error, Outcome(metrics, entries)

    def actor_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, draw_key, judge_key, feature_key = jax.random.split(key, 4)
        code, _, _ = encode(params["encoder"], world, batch, code_key)
        drawn, entries = draw(own, world, batch, code, draw_key)
        error = feature_error(params, world, batch["real"], drawn[batch_size:], feature_key)
        detected = judge.fool(params, world, {"fake": drawn}, judge_key)
        return weight * error + detected, Outcome({"told": detected}, entries)

    losses = {"actor": actor_loss, "encoder": encoder_loss, "critic": critic_loss}
    propose = of_noise(actor, noise)
    return game_of_stages(losses, stages, sample, evaluate)._replace(propose=propose)
