"""The spectrum of a game's Jacobian: whether the dynamics rotate, converge or diverge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from gacf.core.game import Game
from gacf.core.types import Key, Params, World
from gacf.rules.algebra import extended
from gacf.rules.direction import Direction, field, gradient


def game_jacobian(
    game: Game,
    params: Params,
    world: World,
    key: Key,
    direction: Direction | Mapping[str, Direction] | None = None,
    optimizers: Mapping[str, optax.GradientTransformation] | None = None,
) -> jax.Array:
    """The dense Jacobian of all players' directions at one point, batch and key; for small games.

    Args:
        game: any game.
        params: the point, d numbers in total.
        world: the game's world.
        key: `batch_key, loss_key = split(key)`, as in a step.
        direction: one direction for all players, or player -> direction, with fresh memories; own
            gradients by default.
        optimizers: for directions that look through optimiser steps, with fresh states.

    Returns:
        [d, d], in the order in which the players' dict is flattened.
    """
    batch_key, loss_key = jax.random.split(key)
    optimizers = extended(optimizers or {})
    states = {name: each.init(params[name]) for name, each in optimizers.items()}
    at = field(game, world, game.sample(world, batch_key), loss_key, optimizers, states)
    flat, unravel = ravel_pytree({name: params[name] for name in at.players})

    def follows(player: str) -> Direction:
        one = direction if isinstance(direction, Direction) else (direction or {}).get(player)
        return one or gradient()

    def vector(flat: jax.Array) -> jax.Array:
        here = {**params, **unravel(flat)}
        vectors = {}
        for name in at.players:
            memory = follows(name).init(name, params)
            vectors[name], _, _ = follows(name).follow(at, name, here, memory)
        return ravel_pytree(vectors)[0]

    # forward mode: an unrolled loop or a linear solve need not be differentiated backwards again
    return jax.jacfwd(vector)(flat)


def game_spectrum(*args: Any, **kwargs: Any) -> np.ndarray:
    """The eigenvalues of the Jacobian of all players' directions; arguments as `game_jacobian`.

    Under small steps z ← z − η v(z) an equilibrium is attracting if all real parts are positive.
    One step multiplies a mode by 1 − ημ, so imaginary parts, which mean rotation, require small
    steps. The matrix is dense and LAPACK is used: this is for small games, and not for use inside
    compiled programs that are spread over devices.

    Returns:
        d complex numbers, by real, then imaginary part.

    Reference:
        Mescheder, Nowozin & Geiger 2017; Mescheder, Geiger & Nowozin 2018.

    Example:
        >>> import jax
        >>> from gacf.games import dirac_gan
        >>> game = dirac_gan(start=(0.0, 0.0))
        >>> params, world = game.init(jax.random.key(0))
        >>> game_spectrum(game, params, world, jax.random.key(0)).imag.round(3).tolist()
        [-0.5, 0.5]
    """
    jacobian = np.asarray(game_jacobian(*args, **kwargs))
    return np.sort_complex(np.linalg.eigvals(jacobian).astype(complex))


def draw_spectrum(axes: Any, found: Any, theory: Any = None, title: str = "") -> None:
    """Draws eigenvalues in the complex plane; the attracting half is shaded.

    Args:
        axes: matplotlib axes.
        found: eigenvalues [d], drawn as filled points.
        theory: eigenvalues [n], drawn as circles; None draws none.
        title: the title of the axes.
    """
    real, imag = np.real(found), np.imag(found)
    expected = [] if theory is None else np.asarray(theory)
    reach = 1.2 * max(float(np.max(np.abs(np.concatenate([real, imag])))), 1e-3)
    reach = max([reach, *(1.2 * np.abs(expected))])
    axes.axvspan(0, reach, color="tab:green", alpha=0.08, linewidth=0)
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.axvline(0, color="0.8", linewidth=0.8)
    circle = {"markersize": 11, "fillstyle": "none", "color": "0.3"}
    axes.plot(np.real(expected), np.imag(expected), "o", **circle)
    axes.plot(real, imag, ".", color="tab:red")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
