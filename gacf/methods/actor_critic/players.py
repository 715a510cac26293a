"""The actors and critics of the named methods: a user's networks, or the default ones."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from gacf.core.checks import require
from gacf.envs import Discrete, Environment, features
from gacf.methods.actor_critic.actions import action_box
from gacf.methods.actor_critic.heads import Head
from gacf.methods.actor_critic.normalize import standardised
from gacf.methods.actor_critic.policies import (
    SHARED_LOG_SCALES,
    Policy,
    categorical,
    gaussian,
    shared_scale,
    squashed_gaussian,
    yields,
)
from gacf.networks import MLP, Model, encoded, ensemble, model


def default_network(env: Environment, *settings: Any) -> Any:
    """An MLP with these settings that reads any kind of observations of the environment."""
    return encoded(features(env.observation), MLP(*settings))


def deterministic(env: Environment, network: Any) -> Model:
    """The model of an actor that yields actions: squashed by tanh where they are bounded."""
    shape, actions = action_box(env)
    chosen = default_network(env, (256, 256), shape) if network is None else network
    pi = yields(model("actor", chosen), *shape)
    return standardised(pi.then(jnp.tanh) if actions.bounded else pi)


def stochastic(env: Environment, network: Any) -> tuple[Model, Policy]:
    """The model and policy of an actor on a box: squashed where actions are bounded."""
    shape, actions = action_box(env)
    require("env", shape, lambda s: len(s) == 1, "actions that are vectors")
    policy = squashed_gaussian(shape[0]) if actions.bounded else gaussian(shape[0])
    chosen = default_network(env, (256, 256), (policy.width,)) if network is None else network
    return standardised(yields(model("actor", chosen), policy.width)), policy


def policy_of(env: Environment, network: Any, log_scale: float) -> tuple[Model, Policy]:
    """The model and policy of an actor: categorical, or Gaussian with one σ for all states."""
    if isinstance(env.action, Discrete):
        policy = categorical(env.action.n)
        default = default_network(env, (64, 64), (policy.width,), jnp.tanh)
        actor = model("actor", default if network is None else network)
        return standardised(yields(actor, policy.width)), policy
    require("env", env.action.shape, lambda s: len(s) == 1, "actions that are vectors")
    (size,) = env.action.shape
    default = default_network(env, (64, 64), (size,), jnp.tanh)
    mean = model("actor", default if network is None else network)
    policy = gaussian(size, SHARED_LOG_SCALES)
    return standardised(shared_scale(mean, size, log_scale)), policy


def q_network(env: Environment, network: Any, head: Head, members: int = 1) -> Model:
    """The model of a critic of actions, by default an ensemble of MLPs of 2 × 256."""
    if isinstance(network, Model):
        return network
    shape = head.shape[1:] if members > 1 else head.shape
    chosen = default_network(env, (256, 256), shape) if network is None else network
    return model("critic", ensemble(chosen, members))


def v_network(env: Environment, network: Any, head: Head) -> Model:
    """The model of a critic of states, by default an MLP of 2 × 64."""
    default = default_network(env, (64, 64), head.shape, jnp.tanh)
    return standardised(model("critic", default if network is None else network))
