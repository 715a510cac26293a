"""SeqGAN, Yu et al. 2017: sequences of tokens, learned by the score function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from gacf.core.checks import require, whole
from gacf.core.clock import steps_made
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Metrics, Outcome, Params, PyTree, World
from gacf.methods.actor_critic import DIVERGENCES
from gacf.methods.flows.parts import no_metrics, rows
from gacf.methods.gan.inputs import check_output, traced
from gacf.methods.gan.proposals import ProposedSamples
from gacf.networks import column, model


class Autoregressive(NamedTuple):
    """A distribution of sequences, token by token: π(y) = Π_t π(y_t | y_1, …, y_{t−1}).

    Attributes:
        init: `key -> params`.
        start: `n -> memory` of n sequences, before the first token.
        step: `(params, memory, token [n]) -> (memory, logits [n, V] of the next token)`; the
            token before the first one is 0.
    """

    init: Callable[[Key], PyTree]
    start: Callable[[int], PyTree]
    step: Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, jax.Array]]


def lstm(vocabulary: int, width: int = 32, scale: float = 0.1) -> Autoregressive:
    """A long short-term memory over embedded tokens; all its parameters start from N(0, scale²).

    Args:
        vocabulary: V.
        width: the width of the embedding and of the memory.
        scale: 0.1 for a generator, 1 for an oracle.

    Reference:
        Hochreiter & Schmidhuber 1997; Yu et al. 2017, sections 4 and 5.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = lstm(5)
        >>> params = network.init(jax.random.key(0))
        >>> network.step(params, network.start(2), jnp.zeros(2, int))[1].shape
        (2, 5)
    """
    require("vocabulary", vocabulary, whole, "a whole number >= 1")
    require("width", width, whole, "a whole number >= 1")
    shapes = {
        "embedding": (vocabulary, width),
        "gates": (2 * width, 4 * width),
        "gates_bias": (1, 4 * width),
        "output": (width, vocabulary),
        "output_bias": (1, vocabulary),
    }

    def init(key: Key) -> PyTree:
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
        return {name: scale * jax.random.normal(keys[name], shapes[name]) for name in shapes}

    def start(n: int) -> PyTree:
        return jnp.zeros((n, width)), jnp.zeros((n, width))

    def step(params: PyTree, memory: PyTree, token: jax.Array) -> tuple[PyTree, jax.Array]:
        hidden, cell = memory
        inputs = jnp.concatenate([params["embedding"][token], hidden], axis=-1)
        gates = jnp.split(inputs @ params["gates"] + params["gates_bias"], 4, axis=-1)
        enter, keep, leave = (jax.nn.sigmoid(gate) for gate in gates[:3])
        cell = keep * cell + enter * jnp.tanh(gates[3])
        hidden = leave * jnp.tanh(cell)
        return (hidden, cell), hidden @ params["output"] + params["output_bias"]

    return Autoregressive(init, start, step)


def speak(
    network: Autoregressive,
    params: PyTree,
    noise: jax.Array,
    begun: jax.Array | None = None,
    kept: jax.Array | int = 0,
) -> jax.Array:
    """Sequences drawn from the network, [B, T], int32, or completions of given beginnings.

    Args:
        network: π.
        params: its params.
        noise: standard Gumbel noise, [B, T, V]: y_t = argmax(logits + noise).
        begun: sequences [B, T] whose first `kept` tokens are kept; None to draw all tokens.
        kept: how many tokens are kept, a number or [B].

    Example:
        >>> import jax
        >>> network = lstm(5)
        >>> noise = jax.random.gumbel(jax.random.key(1), (2, 3, 5))
        >>> speak(network, network.init(jax.random.key(0)), noise).shape
        (2, 3)
    """
    n, length, _ = noise.shape
    begun = jnp.zeros((n, length), jnp.int32) if begun is None else begun.astype(jnp.int32)

    def next_token(carry: PyTree, x: PyTree) -> tuple[PyTree, jax.Array]:
        memory, token = carry
        place, gumbel, begun_token = x
        memory, logits = network.step(params, memory, token)
        token = jnp.argmax(logits + gumbel, axis=-1).astype(jnp.int32)
        token = jnp.where(place < kept, begun_token, token)
        return (memory, token), token

    first = network.start(n), jnp.zeros(n, jnp.int32)
    xs = jnp.arange(length), jnp.moveaxis(noise, 1, 0), begun.T
    return jax.lax.scan(next_token, first, xs)[1].T


def log_likelihood(network: Autoregressive, params: PyTree, tokens: jax.Array) -> jax.Array:
    """The log likelihood of each token of sequences [B, T]: log π(y_t | y_1, …, y_{t−1}), [B, T].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = lstm(5, scale=0.0)
        >>> params = network.init(jax.random.key(0))
        >>> log_likelihood(network, params, jnp.zeros((1, 2), int)).shape
        (1, 2)
    """

    def read(carry: PyTree, token: jax.Array) -> tuple[PyTree, jax.Array]:
        memory, logits = network.step(params, *carry)
        log_probs = jax.nn.log_softmax(logits)
        return (memory, token), jnp.take_along_axis(log_probs, token[:, None], axis=-1)[:, 0]

    n = tokens.shape[0]
    first = network.start(n), jnp.zeros(n, tokens.dtype)
    return jax.lax.scan(read, first, tokens.T)[1].T


class SequenceCritic(linen.Module):
    """A convolutional critic of sequences of tokens, [B, T] -> [B].

    It applies filters of several widths to embedded tokens, takes the largest response of each
    filter over time, and ends in a linear layer.

    Attributes:
        vocabulary: V.
        filters: the number of filters of each width.
        widths: the numbers of tokens that filters see.
        dropout: the share of the responses that is dropped in training.

    Reference:
        Kim 2014; Yu et al. 2017, section 3.2.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> output = lambda: SequenceCritic(5).init_with_output(
        ...     jax.random.key(0), jnp.zeros((2, 4), int), train=False)[0]
        >>> jax.eval_shape(output).shape
        (2,)
    """

    vocabulary: int
    filters: int = 32
    widths: Sequence[int] = (1, 2, 3, 4)
    dropout: float = 0.25

    @linen.compact
    def __call__(self, tokens: jax.Array, train: bool = True) -> jax.Array:
        x = linen.Embed(self.vocabulary, self.filters)(tokens)
        responses = []
        for width in self.widths:
            places = x.shape[1] - width + 1
            if places > 0:
                windows = [x[:, i : i + places] for i in range(width)]
                response = linen.Dense(self.filters)(jnp.concatenate(windows, axis=-1))
                responses.append(linen.relu(response).max(axis=1))
        features = jnp.concatenate(responses, axis=-1)
        features = linen.Dropout(self.dropout, deterministic=not train)(features)
        return linen.Dense(1)(features)[:, 0]


def seqgan(
    generator: Autoregressive,
    discriminator: Any,
    data: Any,
    rollouts: int = 4,
    pretrain: int | jax.Array = 0,
    baseline: bool = True,
    batch_size: int = 64,
    evaluate: Callable[[Params, World, Key], Metrics] = no_metrics,
) -> Game:
    """A GAN of sequences: the critic judges whole sequences, and rollouts give each token a value.

        critic   min mean D(1 ‖ C(real)) + mean D(0 ‖ C(y)),   y ~ π
        actor    max mean Σ_t ρ_t (Q_t − b_t),   ρ_t = π_own(y_t | y_<t) / π(y_t | y_<t), 1 in value
                 Q_t = mean of σ(C) over completions of y_1, …, y_t by π;   Q_T = σ(C(y))

    In expectation the gradient is that of E σ(C(y)). b_t is the mean of Q_t over the other
    sequences of the batch, which does not change the expectation. In the critic's loss the term of
    the fakes carries a ratio of value 1, so that its cross derivative is right in expectation too.

    Args:
        generator: the actor, an `Autoregressive`.
        discriminator: tokens [B, T] -> logits [B] or [B, 1].
        data: sequences of whole numbers [n, T].
        rollouts: the number of completions of each beginning.
        pretrain: the number of first steps in which the actor's loss is −mean log π(real).
        baseline: whether b_t is subtracted; the paper has none.
        batch_size: B >= 2.
        evaluate: `(params, world, key) -> metrics`.

    Returns:
        A `Game` of the players `actor` and `critic`. `gacf.propose` takes Gumbel noise [n, T, V],
        or n.

    Raises:
        ValueError: the data are not sequences of whole numbers.

    Reference:
        Yu et al. 2017, eqs. 4 to 8 and algorithm 1. The ratio: Foerster et al. 2018 (DiCE).

    Example:
        >>> import jax.numpy as jnp
        >>> game = seqgan(lstm(5), SequenceCritic(5), jnp.zeros((8, 3), int))
        >>> sorted(game.losses)
        ['actor', 'critic']
    """
    require("rollouts", rollouts, whole, "a whole number >= 1")
    require("batch_size", batch_size, lambda n: whole(n) and n >= 2, "a whole number >= 2")
    data = jnp.asarray(data)
    if data.ndim != 2 or not jnp.issubdtype(data.dtype, jnp.integer):
        raise ValueError(
            f"data: {data.dtype}{list(data.shape)} was given; allowed: whole numbers [n, T]"
        )
    critic = model("critic", discriminator)
    divergence = DIVERGENCES["cross_entropy"]
    real, length = rows(data), data.shape[1]

    def logits(key: Key) -> jax.Array:
        return generator.step(generator.init(key), generator.start(1), jnp.zeros(1, jnp.int32))[1]

    vocabulary = jax.eval_shape(logits, jax.random.key(0)).shape[-1]
    least, most = int(np.min(data)), int(np.max(data))
    if least < 0 or most >= vocabulary:
        raise ValueError(
            f"data: tokens {least} … {most} were given; allowed with a generator of {vocabulary} "
            f"tokens: 0 … {vocabulary - 1}"
        )

    def sample(world: World, key: Key) -> Batch:
        real_key, noise_key = jax.random.split(key)
        noise = jax.random.gumbel(noise_key, (batch_size, length, vocabulary))
        return {"real": real(real_key, batch_size)[0], "noise": noise}

    def init(key: Key) -> tuple[Params, World]:
        actor_key, critic_key = jax.random.split(key)
        params, entries = critic.init(critic_key, jnp.zeros((batch_size, length), data.dtype))
        return {"actor": generator.init(actor_key), "critic": params}, entries

    def critic_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        real_key, fake_key = jax.random.split(key)
        tokens = speak(generator, params["actor"], batch["noise"])
        log_prob = log_likelihood(generator, params["actor"], tokens).sum(axis=-1)
        ratio = jnp.exp(log_prob - jax.lax.stop_gradient(log_prob))
        real_verdict, entries = critic.apply(own, world, batch["real"], key=real_key)
        fake_verdict, news = critic.apply(own, {**world, **entries}, tokens, key=fake_key)
        real_verdict, fake_verdict = column(real_verdict), column(fake_verdict)
        loss = jnp.mean(divergence(real_verdict, jnp.ones_like(real_verdict)))
        loss = loss + jnp.mean(ratio * divergence(fake_verdict, jnp.zeros_like(fake_verdict)))
        metrics = {"verdict/real": jnp.mean(real_verdict), "verdict/fake": jnp.mean(fake_verdict)}
        return loss, Outcome(metrics, {**entries, **news})

    def token_values(params: Params, world: World, tokens: jax.Array, key: Key) -> jax.Array:
        """Q_t, [B, T]."""
        lengths = jnp.arange(1, length)
        lanes = (length - 1, rollouts, batch_size)
        spread = lambda x: jnp.broadcast_to(x, (*lanes, *x.shape[3:]))  # noqa: E731
        flat = lambda x: spread(x).reshape(-1, *x.shape[3:])  # noqa: E731
        noise = jax.random.gumbel(key, (*lanes, length, vocabulary))
        completions = speak(
            generator, params["actor"], flat(noise), flat(tokens[None, None]),
            flat(lengths[:, None, None]),
        )  # fmt: skip
        every_sequence = jnp.concatenate([completions, tokens])
        score, _ = critic.apply(params["critic"], world, every_sequence, train=False)
        score = jax.nn.sigmoid(column(score))
        early = score[: len(completions)].reshape(lanes).mean(axis=1)
        return jnp.concatenate([early, score[None, len(completions) :]]).T

    def actor_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        def imitate(own: PyTree) -> tuple[jax.Array, jax.Array]:
            return -jnp.mean(log_likelihood(generator, own, batch["real"])), jnp.zeros(())

        def improve(own: PyTree) -> tuple[jax.Array, jax.Array]:
            tokens = speak(generator, params["actor"], batch["noise"])
            fixed = log_likelihood(generator, params["actor"], tokens)
            ratio = jnp.exp(log_likelihood(generator, own, tokens) - fixed)
            value = token_values(params, world, tokens, key)
            others = (jnp.sum(value, axis=0, keepdims=True) - value) / (batch_size - 1)
            advantages = value - others if baseline else value
            return -jnp.mean(jnp.sum(ratio * advantages, axis=-1)), jnp.mean(value[:, -1])

        loss, reward = jax.lax.cond(steps_made(world) < pretrain, imitate, improve, own)
        return loss, Outcome({"reward": reward}, {})

    def judge(key: Key) -> jax.Array:
        tokens = jnp.zeros((batch_size, length), data.dtype)
        own, entries = critic.init(key, tokens)
        return critic.apply(own, entries, tokens, key=key)[0]

    verdict = traced("discriminator", data, judge, jax.random.key(0))
    check_output("discriminator", verdict, [(batch_size,), (batch_size, 1)])
    losses = {"actor": actor_loss, "critic": critic_loss}

    def draw(world: World, key: Key, n: int) -> jax.Array:
        del world
        return jax.random.gumbel(key, (n, length, vocabulary))

    def make(params: Params, world: World, inputs: tuple[Any, ...], key: Key) -> jax.Array:
        del world, key
        return speak(generator, params["actor"], inputs[0])

    propose = ProposedSamples(make, lambda: draw({}, jax.random.key(0), 1), draw)
    return Game(losses, init, sample=sample, evaluate=evaluate, propose=propose)
