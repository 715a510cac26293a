"""Does a recovered reward survive a change of dynamics? AIRL and GAIL on a small grid.

    gacf run experiments/transfer.py

The reward is 1 in one corner of a grid and 0 elsewhere. Each seed first imitates an expert, the
policy of maximum entropy that value iteration finds. Then its discriminator is fixed, and a new A2C
learns from that alone in a grid where each of the four actions moves the other way. `share` is the
return that it earns there as a share of the highest possible return, and `before` is that of the
imitator in the expert's own grid. AIRL transfers g, which sees states alone; GAIL's discriminator,
its only reward, sees actions too. Expected results and cost: docs/information_flow.md.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from scipy.special import logsumexp

import gacf
from gacf.envs import Box, Discrete, Environment, Timestep
from gacf.methods.actor_critic import policy_of
from gacf.methods.flows import airl, gail, rewarded
from gacf.methods.gan import r1
from gacf.networks import MLP, column, model

KEY_METRIC = "evaluate/share"
GOAL = "max"
METRICS = [KEY_METRIC, "evaluate/before", "evaluate/return"]
SIDE, HORIZON = 5, 20
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))
ROWS = ("observation", "action", "next_observation", "terminated")


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 1_000,
            "evaluate_every": 500,
            "imitation_steps": 2_000,
            "trajectories": 50,
            "num_envs": 16,
            "length": 8,
            "discount": 0.9,
            "temperature": 0.1,
            "entropy": 0.01,
            "learning_rate": 1e-2,
            "judge_rate": 1e-2,
            "r1": 0.01,
            "episodes": 50,
        }
    )


class Walk(NamedTuple):
    place: jax.Array
    time: jax.Array


def grid(turned: bool) -> Environment:
    """A walk on SIDE × SIDE cells from a random one; the observation is the cell, one-hot."""
    size = SIDE * SIDE

    def observe(place: jax.Array) -> jax.Array:
        return jax.nn.one_hot(place[0] * SIDE + place[1], size)

    def reset(key: jax.Array) -> tuple[Walk, jax.Array]:
        place = jax.random.randint(key, (2,), 0, SIDE)
        return Walk(place, jnp.zeros((), jnp.int32)), observe(place)

    def step(key: jax.Array, state: Walk, action: jax.Array) -> tuple[Walk, Timestep]:
        move = jnp.array(MOVES)[action] * (-1 if turned else 1)
        reached = Walk(jnp.clip(state.place + move, 0, SIDE - 1), state.time + 1)
        over = reached.time >= HORIZON
        fresh, _ = reset(key)
        after = jax.tree.map(lambda a, b: jnp.where(over, a, b), fresh, reached)
        timestep = Timestep(
            observe(after.place), observe(reached.place),
            jnp.all(state.place == SIDE - 1).astype(jnp.float32), jnp.zeros((), bool), over,
        )  # fmt: skip
        return after, timestep

    with jax.ensure_compile_time_eval():
        space = Box((size,), jnp.zeros(size), jnp.ones(size))
    return Environment("grid", reset, step, space, Discrete(len(MOVES)), HORIZON)


def method(config: ConfigDict, env: Environment, entropy: float) -> tuple[gacf.Game, Any]:
    """A2C with tables, and log π(a|s) of its actor."""
    actor, policy = policy_of(env, MLP((), (len(MOVES),)), 0.0)

    def log_prob(params: Any, world: Any, observation: Any, action: Any) -> jax.Array:
        return policy.log_prob(actor.apply(params["actor"], world, observation)[0], action)

    game = gacf.a2c(
        env, actor, MLP(()), discount=config.discount, entropy=entropy,
        rollout=gacf.Rollout(config.num_envs, config.length, config.episodes),
    )  # fmt: skip
    return game, log_prob


def trained(config: ConfigDict, game: gacf.Game, key: jax.Array, steps: int) -> gacf.State:
    algorithm = algorithm_of(config, game)
    return jax.lax.fori_loop(
        0, steps, lambda i, state: algorithm.step(state)[0], algorithm.init(key)
    )


def algorithm_of(config: ConfigDict, game: gacf.Game) -> gacf.Algorithm:
    rates = {"discriminator": config.judge_rate}
    return gacf.compose(
        game,
        gacf.rules.simultaneous(
            {p: optax.adam(rates.get(p, config.learning_rate)) for p in game.losses}
        ),
    )


def expert(config: ConfigDict) -> dict[str, jax.Array]:
    """Trajectories of the policy π ∝ e^Q, where Q(s, a) = r(s)/α + γ log Σ_b e^Q(s′, b)."""
    cells = np.indices((SIDE, SIDE)).reshape(2, -1).T
    then = np.clip(cells[:, None] + np.array(MOVES), 0, SIDE - 1) @ np.array([SIDE, 1])
    reward = np.all(cells == SIDE - 1, axis=1) / config.temperature
    q = np.zeros(then.shape)
    for _ in range(1_000):
        q = reward[:, None] + config.discount * logsumexp(q, axis=1)[then]
    chance = np.exp(q - logsumexp(q, axis=1, keepdims=True)).cumsum(axis=1)
    random: Any = np.random.RandomState(0)
    place, rows = random.randint(0, len(cells), config.trajectories), []
    for _ in range(HORIZON):
        drawn = random.rand(len(place), 1) > chance[place]
        action = np.minimum(drawn.sum(axis=1), len(MOVES) - 1)
        rows.append((place, action, then[place, action]))
        place = then[place, action]
    first, action, later = (np.concatenate(column) for column in zip(*rows, strict=True))
    one_hot = np.eye(len(cells), dtype=np.float32)
    columns = (one_hot[first], action.astype(np.int32), one_hot[later], np.zeros(len(first), bool))
    return {name: jnp.asarray(x) for name, x in zip(ROWS, columns, strict=True)}


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    old, new = grid(turned=False), grid(turned=True)
    trajectories = expert(config)
    plain, log_prob = method(config, old, 0.0)
    fresh, _ = method(config, new, config.entropy)
    best = HORIZON - (SIDE - 1) + 0.0  # the mean way to the corner is SIDE − 1 steps
    pair = model("discriminator", MLP((), (len(MOVES),)))

    def logits(params: Any, observation: jax.Array, action: jax.Array) -> jax.Array:
        each = pair.apply(params, {}, observation)[0]
        return jnp.take_along_axis(each, action[:, None], axis=1)

    def init(key: jax.Array, observation: jax.Array, action: jax.Array) -> Any:
        return pair.init(key, observation)[0]

    def of_gail(taught: Any, batch: Any) -> jax.Array:
        return jax.nn.softplus(column(logits(taught, batch["observation"], batch["action"])))

    def of_airl(taught: Any, batch: Any) -> jax.Array:
        g = model("discriminator", MLP(()))
        return column(g.apply(taught["reward"], {}, batch["observation"])[0])

    def transferred(imitation: gacf.Game | None, reward: Any) -> gacf.Algorithm:
        """Imitates the expert in its grid, then trains a new policy in the other one."""

        def init(key: jax.Array) -> Any:
            params, world = fresh.init(key)
            if imitation is None:
                return params, {**world, "taught": {"before": jnp.ones(())}}
            state = trained(config, imitation, key, config.imitation_steps)
            earned = imitation.evaluate(state.params, state.world, key)["return"] / best
            taught = {"judge": state.params["discriminator"], "before": earned}
            return params, {**world, "taught": taught}

        def learned_reward(params: Any, world: Any, batch: Any) -> jax.Array:
            return reward(world["taught"].get("judge"), batch)

        def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
            measured = fresh.evaluate(params, world, key)
            share, before = measured["return"] / best, world["taught"]["before"]
            return {**measured, "share": share, "before": before}

        game = rewarded(fresh, learned_reward)._replace(init=init, evaluate=evaluate)
        return algorithm_of(config, game)

    airl_game = airl(plain, MLP(()), MLP(()), log_prob, trajectories, config.discount)
    gail_game = gail(
        method(config, old, config.entropy)[0], (init, logits), trajectories, r1(config.r1)
    )
    return {
        "AIRL's reward": transferred(airl_game, of_airl),
        "GAIL's reward": transferred(gail_game, of_gail),
        "true reward": transferred(None, lambda taught, batch: batch["reward"]),
    }
