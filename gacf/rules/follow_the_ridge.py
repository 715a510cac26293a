"""Follow the ridge: the follower stays at its best response while the leader moves."""

from __future__ import annotations

import jax

from gacf.core.checks import nearest
from gacf.core.game import Game, Rule
from gacf.core.tracing import scope
from gacf.core.types import Key, Params, World
from gacf.rules.algebra import OptState, Updated, sample_field
from gacf.rules.direction import Field, select, with_metrics
from gacf.rules.linear_solve import Operator, Solver, as_solver, solve
from gacf.rules.response import Followers, as_followers, check_moved, followers_field
from gacf.rules.schedules import Optimizers, simultaneous


def follow_the_ridge(
    optimizers: Optimizers,
    leader: str = "actor",
    follower: Followers = "critic",
    solver: Solver | str = "cg",
    iterations: int | None = None,
    damping: float | jax.Array | None = None,
    rate: float | jax.Array | None = None,
) -> Rule:
    """All players move along their own gradients, and the follower corrects for the leader's move.

        Δx = opt(F_x),   x⁺ = x + Δx,   y⁺ = y + opt(f_y) − (f_yy + λI)⁻¹ f_yx Δx

    It rests where the gradients do, at F_x = f_y = 0 (in general-sum games these are Nash points,
    whereas the implicit direction rests at Stackelberg points). But its Jacobian there is similar
    to a block triangular one with the Schur complement F_xx − F_xy f_yy⁻¹ f_yx. In a zero-sum game
    it therefore converges to local minimax points and to no others, without rotation. The metrics
    of the followers gain `residual`. Cost: a gradient of each player and (iterations + 2) JVPs.

    Args:
        optimizers: player -> optax transformation. Players other than leader and followers move
            along their own gradients, and nothing corrects for their moves.
        leader: the player whose move is corrected for.
        follower: the player that corrects, or several.
        solver: `cg`, `gmres`, `neumann`, `normal`, or a solver object such as `CG(damping=1.0)`.
            See `implicit` for which of them is right where.
        iterations: the number of the named solver's iterations, static; 10 by default.
        damping: λ >= 0 of the named solver, 0 by default; may be traced.
        rate: α of `neumann`, 1 by default; may be traced.

    Raises:
        ValueError: a player has no optimiser, the solver is unknown, a number is out of bounds, or
            settings are given with a solver object, which holds its own.

    Reference:
        Wang, Zhang & Ba 2020 (arXiv 1910.07512).

    Example:
        >>> import gacf, optax
        >>> optimizers = {"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}
        >>> follow_the_ridge(optimizers, leader="actor", follower="critic", damping=1.0).players
        ('actor', 'critic')
    """
    followers = as_followers("follow_the_ridge", leader, follower)
    method = as_solver("follow_the_ridge", solver, iterations, damping, rate)
    for name in (leader, *followers):
        if name not in optimizers:
            raise ValueError(
                f"follow_the_ridge: {name!r} has no optimiser; {nearest(name, optimizers)}"
            )
    moves = simultaneous(optimizers)

    def correction(at: Field, params: Params, moved: Params) -> tuple[Params, jax.Array]:
        """What is subtracted from the followers for the leader's move, and the residual."""
        response = followers_field(at, leader, followers, params)
        x, y = params[leader], select(params, followers)
        change = jax.tree.map(lambda new, old: new - old, moved[leader], x)
        _, shift = jax.jvp(lambda x: response(x, y), (x,), (change,))
        _, push = jax.linearize(lambda y: response(x, y), y)
        pull = jax.linear_transpose(push, y)
        operator = Operator(push, lambda u: at.movable(pull(u)[0]))
        return solve(method, operator, shift)

    def update(game: Game, params: Params, world: World, opt_state: OptState, key: Key) -> Updated:
        moved, opt_state, outcomes = moves.update(game, params, world, opt_state, key)
        at = sample_field(game, world, key, opt_state)
        check_moved("follow_the_ridge", at, followers)
        with scope("solve"):
            back, residual = correction(at, params, moved)
            new = jax.tree.map(lambda y, c: y - c, select(moved, followers), back)
        outcomes |= {name: with_metrics(outcomes[name], residual=residual) for name in followers}
        return {**moved, **new}, opt_state, outcomes

    return Rule(moves.players, moves.init, update)
