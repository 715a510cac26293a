"""The pulling-away term: samples whose codes point in different directions (L4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf.game import Game, add_loss
from gacf.networks import model
from gacf.types import Batch, Key, Outcome, Params, PyTree, World

TINY = 1e-12


def likeness(codes: jax.Array) -> jax.Array:
    """Mean squared cosine between different rows: 1/(B(B−1)) Σ_{i≠j} (s_i·s_j / ‖s_i‖‖s_j‖)².

    Args:
        codes: s, [B, F] with B >= 2.

    Reference:
        Zhao, Mathieu & LeCun 2017, section 2.4.

    Example:
        >>> import jax.numpy as jnp
        >>> float(likeness(jnp.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])))
        0.3333333432674408
    """
    count = codes.shape[0]
    if codes.ndim != 2 or count < 2:
        raise ValueError(f"codes: shape {codes.shape} was given; allowed: [B, F] with B >= 2")
    size = jnp.sqrt(jnp.sum(jnp.square(codes), axis=1, keepdims=True) + TINY)
    unit = codes / size
    cosines = jnp.square(unit @ unit.T)
    return (jnp.sum(cosines) - jnp.trace(cosines)) / (count * (count - 1))


def pulling_away(
    game: Game,
    generator: Any,
    codes: Callable[[PyTree, jax.Array], jax.Array],
    weight: float | jax.Array = 0.1,
) -> Game:
    """The GAN in whose actor's loss weight · `likeness` of its samples' codes is added.

    Args:
        game: a GAN.
        generator: the actor's network, as given to `gan`.
        codes: `(critic's params, samples [B, …]) -> [B, F]`: for instance the code of an
            `Autoencoder`, `critic.apply({"params": p}, x, method="encode")`.
        weight: of the term.

    Reference:
        Zhao, Mathieu & LeCun 2017, section 2.4; weight 0.1 there.

    Example:
        >>> import gacf
        >>> from gacf.gan.networks import Autoencoder
        >>> from gacf.networks import MLP
        >>> generator, critic = MLP((8,), (2,)), Autoencoder((8, 2))
        >>> game = gacf.gan(generator, critic, gacf.data.ring(), loss="energy_based", noise=2)
        >>> game = pulling_away(
        ...     game, generator, lambda p, x: critic.apply({"params": p}, x, method="encode"))
        >>> sorted(game.losses)
        ['actor', 'critic']
    """
    actor = model("actor", generator)

    def term(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        seen = (batch["noise"], batch["label"]) if "label" in batch else (batch["noise"],)
        made, _ = actor.apply(own, world, *seen, key=key)
        alike = likeness(codes(params["critic"], made))
        return weight * alike, Outcome({"likeness": alike}, {})

    return add_loss(game, "actor", term)
