"""Competitive gradient descent: each step is the Nash point of a bilinear local game."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gacf.core.checks import require
from gacf.core.game import Game, Rule
from gacf.core.tracing import scope
from gacf.core.types import Key, Outcome, Params, PyTree, World
from gacf.rules.algebra import OptState, Updated, sample_field
from gacf.rules.direction import Field, select, with_metrics
from gacf.rules.linear_solve import Operator, Solver, as_solver, solve

Rate = float | jax.Array | Callable[[Any], Any]


def competitive(
    learning_rates: Mapping[str, Rate],
    solver: Solver | str = "gmres",
    iterations: int | None = None,
) -> Rule:
    """Every player anticipates the steps that the others make at the same time in the same way.

        Δx = −η_x (F_x + F_xy Δy),   Δy = −η_y (f_y + f_yx Δx)

    For two players, (I − η_xη_y F_xy f_yx) Δx = −η_x (F_x − η_y F_xy f_y) is solved for Δx, and Δy
    follows from it. For more players, the joint system (I + ηJ_off) Δ = −ηv is solved, where J_off
    is the Jacobian without its diagonal blocks. The system of two players is symmetric and positive
    definite only in zero-sum games, F_xy = −f_yxᵀ: there `cg` is right, elsewhere `gmres` or
    `normal`. The metrics of every player gain `residual`. Cost for two players: 2 gradients and
    (2·iterations + 4) JVPs; for n players: n gradients and n (iterations + 2) JVPs.

    Args:
        learning_rates: player -> η > 0, a number (may be traced) or a schedule `update -> number`;
            players left out stay as they are, and have to be named in `compose(…, still=…)`.
            Optax transformations are refused: the step sizes stand inside the system that is
            solved, and an adaptive transformation has none to put there.
        solver: `gmres`, `cg`, `normal`, `neumann`, or a solver object such as
            `GMRES(iterations=5)`.
        iterations: the number of the named solver's iterations, static; 10 by default.

    Raises:
        ValueError: there are fewer than two players, a rate is an optax transformation, the solver
            is unknown, a number is out of bounds, `iterations` is given with a solver object, or
            `cg` is given with more than two players (their system is never symmetric).

    Reference:
        Schäfer & Anandkumar 2019; for more players Ma et al. 2021
        (polymatrix competitive gradient descent).

    Example:
        >>> import gacf
        >>> competitive({"actor": 0.1, "critic": 0.1}).players
        ('actor', 'critic')
    """
    players = tuple(learning_rates)
    require("competitive: learning_rates", players, lambda p: len(p) > 1, "two players or more")
    method = as_solver("competitive", solver, iterations)
    if method.symmetric and len(players) > 2:
        raise ValueError(
            f"competitive: solver: {type(method).__name__} was given for more than two players, "
            "whose joint system is not symmetric; allowed: gmres, normal, neumann"
        )
    for player, rate in learning_rates.items():
        name = f"competitive: learning_rates[{player!r}]"
        if isinstance(rate, optax.GradientTransformation):
            raise ValueError(
                f"{name}: an optax transformation was given; allowed: a number or a schedule "
                "update -> number, for the step sizes stand inside the linear system"
            )
        if not callable(rate):
            require(name, rate, lambda n: n > 0, "a number > 0, or a schedule")
    entry = f"competitive({', '.join(players)})"

    def init(params: Params) -> OptState:
        return {entry: jnp.zeros((), jnp.int32)}

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        at = sample_field(game, world, key, opt_state)
        count = opt_state[entry]
        rates = {
            player: rate(count) if callable(rate) else rate
            for player, rate in learning_rates.items()
        }
        vectors: Params = {}
        outcomes: dict[str, Outcome] = {}
        for player in players:
            with scope(player):
                vectors[player], outcomes[player] = at.gradient(player, params)
        step = _step_of_two if len(players) == 2 else _step_of_many
        with scope("solve"):
            change, residual = step(at, params, rates, vectors, method)
        with scope("optimizer"):
            here = select(params, players)
            moved = jax.tree.map(lambda p, c: (p + c).astype(p.dtype), here, change)
        outcomes = {
            name: with_metrics(outcome, residual=residual) for name, outcome in outcomes.items()
        }
        return {**params, **moved}, {**opt_state, entry: count + 1}, outcomes

    return Rule(players, init, update)


def _scaled(rate: Any, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: rate * leaf, tree)


def _transposed(forward: Callable[[PyTree], PyTree], like: PyTree) -> Callable[[PyTree], PyTree]:
    return lambda u: jax.linear_transpose(forward, like)(u)[0]


def _across(
    field: Field, player: str, others: tuple[str, ...], params: Params
) -> Callable[[Params], PyTree]:
    """The change of a player's gradient by the others' moves: u -> Σ_j J_ij u_j."""
    at = select(params, others)
    _, push = jax.linearize(lambda moved: field.gradient(player, {**params, **moved})[0], at)
    return push


def _step_of_two(
    field: Field,
    params: Params,
    rates: Mapping[str, Any],
    vectors: Params,
    solver: Solver,
) -> tuple[Params, jax.Array]:
    x, y = rates
    x_by_y = _across(field, x, (y,), params)
    y_by_x = _across(field, y, (x,), params)

    def forward(u: PyTree) -> PyTree:
        answer = x_by_y({y: y_by_x({x: u})})
        return jax.tree.map(lambda d, a: d - rates[x] * rates[y] * a, u, answer)

    ahead = x_by_y({y: vectors[y]})
    right = jax.tree.map(lambda v, a: -rates[x] * (v - rates[y] * a), vectors[x], ahead)
    operator = Operator(forward, _transposed(forward, right))
    change, residual = solve(solver, operator, right)
    answer = jax.tree.map(lambda v, a: -rates[y] * (v + a), vectors[y], y_by_x({x: change}))
    return {x: change, y: answer}, residual


def _step_of_many(
    field: Field,
    params: Params,
    rates: Mapping[str, Any],
    vectors: Params,
    solver: Solver,
) -> tuple[Params, jax.Array]:
    others = {player: tuple(name for name in rates if name != player) for player in rates}
    across = {player: _across(field, player, others[player], params) for player in rates}

    def forward(u: Params) -> Params:
        answer = {player: across[player](select(u, others[player])) for player in rates}
        return {
            player: jax.tree.map(lambda d, a, rate=rate: d + rate * a, u[player], answer[player])
            for player, rate in rates.items()
        }

    right = {player: _scaled(-rate, vectors[player]) for player, rate in rates.items()}
    return solve(solver, Operator(forward, _transposed(forward, right)), right)
