"""The linear-quadratic regulator as a game of an actor and a TD critic."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from gacf.core.checks import require
from gacf.core.game import Game
from gacf.core.types import Key, Metrics, Outcome, Params, PyTree, World


class LQR(NamedTuple):
    """Dynamics s' = As + Bu, cost sᵀQs + uᵀRu, discount γ; the policy is u = −Ks.

    Attributes:
        a: A, [n, n].
        b: B, [n, m].
        q: Q, [n, n], symmetric.
        r: R, [m, m], symmetric.
        discount: γ in (0, 1].
    """

    a: Any
    b: Any
    q: Any
    r: Any
    discount: float = 0.9

    def matrices(self) -> tuple[np.ndarray, ...]:
        """A, B, Q and R as matrices; a number becomes a matrix [1, 1]."""
        return tuple(np.atleast_2d(np.asarray(x, float)) for x in self[:4])


UNIT = LQR(1.0, 1.0, 1.0, 1.0)


def lqr(
    spec: LQR = UNIT,
    batch: int = 64,
    start: Any = None,
    stop_target: bool = False,
) -> Game:
    """The linear-quadratic regulator as a game, in which every derivative is known.

    The actor minimises the critic's verdict, and the critic its Bellman error at random (s, u).

        actor    min_K  mean_B Q_φ(s, −Ks)
        critic   min_φ  ½ mean_B (Q_φ(s, u) − [sᵀQs + uᵀRu + γ Q_φ(s', −Ks')])²,  target fixed

    Q_φ is a general quadratic form in (s, u), so the critic can be exact: on every batch its fixed
    point is `q_function(spec, K)`. The Jacobian of its field, the mean of features × (features −
    γ features'), is not symmetric. The states and actions of the batch are standard normal.

    Args:
        spec: the regulator.
        batch: B.
        start: K at the start, [m, n]; 0 by default.
        stop_target: whether the gradient of the target is stopped, which is a common mistake: the
            own gradients are the same, but the leader's total derivative collapses to the partial
            one.

    Reference:
        Fazel, Ge, Kakade & Mesbahi 2018 (gain gradient); Bradtke 1993 (Q-learning for LQR).

    Example:
        >>> import jax
        >>> params, _ = lqr().init(jax.random.key(0))
        >>> params["actor"].shape, params["critic"].shape
        ((1, 1), (3,))
    """
    require("lqr: discount", spec.discount, lambda n: 0 < n <= 1, "a number in (0, 1]")
    a, b, q, r = (jnp.asarray(x) for x in spec.matrices())
    states, actions = b.shape
    upper = np.triu_indices(states + actions)
    best = optimal_gain(spec)

    def features(s: jax.Array, u: jax.Array) -> jax.Array:
        z = jnp.concatenate([s, u], axis=-1)
        return z[:, upper[0]] * z[:, upper[1]]

    def policy(gain: jax.Array, s: jax.Array) -> jax.Array:
        return -s @ gain.T

    def actor(
        own: PyTree, params: Params, world: World, batch: PyTree, key: Key
    ) -> tuple[jax.Array, Outcome]:
        s = batch["state"]
        return jnp.mean(features(s, policy(own, s)) @ params["critic"]), Outcome({}, {})

    def critic(
        own: PyTree, params: Params, world: World, batch: PyTree, key: Key
    ) -> tuple[jax.Array, Outcome]:
        s, u = batch["state"], batch["action"]
        after = s @ a.T + u @ b.T
        cost = jnp.sum((s @ q) * s, -1) + jnp.sum((u @ r) * u, -1)
        later = features(after, policy(params["actor"], after)) @ params["critic"]
        goal = cost + spec.discount * later
        goal = jax.lax.stop_gradient(goal) if stop_target else goal
        return 0.5 * jnp.mean((features(s, u) @ own - goal) ** 2), Outcome({}, {})

    def init(key: Key) -> tuple[Params, World]:
        dtype = jnp.result_type(float)
        gain = jnp.zeros((actions, states), dtype) if start is None else jnp.asarray(start, dtype)
        return {"actor": gain, "critic": jnp.zeros(len(upper[0]), dtype)}, {}

    def sample(world: World, key: Key) -> PyTree:
        state_key, action_key = jax.random.split(key)
        return {
            "state": jax.random.normal(state_key, (batch, states)),
            "action": jax.random.normal(action_key, (batch, actions)),
        }

    def evaluate(params: Params, world: World, key: Key) -> Metrics:
        return {"gain_error": jnp.max(jnp.abs(params["actor"] - best))}

    losses = {"actor": actor, "critic": critic}
    return Game(losses, init, sample=sample, evaluate=evaluate)


def value(spec: LQR, gain: Any) -> np.ndarray:
    """P with V_K(s) = sᵀPs: P = Q + KᵀRK + γ (A − BK)ᵀP(A − BK).

    Example:
        >>> float(value(LQR(1.0, 1.0, 1.0, 1.0), 0.5).round(6)[0, 0])
        1.612903
    """
    a, b, q, r = spec.matrices()
    k = np.atleast_2d(np.asarray(gain, float))
    closed = np.sqrt(spec.discount) * (a - b @ k)
    return scipy.linalg.solve_discrete_lyapunov(closed.T, q + k.T @ r @ k)


def optimal_gain(spec: LQR) -> np.ndarray:
    """K* = (R + γBᵀPB)⁻¹ γBᵀPA, P from the discounted Riccati equation.

    Example:
        >>> float(optimal_gain(LQR(1.0, 1.0, 1.0, 1.0)).round(6)[0, 0])
        0.588403
    """
    a, b, q, r = spec.matrices()
    root = np.sqrt(spec.discount)
    p = scipy.linalg.solve_discrete_are(root * a, root * b, q, r)
    return spec.discount * np.linalg.solve(r + spec.discount * b.T @ p @ b, b.T @ p @ a)


def q_function(spec: LQR, gain: Any) -> np.ndarray:
    """The critic's parameters at its fixed point under gain K: Q_K(s, u) as a quadratic form.

    Returns:
        Coefficients of z_i z_j, i <= j, z = (s, u): those of diag(Q, R) + γ (A B)ᵀP_K(A B).
    """
    a, b, q, r = spec.matrices()
    ahead = np.c_[a, b]
    form = scipy.linalg.block_diag(q, r) + spec.discount * ahead.T @ value(spec, gain) @ ahead
    return (2 * form - np.diag(np.diag(form)))[np.triu_indices(len(form))]


def gain_gradient(spec: LQR, gain: Any, covariance: Any) -> tuple[np.ndarray, np.ndarray]:
    """Total and partial derivative of E[Q_K(s, −Ks)] in K, for states of this second moment.

        partial   2 E_K Σ_0                   the critic held fixed, as in a semi-gradient
        total     2 E_K Σ_K                   E_K = (R + γBᵀPB)K − γBᵀPA

    where Σ_K = Σ_0 + γ (A − BK) Σ_K (A − BK)ᵀ is the discounted state covariance.

    Args:
        spec: the regulator.
        gain: K, [m, n].
        covariance: Σ_0 = E[ssᵀ], [n, n].

    Returns:
        total [m, n], partial [m, n].
    """
    a, b, _, r = spec.matrices()
    k = np.atleast_2d(np.asarray(gain, float))
    p, discount = value(spec, k), spec.discount
    slope = (r + discount * b.T @ p @ b) @ k - discount * b.T @ p @ a
    first = np.atleast_2d(np.asarray(covariance, float))
    visited = scipy.linalg.solve_discrete_lyapunov(np.sqrt(discount) * (a - b @ k), first)
    return 2 * slope @ visited, 2 * slope @ first
