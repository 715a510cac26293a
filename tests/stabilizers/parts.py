"""A small GAN and a small actor-critic game whose parts a stabiliser may take; every stabiliser."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

import gacf
from gacf.methods.actor_critic import DIVERGENCES, Source, actor_critic, pathwise
from gacf.methods.actor_critic.target import q_target
from gacf.methods.gan import penalties
from gacf.networks import model
from gacf.stabilizers import (
    MinibatchDiscrimination,
    Normalised,
    VirtualBatchNorm,
    activations,
    ema,
    entropy,
    feature_matching,
    freeze,
    historical_averaging,
    mixed,
    nearest_neighbours,
    noisy,
    pulled_away,
    replay,
    smooth,
    spectral_norm,
    target_networks,
    weight_clip,
    with_reference,
)

B = 4
# initialisers and noise that compile fast
Dense = functools.partial(linen.Dense, kernel_init=linen.initializers.uniform(0.7))
ACTOR = linen.Sequential([Dense(3), linen.tanh, Dense(2)])
DATA = np.random.RandomState(0).randn(16, 2).astype(np.float32)


def same(x: Any) -> Any:
    return x


class Judge(linen.Module):
    """A critic of an example, or of state and action, with a layer in its midst."""

    layer: Callable[[], linen.Module] | None = None

    @linen.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        x = linen.tanh(Dense(4, name="first")(jnp.concatenate(inputs, axis=-1)))
        x = x if self.layer is None else self.layer().copy(name="layer")(x)
        return Dense(1, name="last")(x)


class Virtual(linen.Module):
    """The same with virtual batch normalisation."""

    strength: Any

    @linen.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        x = linen.tanh(Dense(4, name="first")(jnp.concatenate(inputs, axis=-1)))
        x = VirtualBatchNorm(self.strength, name="layer")(x, train)
        return Dense(1, name="last")(x)


class Family(NamedTuple):
    """How a family is told what a stabiliser needs to know.

    Attributes:
        make: `(critic, transform_target, penalty) -> Game`.
        sees: `batch -> actor's inputs`.
        view: `(batch, action) -> the critic's inputs (theirs, made)`.
        reference: what a critic takes, fixed.
        action: which of the critic's inputs the actor made.
    """

    make: Callable[..., gacf.Game]
    sees: Callable[[Any], Any]
    view: Callable[[Any, Any], Any]
    reference: Any
    action: int


def uniform(key: Any, n: int) -> jax.Array:
    return jax.random.uniform(key, (n, 2), minval=-1)


def gan(critic: Any = None, transform_target: Any = same, penalty: Any = None) -> gacf.Game:
    critic = Judge() if critic is None else critic
    return gacf.gan(
        ACTOR, critic, DATA, batch_size=B, noise=uniform, transform_target=transform_target,
        penalty=penalty,
    )  # fmt: skip


def q_learner(critic: Any = None, transform_target: Any = same, penalty: Any = None) -> gacf.Game:
    """Transitions of a regulator, drawn anew; a TD target; the actor along the path."""
    pi, q = model("actor", ACTOR), model("critic", Judge() if critic is None else critic)

    def sample(world: Any, key: Any) -> Any:
        s, a = jax.random.uniform(key, (2, B, 2), minval=-1)
        return {
            "observation": s,
            "action": a,
            "reward": -jnp.sum(s**2, -1),
            "next_observation": 0.9 * s + 0.1 * a,
            "terminated": jnp.zeros(B, bool),
        }

    return actor_critic(
        pi, q, Source(lambda key: {}, sample),
        view=lambda batch, action: {"taken": (batch["observation"], action)},
        target=q_target(pi, q, 0.9),
        divergence=DIVERGENCES["squared_error"],
        improve=pathwise(),
        transform_target=transform_target,
        penalty=penalty,
    )  # fmt: skip


FAMILIES = {
    "gan": Family(gan, lambda b: b["noise"], lambda b, x: (b["real"], x), jnp.asarray(DATA[:3]), 0),
    "actor_critic": Family(
        q_learner,
        lambda b: b["observation"],
        lambda b, a: ((b["observation"], b["action"]), (b["observation"], a)),
        (jnp.asarray(DATA[:3]), jnp.asarray(DATA[3:6])),
        1,
    ),
}

Optimizer = optax.GradientTransformation
MOVE = optax.sgd(0.1, momentum=0.9)
Made = tuple[gacf.Game, Optimizer]


def in_critic(layer: Callable[[Any], linen.Module]) -> Callable[[Family, Any], Made]:
    return lambda of, s: (of.make(Judge(lambda: layer(s))), MOVE)


def over_game(change: Callable[[Family, gacf.Game, Any], gacf.Game]) -> Any:
    return lambda of, s: (change(of, of.make(), s), MOVE)


def over_optimizer(change: Callable[[Any], Optimizer]) -> Any:
    return lambda of, s: (of.make(), change(s))


# Stabiliser -> (family, strength) -> the game and what its players move with; at 0 it is off.
STABILISED: dict[str, Callable[[Family, Any], Made]] = {
    "freeze": over_optimizer(lambda s: freeze(MOVE, lambda step, metrics: (step > 0) & (s > 0))),
    "historical_averaging": over_optimizer(lambda s: optax.chain(historical_averaging(s), MOVE)),
    "weight_clip": over_optimizer(lambda s: optax.chain(MOVE, weight_clip(0.1 / s))),
    "clipped gradients": over_optimizer(
        lambda s: optax.chain(optax.clip_by_global_norm(0.01 / s), optax.sgd(0.1))
    ),
    "two time scales": over_optimizer(lambda s: optax.sgd(0.1 * (1 + s))),
    "smooth": lambda of, s: (of.make(transform_target=smooth(s)), MOVE),
    "gradient penalty": lambda of, s: (of.make(penalty=penalties.zero_centred(s)), MOVE),
    "minibatch_discrimination": in_critic(lambda s: MinibatchDiscrimination(2, 2, s)),
    "normalised": in_critic(lambda s: Normalised(linen.LayerNorm(), s)),
    "batch norm": in_critic(lambda s: Normalised(linen.BatchNorm(use_running_average=False), s)),
    "virtual_batch_norm": lambda of, s: (of.make(with_reference(Virtual(s), of.reference)), MOVE),
    "spectral_norm": lambda of, s: (of.make(spectral_norm(Judge(), strength=s)), MOVE),
    "noisy": lambda of, s: (of.make(noisy(Judge(), s, inputs=(of.action,))), MOVE),
    "target_networks": over_game(lambda of, game, s: target_networks(game, 1 - 0.9 * s)),
    "replay": over_game(lambda of, game, s: replay(game, 4 * B, B, join=mixed(s))),
    "ema": over_game(lambda of, game, s: ema(game, 0.5 * s)),
    "entropy": over_game(lambda of, game, s: entropy(game, ACTOR, of.sees, s, nearest_neighbours)),
    "pulled_away": over_game(lambda of, game, s: entropy(game, ACTOR, of.sees, s, pulled_away)),
    "feature_matching": over_game(
        lambda of, game, s: feature_matching(
            game, ACTOR, of.sees, of.view, activations(Judge(), "first"), s
        )
    ),
}
