"""What the critic should have said (L3)."""

from __future__ import annotations

from collections.abc import Callable

import jax

from gacf.networks import Model
from gacf.types import Batch, Key, Params, World


def q_target(
    actor: Model,
    critic: Model,
    discount: float | jax.Array,
) -> Callable[[Params, World, Batch, Key], dict[str, jax.Array]]:
    """The TD target of a deterministic actor: y = r + γ (1 − d) Q(s′, π(s′)).

    Both Q and π are those of `params`, hence the slow ones where `target_networks` says so. d is
    termination; a truncated episode is bootstrapped through.

    Args:
        actor: π, [B, O] -> [B, A].
        critic: Q(s, a), [B] or [B, 1].
        discount: γ in [0, 1].

    Reference:
        Lillicrap et al. 2016, algorithm 1.
    """

    def target(params: Params, world: World, batch: Batch, key: Key) -> dict[str, jax.Array]:
        act_key, judge_key = jax.random.split(key)
        then = batch["next_observation"]
        action, _ = actor.apply(params["actor"], world, then, key=act_key)
        value, _ = critic.apply(params["critic"], world, then, action, key=judge_key)
        value = value.reshape(value.shape[0])
        goes_on = 1 - batch["terminated"].astype(value.dtype)
        return {"taken": batch["reward"] + discount * goes_on * value}

    return target


def reward_target(
    rewards: Callable[[Batch], dict[str, jax.Array]],
) -> Callable[..., dict[str, jax.Array]]:
    """The target at discount 0: the reward itself. A GAN's: 1 for a real example, 0 for a fake."""

    def target(params: Params, world: World, batch: Batch, key: Key) -> dict[str, jax.Array]:
        del params, world, key
        return rewards(batch)

    return target
