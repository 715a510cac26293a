"""What the tests of rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.optimize import linear_sum_assignment

import gacf
from gacf import Game, Rule
from gacf.rules import Direction, field

Optimizers = dict[str, optax.GradientTransformation]


def sgd(*rates: Any, players: Sequence[str] = ("actor", "critic")) -> Optimizers:
    return {player: optax.sgd(rate) for player, rate in zip(players, rates, strict=True)}


def vector(
    game: Game,
    direction: Direction,
    player: str,
    params: Any,
    optimizers: Optimizers | None = None,
    batch: Any = (),
    world: Any = None,
) -> tuple[Any, Any]:
    """The vector and the metrics of one player's direction at a point, from fresh states."""
    known = {name: optax.with_extra_args_support(each) for name, each in (optimizers or {}).items()}

    def follow(params: Any, batch: Any) -> tuple[Any, Any]:
        states = {name: each.init(params[name]) for name, each in known.items()}
        at = field(game, world or {}, batch, jax.random.key(3), known, states)
        memory = direction.init(player, params)
        followed, outcome, _ = direction.follow(at, player, params, memory)
        return followed, outcome.metrics

    return jax.jit(follow)(params, batch)


def land(game: Game, rule: Rule, steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Where a rule is after some steps."""
    algorithm = gacf.compose(game, rule)

    @jax.jit
    def run(key: jax.Array) -> Any:
        return jax.lax.fori_loop(0, steps, lambda i, s: algorithm.step(s)[0], algorithm.init(key))

    return {name: np.asarray(x) for name, x in run(jax.random.key(seed)).params.items()}


def matrix_of(rule: Rule, game: Game) -> np.ndarray:
    """`step_matrix` of a rule without traced hyperparameters."""
    return np.asarray(jax.jit(lambda: step_matrix(rule, game))())


def step_matrix(rule: Rule, game: Game, period: int = 1) -> jax.Array:
    """The matrix of one period, an affine map of parameters and floating memory together."""
    algorithm = gacf.compose(game, rule)
    start = algorithm.init(jax.random.key(0))
    start = algorithm.step(start)[0]._replace(step=start.step)
    leaves, structure = jax.tree.flatten((start.params, start.opt_state))
    floating = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    numbers, unpack = ravel_pytree([leaves[i] for i in floating])

    def after(numbers: jax.Array) -> jax.Array:
        filled = list(leaves)
        for i, leaf in zip(floating, unpack(numbers), strict=True):
            filled[i] = leaf
        params, opt_state = jax.tree.unflatten(structure, filled)
        state = start._replace(params=params, opt_state=opt_state)
        state = jax.lax.fori_loop(0, period, lambda i, s: algorithm.step(s)[0], state)
        ended = jax.tree.leaves((state.params, state.opt_state))
        return ravel_pytree([ended[i] for i in floating])[0]

    size = numbers.size
    images = jax.vmap(after)(jnp.eye(size + 1, size))
    return (images[:-1] - images[-1:]).T


def eigenvalue_distance(found: Any, expected: Any) -> float:
    """Largest distance between two sets of eigenvalues, matched; zeros are left out."""
    a, b = (np.asarray(x)[np.abs(x) > 1e-7] for x in (found, expected))
    if len(a) != len(b):
        return float("inf")
    distance = np.abs(a[:, None] - b[None])
    return float(distance[linear_sum_assignment(distance)].max())


def root(affine: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
    """Where an affine map is 0."""
    constant = affine(np.zeros(size))
    matrix = np.stack([affine(e) - constant for e in np.eye(size)], axis=1)
    return -np.linalg.solve(matrix, constant)
