"""Noise on a network's inputs: instance noise, action noise, target smoothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.checks import require
from gacf.core.clock import steps_made
from gacf.core.types import Key, Params, PyTree, World
from gacf.networks import Model, model

# Folded into the network's key for the noise; the network goes on with its own key, as if alone.
NOISE = 0x6E6F6973
Deviation = float | jax.Array | Callable[[jax.Array], Any]


def noisy(
    network: Any,
    deviation: Deviation,
    player: str = "critic",
    inputs: Sequence[int] | None = None,
    clip: float | jax.Array | None = None,
) -> Model:
    """The network whose inputs get normal noise, drawn anew in each evaluation.

        x ← x + clip(σ ε, −c, c),   ε ~ N(0, 1)

    A GAN's critic then sees blurred real and generated examples, so that two distributions that do
    not overlap now do: this is instance noise, and it applies in the actor's loss too. A critic of
    actions sees states and actions near those taken, in its prediction and in its target, so that
    similar actions get similar values; TD3's target smoothing does this in the target alone.
    Without training (in evaluation mode) there is no noise.

    Args:
        network: any kind of network that `gacf.networks.model` takes.
        deviation: σ >= 0, or a function of the step, for annealing; 0 is off, to the bit. May be
            traced.
        player: the player to whom the network belongs.
        inputs: which of the network's inputs, counted from 0: `(1,)` is the action of Q(s, a). By
            default all; whole numbers, such as labels, always stay as they are.
        clip: c > 0; None for no bound.

    Returns:
        A `Model` to use instead of the network.

    Raises:
        ValueError: a number is out of bounds, or (from `apply`) an input or the key is missing.

    Reference:
        Sønderby et al. 2017; Arjovsky & Bottou 2017. Actions: Fujimoto et al. 2018, section 5.3.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gacf.networks import MLP
        >>> critic = noisy(MLP((8,)), lambda step: 0.1 * 0.99 ** step)
        >>> params, world = critic.init(jax.random.key(0), jnp.ones((4, 2)))
        >>> critic.apply(params, world, jnp.ones((4, 2)), key=jax.random.key(1))[0].shape
        (4,)
    """
    if not callable(deviation):
        require("deviation", deviation, lambda s: s >= 0, "a number >= 0")
    require("clip", clip, lambda c: c is None or c > 0, "a number > 0, or None")

    def blurred(x: PyTree, size: Any, key: Key) -> PyTree:
        leaves, structure = jax.tree.flatten(x)
        keys = jax.random.split(key, max(1, len(leaves)))

        def blur(leaf: jax.Array, key: Key) -> jax.Array:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            noise = size * jax.random.normal(key, leaf.shape, leaf.dtype)
            noise = noise if clip is None else jnp.clip(noise, -clip, clip)
            return jnp.where(jnp.asarray(size) == 0, leaf, (leaf + noise).astype(leaf.dtype))

        return jax.tree.unflatten(structure, map(blur, leaves, keys[: len(leaves)]))

    def with_noise(base: Model) -> Model:
        def apply(
            params: PyTree, world: World, *given: Any, key: Key | None = None, train: bool = True
        ) -> tuple[jax.Array, World]:
            if train:
                if key is None:
                    raise ValueError(f"noisy: {player}: key: None was given; the noise needs one")
                chosen = range(len(given)) if inputs is None else inputs
                for i in chosen:
                    if i not in range(len(given)):
                        raise ValueError(
                            f"noisy: inputs: {i} was given; {player} has {len(given)} of them"
                        )
                size = deviation(steps_made(world)) if callable(deviation) else deviation
                keys = jax.random.split(jax.random.fold_in(key, NOISE), len(given))
                given = tuple(
                    blurred(x, size, keys[i]) if i in chosen else x for i, x in enumerate(given)
                )
            return base.apply(params, world, *given, key=key, train=train)

        bind = base.bind
        if bind is None:
            return base._replace(apply=apply)

        def given_others(params: Params) -> Model:
            return with_noise(bind(params))

        return base._replace(apply=apply, bind=given_others)

    return with_noise(model(player, network))
