"""A GAN and DDPG written by hand for speed, without gacf.

Each is one pure `update(state, draws)`; `train` scans it. Its randomness comes from keys, so
that a check can pass in the draws of another implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Layers = list[tuple[jax.Array, jax.Array]]

adam = optax.adam(1e-3)


def mlp(layers: Layers, x: jax.Array) -> jax.Array:
    for w, b in layers[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = layers[-1]
    return x @ w + b


def descend(loss: Callable[[Layers], jax.Array], layers: Layers, memory: Any) -> Any:
    value, gradient = jax.value_and_grad(loss)(layers)
    change, memory = adam.update(gradient, memory)
    return optax.apply_updates(layers, change), memory, value


class Gan(NamedTuple):
    generator: Layers
    discriminator: Layers
    generator_adam: Any
    discriminator_adam: Any
    key: jax.Array


class GanDraws(NamedTuple):
    real: jax.Array
    noise: jax.Array
    noise_again: jax.Array


ANGLES = 2 * np.pi * np.arange(8) / 8
MODES = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1).astype(np.float32)


def ring(key: jax.Array, n: int) -> jax.Array:
    mode_key, noise_key = jax.random.split(key)
    mode = jax.random.randint(mode_key, (n,), 0, 8)
    return jnp.asarray(MODES)[mode] + 0.01 * jax.random.normal(noise_key, (n, 2))


def gan_update(state: Gan, draws: GanDraws, batch: int, noise: int) -> tuple[Gan, Any]:
    real = ring(draws.real, batch)
    fake = mlp(state.generator, jax.random.normal(draws.noise, (batch, noise)))

    def discriminator_loss(d: Layers) -> jax.Array:
        on_real, on_fake = mlp(d, real)[:, 0], mlp(d, fake)[:, 0]
        return jnp.mean(jax.nn.softplus(-on_real)) + jnp.mean(jax.nn.softplus(on_fake))

    d, d_adam, d_loss = descend(discriminator_loss, state.discriminator, state.discriminator_adam)
    z = jax.random.normal(draws.noise_again, (batch, noise))

    def generator_loss(g: Layers) -> jax.Array:
        return jnp.mean(jax.nn.softplus(-mlp(d, mlp(g, z))[:, 0]))

    g, g_adam, g_loss = descend(generator_loss, state.generator, state.generator_adam)
    return Gan(g, d, g_adam, d_adam, state.key), (d_loss, g_loss)


def gan_step(state: Gan, batch: int, noise: int) -> tuple[Gan, Any]:
    key, *draws = jax.random.split(state.key, 4)
    return gan_update(state._replace(key=key), GanDraws(*draws), batch, noise)


class Ddpg(NamedTuple):
    actor: Layers
    critic: Layers
    actor_adam: Any
    critic_adam: Any
    slow_actor: Layers
    slow_critic: Layers
    buffer: jax.Array  # rows of observation, action, reward, terminated, next observation
    cursor: jax.Array
    size: jax.Array
    env: Any
    observation: jax.Array
    running: jax.Array
    finished: jax.Array
    key: jax.Array


class DdpgDraws(NamedTuple):
    noise: jax.Array
    env: jax.Array
    critic_batch: jax.Array
    actor_batch: jax.Array


def policy(layers: Layers, observation: jax.Array) -> jax.Array:
    return jnp.tanh(mlp(layers, observation))


def value_of(layers: Layers, observation: jax.Array, action: jax.Array) -> jax.Array:
    return mlp(layers, jnp.concatenate([observation, action], axis=-1))[:, 0]


def ddpg_update(
    state: Ddpg, draws: DdpgDraws, env_step: Callable[..., Any], batch: int
) -> tuple[Ddpg, Any]:
    action = policy(state.actor, state.observation[None])[0]
    action = jnp.clip(action + 0.1 * jax.random.normal(draws.noise, (1, 1))[0], -1, 1)
    observation, env, reward, terminated, truncated, info = env_step(
        draws.env, state.env, 2 * action
    )
    row = (
        state.observation,
        action,
        reward[None],
        terminated[None].astype(jnp.float32),
        info["final_observation"],
    )
    # One array of rows: with one array per column, XLA copies some of them at each write.
    buffer = state.buffer.at[state.cursor].set(jnp.concatenate(row))
    capacity = buffer.shape[0]
    size = jnp.minimum(state.size + 1, capacity)
    done = terminated | truncated
    running = state.running + reward

    def drawn(key: jax.Array) -> list[jax.Array]:
        index = jax.random.randint(key, (batch,), 0, size)
        rows = buffer.at[index].get(mode="promise_in_bounds")
        return jnp.split(rows, (3, 4, 5, 6), axis=-1)

    observations, actions, rewards, terminal, then = drawn(draws.critic_batch)
    future = value_of(state.slow_critic, then, policy(state.slow_actor, then))
    target = rewards[:, 0] + 0.99 * (1 - terminal[:, 0]) * future

    def critic_loss(c: Layers) -> jax.Array:
        return jnp.mean(jnp.square(value_of(c, observations, actions) - target) / 2)

    critic, critic_adam, critic_value = descend(critic_loss, state.critic, state.critic_adam)
    fresh = drawn(draws.actor_batch)[0]

    def actor_loss(a: Layers) -> jax.Array:
        return -jnp.mean(value_of(critic, fresh, policy(a, fresh)))

    actor, actor_adam, actor_value = descend(actor_loss, state.actor, state.actor_adam)

    def follow(slow: jax.Array, live: jax.Array) -> jax.Array:
        return slow + 0.005 * (live - slow)

    return Ddpg(
        actor,
        critic,
        actor_adam,
        critic_adam,
        jax.tree.map(follow, state.slow_actor, actor),
        jax.tree.map(follow, state.slow_critic, critic),
        buffer,
        (state.cursor + 1) % capacity,
        size,
        env,
        observation,
        jnp.where(done, 0, running),
        jnp.where(done, running, state.finished),
        state.key,
    ), (critic_value, actor_value, state.finished)


def ddpg_step(state: Ddpg, env_step: Callable[..., Any], batch: int) -> tuple[Ddpg, Any]:
    key, *draws = jax.random.split(state.key, 5)
    return ddpg_update(state._replace(key=key), DdpgDraws(*draws), env_step, batch)


def pendulum_step() -> Callable[..., Any]:
    import gymnax

    with jax.ensure_compile_time_eval():
        env, params = gymnax.make("Pendulum-v1")

    def step(key: jax.Array, state: Any, action: jax.Array) -> Any:
        old = state
        observation, state, *rest = env.step(key, state, action, params)
        state = jax.tree.map(lambda new, was: jnp.asarray(new, was.dtype), state, old)
        return observation, state, *rest

    return step


def train(step: Callable[[Any], tuple[Any, Any]], steps: int, map: str) -> Callable[[Any], Any]:
    """The whole run as one function of states with a leading seed axis, for `jax.jit`.

    map: `vmap`, `loop` or `loop4` (four seeds batched at a time); `sharded-…` over all devices.
    """

    def one(state: Any) -> tuple[Any, Any]:
        return jax.lax.scan(lambda s, _: step(s), state, length=steps)

    kind = map.removeprefix("sharded-")
    size = int(kind.removeprefix("loop") or 1) if kind != "vmap" else None

    def all_(states: Any) -> tuple[Any, Any]:
        if size is None:
            return jax.vmap(one)(states)
        return jax.lax.map(one, states, batch_size=None if size == 1 else size)

    if not map.startswith("sharded-"):
        return all_
    split = PartitionSpec("seed")
    return jax.shard_map(all_, mesh=mesh(), in_specs=split, out_specs=split, check_vma=False)


def mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("seed",))


def placed(states: Any, map: str) -> Any:
    """The states on the devices where `train` expects them."""
    if not map.startswith("sharded-"):
        return states
    return jax.device_put(states, NamedSharding(mesh(), PartitionSpec("seed")))
