"""What the critic should have said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.checks import require, whole
from gacf.core.tracing import scan_widened
from gacf.core.types import Batch, Key, Params, World
from gacf.methods.actor_critic.heads import Head, read, scalar
from gacf.methods.actor_critic.policies import Policy
from gacf.networks import Model

Target = Callable[[Params, World, Batch, Key], dict[str, jax.Array]]
Choose = Callable[[Any, Params, Batch, Key], tuple[jax.Array, jax.Array | None]]
Value = Callable[[Params, World, jax.Array, Key], jax.Array]
PLAIN = scalar(lambda prediction, target: prediction - target)


def as_it_is(
    output: Any, params: Params, batch: Batch, key: Key
) -> tuple[jax.Array, jax.Array | None]:
    """The choice of a deterministic actor: its output."""
    del params, batch, key
    return output, None


def smoothed(deviation: float | jax.Array, clip: float | jax.Array, bounded: bool = True) -> Choose:
    """The choice of a deterministic actor with clipped normal noise (Fujimoto et al. 2018).

    Args:
        deviation: the standard deviation of the noise.
        clip: the bound of the noise.
        bounded: whether the action is kept in [−1, 1].
    """

    def choose(
        output: Any, params: Params, batch: Batch, key: Key
    ) -> tuple[jax.Array, jax.Array | None]:
        del params, batch
        noise = deviation * jax.random.normal(key, output.shape, output.dtype)
        action = output + jnp.clip(noise, -clip, clip)
        return jnp.clip(action, -1, 1) if bounded else action, None

    return choose


def sampled(
    policy: Policy, temperature: Callable[[Params], float | jax.Array] | None = None
) -> Choose:
    """The choice of a policy with the noise `batch["next_noise"]`, and −α log π as a bonus.

    Args:
        policy: the policy whose parameters the actor yields.
        temperature: `params -> α`; if None, there is no bonus.
    """

    def choose(
        output: Any, params: Params, batch: Batch, key: Key
    ) -> tuple[jax.Array, jax.Array | None]:
        del key
        action, log_prob = policy.sample(output, batch["next_noise"])
        return action, None if temperature is None else -temperature(params) * log_prob

    return choose


def q_target(
    actor: Model,
    critic: Model,
    discount: float | jax.Array,
    head: Head = PLAIN,
    choose: Choose = as_it_is,
) -> Target:
    """The TD target of a critic of actions: y = r + γ (1 − d) (Q(s′, a′) + bonus).

    Both Q and π are those of `params`, which are the slow ones if `target_networks` says so. d is
    termination; the target bootstraps past a truncation. If a batch has `span`, r is the return of
    that many steps, and γ is raised to that power.

    Args:
        actor: the actor's model, from whose output `choose` makes a′.
        critic: Q(s, a), [B, *head.shape] or [B, 1].
        discount: γ in [0, 1].
        head: how the critic is read; the target bootstraps from `head.backup`.
        choose: `(actor's output at s′, params, batch, key) -> (a′, bonus [B] or None)`.

    Reference:
        Lillicrap et al. 2016, algorithm 1; with a bonus Haarnoja et al. 2018.
    """

    def target(params: Params, world: World, batch: Batch, key: Key) -> dict[str, jax.Array]:
        act_key, judge_key, choose_key = jax.random.split(key, 3)
        then = batch["next_observation"]
        output, _ = actor.apply(params["actor"], world, then, key=act_key)
        action, bonus = choose(output, params, batch, choose_key)
        judge = critic.given(params)
        verdict, _ = judge.apply(params["critic"], world, then, action, key=judge_key)
        value = head.backup(read(verdict, head, "the target"))
        return {"taken": _backed_up(batch, value, bonus, discount)}

    return target


def _backed_up(
    batch: Batch, value: jax.Array, bonus: jax.Array | None, discount: float | jax.Array
) -> jax.Array:
    """R + γᵐ (1 − d) (value + bonus), for values [B] or [B, K]."""

    def per_example(x: jax.Array) -> jax.Array:
        return x if value.ndim == 1 else x[:, None]

    value = value if bonus is None else value + per_example(bonus)
    fade = discount ** batch["span"] if "span" in batch else discount
    goes_on = fade * (1 - batch["terminated"].astype(value.dtype))
    return per_example(batch["reward"]) + per_example(goes_on) * value


def lambda_return(
    reward: jax.Array,
    terminated: jax.Array,
    over: jax.Array,
    next_value: jax.Array,
    discount: float | jax.Array,
    trace: float | jax.Array,
) -> jax.Array:
    """The λ-returns of consecutive time steps, [T, N].

        G_t = r_t + γ (1 − d_t) [(1 − λ) V(s_{t+1}) + λ G_{t+1}]

    At the end of an episode and at the last time step, V(s_{t+1}) replaces the bracket.

    Args:
        reward: r, [T, N].
        terminated: d, [T, N].
        over: whether the episode ended at t, by termination or truncation, [T, N].
        next_value: V(s_{t+1}), of the state to which the step really led, [T, N].
        discount: γ.
        trace: λ.

    Reference:
        Sutton & Barto 2018, section 12.1; Schulman et al. 2016 (its difference from V is the GAE).

    Example:
        >>> import jax.numpy as jnp
        >>> one, no = jnp.ones((3, 1)), jnp.zeros((3, 1), bool)
        >>> lambda_return(one, no, no, 0 * one, 0.5, 1.0)[:, 0].tolist()
        [1.75, 1.5, 1.0]
    """

    def back(later: jax.Array, x: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, terminated, over, value = x
        goes_on = discount * (1 - terminated.astype(value.dtype))
        ahead = jnp.where(over, value, (1 - trace) * value + trace * later)
        now = reward + goes_on * ahead
        return now, now

    rows = (reward, terminated, over, next_value)
    return scan_widened(back, next_value[-1], rows, reverse=True)[1]


def lambda_target(
    value: Value, discount: float | jax.Array, trace: float | jax.Array, length: int
) -> Target:
    """The λ-return as the target, for batches of consecutive time steps.

    The values are functions of the live `params`, so that cross derivatives are right.

    Args:
        value: `(params, world, observations [B, O], key) -> V [B]`.
        discount: γ.
        trace: λ; 0 gives the one-step target, 1 the return of all T steps.
        length: T; a batch holds T·N transitions, time before copies.
    """
    require("length", length, whole, "a whole number >= 1")

    def target(params: Params, world: World, batch: Batch, key: Key) -> dict[str, jax.Array]:
        then = value(params, world, batch["next_observation"], key)
        return {"taken": row_returns(batch, then, discount, trace, length)}

    return target


def row_returns(
    batch: Batch,
    next_value: jax.Array,
    discount: float | jax.Array,
    trace: float | jax.Array,
    length: int,
) -> jax.Array:
    """The λ-returns [T·N] of as many transitions, time before copies, with V(s′) [T·N]."""

    def rows(x: jax.Array) -> jax.Array:
        return x.reshape(length, -1)

    terminated, truncated = rows(batch["terminated"]), rows(batch["truncated"])
    reward, then = rows(batch["reward"]), rows(next_value)
    returns = lambda_return(reward, terminated, terminated | truncated, then, discount, trace)
    return returns.reshape(-1)


def state_value(critic: Model, head: Head = PLAIN) -> Value:
    """V of a critic of states, read by its head."""

    def value(params: Params, world: World, observation: jax.Array, key: Key) -> jax.Array:
        output, _ = critic.apply(params["critic"], world, observation, key=key)
        return head.value(read(output, head, "the value of states"))

    return value


def recorded_target(name: str) -> Target:
    """The target that the batch holds under that name."""
    return lambda params, world, batch, key: {"taken": batch[name]}


def reward_target(
    rewards: Callable[[Batch], dict[str, jax.Array]],
) -> Target:
    """The target at discount 0, the reward itself; for a GAN, 1 for real examples, 0 for fakes."""

    def target(params: Params, world: World, batch: Batch, key: Key) -> dict[str, jax.Array]:
        del params, world, key
        return rewards(batch)

    return target
