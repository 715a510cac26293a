"""Stochastic value gradients, Heess et al. 2015."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from gacf import envs
from gacf.core.checks import require, whole
from gacf.core.game import Game, add_player
from gacf.core.rows import where_rows
from gacf.core.tracing import scan_widened
from gacf.core.types import Batch, Key, Metrics, Outcome, Params, PyTree, World
from gacf.methods.actor_critic.acting import actions_alone, by_policy, with_states
from gacf.methods.actor_critic.actions import action_box, actions_of
from gacf.methods.actor_critic.constructor import actor_critic
from gacf.methods.actor_critic.environment import as_environment, environment
from gacf.methods.actor_critic.heads import Divergence, Head, make_head
from gacf.methods.actor_critic.improve import Evidence, Improve, reparameterised
from gacf.methods.actor_critic.normalize import standardised
from gacf.methods.actor_critic.off_policy import READS, one_time_step, replayed
from gacf.methods.actor_critic.players import policy_of, q_network, stochastic, v_network
from gacf.methods.actor_critic.policies import Policy
from gacf.methods.actor_critic.settings import Replay, Rollout, takes_settings, with_defaults
from gacf.methods.actor_critic.target import lambda_target, q_target, sampled, state_value
from gacf.methods.actor_critic.view import state_view
from gacf.networks import MLP, Model, model
from gacf.stabilizers import target_networks

NOT_SCALED = "the rewards along a model are in the environment's units"


@takes_settings
def svg(
    env: envs.Environment | str,
    horizon: float = 0,
    actor: Any = None,
    critic: Any = None,
    dynamics: Any = None,
    *,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
    bootstrap: bool = True,
    target_rate: float | jax.Array = 0.005,
    divergence: Divergence = "squared_error",
    log_scale: float = -1.0,
    rollout: Rollout = Rollout(),
    replay: Replay = Replay(),
) -> Game:
    """SVG(0), SVG(1), … SVG(∞): the gradient of the value along `horizon` steps of a model.

        SVG(0)   max_θ mean Q(s, π_θ(s, η))                    Q from replayed transitions
        SVG(h)   max_θ mean Σ_{k<h} γᵏ r̂(s_k, a_k) + γʰ V(s_h)
                 a_k = π_θ(s_k, η_k),  s_{k+1} = f(s_k, a_k) + ξ_k

    η and ξ are inferred so that the chain passes through the transitions that were really played:
    its values are real, and only its derivatives are the model's. Where a new episode starts, a new
    chain starts. SVG(∞), `horizon=math.inf`, has chains as long as an episode, without V at their
    end.

    Args:
        env: an `Environment` with a box of actions, or a name for `gacf.envs.make`.
        horizon: h; 0 needs no model; `math.inf` is the environment's own horizon, with
            `bootstrap=False`.
        actor: network; for h = 0 as for `sac`, otherwise means [B, A] as for `a2c`.
        critic: network; for h = 0 of (s, a), as for `ddpg`; otherwise of s, as for `a2c`.
        dynamics: for h >= 1, the network of a third player `model`,
            ([B, O], [B, A]) -> [B, O + 1], which predicts the change of the observation and the
            reward; by default an MLP of 2 × 64. Or "true", which differentiates the environment
            itself.
        discount: γ.
        trace: λ of the critic's target, for h >= 1.
        bootstrap: whether V is added at the end of a chain.
        target_rate: the Polyak rate of the slow copies, for h = 0.
        divergence: as for `ddpg`.
        log_scale: log σ at the start, for h >= 1, in [−20, 20].
        rollout: how evidence is gathered; for h >= 1 a batch holds h·N transitions. An evaluation
            plays the policy's mode.
        replay: how evidence is replayed, for h = 0.

    Returns:
        A `Game` of the players `actor`, `critic`, and `model` if the dynamics are learned.

    Raises:
        ValueError: actions are discrete, a name is unknown, or a setting does not fit the method.

    Reference:
        Heess et al. 2015, algorithms 1 and 2.

    Example:
        >>> import gacf
        >>> sorted(gacf.svg("Pendulum-v1", horizon=4, rollout=gacf.Rollout(num_envs=2)).losses)
        ['actor', 'critic', 'model']
    """
    env = as_environment(env)
    if horizon == math.inf:
        traced = isinstance(env.horizon, jax.core.Tracer)
        require("horizon", horizon, lambda _: not traced, "a number, since the env's is traced")
        horizon, bootstrap = int(env.horizon), False
    require("horizon", horizon, lambda n: whole(n) or n == 0, "a whole number >= 0, or inf")
    horizon = int(horizon)
    require("discount", discount, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    require("trace", trace, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    head = make_head(divergence)
    if horizon == 0:
        return _without_model(
            env, actor, critic, discount, target_rate, head, rollout=rollout, replay=replay
        )
    no_replay = "nothing for a horizon of at least 1, which learns only from what was just played"
    require("replay", replay, lambda r: r == Replay(), no_replay)
    vector = isinstance(env.observation, envs.Box) and len(env.observation.shape) == 1
    _, actions = action_box(env)
    require("env", env.observation, lambda _: vector, "observations that are real vectors, [O]")
    is_true = isinstance(dynamics, str)
    if is_true:
        require("dynamics", dynamics, lambda name: name == "true", "a network, or 'true'")
    pi, policy = policy_of(env, actor, log_scale)
    v = v_network(env, critic, head)
    explore, exploit = by_policy(pi, policy)
    explore = with_states(actions_alone(explore)) if is_true else actions_alone(explore)
    steps = with_defaults(
        rollout,
        Rollout(num_envs=16, length=horizon, normalize_rewards=False),
        {"length": "a batch is one chain of `horizon` steps", "normalize_rewards": NOT_SCALED},
    )
    source = environment(env, explore, exploit, actions.to_env, steps)
    value = state_value(v, head)
    target = lambda_target(value, discount, trace, horizon)
    network = None
    if not is_true:
        network = model("model", _default_dynamics(env) if dynamics is None else dynamics)
    follow = _true(env, actions.to_env) if network is None else _learned(network)
    improve = _along(follow, pi, policy, value, discount, horizon, bootstrap)
    game = actor_critic(pi, v, source, state_view, target, head, improve)
    return game if network is None else _with_model(game, env, network)


def _without_model(
    env: envs.Environment,
    actor: Any,
    critic: Any,
    discount: float | jax.Array,
    target_rate: float | jax.Array,
    head: Head,
    rollout: Rollout,
    replay: Replay,
) -> Game:
    """SVG(0): the gradient of Q along the policy's own noise, from replayed transitions."""
    pi, policy = stochastic(env, actor)
    q = standardised(q_network(env, critic, head))
    explore, exploit = by_policy(pi, policy)
    source = environment(
        env, actions_alone(explore), exploit, actions_of(env).to_env, one_time_step(rollout)
    )
    game = replayed(
        source, pi, q, q_target(pi, q, discount, head, sampled(policy)), head,
        reparameterised(policy), discount, replay,
        {"noise": policy.noise, "next_noise": policy.noise},
    )  # fmt: skip
    return target_networks(game, target_rate, reads=READS)


# `(params, world, row of the batch) -> first carry`, and
# `(params, world, carry, action, row) -> (carry, observation it led to, reward)`
Follow = tuple[Callable[..., PyTree], Callable[..., tuple[PyTree, jax.Array, jax.Array]]]


def _learned(network: Model) -> Follow:
    """The learned model, corrected by its error on the recorded step.

    So a chain of recorded actions passes through the recorded observations and rewards.
    """

    def predict(params: Params, world: World, observation: Any, action: Any) -> Any:
        output, _ = network.apply(params["model"], world, observation, action)
        return observation + output[:, :-1], output[:, -1]

    def begin(row: Batch) -> PyTree:
        return row["observation"]

    def step(params: Params, world: World, carry: PyTree, action: Any, row: Batch) -> Any:
        then, reward = predict(params, world, carry, action)
        recorded_then, recorded_reward = predict(params, world, row["observation"], row["action"])
        then = then + (row["next_observation"] - recorded_then)
        reward = reward + (row["reward"] - recorded_reward)
        return then, then, reward

    return begin, step


def _true(env: envs.Environment, to_env: Callable[[jax.Array], jax.Array]) -> Follow:
    """The environment's own step, from the recorded states and with the recorded keys."""

    def begin(row: Batch) -> PyTree:
        return row["state"]

    def step(params: Params, world: World, carry: PyTree, action: Any, row: Batch) -> Any:
        del params, world

        def once(key: jax.Array, state: PyTree, action: jax.Array) -> Any:
            return env.step(jax.random.wrap_key_data(key), state, to_env(action))

        carry, timestep = jax.vmap(once)(row["key"], carry, action)
        return carry, timestep.next_observation, timestep.reward

    return begin, step


def _along(
    follow: Follow,
    pi: Model,
    policy: Policy,
    value: Callable[..., jax.Array],
    discount: float | jax.Array,
    horizon: int,
    bootstrap: bool,
) -> Improve:
    """The return of chains along a model, differentiated only in the actor's parameters."""
    begin, step = follow
    infer = policy.infer
    assert infer is not None, "policies on boxes can infer their noise"

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        params, world = evidence.params, evidence.world
        fixed, _ = evidence.propose(evidence.fixed)
        _, entries = evidence.propose(own)
        batch = {**evidence.batch, "noise": infer(fixed, evidence.batch["action"])}
        rows = jax.tree.map(lambda x: x.reshape(horizon, -1, *x.shape[1:]), batch)
        over = rows["terminated"] | rows["truncated"]
        rows["fresh"] = jnp.concatenate([jnp.ones_like(over[:1]), over[:-1]])
        rows["ends"] = over.at[-1].set(True)

        def along(carry: Any, row: Batch) -> tuple[Any, None]:
            at, observation, weight, total = carry

            def begin_anew(first: jax.Array, present: jax.Array) -> jax.Array:
                return where_rows(row["fresh"], first, present)

            at = jax.tree.map(begin_anew, begin(row), at)
            observation = begin_anew(row["observation"], observation)
            weight = jnp.where(row["fresh"], 1, weight)
            output, _ = pi.apply(own, world, observation)
            action, _ = policy.sample(output, row["noise"])
            at, observation, reward = step(params, world, at, action, row)
            total = total + weight * reward
            weight = weight * discount * (1 - row["terminated"].astype(weight.dtype))
            if bootstrap:
                worth = value(params, world, observation, None)
                total = total + jnp.where(row["ends"], weight * worth, 0)
            return (at, observation, weight, total), None

        first = jax.tree.map(lambda x: x[0], rows)
        ones = jnp.ones_like(first["reward"])
        carry = (begin(first), first["observation"], ones, jnp.zeros_like(ones))
        (_, _, _, total), _ = scan_widened(along, carry, rows)
        return -jnp.mean(total), {}, entries

    return improve


def _default_dynamics(env: envs.Environment) -> MLP:
    (size,) = env.observation.shape
    return MLP((64, 64), (size + 1,), jnp.tanh)


def _with_model(game: Game, env: envs.Environment, network: Model) -> Game:
    """The game with the player `model`: ½ mean ‖f(s, a) − (s′ − s, r)‖²."""
    shapes = (env.observation.shape, env.action.shape)  # type: ignore[union-attr]

    def init(key: Key) -> PyTree:
        params, entries = network.init(key, *(jnp.zeros((1, *shape)) for shape in shapes))
        if entries:
            raise ValueError("dynamics: a network with statistics was given; allowed: params alone")
        return params

    def loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        output, _ = network.apply(own, world, batch["observation"], batch["action"], key=key)
        change = batch["next_observation"] - batch["observation"]
        target = jnp.concatenate([change, batch["reward"][:, None]], axis=-1)
        return 0.5 * jnp.mean(jnp.sum(jnp.square(output - target), axis=-1)), Outcome({}, {})

    return add_player(game, "model", init, loss)
