"""The measured updates: one GAN and one DDPG, in gacf and by hand, from the same states."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gacf
from benchmarks import handwritten as hand
from gacf.networks import MLP
from gacf.networks.images import DCGANCritic, DCGANGenerator
from gacf.runner import Program, on_one_device

KEY = jax.random.key(0)


class Subject(NamedTuple):
    """One update, twice.

    Attributes:
        algorithm: gacf's algorithm.
        convert: gacf `State` (of one seed, or batched) -> the hand-written state.
        step: the hand-written step, with keys of its own.
        update: the hand-written update with gacf's draws: `(state, gacf's state.key) -> state`.
        players: hand-written state -> what gacf calls `params`.
    """

    algorithm: gacf.Algorithm
    convert: Callable[[gacf.State], Any]
    step: Callable[[Any], tuple[Any, Any]]
    update: Callable[[Any, jax.Array], Any]
    players: Callable[[Any], dict[str, Any]]


def adam() -> dict[str, optax.GradientTransformation]:
    return {player: optax.adam(1e-3) for player in ("actor", "critic")}


def layers(params: Any) -> hand.Layers:
    """A Linen MLP's parameters as a list of (w, b)."""
    dense = params.get("params", params)
    return [(dense[f"Dense_{i}"]["kernel"], dense[f"Dense_{i}"]["bias"]) for i in range(len(dense))]


def moments(state: Any) -> Any:
    """optax.adam's state over Linen parameters as the one over layers."""
    first, *rest = state
    return (first._replace(mu=layers(first.mu), nu=layers(first.nu)), *rest)


def _keys(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """gacf's keys of one step: for observe, for the critic's batch and for the actor's."""
    _, observe, update = jax.random.split(key, 3)
    critic, actor = jax.random.split(update)
    return observe, jax.random.split(critic)[0], jax.random.split(actor)[0]


def gan(hidden: int = 128, batch: int = 256, noise: int = 16) -> Subject:
    """The MLP GAN on the ring of 8 Gaussians."""
    game = gacf.gan(
        MLP((hidden, hidden), (2,)),
        MLP((hidden, hidden)),
        gacf.data.ring(),
        batch_size=batch,
        noise=noise,
    )

    def convert(state: gacf.State) -> hand.Gan:
        return hand.Gan(
            layers(state.params["actor"]),
            layers(state.params["critic"]),
            moments(state.opt_state["actor"].optimizer),
            moments(state.opt_state["critic"].optimizer),
            state.key,
        )

    def update(state: hand.Gan, key: jax.Array) -> hand.Gan:
        _, critic, actor = _keys(key)
        real, first, _ = jax.random.split(critic, 3)
        draws = hand.GanDraws(real, first, jax.random.split(actor, 3)[1])
        return hand.gan_update(state, draws, batch, noise)[0]

    return Subject(
        gacf.compose(game, gacf.rules.alternating(adam())),
        convert,
        functools.partial(hand.gan_step, batch=batch, noise=noise),
        update,
        lambda state: {"actor": state.generator, "critic": state.discriminator},
    )


def ddpg(capacity: int = 100_000, batch: int = 256) -> Subject:
    """DDPG on Pendulum-v1, 2 × 256."""
    game = gacf.ddpg("Pendulum-v1", replay=gacf.Replay(capacity, batch))
    env_step = hand.pendulum_step()

    def rows(items: dict[str, jax.Array]) -> jax.Array:
        order = ("observation", "action", "reward", "terminated", "next_observation")
        lead = items["reward"].shape
        columns = [items[name].reshape(*lead, -1).astype(jnp.float32) for name in order]
        return jnp.concatenate(columns, axis=-1)

    def convert(state: gacf.State) -> hand.Ddpg:
        env, buffer, slow = (state.world[name] for name in ("env", "buffer", "slow"))
        one = state.key.ndim  # the axis of gacf's one environment
        inner, observation, running, finished = jax.tree.map(
            lambda x: jnp.squeeze(x, one),
            (env["state"], env["observation"], env["running"], env["finished"]),
        )
        return hand.Ddpg(
            layers(state.params["actor"]),
            layers(state.params["critic"]),
            moments(state.opt_state["actor"].optimizer),
            moments(state.opt_state["critic"].optimizer),
            layers(slow["actor"]),
            layers(slow["critic"]),
            rows(buffer.items),
            buffer.cursor,
            buffer.size,
            inner,
            observation,
            running,
            finished,
            state.key,
        )

    def update(state: hand.Ddpg, key: jax.Array) -> hand.Ddpg:
        observe, critic, actor = _keys(key)
        collect = jax.random.split(jax.random.split(observe)[0])[0]
        act, step = jax.random.split(collect)
        draws = hand.DdpgDraws(
            jax.random.split(act, 3)[0], jax.random.split(step, 1)[0], critic, actor
        )
        return hand.ddpg_update(state, draws, env_step, batch)[0]

    return Subject(
        gacf.compose(game, gacf.rules.alternating(adam())),
        convert,
        functools.partial(hand.ddpg_step, env_step=env_step, batch=batch),
        update,
        lambda state: {"actor": state.actor, "critic": state.critic},
    )


def dcgan(data: Any = None) -> gacf.Algorithm:
    """DCGAN on images of 28 × 28, by default noise, because their content does not matter here."""
    if data is None:
        data = np.random.RandomState(0).uniform(-1, 1, (512, 28, 28, 1)).astype(np.float32)
    game = gacf.gan(DCGANGenerator((28, 28, 1)), DCGANCritic(), data, batch_size=64)
    rule = gacf.rules.alternating({p: optax.adam(2e-4, b1=0.5) for p in game.losses})
    return gacf.compose(game, rule)


def bilinear() -> gacf.Algorithm:
    """A bilinear game, the smallest possible one."""
    game = gacf.from_losses(
        {"actor": 1.0, "critic": 1.0},
        {
            "actor": lambda p, batch, key: p["actor"] * p["critic"],
            "critic": lambda p, batch, key: -p["actor"] * p["critic"],
        },
    )
    return gacf.compose(game, gacf.rules.simultaneous({p: optax.sgd(0.1) for p in game.losses}))


def disagreement(subject: Subject, steps: int) -> float:
    """Largest |difference| of any parameter, over the largest |change|, after the same draws."""

    def both(carry: Any, _: None) -> tuple[Any, None]:
        state, mine = carry
        return (subject.algorithm.step(state)[0], subject.update(mine, state.key)), None

    @jax.jit
    def run(state: gacf.State) -> tuple[gacf.State, Any]:
        return jax.lax.scan(both, (state, subject.convert(state)), length=steps)[0]

    def furthest(a: Any, b: Any) -> float:
        return max(
            float(jnp.max(jnp.abs(x - y)))
            for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
        )

    start = jax.jit(subject.algorithm.init)(KEY)
    state, mine = run(start)
    before, after = ({player: layers(p) for player, p in s.params.items()} for s in (start, state))
    return furthest(after, subject.players(mine)) / furthest(after, before)


def flops(algorithm: gacf.Algorithm) -> float:
    """Floating-point operations of one step, as XLA counts them and `map="auto"` reads them."""
    state = jax.eval_shape(algorithm.init, KEY)
    return float((jax.jit(algorithm.step).lower(state).cost_analysis() or {}).get("flops", 0.0))


class Runner:
    """A gacf program as a call without arguments that continues where the last call ended.

    Args:
        algorithm: what to run.
        seeds: the number of seeds.
        map: the strategy.
        counts: the steps of each window of one call.
        start: a batched state, of which a copy is the start; by default a fresh one.
    """

    def __init__(
        self,
        algorithm: gacf.Algorithm,
        seeds: int,
        map: str,
        counts: list[int],
        start: gacf.State | None = None,
    ):
        begun = time.perf_counter()
        self.program = Program(algorithm, seeds, map=map)
        traced = time.perf_counter() - begun
        self.lanes = (
            self.program.init(KEY) if start is None else self.program.lanes_of(copied(start))
        )
        self.counts, self.due = counts, [False] * len(counts)
        self.program.compile(self.lanes, len(counts))
        self.compile_seconds = traced + self.program.compile_seconds

    def __call__(self) -> Any:
        self.lanes, metrics = self.program.advance(self.lanes, self.counts, self.due)
        return self.lanes.body, metrics


class HandRunner:
    """The same for the hand-written program, starting from a gacf state."""

    def __init__(self, subject: Subject, start: gacf.State, map: str, steps: int):
        self.state = hand.placed(copied(subject.convert(start)), map)
        begun = time.perf_counter()
        run = jax.jit(hand.train(subject.step, steps, map), donate_argnums=0)
        self.compiled = run.lower(self.state).compile()
        self.compile_seconds = time.perf_counter() - begun

    def __call__(self) -> Any:
        self.state, logged = self.compiled(self.state)
        return self.state, logged


def copied(tree: Any) -> Any:
    """A copy on the first device, because programs consume the buffers of their arguments."""
    return jax.device_put(jax.tree.map(jnp.copy, tree), on_one_device())


def initial(algorithm: gacf.Algorithm, seeds: int) -> gacf.State:
    """The batched state from which all sides of a comparison start."""
    program = Program(algorithm, seeds, map="vmap")
    return program.state_of(program.init(KEY))
