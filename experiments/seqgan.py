"""SeqGAN on sequences of a random oracle, next to maximum likelihood alone.

    gacf run experiments/seqgan.py

The oracle is an LSTM with weights from N(0, 1), the same in every run, as in Yu et al. 2017 but
with a small vocabulary. All figures are in nats per token. `oracle_nll` is that of the actor's
sequences under the oracle, and measures quality alone. `held_out_nll` is that of the oracle's
held-out sequences under the actor, and measures diversity too. `oracle_entropy` is the oracle's on
its own sequences, which is what a perfect actor scores in both. Both cells begin with `pretrain`
steps of maximum likelihood; the cell `maximum likelihood` continues with it. Expected results and
cost: docs/information_flow.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import gacf
from gacf.methods.flows import SequenceCritic, log_likelihood, lstm, seqgan, speak

KEY_METRIC = "evaluate/oracle_nll"
GOAL = "min"
METRICS = [KEY_METRIC, "evaluate/held_out_nll", "evaluate/oracle_entropy"]
ORACLE = 0  # key of the oracle and of its sequences


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 700,
            "log_every": 20,
            "evaluate_every": 100,
            "pretrain": 600,
            "vocabulary": 50,
            "length": 10,
            "width": 32,
            "sequences": 10_000,
            "batch_size": 64,
            "rollouts": 2,
            "filters": 32,
            "imitation_rate": 1e-2,
            "learning_rate": 3e-3,
            "critic_rate": 1e-3,
            "critic_steps": 3,
            "samples": 1_000,
        }
    )


def build(config: ConfigDict) -> dict[str, gacf.Algorithm]:
    oracle = lstm(config.vocabulary, config.width, 1.0)
    oracle_key, noise_key = jax.random.split(jax.random.key(ORACLE))
    truth = oracle.init(oracle_key)
    n, shape = config.sequences, (config.length, config.vocabulary)
    drawn = speak(oracle, truth, jax.random.gumbel(noise_key, (n + config.samples, *shape)))
    actor = lstm(config.vocabulary, config.width)

    def evaluate(params: Any, world: Any, key: jax.Array) -> dict[str, jax.Array]:
        noise = jax.random.gumbel(key, (config.samples, *shape))
        sequences = speak(actor, params["actor"], noise)
        return {
            "oracle_nll": -jnp.mean(log_likelihood(oracle, truth, sequences)),
            "held_out_nll": -jnp.mean(log_likelihood(actor, params["actor"], drawn[n:])),
            "oracle_entropy": -jnp.mean(log_likelihood(oracle, truth, drawn[n:])),
        }

    def play(pretrain: int, *players: str) -> gacf.Algorithm:
        critic = SequenceCritic(config.vocabulary, config.filters)
        game = seqgan(
            actor, critic, drawn[:n], config.rollouts, pretrain,
            batch_size=config.batch_size, evaluate=evaluate,
        )  # fmt: skip
        rate = optax.piecewise_constant_schedule(
            config.imitation_rate, {pretrain: config.learning_rate / config.imitation_rate}
        )
        optimizers = {"critic": optax.adam(config.critic_rate), "actor": optax.adam(rate)}
        moved = {player: optimizers[player] for player in players}
        steps = {"critic": config.critic_steps} if "critic" in moved else {}
        still = tuple(player for player in game.losses if player not in moved)
        return gacf.compose(game, gacf.rules.alternating(moved, steps=steps), still=still)

    return {
        "SeqGAN": play(config.pretrain, "critic", "actor"),
        "maximum likelihood": play(config.steps, "actor"),
    }
