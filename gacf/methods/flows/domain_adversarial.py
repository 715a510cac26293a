"""Domain-adversarial training, Ganin et al. 2016: features that do not reveal the domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gacf.core.checks import require, whole
from gacf.core.clock import steps_made
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Metrics, Outcome, Params, PyTree, World
from gacf.methods.flows.parts import (
    Stage,
    adversary,
    examples,
    game_of_stages,
    no_metrics,
    rows,
)
from gacf.methods.gan.inputs import check_output, described
from gacf.methods.gan.proposals import ProposedSamples
from gacf.networks import model
from gacf.networks.labels import check_labels

Weight = float | jax.Array | Callable[[jax.Array], jax.Array]


def ramp(steps: float | jax.Array, highest: float | jax.Array = 1.0) -> Any:
    """The weight of the critic over training: highest · (2 / (1 + e^{−10 p}) − 1), p = step / steps.

    Reference:
        Ganin et al. 2016, section 5.2.

    Example:
        >>> float(ramp(10)(0)), round(float(ramp(10)(10)), 3)
        (0.0, 1.0)
    """  # noqa: E501
    return lambda step: highest * (2 / (1 + jnp.exp(-10 * step / steps)) - 1)


def domain_adversarial(
    encoder: Any,
    posterior: Any,
    discriminator: Any,
    source: tuple[Any, Any],
    target: Any,
    weight: Weight = 1.0,
    batch_size: int = 64,
    evaluate: Callable[[Params, World, Key], Metrics] = no_metrics,
) -> Game:
    """A classifier on features in which two domains look alike.

        posterior  min −mean log Q(y | E(x_source))
        critic     min D(1 ‖ C(E(x_source))) + D(0 ‖ C(E(x_target)))
        encoder    min −mean log Q(y | E(x_source)) − weight · (the critic's loss)

    The opposite sign in the encoder's loss does what the paper's gradient reversal layer does.

    Args:
        encoder: [B, …] -> features [B, F].
        posterior: features -> logits [B, K] of the labels.
        discriminator: features -> logits of the domain.
        source: examples [n, …] and labels [n].
        target: examples [m, …]; their labels are never used.
        weight: the weight λ of the critic, a number or a function of the step (`ramp`); with 0 the
            encoder learns from the source alone.
        batch_size: B, for each domain.
        evaluate: `(params, world, key) -> metrics`.

    Returns:
        A `Game` of the players `encoder`, `posterior` and `critic`. `gacf.propose` takes examples
        [n, …] and yields the logits of their labels [n, K].

    Reference:
        Ganin et al. 2016, eqs. 9 and 10.

    Example:
        >>> import jax.numpy as jnp
        >>> from gacf.networks import MLP
        >>> x, y = jnp.ones((4, 3)), jnp.zeros(4, int)
        >>> game = domain_adversarial(MLP((8,), (5,)), MLP((), (2,)), MLP((8,)), (x, y), 2 * x)
        >>> sorted(game.losses)
        ['critic', 'encoder', 'posterior']
    """
    require("batch_size", batch_size, whole, "a whole number >= 1")
    coder, reader = model("encoder", encoder), model("posterior", posterior)
    critic = model("critic", discriminator)
    judge = adversary(critic)
    require("source", source, lambda pair: len(pair) == 2, "examples [n, …] and labels [n]")
    examples("source", source[0])
    labelled, unlabelled = rows(*source), examples("target", target)

    def sample(world: World, key: Key) -> Batch:
        source_key, target_key = jax.random.split(key)
        x, label = labelled(source_key, batch_size)
        return {"source": x, "label": label, "target": unlabelled(target_key, batch_size)[0]}

    shapes = jax.eval_shape(sample, {}, jax.random.key(0))
    if shapes["source"].shape != shapes["target"].shape:
        raise ValueError(
            f"target: examples {described(shapes['target'])} were given; allowed: those of "
            f"source, {described(shapes['source'])}"
        )

    def check_classes(logits: Any) -> None:
        check_output("posterior", logits, [(batch_size, "K")])
        check_labels(np.asarray(source[1]), logits.shape[1])

    stages = [
        Stage(coder, "encoder", lambda known: (known["source"],), [(batch_size, "F")]),
        Stage(reader, "posterior", lambda known: (known["encoder"],), check_classes),
        Stage(
            critic, "discriminator", lambda known: (known["encoder"],),
            [(batch_size,), (batch_size, 1)],
        ),
    ]  # fmt: skip

    def encode(
        own: PyTree, world: World, batch: Batch, key: Key
    ) -> tuple[dict[str, jax.Array], World]:
        real_key, fake_key = jax.random.split(key)
        real, entries = coder.apply(own, world, batch["source"], key=real_key)
        fake, news = coder.apply(own, {**world, **entries}, batch["target"], key=fake_key)
        return {"real": real, "fake": fake}, {**entries, **news}

    def label_error(
        own: PyTree, world: World, features: jax.Array, batch: Batch, key: Key
    ) -> tuple[jax.Array, World]:
        logits, entries = reader.apply(own, world, features, key=key)
        errors = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return jnp.mean(errors), entries

    def posterior_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, read_key = jax.random.split(key)
        features, _ = encode(params["encoder"], world, batch, code_key)
        error, entries = label_error(own, world, features["real"], batch, read_key)
        return error, Outcome({}, entries)

    def critic_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, judge_key = jax.random.split(key)
        features, _ = encode(params["encoder"], world, batch, code_key)
        loss, metrics, entries = judge.learn(own, params, world, features, judge_key)
        return loss, Outcome(metrics, entries)

    def encoder_loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        code_key, read_key, judge_key = jax.random.split(key, 3)
        features, entries = encode(own, world, batch, code_key)
        error, _ = label_error(params["posterior"], world, features["real"], batch, read_key)
        domain_loss, _, _ = judge.learn(params["critic"], params, world, features, judge_key)
        strength = weight(steps_made(world)) if callable(weight) else weight
        return error - strength * domain_loss, Outcome({"domain_loss": domain_loss}, entries)

    losses = {"encoder": encoder_loss, "posterior": posterior_loss, "critic": critic_loss}

    def classify(params: Params, world: World, inputs: tuple[Any, ...], key: Key) -> jax.Array:
        code_key, read_key = jax.random.split(key)
        features = coder.apply(params["encoder"], world, *inputs, key=code_key, train=False)[0]
        return reader.apply(params["posterior"], world, features, key=read_key, train=False)[0]

    propose = ProposedSamples(classify, lambda: sample({}, jax.random.key(0))["target"])
    return game_of_stages(losses, stages, sample, evaluate)._replace(propose=propose)
