"""The bilinear game, on which one step of a rule is a linear map in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import lookup
from gacf.core.game import Game, from_losses


def bilinear(
    matrix: Any = 1.0, players: tuple[str, str] = ("actor", "critic"), start: Any = (1.0, 1.0)
) -> Game:
    """The zero-sum game F = xᵀAy, f = −xᵀAy; if A is invertible, its only equilibrium is 0.

    Args:
        matrix: A, [m, n], or a number.
        players: the names of the players of x and of y.
        start: x [m] and y [n] at the start, or numbers that fill them.

    Example:
        >>> import jax
        >>> params, _ = bilinear([[1.0, 2.0]]).init(jax.random.key(0))
        >>> params["actor"].shape, params["critic"].shape
        ((1,), (2,))
    """
    a = jnp.asarray(matrix)
    x, y = players

    def product(params: dict[str, jax.Array]) -> jax.Array:
        return params[x] @ a @ params[y] if a.ndim else params[x] * a * params[y]

    sides = a.shape if a.ndim else ((), ())
    first, second = (jnp.full(n, s, a.dtype) for n, s in zip(sides, start, strict=True))
    return from_losses(
        {x: first, y: second},
        {x: lambda p, batch, key: product(p), y: lambda p, batch, key: -product(p)},
    )


def _plane(xx: Any, xy: Any, yx: Any, yy: Any) -> np.ndarray:
    return np.array([[xx, xy], [yx, yy]])


def _simultaneous(p: float, q: float, s: float) -> np.ndarray:
    return _plane(1, -p * s, q * s, 1)


def _alternating(p: float, q: float, s: float) -> np.ndarray:
    return _plane(1, -p * s, 0, 1) @ _plane(1, 0, q * s, 1)


def _extragradient(p: float, q: float, s: float) -> np.ndarray:
    turn = _plane(0, -p * s, q * s, 0)
    return np.eye(2) + turn + turn @ turn


def _optimistic(p: float, q: float, s: float) -> np.ndarray:
    turn = _plane(0, -p * s, q * s, 0)
    return np.block([[np.eye(2) + 2 * turn, -turn], [np.eye(2), np.zeros((2, 2))]])


def _competitive(p: float, q: float, s: float) -> np.ndarray:
    return np.linalg.inv(np.eye(2) - _plane(0, -p * s, q * s, 0))


def _consensus(p: float, q: float, s: float, weight: float = 0.5) -> np.ndarray:
    return _plane(1 - p * weight * s**2, -p * s, q * s, 1 - q * weight * s**2)


def _lola(p: float, q: float, s: float, rate: float = 1.0, exact: bool = True) -> np.ndarray:
    return _consensus(p, q, s, rate * (2 if exact else 1))


def _unrolled(p: float, q: float, s: float, steps: int = 5) -> np.ndarray:
    return _plane(1 - 2 * p * q * steps * s**2, -p * s, q * s, 1)


def _finite_difference(p: float, q: float, s: float, rate: float = 0.1) -> np.ndarray:
    return _plane(1 - 2 * p * rate * s**2, -p * s, q * s, 1)


def _implicit(p: float, q: float, s: float, damping: float = 1.0) -> np.ndarray:
    return _plane(1 - p * s**2 / damping, -p * s, q * s, 1)


def _single_loop(
    p: float, q: float, s: float, rate: float = 0.1, damping: float = 0.0
) -> np.ndarray:
    return np.array([[1, -p * s, -p * s], [q * s, 1, 0], [rate * s, 0, 1 - rate * damping]])


def _follow_the_ridge(p: float, q: float, s: float, damping: float = 1.0) -> np.ndarray:
    return _plane(1, -p * s, q * s, 1 - p * s**2 / damping)


def _lookahead(p: float, q: float, s: float, period: int = 5, rate: float = 0.5) -> np.ndarray:
    period_map = np.linalg.matrix_power(_simultaneous(p, q, s), period)
    return (1 - rate) * np.eye(2) + rate * period_map


_MAPS: dict[str, Callable[..., np.ndarray]] = {
    "simultaneous": _simultaneous,
    "alternating": _alternating,
    "extragradient": _extragradient,
    "optimistic": _optimistic,
    "competitive": _competitive,
    "consensus": _consensus,
    "symplectic": _consensus,
    "lola": _lola,
    "unrolled": _unrolled,
    "finite_difference": _finite_difference,
    "implicit": _implicit,
    "single_loop": _single_loop,
    "follow_the_ridge": _follow_the_ridge,
    "lookahead": _lookahead,
}


def bilinear_modes(
    rule: str, rates: tuple[float, float], matrix: Any = 1.0, **hyper: Any
) -> np.ndarray:
    """The eigenvalues of one step of a rule on the bilinear game, from the rule's formula.

    A step is a linear map. In the basis of A's singular vectors it splits into one small matrix per
    singular value σ, for instance ((1, −η_xσ), (η_yσ, 1)) for `simultaneous`, with the eigenvalues
    1 ± iσ√(η_xη_y). Directions beyond A's rank, on which no loss depends, have σ = 0. The largest
    modulus is the contraction factor.

    Args:
        rule: a schedule or direction of `gacf.rules`, or `optimistic`. Directions are used with
            `simultaneous`; if there is a leader, it is x. `alternating` moves y first. `lookahead`
            wraps `simultaneous`, and its map is that of a whole period.
        rates: (η_x, η_y), the rates of gradient steps.
        matrix: A, [m, n], or a number.
        **hyper: arguments of the rule: `weight`, `rate`, `damping`, `steps`, `period`, `exact`.

    Returns:
        The eigenvalues of the pairs, followed by |m − n| ones (and, if n > m, by as many 1 − ρλ for
        `single_loop`, whose memory has the shape of y).

    Raises:
        ValueError: the rule is unknown.

    Reference:
        Simultaneous to consensus: Mescheder et al. 2017; Balduzzi et al. 2018; optimistic:
        Daskalakis et al. 2018; competitive: Schäfer & Anandkumar 2019. The others follow from
        the formulas in docs/rules.md.

    Example:
        >>> import numpy as np
        >>> abs(bilinear_modes("extragradient", (0.1, 0.1))).round(6).tolist()
        [0.995038, 0.995038]
    """
    step_of = lookup("rule", rule, _MAPS)
    a = np.asarray(matrix, float)
    sides = a.shape if a.ndim else (1, 1)
    sizes = np.linalg.svd(a.reshape(sides), compute_uv=False)
    modes = [np.linalg.eigvals(step_of(*rates, size, **hyper)) for size in sizes]
    spare = np.ones(abs(sides[0] - sides[1]))
    if rule == "single_loop" and sides[1] > sides[0]:
        spare = np.concatenate([spare, spare - hyper["rate"] * hyper["damping"]])
    return np.concatenate([*modes, spare])
