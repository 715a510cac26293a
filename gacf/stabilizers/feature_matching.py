"""Feature matching: an actor that matches the mean of the critic's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from flax import linen

from gacf.core.checks import nearest, require
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Metrics, Params, PyTree, World
from gacf.networks import model
from gacf.networks.network import as_inputs
from gacf.stabilizers.added_term import with_term

Features = Callable[..., jax.Array]


def activations(network: linen.Module, layer: str) -> Features:
    """The output of a layer of a Linen module: `(params, *inputs) -> [B, F]`.

    Args:
        network: the module.
        layer: the name of a submodule at any depth; it must be the only one of that name.

    Raises:
        ValueError: when it is called, unless exactly one layer has that name.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gacf.networks import MLP
        >>> critic, x = MLP((8, 6)), jnp.ones((4, 2))
        >>> params = critic.init(jax.random.key(0), x)["params"]
        >>> activations(critic, "Dense_1")(params, x).shape
        (4, 6)
    """

    def features(params: PyTree, *inputs: Any) -> jax.Array:
        names: list[str] = []

        def chosen(module: linen.Module, method: str) -> bool:
            names.append(str(module.name))
            return module.name == layer and method == "__call__"

        _, captured = network.apply(
            {"params": params}, *inputs, capture_intermediates=chosen, mutable=["intermediates"]
        )
        outputs = jax.tree.leaves(dict(captured))
        if len(outputs) != 1:
            others = sorted({name for name in names if name != "None"})
            raise ValueError(
                f"layer: {len(outputs)} outputs are called {layer!r}; {nearest(layer, others)}"
            )
        return outputs[0].reshape(len(outputs[0]), -1)

    return features


def _depends_on(function: Callable[[PyTree], Any], argument: PyTree) -> bool:
    """Whether any output of the function depends on its argument."""
    program = jax.make_jaxpr(function)(argument).jaxpr
    dependent = set(program.invars)

    def any_depends(values: Any) -> bool:
        return any(v in dependent for v in values if not isinstance(v, jax.extend.core.Literal))

    for equation in program.eqns:
        if any_depends(equation.invars):
            dependent.update(equation.outvars)
    return any_depends(program.outvars)


def feature_matching(
    game: Game,
    actor: Any,
    sees: Callable[[Batch], Any],
    view: Callable[[Batch, jax.Array], tuple[Any, Any]],
    features: Features,
    strength: float | jax.Array = 1.0,
    player: str = "actor",
    critic: str = "critic",
) -> Game:
    """The game whose actor matches the batch means of the critic's features.

        loss ← (1 − strength) loss + strength ‖mean_B f(theirs) − mean_B f(made)‖²

    A GAN's generator matches the features of real examples with those of its own, instead of
    following the critic's verdict. A deterministic actor, or the mean of a policy, matches the
    features of replayed (s, a) with those of (s, π(s)), so that it stays where the critic has seen
    evidence. A critic of states alone has no features that depend on the actor: that is an error.

        feature_matching(gan, generator, lambda b: b["noise"], lambda b, x: (b["real"], x), f)
        feature_matching(
            ddpg, actor, lambda b: b["observation"],
            lambda b, a: ((b["observation"], b["action"]), (b["observation"], a)), f)

    Args:
        game: any game.
        actor: the player's network, as the game has it.
        sees: `batch -> actor's inputs [B, …]`; a tuple is several inputs.
        view: `(batch, actor's output) -> (theirs, made)`: the critic's inputs, for the evidence and
            for the actor; a tuple is several inputs.
        features: `(critic's params, *inputs) -> [B, F]`, such as `activations(network, layer)`.
        strength: in [0, 1]; 0 is off, to the bit, and 1 leaves the verdict out. May be traced.
        player: the player whose loss is changed.
        critic: the player whose features are matched; its parameters are held fixed.

    Returns:
        A `Game`; the player's loss reports the metric `feature_distance`.

    Raises:
        ValueError: the strength is out of bounds, there is no such player, `feature_matching` was
            applied before, or (while tracing) the features do not depend on the actor.

    Reference:
        Salimans et al. 2016, section 3.1.

    Example:
        >>> import gacf
        >>> from gacf.networks import MLP
        >>> generator, critic = MLP((8,), (2,)), MLP((8,))
        >>> game = gacf.gan(generator, critic, gacf.data.ring(), noise=2)
        >>> game = feature_matching(
        ...     game, generator, lambda batch: batch["noise"],
        ...     lambda batch, samples: (batch["real"], samples), activations(critic, "Dense_0"))
        >>> sorted(game.losses)
        ['actor', 'critic']
    """
    require("strength", strength, lambda s: 0 <= s <= 1, "a number in [0, 1]")
    network = model(player, actor)

    def term(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Metrics]:
        def means(own: PyTree) -> tuple[jax.Array, jax.Array]:
            output, _ = network.apply(own, world, *as_inputs(sees(batch)), key=key)
            of_evidence, of_actor = (
                jnp.mean(features(params[critic], *as_inputs(x)), axis=0)
                for x in view(batch, output)
            )
            return of_evidence, of_actor

        if not _depends_on(lambda own: means(own)[1], own):
            raise ValueError(
                "feature_matching: the features do not depend on the actor's output (those of a "
                "critic of states never do); allowed: a critic that sees it"
            )
        of_evidence, of_actor = means(own)
        distance = jnp.sum(jnp.square(of_evidence - of_actor))
        return distance, {"feature_distance": distance}

    return with_term(
        game, player, "feature_matching", strength, term,
        lambda loss, distance: (1 - strength) * loss + strength * distance,
    )  # fmt: skip
