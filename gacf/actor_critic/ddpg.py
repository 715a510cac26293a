"""Deep deterministic policy gradient, Lillicrap et al. 2016 (L3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gacf import envs
from gacf.actor_critic.constructor import actor_critic
from gacf.actor_critic.divergence import DIVERGENCES
from gacf.actor_critic.environment import environment
from gacf.actor_critic.improve import pathwise
from gacf.actor_critic.target import q_target
from gacf.game import Game
from gacf.networks import MLP, model
from gacf.stabilizers import replay, target_networks
from gacf.types import Batch, Key, Params, World, lookup, require, whole


def ddpg(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    discount: float | jax.Array = 0.99,
    exploration: float | jax.Array = 0.1,
    batch_size: int = 256,
    capacity: int = 100_000,
    warmup: int = 1_000,
    target_rate: float | jax.Array = 0.005,
    num_envs: int = 1,
    divergence: str | Callable[[jax.Array, jax.Array], jax.Array] = "squared_error",
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Any = None,
    episodes: int = 100,
) -> Game:
    """DDPG as a setting of `actor_critic`: replayed transitions, TD targets, pathwise actor.

        critic   min_φ mean D(Q_φ(s, a), r + γ (1 − d) Q′(s′, π′(s′)))
        actor    max_θ mean Q(s, π_θ(s))

    Actions are those of the actor's network squashed by tanh, [−1, 1]^A; the critic and the buffer
    see them so, the environment scaled to its bounds.

    Args:
        env: an `Environment` with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> [B, A], before squashing; by default an MLP of 2 × 256.
        critic: network ([B, O], [B, A]) -> [B] or [B, 1]; by default an MLP of 2 × 256.
        discount: γ.
        exploration: standard deviation of the Gaussian noise, in units of half the action range.
        batch_size: B, replayed transitions a batch.
        capacity: of the replay buffer, in transitions.
        warmup: steps of uniformly random actions before the first update.
        target_rate: Polyak rate of the slow copies Q′ and π′.
        num_envs: environments N stepped at once.
        divergence: a name in `DIVERGENCES`, or `(prediction, target) -> [B]`.
        transform_target: of the TD targets, [B] -> [B].
        penalty: added to the critic's loss, `(judge, groups, key) -> scalar`.
        episodes: an evaluation plays, from start states common to all seeds.

    Returns:
        A `Game`. Metrics: `episode/return` of exploration; `evaluate/return`.

    Raises:
        ValueError: discrete or unbounded actions, unknown names, sizes below 1.

    Reference:
        Lillicrap et al. 2016, algorithm 1 (with Gaussian in place of Ornstein-Uhlenbeck noise).

    Example:
        >>> import gacf, optax
        >>> game = gacf.ddpg("Pendulum-v1", warmup=8, capacity=64, batch_size=4)
        >>> rule = gacf.rules.alternating({p: optax.adam(1e-3) for p in ("actor", "critic")})
        >>> algorithm = gacf.compose(game, rule)
    """
    env = envs.make(env) if isinstance(env, str) else env
    if not isinstance(env.action, envs.Box):
        raise ValueError(f"env: {env.name} has discrete actions; allowed: a box of actions")
    for bound in (env.action.low, env.action.high):
        require("env", bound, lambda x: np.isfinite(x).all(), "finite bounds of actions")
    require("batch_size", batch_size, whole, "a whole number >= 1")
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("exploration", exploration, lambda x: x >= 0, "a number >= 0")
    require("target_rate", target_rate, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    loss = (
        lookup("divergence", divergence, DIVERGENCES) if isinstance(divergence, str) else divergence
    )
    size = env.action.shape
    pi = model("actor", MLP((256, 256), size) if actor is None else actor).then(jnp.tanh)
    q = model("critic", MLP((256, 256)) if critic is None else critic)
    low, high = jnp.asarray(env.action.low), jnp.asarray(env.action.high)

    def exploit(params: Params, world: World, observation: jax.Array, key: Key) -> jax.Array:
        return pi.apply(params["actor"], world, observation, key=key, train=False)[0]

    def explore(params: Params, world: World, observation: jax.Array, key: Key) -> jax.Array:
        noise_key, random_key, act_key = jax.random.split(key, 3)
        action = exploit(params, world, observation, act_key)
        noise = jax.random.normal(noise_key, action.shape, action.dtype)
        uniform = jax.random.uniform(random_key, action.shape, action.dtype, -1, 1)
        noisy = jnp.clip(action + exploration * noise, -1, 1)
        return jnp.where(world["step"] < 0, uniform, noisy)

    def view(batch: Batch, action: jax.Array) -> dict[str, Any]:
        return {"taken": (batch["observation"], action)}

    game = actor_critic(
        pi,
        q,
        source=environment(
            env, explore, exploit, lambda a: low + (a + 1) / 2 * (high - low), num_envs, episodes
        ),
        view=view,
        target=q_target(pi, q, discount),
        divergence=loss,
        improve=pathwise(),
        transform_target=transform_target,
        penalty=penalty,
    )
    game = replay(game, capacity, batch_size, warmup)
    return target_networks(game, target_rate, reads={"critic": ("actor", "critic")})
