"""Asks a trained actor for what it proposes: a policy's actions, a generator's samples."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.checks import shown
from gacf.core.clock import with_clock
from gacf.core.game import Game
from gacf.core.types import Algorithm, Key, PyTree, State
from gacf.runner.program import check_key


@functools.lru_cache(maxsize=16)
def _compiled(propose: Callable[..., PyTree]) -> Callable[..., PyTree]:
    return jax.jit(propose)


@functools.lru_cache(maxsize=16)
def _compiled_for(propose: Callable[..., PyTree], n: int) -> Callable[..., PyTree]:
    """The program that makes n proposals of noise that it draws itself."""
    return jax.jit(lambda *parts: propose(*parts[:-1], n, parts[-1]))


def propose(game: Game | Algorithm, state: State, seen: PyTree, key: Key | None = None) -> PyTree:
    """What the actor proposes when nobody learns, with the parameters of one seed's state.

    Networks run in evaluation mode; normalisation, scaling and squashing are those of training, and
    averaged parameters (`gacf.stabilizers.ema`) are used where a game is evaluated with them. Large
    requests are computed in chunks, so that they need little memory beyond their result.

    Args:
        game: a `Game`, or an `Algorithm` made of one, for instance of `gacf.load_algorithm`.
        state: the state of one seed: `gacf.take_seed(state, i)`.
        seen: what the actor sees. For a policy observations, leaves [B, …], as the environment
            yields them. For a generator noise [n, Z]; `(noise, labels)`; or the number n of
            samples, for which noise (and labels, like those of the data) are drawn with the key.
        key: for what is drawn. It may be left out if `seen` is given: the same input then gives
            the same answer, also from networks that draw noise of their own.

    Returns:
        Actions [B, …] in the environment's units: the mode of a stochastic policy, and nothing
        added for exploration; or samples [n, …].

    Raises:
        ValueError: `state` holds several seeds or is no state; `seen` does not fit, or is a number
            without a key; the game has no actor that can be asked.

    Example:
        >>> import gacf, jax, jax.numpy as jnp, optax
        >>> game = gacf.ddpg("Pendulum-v1", replay=gacf.Replay(capacity=64, batch_size=4, warmup=8))
        >>> rule = gacf.rules.alternating({p: optax.adam(1e-3) for p in game.losses})
        >>> state = gacf.compose(game, rule).init(jax.random.key(0))
        >>> gacf.propose(game, state, jnp.zeros((5, 3))).shape
        (5, 1)
    """
    if not isinstance(game, Game | Algorithm):
        raise ValueError(f"game: {shown(game)} was given; allowed: a Game or an Algorithm")
    if not isinstance(state, State):
        raise ValueError(f"state: {shown(state)} was given; allowed: a State, as gacf.run gives it")
    if state.key.shape:
        raise ValueError(
            f"state: it holds seeds {list(state.key.shape)}; allowed: that of one seed, "
            "gacf.take_seed(state, i)"
        )
    n = None if isinstance(seen, bool) or not hasattr(seen, "__index__") else _number(seen)
    if key is not None:
        check_key(key)
    elif n is not None:
        raise ValueError(
            f"key: none was given for {n} samples; allowed: a typed key, jax.random.key(…)"
        )
    else:
        key = jax.random.key(0)
    if n is not None and n < 1:
        raise ValueError(f"seen: {n} was given; allowed: a number of samples >= 1")
    if isinstance(game, Game):
        # the world is as large as a replay buffer, of which a program takes only what it reads
        parts = (state.params, with_clock(state.world, state.step, state.step))
        function = game.propose
    else:
        parts, function = (state,), game.propose
    try:
        arrays = seen if n is not None else jax.tree.map(jnp.asarray, seen)
    except (TypeError, ValueError):
        raise ValueError(f"seen: {shown(seen)} was given; allowed: arrays") from None
    try:
        if n is not None:
            return _compiled_for(function, n)(*parts, key)
        return _compiled(function)(*parts, arrays, key)
    except ValueError as error:
        if str(error).startswith("seen: "):  # without JAX's note about frames that it has removed
            raise ValueError(str(error)) from None
        raise


def _number(seen: Any) -> int | None:
    try:
        return operator.index(seen)
    except TypeError:  # an array, of which only a scalar of whole numbers is an index
        return None
