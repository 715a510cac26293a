"""Methods that learn from what the present policy has just played: A2C, PPO, natural AC."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from gacf import envs
from gacf.core.checks import require
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Params, World
from gacf.methods.actor_critic.acting import actions_alone, by_policy
from gacf.methods.actor_critic.actions import actions_of
from gacf.methods.actor_critic.constructor import Source, actor_critic
from gacf.methods.actor_critic.environment import Finish, as_environment, environment
from gacf.methods.actor_critic.heads import Divergence, Head, make_head
from gacf.methods.actor_critic.improve import advantage, clipped, natural
from gacf.methods.actor_critic.players import policy_of, v_network
from gacf.methods.actor_critic.policies import Policy
from gacf.methods.actor_critic.settings import Rollout, takes_settings, with_defaults
from gacf.methods.actor_critic.target import (
    lambda_target,
    recorded_target,
    row_returns,
    state_value,
)
from gacf.methods.actor_critic.view import state_action_view, state_view
from gacf.networks import Model, column
from gacf.stabilizers.compatible import compatible


class _Parts(NamedTuple):
    """What the methods of this file have in common.

    Attributes:
        env: the environment.
        actor: the actor's model.
        policy: the distribution that the actor's output describes.
        critic: the model of V(s).
        head: how the critic's output is read.
        discount: γ.
        rollout: how evidence is gathered, with a value in every field.
    """

    env: envs.Environment
    actor: Model
    policy: Policy
    critic: Model
    head: Head
    discount: float | jax.Array
    rollout: Any

    def source(self, finish: Finish | None = None) -> Source:
        """What the policy has just done; it records `log_prob` if `finish` is there to read it."""
        explore, exploit = by_policy(self.actor, self.policy)
        return environment(
            self.env, actions_alone(explore) if finish is None else explore, exploit,
            actions_of(self.env).to_env, self.rollout, discount=self.discount, finish=finish,
        )  # fmt: skip


def _parts(
    env: envs.Environment | str,
    actor: Any,
    critic: Any,
    discount: float | jax.Array,
    trace: float | jax.Array,
    divergence: Divergence,
    log_scale: float,
    rollout: Rollout,
    length: int,
) -> _Parts:
    """The common parts; `length` is the method's own choice for the rollout's."""
    env = as_environment(env)
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("trace", trace, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    pi, policy = policy_of(env, actor, log_scale)
    head = make_head(divergence)
    v = v_network(env, critic, head)
    settings = with_defaults(rollout, Rollout(num_envs=16, length=length))
    return _Parts(env, pi, policy, v, head, discount, settings)


@takes_settings
def a2c(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    *,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
    entropy: float | jax.Array = 0.0,
    standardise: bool = False,
    divergence: Divergence = "squared_error",
    log_scale: float = 0.0,
    rollout: Rollout = Rollout(),
) -> Game:
    """Advantage actor-critic with generalised advantages, on transitions that were just played.

        critic   min_φ mean D(V_φ(s), G)              G: the λ-return, of the critic held fixed
        actor    max_θ mean ρ (G − V(s)) + entropy · H(π_θ),   ρ = π_θ(a|s) / π(a|s), 1 in value

    In the actor's loss, G is a function of the critic's parameters, so that cross derivatives are
    right. The critic is fitted to recorded data, however, so its response does not depend on the
    actor: an actor that differentiates through it follows its own gradient.

    Args:
        env: an `Environment`, discrete or with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> logits [B, n], or means [B, A]; by default an MLP of 2 × 64, tanh,
            which reads observations through `gacf.envs.features`, so that discrete ones become
            one-hot vectors. A network of your own gets them as they are, including whole numbers.
        critic: network [B, O] -> [B] or [B, 1]; the default reads observations in the same way.
        discount: γ.
        trace: λ.
        entropy: the weight of the policy's entropy.
        standardise: whether advantages are shifted and scaled to mean 0 and deviation 1 over a
            batch, which must hold at least 2 transitions.
        divergence: a name in `DIVERGENCES`, a function, or a `Head`.
        log_scale: log σ at the start if actions are a box, in [−20, 20].
        rollout: how evidence is gathered; an evaluation plays the policy's mode.

    Returns:
        A `Game` whose batch consists of the T·N transitions of a step.

    Reference:
        Mnih et al. 2016; Schulman et al. 2016 (GAE).

    Example:
        >>> import gacf
        >>> sorted(gacf.a2c("CartPole-v1", rollout=gacf.Rollout(num_envs=2)).losses)
        ['actor', 'critic']
    """
    parts = _parts(env, actor, critic, discount, trace, divergence, log_scale, rollout, length=8)
    value = state_value(parts.critic, parts.head)
    target = lambda_target(value, discount, trace, parts.rollout.length)
    improve = advantage(parts.policy, entropy, standardise)
    return actor_critic(
        parts.actor, parts.critic, parts.source(), state_view, target, parts.head, improve
    )


@takes_settings
def ppo(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    *,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
    clip: float | jax.Array = 0.2,
    entropy: float | jax.Array = 0.0,
    standardise: bool = True,
    divergence: Divergence = "squared_error",
    log_scale: float = 0.0,
    rollout: Rollout = Rollout(),
) -> Game:
    """Proximal policy optimisation; the rule makes the passes over a batch.

        critic   min_φ mean D(V_φ(s), G)
        actor    max_θ mean min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + entropy · H(π_θ)

    The returns G, the advantages A = G − V(s) and log π(a|s) are recorded once a batch has been
    collected. Use the game with `rules.minibatches(rule, epochs, count)`.

    Args:
        env: as for `a2c`.
        actor: as for `a2c`.
        critic: as for `a2c`.
        discount: γ.
        trace: λ.
        clip: ε.
        entropy: the weight of the policy's entropy.
        standardise: whether advantages are shifted and scaled to mean 0 and deviation 1 over a
            minibatch, which must hold at least 2 transitions.
        divergence: a name in `DIVERGENCES`, a function, or a `Head`.
        log_scale: log σ at the start if actions are a box, in [−20, 20].
        rollout: how evidence is gathered; an evaluation plays the policy's mode.

    Returns:
        A `Game` whose batch consists of the T·N transitions of a step.

    Reference:
        Schulman et al. 2017, eq. 7 and algorithm 1.

    Example:
        >>> import gacf, optax
        >>> game = gacf.ppo("CartPole-v1", rollout=gacf.Rollout(num_envs=4, length=8))
        >>> moves = {p: optax.adam(3e-4) for p in game.losses}
        >>> rule = gacf.rules.minibatches(gacf.rules.simultaneous(moves), epochs=4, count=4)
        >>> algorithm = gacf.compose(game, rule)
    """
    parts = _parts(env, actor, critic, discount, trace, divergence, log_scale, rollout, length=128)
    value = state_value(parts.critic, parts.head)

    def finish(params: Params, world: World, transitions: Batch, key: Key) -> Batch:
        now_key, then_key = jax.random.split(key)
        now = value(params, world, transitions["observation"], now_key)
        then = value(params, world, transitions["next_observation"], then_key)
        returns = row_returns(transitions, then, discount, trace, parts.rollout.length)
        recorded = {name: transitions[name] for name in ("observation", "action", "log_prob")}
        return {**recorded, "return": returns, "advantage": returns - now}

    target = recorded_target("return")
    improve = clipped(parts.policy, clip, entropy, standardise)
    return actor_critic(
        parts.actor, parts.critic, parts.source(finish), state_view, target, parts.head, improve
    )


@takes_settings
def natural_actor_critic(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    *,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
    divergence: Divergence = "squared_error",
    log_scale: float = 0.0,
    rollout: Rollout = Rollout(),
) -> Game:
    """The natural policy gradient, which is read from the weights of a compatible critic.

        critic   min_{w,v} mean D(⟨∇_θ log π_θ(a|s), w⟩ + V_v(s), G)
        actor    θ moves along w, which at the critic's least-squares fit is F⁻¹ ∇J

    Args:
        env: as for `a2c`.
        actor: as for `a2c`.
        critic: network of V, [B, O] -> [B] or [B, 1]; by default an MLP of 2 × 64, tanh.
        discount: γ.
        trace: λ of the return G, which bootstraps from V alone.
        divergence: a name in `DIVERGENCES`, or a function.
        log_scale: log σ at the start if actions are a box, in [−20, 20].
        rollout: how evidence is gathered; an evaluation plays the policy's mode.

    Reference:
        Kakade 2002; Peters & Schaal 2008; Bhatnagar et al. 2009, algorithm 3.

    Example:
        >>> import gacf, jax
        >>> game = gacf.natural_actor_critic("CartPole-v1", rollout=gacf.Rollout(num_envs=2))
        >>> params, _ = game.init(jax.random.key(0))
        >>> sorted(params["critic"])
        ['baseline', 'weights']
    """
    parts = _parts(env, actor, critic, discount, trace, divergence, log_scale, rollout, length=8)
    baseline = parts.critic
    q = compatible(parts.actor, baseline, parts.policy.log_prob)

    def value(params: Params, world: World, observation: jax.Array, key: Key) -> jax.Array:
        return column(baseline.apply(params["critic"]["baseline"], world, observation, key=key)[0])

    target = lambda_target(value, discount, trace, parts.rollout.length)
    improve = natural(lambda params: params["weights"])
    return actor_critic(
        parts.actor, q, parts.source(), state_action_view, target, parts.head, improve
    )
