"""Every method in every probe that it can act in: values and actions are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import envs, rules
from gacf.core.clock import with_clock
from gacf.envs import probes
from tests.methods.actor_critic import linear
from tests.methods.actor_critic.packed import packed

GAMMA = 0.5
TOLERANCE = 0.1
# One compiled program plays all of these: which one is a number.
TOGETHER = [name for name in probes.PROBES if name != "probe-delayed"]


class Case(NamedTuple):
    """A method for the probes.

    Attributes:
        make: `env -> Game`.
        value: `(critic's params, o, a) -> [B]`: what the critic says.
        action: `(actor's params, o) -> a`: the best action, as the method believes.
        rule: `optimisers -> Rule`.
        steps: of the rule.
        rates: of Adam, at the start, for actor and critic; they fall to 0.
        optimizer: in place of Adam for the actor.
        actions: kind of actions.
    """

    make: Callable[[envs.Environment], gacf.Game]
    value: Callable[[Any, jax.Array, jax.Array], jax.Array]
    action: Callable[[Any, jax.Array], jax.Array]
    rule: Callable[[Any], gacf.Rule] = rules.alternating
    steps: int = 600
    rates: tuple[float, float] = (0.02, 0.05)
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam
    actions: str = "continuous"


FLAT: dict[str, Any] = {
    "discount": GAMMA, "batch_size": 64, "capacity": 1024, "warmup": 32, "num_envs": 4,
    "target_rate": 0.2, "episodes": 4,
}  # fmt: skip
OFF, TWO_STEPS = packed(**FLAT), packed(n_step=2, **FLAT)
ON, IN_TWOS, IN_FOURS = (
    packed(discount=GAMMA, num_envs=32, episodes=4, length=length) for length in (None, 2, 4)
)


def q(w: Any, o: jax.Array, a: jax.Array) -> jax.Array:
    return linear.joint(o, a) @ w


def first(w: Any, o: jax.Array, a: jax.Array) -> jax.Array:
    return q(w[0], o, a)


def v(w: Any, o: jax.Array, a: jax.Array) -> jax.Array:
    return linear.features(o) @ w


def base(w: Any, o: jax.Array, a: jax.Array) -> jax.Array:
    return linear.features(o) @ w["baseline"]


def squashed(w: Any, o: jax.Array) -> jax.Array:
    return jnp.tanh(linear.features(o) @ w)[:, :1]


def mean(w: Any, o: jax.Array) -> jax.Array:
    return linear.features(o) @ w["mean"]


def mode(w: Any, o: jax.Array) -> jax.Array:
    return jnp.argmax(linear.features(o) @ w, axis=1).astype(jnp.int32)


def delayed(optimizers: Any) -> gacf.Rule:
    actor = rules.player_step("actor", optimizers["actor"])
    return rules.sequence(rules.player_step("critic", optimizers["critic"]), rules.every(2, actor))


def in_pieces(optimizers: Any) -> gacf.Rule:
    return rules.minibatches(rules.simultaneous(optimizers), epochs=3, count=2)


def fit(optimizers: Any) -> gacf.Rule:
    return rules.alternating(optimizers, steps={"critic": 10, "actor": 5})


def model(env: envs.Environment) -> Any:
    (size,) = env.observation.shape  # type: ignore[union-attr]
    return linear.model(size)


DETERMINISTIC, RANDOM = linear.actor(0.0), linear.actor(0.0, -1.0)
Q, V = linear.of_actions(), linear.of_states()
CASES = {
    "ddpg": Case(lambda e: gacf.ddpg(e, DETERMINISTIC, Q, exploration=0.3, **OFF), q, squashed),
    "td3": Case(
        lambda e: gacf.td3(e, DETERMINISTIC, Q, exploration=0.3, **TWO_STEPS), first, squashed,
        delayed,
    ),
    "sac": Case(
        lambda e: gacf.sac(e, RANDOM, Q, temperature=0.01, learn_temperature=False, **OFF),
        first, squashed,
    ),
    "svg(0)": Case(lambda e: gacf.svg(e, 0, RANDOM, Q, **OFF), q, squashed),
    "svg(1)": Case(
        lambda e: gacf.svg(e, 1, DETERMINISTIC, V, model(e), log_scale=-1.5, **ON), v, mean
    ),
    "svg(3), true": Case(
        lambda e: gacf.svg(e, 3, DETERMINISTIC, V, "true", log_scale=-1.5, **ON), v, mean
    ),
    "nfqca": Case(
        lambda e: gacf.nfqca(
            e, DETERMINISTIC, Q, discount=GAMMA, transitions=256, exploration=0.3,
            rollout=gacf.Rollout(num_envs=4, episodes=4),
        ),
        q, squashed, fit, 100,
    ),
    "dpg": Case(
        lambda e: gacf.dpg(e, DETERMINISTIC, V, exploration=0.1, **IN_TWOS), base, squashed
    ),
    "a2c": Case(
        lambda e: gacf.a2c(e, DETERMINISTIC, V, log_scale=-1.5, **IN_FOURS), v, mean
    ),
    "a2c, discrete": Case(
        lambda e: gacf.a2c(e, linear.actor(0.0, 0.0), V, **IN_FOURS), v, mode,
        actions="discrete",
    ),
    "ppo": Case(
        lambda e: gacf.ppo(e, DETERMINISTIC, V, log_scale=-1.5, **IN_FOURS), v, mean,
        in_pieces, 200,
    ),
    "ppo, discrete": Case(
        lambda e: gacf.ppo(e, linear.actor(0.0, 0.0), V, **IN_FOURS), v, mode,
        in_pieces, 200, actions="discrete",
    ),
    "natural": Case(
        lambda e: gacf.natural_actor_critic(e, DETERMINISTIC, V, log_scale=-1.0, **IN_FOURS),
        base, mean, rates=(1.0, 0.05), optimizer=optax.sgd,
    ),
    "natural, discrete": Case(
        lambda e: gacf.natural_actor_critic(e, linear.actor(0.0, 0.0), V, **IN_FOURS),
        base, mode, rates=(0.5, 0.05), optimizer=optax.sgd, actions="discrete",
    ),
}  # fmt: skip


def one_of(names: list[str], actions: str, which: jax.Array) -> envs.Environment:
    """The `which`-th of these probes, as one environment."""
    each = [envs.make(name, actions=actions) for name in names]

    def reset(key: jax.Array) -> Any:
        return jax.lax.switch(which, [env.reset for env in each], key)

    def step(key: jax.Array, state: Any, action: jax.Array) -> Any:
        return jax.lax.switch(which, [env.step for env in each], key, state, action)

    horizon = max(env.horizon for env in each)
    return each[0]._replace(name="probe", reset=reset, step=step, horizon=horizon)


def learned(case: Case, names: list[str]) -> Any:
    """For each probe: what is seen and done in the end, what the critic says of it; starts, the
    best actions there as the method believes, and what an evaluation earns.
    """

    def play(which: jax.Array) -> Any:
        env = one_of(names, case.actions, which)
        game = case.make(env)

        def optimizer(player: str) -> optax.GradientTransformation:
            actor = player == "actor"
            moves = {in_pieces: 6, fit: 5 if actor else 10}.get(case.rule, 1)
            falls = optax.linear_schedule(case.rates[0 if actor else 1], 0.0, case.steps * moves)
            return (case.optimizer if actor else optax.adam)(falls)

        algorithm = gacf.compose(game, case.rule({p: optimizer(p) for p in game.losses}))

        def step(state: Any, _: Any) -> Any:
            return algorithm.step(state)[0], None

        state, _ = jax.lax.scan(step, algorithm.init(jax.random.key(1)), length=case.steps)
        world = with_clock(state.world, state.step)
        batch = game.sample(world, jax.random.key(2))
        o, a = batch["observation"], batch["action"]
        said = case.value(state.params["critic"], o, a)
        earned = algorithm.evaluate(state)["return"]
        start = jax.vmap(env.reset)(jax.random.split(jax.random.key(3), 8))[1]
        return o, a, said, start, case.action(state.params["actor"], start), earned

    return jax.jit(jax.vmap(play))(jnp.arange(len(names)))


def check(case: Case, names: list[str]) -> None:
    for name, o, a, said, start, best, earned in zip(names, *learned(case, names), strict=True):
        known = probes.value(name, GAMMA, o)
        if case.value in (q, first):
            known = probes.action_value(name, GAMMA, o, a)
        worst = np.abs(np.asarray(said) - np.asarray(known)).max()
        assert worst < TOLERANCE, f"{name}: the critic is off by {worst}"
        goal = probes.best_action(name, start, case.actions)
        if goal is not None:
            miss = np.abs(np.asarray(best - goal, float)).max()
            assert miss < TOLERANCE, f"{name}: the actor is off by {miss}"
            assert float(earned) > 0.98, f"{name}: its actions earn {earned}"


# Of each kind of evidence and of improvement one; `make slow` takes the others.
FAST = ("td3", "sac", "svg(3), true", "dpg", "natural", "ppo, discrete")
slowly = pytest.mark.slow


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else slowly) for name in CASES]
)
def test_values_and_actions_are_learned(name):
    check(CASES[name], TOGETHER)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_credit_travels_back(name):
    check(CASES[name], ["probe-delayed"])
