"""The pulling-away term: samples whose codes point in different directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from gacf.core.game import Game, add_loss
from gacf.core.types import Batch, Key, Outcome, Params, PyTree, World
from gacf.networks import model
from gacf.stabilizers import likeness


def pulling_away(
    game: Game,
    generator: Any,
    codes: Callable[[PyTree, jax.Array], jax.Array],
    weight: float | jax.Array = 0.1,
) -> Game:
    """The GAN with weight · `likeness` of its samples' codes added to the actor's loss.

    Args:
        game: a GAN.
        generator: the actor's network, as given to `gan`.
        codes: `(critic's params, samples [B, …]) -> [B, F]`: for instance the code of an
            `Autoencoder`, `critic.apply({"params": p}, x, method="encode")`.
        weight: the weight of the term.

    Reference:
        Zhao, Mathieu & LeCun 2017, section 2.4; weight 0.1 there.

    Example:
        >>> import gacf
        >>> from gacf.networks.images import Autoencoder
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
        actor_inputs = (batch["noise"], batch["label"]) if "label" in batch else (batch["noise"],)
        samples, _ = actor.apply(own, world, *actor_inputs, key=key)
        similarity = likeness(codes(params["critic"], samples))
        return weight * similarity, Outcome({"likeness": similarity}, {})

    return add_loss(game, "actor", term)
