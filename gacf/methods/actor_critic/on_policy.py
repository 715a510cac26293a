"""Methods that learn from what the present policy has just done: A2C, PPO, natural AC."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gacf import envs
from gacf.core.checks import require
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Params, World
from gacf.methods.actor_critic.constructor import Source, actor_critic
from gacf.methods.actor_critic.environment import actions_of, environment
from gacf.methods.actor_critic.heads import Head
from gacf.methods.actor_critic.improve import advantage, clipped, natural
from gacf.methods.actor_critic.normalize import standardised
from gacf.methods.actor_critic.off_policy import Divergence, acted, default_network, head_of, made
from gacf.methods.actor_critic.policies import (
    SHARED_LOG_SCALES,
    Policy,
    categorical,
    gaussian,
    shared_scale,
    yields,
)
from gacf.methods.actor_critic.sac import acting
from gacf.methods.actor_critic.target import (
    lambda_target,
    recorded_target,
    row_returns,
    state_value,
)
from gacf.networks import Model, column, model
from gacf.stabilizers.compatible import compatible


def policy_of(env: envs.Environment, network: Any, log_scale: float) -> tuple[Model, Policy]:
    """The model and policy of an actor: categorical, or Gaussian with one σ for all states."""
    if isinstance(env.action, envs.Discrete):
        policy = categorical(env.action.n)
        wide = default_network(env, (64, 64), (policy.width,), jnp.tanh)
        actor = model("actor", wide if network is None else network)
        return standardised(yields(actor, policy.width)), policy
    require("env", env.action.shape, lambda s: len(s) == 1, "actions that are vectors")
    (size,) = env.action.shape
    wide = default_network(env, (64, 64), (size,), jnp.tanh)
    mean = model("actor", wide if network is None else network)
    policy = gaussian(size, SHARED_LOG_SCALES)
    return standardised(shared_scale(mean, size, log_scale)), policy


def seen(batch: Batch, action: jax.Array) -> dict[str, Any]:
    """The view of a critic of states."""
    del action
    return {"taken": (batch["observation"],)}


def v_network(env: envs.Environment, network: Any, head: Head) -> Model:
    """The model of a critic of states, by default an MLP of 2 × 64."""
    wide = default_network(env, (64, 64), head.shape, jnp.tanh)
    return standardised(model("critic", wide if network is None else network))


def _check(discount: Any, trace: Any) -> None:
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("trace", trace, lambda x: 0 <= x <= 1, "a number in [0, 1]")


def _played(
    env: envs.Environment,
    actor: Model,
    policy: Policy,
    discount: float | jax.Array,
    normalize_rewards: bool,
    record_log_prob: bool = False,
    **settings: Any,
) -> Source:
    """What the policy has just done; `settings` are those of `environment`."""
    explore, exploit = acting(actor, policy)
    return environment(
        env,
        explore if record_log_prob else lambda *args: explore(*args).action,
        exploit,
        actions_of(env).to_env,
        normalize_rewards=discount if normalize_rewards else None,
        **settings,
    )


def a2c(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
    entropy: float | jax.Array = 0.0,
    standardise: bool = False,
    num_envs: int = 16,
    length: int = 8,
    divergence: Divergence = "squared_error",
    log_scale: float = 0.0,
    episodes: int = 100,
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
) -> Game:
    """Advantage actor-critic with generalised advantages, on what has just been played.

        critic   min_φ mean D(V_φ(s), G)              G: the λ-return, of the critic held fixed
        actor    max_θ mean ρ (G − V(s)) + entropy · H(π_θ),   ρ = π_θ(a|s) / π(a|s), 1 in value

    G is a function of the critic's parameters where the actor reads it: cross derivatives are
    right. But the critic is fitted to recorded data, on which its response does not hang on the
    actor, so a leader that differentiates through it finds the own gradient.

    Args:
        env: an `Environment`, discrete or with a box of actions, or a name for `gacf.envs.make`.
        actor: network [B, O] -> logits [B, n], or means [B, A]; by default an MLP of 2 × 64, tanh,
            which reads observations by `gacf.envs.features`: what is discrete as one-hot vectors.
            A network of your own gets them as they are, whole numbers [B] among them.
        critic: network [B, O] -> [B] or [B, 1]; likewise.
        discount: γ.
        trace: λ.
        entropy: weight of the policy's entropy.
        standardise: advantages to mean 0 and deviation 1 over a batch, of at least 2 transitions.
        num_envs: environments N.
        length: time steps T between two updates.
        divergence: a name in `DIVERGENCES`, a function, or a `Head`.
        log_scale: log σ at the start, for boxes, in [−20, 20].
        episodes: an evaluation plays, with the policy's mode.
        normalize_observations: by their running mean and deviation.
        normalize_rewards: by the running deviation of the discounted return.

    Returns:
        A `Game`; a batch is the T·N transitions of a step.

    Reference:
        Mnih et al. 2016; Schulman et al. 2016 (GAE).

    Example:
        >>> import gacf
        >>> sorted(gacf.a2c("CartPole-v1", num_envs=2).losses)
        ['actor', 'critic']
    """
    env = made(env)
    _check(discount, trace)
    pi, policy = policy_of(env, actor, log_scale)
    head = head_of(divergence)
    v = v_network(env, critic, head)
    source = _played(
        env, pi, policy, discount, normalize_rewards, num_envs=num_envs, episodes=episodes,
        length=length, normalize_observations=normalize_observations,
    )  # fmt: skip
    target = lambda_target(state_value(v, head), discount, trace, length)
    return actor_critic(pi, v, source, seen, target, head, advantage(policy, entropy, standardise))


def ppo(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
    clip: float | jax.Array = 0.2,
    entropy: float | jax.Array = 0.0,
    standardise: bool = True,
    num_envs: int = 16,
    length: int = 128,
    divergence: Divergence = "squared_error",
    log_scale: float = 0.0,
    episodes: int = 100,
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
) -> Game:
    """Proximal policy optimisation; the passes over a batch are a rule's.

        critic   min_φ mean D(V_φ(s), G)
        actor    max_θ mean min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + entropy · H(π_θ)

    The returns G, the advantages A = G − V(s) and log π(a|s) are recorded when a batch has been
    collected. Play it with `rules.minibatches(rule, epochs, count)`.

    Args:
        env: as for `a2c`.
        actor: as for `a2c`.
        critic: as for `a2c`.
        discount: γ.
        trace: λ.
        clip: ε.
        entropy: weight of the policy's entropy.
        standardise: advantages to mean 0 and deviation 1 over a minibatch, of at least 2
            transitions.
        num_envs: environments N.
        length: time steps T between two batches.
        divergence: a name in `DIVERGENCES`, a function, or a `Head`.
        log_scale: log σ at the start, for boxes, in [−20, 20].
        episodes: an evaluation plays, with the policy's mode.
        normalize_observations: by their running mean and deviation.
        normalize_rewards: by the running deviation of the discounted return.

    Returns:
        A `Game`; a batch is the T·N transitions of a step.

    Reference:
        Schulman et al. 2017, eq. 7 and algorithm 1.

    Example:
        >>> import gacf, optax
        >>> game = gacf.ppo("CartPole-v1", num_envs=4, length=8)
        >>> moves = {p: optax.adam(3e-4) for p in game.losses}
        >>> rule = gacf.rules.minibatches(gacf.rules.simultaneous(moves), epochs=4, count=4)
        >>> algorithm = gacf.compose(game, rule)
    """
    env = made(env)
    _check(discount, trace)
    pi, policy = policy_of(env, actor, log_scale)
    head = head_of(divergence)
    v = v_network(env, critic, head)
    value = state_value(v, head)

    def finish(params: Params, world: World, found: Batch, key: Key) -> Batch:
        now_key, then_key = jax.random.split(key)
        now = value(params, world, found["observation"], now_key)
        then = value(params, world, found["next_observation"], then_key)
        returns = row_returns(found, then, discount, trace, length)
        kept = ("observation", "action", "log_prob")
        lean = {name: found[name] for name in kept}
        return {**lean, "return": returns, "advantage": returns - now}

    source = _played(
        env, pi, policy, discount, normalize_rewards, record_log_prob=True, num_envs=num_envs,
        episodes=episodes, length=length, normalize_observations=normalize_observations,
        finish=finish,
    )  # fmt: skip
    return actor_critic(
        pi, v, source, seen, recorded_target("return"), head,
        clipped(policy, clip, entropy, standardise),
    )  # fmt: skip


def natural_actor_critic(
    env: envs.Environment | str,
    actor: Any = None,
    critic: Any = None,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
    num_envs: int = 16,
    length: int = 8,
    divergence: Divergence = "squared_error",
    log_scale: float = 0.0,
    episodes: int = 100,
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
) -> Game:
    """The natural policy gradient, which a compatible critic holds in its weights.

        critic   min_{w,v} mean D(⟨∇_θ log π_θ(a|s), w⟩ + V_v(s), G)
        actor    θ moves along w, which at the critic's fit is F⁻¹ ∇J

    Args:
        env: as for `a2c`.
        actor: as for `a2c`.
        critic: network of V, [B, O] -> [B] or [B, 1]; by default an MLP of 2 × 64, tanh.
        discount: γ.
        trace: λ of the return G, which goes on from V alone.
        num_envs: environments N.
        length: time steps T between two updates.
        divergence: a name in `DIVERGENCES`, or a function.
        log_scale: log σ at the start, for boxes, in [−20, 20].
        episodes: an evaluation plays, with the policy's mode.
        normalize_observations: by their running mean and deviation.
        normalize_rewards: by the running deviation of the discounted return.

    Reference:
        Kakade 2002; Peters & Schaal 2008; Bhatnagar et al. 2009, algorithm 3.

    Example:
        >>> import gacf, jax
        >>> game = gacf.natural_actor_critic("CartPole-v1", num_envs=2)
        >>> params, _ = game.init(jax.random.key(0))
        >>> sorted(params["critic"])
        ['baseline', 'weights']
    """
    env = made(env)
    _check(discount, trace)
    pi, policy = policy_of(env, actor, log_scale)
    base = v_network(env, critic, head_of(divergence))
    q = compatible(pi, base, policy.log_prob)
    source = _played(
        env, pi, policy, discount, normalize_rewards, num_envs=num_envs, episodes=episodes,
        length=length, normalize_observations=normalize_observations,
    )  # fmt: skip

    def value(params: Params, world: World, observation: jax.Array, key: Key) -> jax.Array:
        return column(base.apply(params["critic"]["baseline"], world, observation, key=key)[0])

    return actor_critic(
        pi, q, source, acted, lambda_target(value, discount, trace, length), head_of(divergence),
        natural(lambda params: params["weights"]),
    )  # fmt: skip
