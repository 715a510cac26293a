"""Quadratic games of any number of players: Nash and Stackelberg points by linear algebra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import nearest
from gacf.core.game import Game, from_losses


class Quadratic(NamedTuple):
    """Losses ½ zᵀHz + hᵀz of the stacked parameters z = (z_1, …, z_n), with one H and h per player.

    Attributes:
        sizes: player -> the length of its parameters, in the order of stacking.
        hessians: player -> H, [d, d], symmetric.
        slopes: player -> h, [d].
    """

    sizes: Mapping[str, int]
    hessians: Mapping[str, Any]
    slopes: Mapping[str, Any]

    def block(self, player: str) -> slice:
        """The place of a player's parameters in z."""
        names = list(self.sizes)
        start = sum(self.sizes[name] for name in names[: names.index(player)])
        return slice(start, start + self.sizes[player])


def quadratic(spec: Quadratic, start: Any = 0.0) -> Game:
    """The game whose losses are quadratic functions of all players' parameters.

    Args:
        spec: sizes, Hessians and slopes.
        start: z at the start, [d], or a number that fills it.

    Raises:
        ValueError: a Hessian is not symmetric, or belongs to a player without a size.

    Example:
        >>> spec = Quadratic(
        ...     {"x": 1, "y": 1},
        ...     {"x": [[2.0, 1.0], [1.0, 1.0]], "y": [[0.0, -1.0], [-1.0, 2.0]]},
        ...     {"x": [0.0, 1.0], "y": [0.0, 0.0]})
        >>> sorted(quadratic(spec).losses)
        ['x', 'y']
        >>> nash = equilibrium(spec, [("x", "y")])
        >>> leader = equilibrium(spec, ["x", "y"])
        >>> nash["x"].tolist(), leader["x"].round(3).tolist()
        ([0.0], [-0.154])
    """
    for table in (spec.hessians, spec.slopes):
        for player in table:
            if player not in spec.sizes:
                raise ValueError(f"quadratic: no player {player!r}; {nearest(player, spec.sizes)}")
    for player, matrix in spec.hessians.items():
        if not np.allclose(matrix, np.transpose(np.asarray(matrix))):
            raise ValueError(f"quadratic: the Hessian of {player!r} is not symmetric")

    def loss(player: str) -> Any:
        matrix, slope = jnp.asarray(spec.hessians[player]), jnp.asarray(spec.slopes[player])

        def value(params: dict[str, jax.Array], batch: Any, key: Any) -> jax.Array:
            z = jnp.concatenate([params[name] for name in spec.sizes])
            return 0.5 * z @ matrix @ z + slope @ z

        return value

    total = sum(spec.sizes.values())
    z = jnp.broadcast_to(jnp.asarray(start, jnp.result_type(float)), (total,))
    return from_losses(
        {name: z[spec.block(name)] for name in spec.sizes},
        {name: loss(name) for name in spec.sizes},
    )


def field_jacobian(spec: Quadratic) -> np.ndarray:
    """The constant Jacobian J of v, [d, d], which takes each player's rows from its own Hessian."""
    return np.concatenate(
        [np.asarray(spec.hessians[name], float)[spec.block(name)] for name in spec.sizes]
    )


def equilibrium(spec: Quadratic, levels: Sequence[str | Sequence[str]]) -> dict[str, np.ndarray]:
    """The stationary point at which each level leads all levels after it.

    Players of one level are in a Nash equilibrium; each level anticipates the responses below it:

        [("x", "y")]      F_x = 0, f_y = 0                                     Nash
        ["x", "y"]        d/dx F(x, y*(x)) = 0, f_y = 0                        Stackelberg, x leads
        ["a", "b", "c"]   three levels

    From the lowest level up, the response z_low = S w + s is affine in the parameters above, and is
    substituted into every loss: H ← SᵀHS, h ← Sᵀ(Hs + h).

    Args:
        spec: the game.
        levels: the players from the top down, every player once.

    Returns:
        player -> its parameters.
    """
    chain = [(level,) if isinstance(level, str) else tuple(level) for level in levels]
    total = sum(spec.sizes.values())
    basis, offset = np.eye(total), np.zeros(total)
    free = np.arange(total)
    for level in reversed(chain):
        own = np.concatenate([np.arange(total)[spec.block(name)] for name in level])
        rows, constants = [], []
        for name in level:
            h = np.asarray(spec.hessians[name], float)
            mine = np.isin(free, np.arange(total)[spec.block(name)])
            rows.append((basis.T @ h @ basis)[mine])
            constants.append((basis.T @ (h @ offset + np.asarray(spec.slopes[name])))[mine])
        system, constant = np.concatenate(rows), np.concatenate(constants)
        low = np.concatenate([np.flatnonzero(free == index) for index in own])
        high = np.flatnonzero(~np.isin(free, own))
        # w are the parameters that stay free; the level's own are −M_low⁻¹ (M_high w + c)
        answer = -np.linalg.solve(system[:, low], np.c_[system[:, high], constant])
        lift = np.zeros((len(free), len(high)))
        lift[high, np.arange(len(high))] = 1
        lift[low] = answer[:, :-1]
        shift = np.zeros(len(free))
        shift[low] = answer[:, -1]
        basis, offset, free = basis @ lift, offset + basis @ shift, free[high]
    return {name: offset[spec.block(name)] for name in spec.sizes}
