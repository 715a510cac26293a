"""What a GAN is given fits together, or one line says what does not."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import gacf
from gacf.methods import flows
from gacf.networks import MLP
from gacf.networks import labels as L
from gacf.networks.images import DCGANCritic, DCGANGenerator, ResNetCritic, ResNetGenerator
from gacf.stabilizers import spectral_norm

DRAW = np.random.RandomState(0)
X = DRAW.uniform(-1, 1, (20, 4, 4, 1)).astype(np.float32)
X[0, 0, 0], X[0, 0, 1] = -1, 1
Y = np.arange(20) % 10
BYTES = np.round((X + 1) * 127.5).astype(np.uint8)
ACTOR, CODER, CRITIC = MLP((4,), (4, 4, 1), last=jnp.tanh), MLP((4,), (3,)), MLP((4,))
FEATURES = flows.WithFeatures((4,))
OWN = (lambda key: jnp.ones((5, 16)), lambda w, z: (z @ w).reshape(-1, 4, 4, 1))


def adversarial(data: Any = X, actor: Any = ACTOR, critic: Any = CRITIC, **options: Any) -> Any:
    return gacf.gan(actor, critic, data, **{"noise": 3, "batch_size": 8, **options})


def feed(scale: Any = lambda x: x) -> gacf.data.Feed:
    return gacf.data.Feed(BYTES, rows=4, scale=scale)


# Every game of examples: `(data, actor, critic) -> Game`.
GAMES: dict[str, Any] = {
    "gan": adversarial,
    "bigan": lambda x=X, a=ACTOR, c=CRITIC: flows.bigan(a, CODER, c, x, 3, 8),
    "vae_gan": lambda x=X, a=ACTOR, c=FEATURES: flows.vae_gan(
        a, MLP((4,), (6,)), c, x, 3, batch_size=8
    ),
    "adversarial_autoencoder": lambda x=X, a=ACTOR, c=CRITIC: flows.adversarial_autoencoder(
        a, CODER, c, x, 3, batch_size=8
    ),
    "infogan": lambda x=X, a=ACTOR, c=CRITIC: flows.infogan(
        a, c, CODER, x, 3, noise=3, batch_size=8
    ),
    "lapgan": lambda x=X, a=ACTOR, c=CRITIC: flows.lapgan(
        {"2x2": MLP((4,), (2, 2, 1)), "4x4": a}, {"2x2": CRITIC, "4x4": c}, x, 3, batch_size=8
    ),
    "domain_adversarial": lambda x=X, a=None, c=CRITIC: flows.domain_adversarial(
        CODER, MLP((), (10,)), c, (X, Y), x, batch_size=8
    ),
}
SHAPED = [name for name in GAMES if name != "domain_adversarial"]


def refusal(make: Any, *words: str) -> str:
    """The message of a ValueError in one line that says all the words."""
    with pytest.raises(ValueError) as caught:
        make()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("game", GAMES)
def test_whole_numbers_and_nan_are_refused_as_examples(game: str) -> None:
    name = "target" if game == "domain_adversarial" else "data"
    refusal(lambda: GAMES[game](BYTES), f"{name}: uint8[20, 4, 4, 1] was given", "127.5")
    refusal(lambda: GAMES[game](BYTES.astype(np.int32)), f"{name}: int32", "allowed: real numbers")
    broken = X.copy()
    broken[7, 2, 1] = np.nan
    refusal(lambda: GAMES[game](broken), f"{name}: example 7 holds NaN")
    broken[7, 2, 1] = -np.inf
    refusal(lambda: GAMES[game](broken), f"{name}: example 7 holds NaN or infinity")


def test_bytes_are_refused_from_wherever_they_come() -> None:
    refusal(lambda: adversarial((BYTES, Y)), "data: uint8")
    refusal(lambda: adversarial(feed()), "data: uint8", "`scale`")
    refusal(lambda: adversarial(lambda key, n: jnp.zeros((n, 4, 4, 1), jnp.uint8)), "data: uint8")
    refusal(lambda: flows.bigan(ACTOR, CODER, CRITIC, feed(), 3, 8), "data: uint8")
    scaled = adversarial(feed(lambda x: x / np.float32(127.5) - 1))
    assert "data" in jax.eval_shape(scaled.init, jax.random.key(0))[1]


@pytest.mark.parametrize("game", SHAPED)
def test_samples_have_the_shape_of_the_examples(game: str) -> None:
    own = "decoder" if game in ("vae_gan", "adversarial_autoencoder") else "generator"
    for wrong in ((16,), (4, 4, 3)):
        message = refusal(
            lambda wrong=wrong: GAMES[game](X, MLP((4,), wrong)), f"{own}: its samples"
        )
        assert "float32[8, 4, 4, 1]" in message
        assert f"float32[8, {', '.join(map(str, wrong))}]" in message


@pytest.mark.parametrize("game", GAMES)
def test_a_critic_yields_one_number_an_example(game: str) -> None:
    refusal(lambda: GAMES[game](X, ACTOR, MLP((4,), (3, 2))), "discriminator: its network yields")


def test_noise_that_the_generator_does_not_take() -> None:
    refusal(lambda: adversarial(actor=OWN), "generator: its network cannot be applied", "[8, 3]")
    refusal(lambda: flows.bigan(OWN, CODER, CRITIC, X, 3, 8), "generator: its network cannot")
    adversarial(actor=OWN, noise=5)


def test_codes_and_posteriors_have_their_sizes() -> None:
    refusal(lambda: flows.bigan(ACTOR, CODER, CRITIC, X, 4, 8), "encoder: ", "[8, 4]")
    refusal(lambda: flows.vae_gan(ACTOR, CODER, CRITIC, X, 3, batch_size=8), "encoder: ", "[8, 6]")
    refusal(lambda: flows.infogan(ACTOR, CRITIC, CODER, X, 4, noise=3), "posterior: ", "4]")
    refusal(lambda: flows.infogan(ACTOR, CRITIC, CODER, (X, Y), 3), "data: 2 arrays were given")
    other = lambda: flows.domain_adversarial(CODER, MLP((), (10,)), CRITIC, (X, Y), X[:, :2])  # noqa: E731
    refusal(other, "target: examples", "those of source")


def test_tokens_are_the_generators_and_its_critic_judges_sequences() -> None:
    tokens = np.full((6, 3), 5)
    critic = flows.SequenceCritic(6, 2, (1,))
    flows.seqgan(flows.lstm(6, 2), critic, tokens, batch_size=4)
    refusal(lambda: flows.seqgan(flows.lstm(5, 2), critic, tokens), "data: tokens 5 … 5", "0 … 4")
    refusal(lambda: flows.seqgan(flows.lstm(6, 2), critic, tokens - 6), "data: tokens -1 … -1")
    wide = (lambda key: jnp.ones(3), lambda w, y: jnp.ones((len(y), 1)) * w[None])
    refusal(lambda: flows.seqgan(flows.lstm(6, 2), wide, tokens, batch_size=4), "discriminator: ")


CONDITIONAL: dict[str, tuple[Any, Any]] = {
    "mlp, concatenation": (flows.Labelled((4,), 10, (4, 4, 1)), flows.Labelled((4,), 10)),
    "mlp, projection": (MLP((4,), (4, 4, 1)), spectral_norm(flows.Projection((4,), 10))),
    "dcgan": (DCGANGenerator((4, 4, 1), 2, 1, 10), MLP((4,))),
    "dcgan, projection": (MLP((4,), (4, 4, 1)), DCGANCritic(2, 1, 10, "projection", norm=False)),
    "dcgan, concatenation": (MLP((4,), (4, 4, 1)), DCGANCritic(2, 1, 10, norm=False)),
    "resnet": (ResNetGenerator((4, 4, 1), 2, 1, 10), ResNetCritic(2, 1, 10, "projection")),
}
WRONG = {
    "from 1": Y + 1,
    "unlabelled": np.where(Y == 3, -1, Y),
    "one-hot": np.eye(10, dtype=np.float32)[Y],
    "whole one-hot": np.eye(10, dtype=np.int32)[Y],
    "a column": Y[:, None],
    "real": Y.astype(np.float32),
    "bool": Y > 3,
}


@pytest.mark.long
@pytest.mark.parametrize("networks", CONDITIONAL)
def test_labels_are_classes_of_the_networks(networks: str) -> None:
    actor, critic = CONDITIONAL[networks]
    adversarial((X, Y), actor, critic)
    everything = networks == "mlp, concatenation"  # all networks share what is checked
    for labels in WRONG.values() if everything else list(WRONG.values())[:3]:
        refusal(
            lambda labels=labels: adversarial((X, labels), actor, critic), "labels:", "classes=10"
        )
    refusal(lambda: adversarial((X, Y[:-1]), actor, critic), "data: shape", "labels [n]")


def test_labels_of_samplers_are_looked_at_too() -> None:
    actor, critic = CONDITIONAL["mlp, concatenation"]
    draw = lambda key, n: (jnp.zeros((n, 4, 4, 1)), 3 + jnp.arange(n))  # noqa: E731
    refusal(lambda: adversarial(draw, actor, critic), "labels: numbers in 3 … 10", "classes=10")
    adversarial(draw, actor, critic, batch_size=7)
    read = gacf.data.Feed(list(zip(X, Y + 1, strict=True)), rows=4)
    refusal(lambda: adversarial(read, actor, critic), "labels: numbers in 1 … 10", "classes=10")
    adversarial(gacf.data.Feed(list(zip(X, Y, strict=True)), rows=4), actor, critic)


def test_labels_of_a_network_of_ones_own_are_no_negative_numbers() -> None:
    refusal(lambda: adversarial((X, Y - 1)), "labels: numbers in -1 … 8 were given")
    adversarial((X, 100 * Y))  # who knows how many classes it has
    adversarial((X, X))  # a condition that is no class


def test_labels_of_a_source_domain_are_the_posteriors_classes() -> None:
    def make(labels: Any) -> Any:
        return flows.domain_adversarial(CODER, MLP((), (10,)), CRITIC, (X, labels), X, batch_size=8)

    for labels in WRONG.values():
        refusal(lambda labels=labels: make(labels), "labels:", "classes=10")


@pytest.mark.long
def test_a_label_that_is_no_class_is_never_taken_for_another() -> None:
    """Where its value is not known beforehand: NaN, in place of class 0's or the last one's row."""
    for network in (flows.Labelled((4,), 3), flows.Projection((4,), 3)):
        x, right = jnp.ones((3, 2)), jnp.arange(3)
        params = network.init(jax.random.key(0), x, right)
        judge = jax.jit(network.apply)
        assert np.all(np.isfinite(judge(params, x, right)))
        for wrong in (3, -1, 200):
            found = np.asarray(judge(params, x, jnp.array([0, wrong, 1])))
            np.testing.assert_array_equal(np.isnan(found).reshape(3, -1).all(1), [0, 1, 0])
            refusal(
                lambda wrong=wrong: network.apply(params, x, jnp.array([0, wrong, 1])), "labels:"
            )
    # numbers that are known while a program is traced
    jax.jit(lambda: network.apply(params, x, right))()
    code = jax.jit(lambda y: L.one_hot(y, 3, jnp.float32))(jnp.array([2, 0], jnp.uint8))
    np.testing.assert_array_equal(code, [[0, 0, 1], [1, 0, 0]])


class Last(linen.Module):
    """A layer with some function at its end."""

    last: Any

    @linen.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        return self.last(linen.Dense(16)(z)).reshape(-1, 4, 4, 1)


@pytest.mark.parametrize(
    ("data", "last", "warned"),
    [
        (X, jnp.tanh, None),
        ((X + 1) / 2, jnp.tanh, r"\[0, 1\], and the generator's samples in \[-1, 1\]"),
        ((X + 1) * 127.5, jnp.tanh, r"data: its numbers lie in \[0, 255\]"),
        ((X + 1) * 127.5, jax.nn.sigmoid, r"data: .*\[0, 255\].* in \[0, 1\]"),
        ((X + 1) / 2, jax.nn.sigmoid, None),
        (X, jax.nn.sigmoid, r"\[-1, 1\], and the generator's samples in \[0, 1\]"),
        ((X + 1) * 127.5, lambda x: 128 * jnp.tanh(x), None),
        ((X + 1) * 127.5, jnp.sinh, None),
    ],
)
def test_real_numbers_of_another_scale_are_warned_about(data: Any, last: Any, warned: Any) -> None:
    if warned is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            adversarial(data, Last(last))
    else:
        with pytest.warns(UserWarning, match=warned):
            adversarial(data, Last(last))
