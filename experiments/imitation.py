"""GAIL and AIRL on CartPole, from ten episodes of an expert that is trained here first.

    gacf run experiments/imitation.py

The expert is A2C on the environment's reward, and is the same in every run; the imitators are A2C
on the reward from their discriminator. `share` is the return of the policy's mode as a share of the
expert's. Expected results and cost: docs/information_flow.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import gacf
from gacf.methods.actor_critic import policy_of
from gacf.methods.flows import airl, gail
from gacf.methods.gan import r1
from gacf.networks import MLP, model

KEY_METRIC = "evaluate/share"
GOAL = "max"
METRICS = [KEY_METRIC, "evaluate/return", "evaluate/expert_return"]
ENVIRONMENT, TRAJECTORIES = "CartPole-v1", 10


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 4_000,
            "evaluate_every": 2_000,
            "num_envs": 16,
            "length": 8,
            "hidden": (64, 64),
            "learning_rate": 1e-3,
            "judge_rate": 1e-3,
            "entropy": 0.01,
            "discount": 0.99,
            "r1": 0.1,
            "expert_steps": 6_000,
            "episodes": 20,
        }
    )


def game_of(config: ConfigDict) -> tuple[gacf.Game, Any]:
    """A2C, and log π(a|s) of its actor."""
    env = gacf.envs.make(ENVIRONMENT)
    actor, policy = policy_of(env, MLP(config.hidden, (env.action.n,), jnp.tanh), 0.0)

    def log_prob(params: Any, world: Any, observation: Any, action: Any) -> jax.Array:
        return policy.log_prob(actor.apply(params["actor"], world, observation)[0], action)

    game = gacf.a2c(
        env, actor, MLP(config.hidden, (), jnp.tanh), discount=config.discount,
        entropy=config.entropy, standardise=True,
        rollout=gacf.Rollout(config.num_envs, config.length, config.episodes),
    )  # fmt: skip
    return game, log_prob


def rule_of(config: ConfigDict, game: gacf.Game, steps: int) -> gacf.Rule:
    def adam(rate: float) -> optax.GradientTransformation:
        schedule = optax.linear_schedule(rate, 0.0, steps)
        return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(schedule, eps=1e-5))

    rates = {"discriminator": config.judge_rate}
    return gacf.rules.simultaneous(
        {player: adam(rates.get(player, config.learning_rate)) for player in game.losses}
    )


def expert(config: ConfigDict) -> tuple[dict[str, jax.Array], float]:
    """Ten episodes of the trained expert, and its return."""
    game, _ = game_of(config)
    algorithm = gacf.compose(game, rule_of(config, game, config.expert_steps))
    steps = config.expert_steps
    state, _ = gacf.run(algorithm, jax.random.key(0), steps, log_every=steps)
    params = gacf.take_seed(state, 0).params
    env = gacf.envs.make(ENVIRONMENT)
    actor, policy = policy_of(env, MLP(config.hidden, (env.action.n,), jnp.tanh), 0.0)

    def play(key: jax.Array) -> Any:
        start_key, play_key = jax.random.split(key)

        def step(carry: Any, key: jax.Array) -> Any:
            state, observation, alive = carry
            action = policy.mode(actor.apply(params["actor"], {}, observation[None])[0])[0]
            state, timestep = env.step(key, state, action)
            row = (observation, action, timestep.next_observation, timestep.terminated, alive)
            over = timestep.terminated | timestep.truncated
            return (state, timestep.observation, alive & ~over), row

        first = (*env.reset(start_key), jnp.ones((), bool))
        return jax.lax.scan(step, first, jax.random.split(play_key, env.horizon))[1]

    *rows, alive = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(1), TRAJECTORIES))
    names = ("observation", "action", "next_observation", "terminated")
    episodes = {name: row[alive] for name, row in zip(names, rows, strict=True)}
    return episodes, float(alive.sum() / TRAJECTORIES)


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    game, log_prob = game_of(config)
    episodes, best = expert(config)
    measure = game.evaluate

    def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
        measured = measure(params, world, key)
        # Computed from another metric, because a metric must not be a constant.
        expert_return = best + 0 * measured["return"]
        share = measured["return"] / best
        return {"share": share, **measured, "expert_return": expert_return}

    game = game._replace(evaluate=evaluate)
    actions = gacf.envs.make(ENVIRONMENT).action.n
    pair = model("discriminator", MLP(config.hidden, (actions,)))

    def init(key: jax.Array, observation: jax.Array, action: jax.Array) -> Any:
        return pair.init(key, observation)[0]

    def logits(params: Any, observation: jax.Array, action: jax.Array) -> jax.Array:
        each = pair.apply(params, {}, observation)[0]
        return jnp.take_along_axis(each, action[:, None], axis=1)

    cells = {
        "GAIL": gail(game, (init, logits), episodes, r1(config.r1)),
        "AIRL": airl(
            game, MLP(config.hidden), MLP(config.hidden), log_prob, episodes, config.discount
        ),
    }
    return {
        name: gacf.compose(cell, rule_of(config, cell, config.steps))
        for name, cell in cells.items()
    }
