"""The losses of games of more than two players, against formulas written out by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf.core.clock import with_clock
from gacf.methods import flows
from gacf.methods.gan import r1
from gacf.networks import MLP, model
from gacf.rules import field

KEY = jax.random.key(0)
X = np.random.RandomState(0).randn(12, 2).astype(np.float32)


def linear(size: int, scale: float = 0.5) -> Any:
    """A network of one matrix over the concatenation of its inputs."""

    def start(key: Any, *inputs: Any) -> jax.Array:
        return scale * jax.random.normal(key, (sum(x.shape[1] for x in inputs), size))

    return start, lambda w, *inputs: jnp.tanh(jnp.concatenate(inputs, 1) @ w)


def at(game: gacf.Game, key: Any = KEY) -> tuple[Any, Any, Any, Any]:
    """Params, batch, losses and gradients, as numbers."""

    @jax.jit
    def everything() -> Any:
        params, world = game.init(key)
        batch = game.sample(world, key)
        here = field(game, with_clock(world), batch, key)
        values = {p: here.loss(p, params[p], params)[0] for p in game.losses}
        return params, batch, values, {p: here.gradient(p, params)[0] for p in game.losses}

    return jax.tree.map(np.asarray, everything())


def wrong(v: Any, label: float) -> Any:
    """Cross-entropy of logits [B, 1]."""
    return np.mean(np.log1p(np.exp(v)) - label * v)


def through(w: Any, *inputs: Any) -> Any:
    return np.tanh(np.concatenate(inputs, 1) @ w)


@pytest.mark.long
def test_infogan_pays_the_actor_for_being_read() -> None:
    make = lambda weight: flows.infogan(linear(2), linear(1), linear(3), X, 3, weight, 2)  # noqa: E731
    (params, batch, told, _), (_, _, plain, _) = at(make(2.0)), at(make(0.0))
    code = batch["noise"][:, -3:]
    assert set(np.unique(code)) == {0.0, 1.0}
    logits = through(params["posterior"], through(params["actor"], batch["noise"]))
    lost = np.mean(np.log(np.exp(logits).sum(1)) - (logits * code).sum(1))
    assert told["posterior"] == pytest.approx(lost, rel=1e-5)
    assert told["actor"] - plain["actor"] == pytest.approx(2 * lost, rel=1e-4)


@pytest.mark.long
def test_bigan_tells_pairs_apart() -> None:
    params, batch, losses, _ = at(flows.bigan(linear(2), linear(3), linear(1), X, 3, 6))
    x, z = batch["real"], batch["noise"]
    real = through(params["critic"], x, through(params["encoder"], x))
    fake = through(params["critic"], through(params["actor"], z), z)
    assert losses["critic"] == pytest.approx(wrong(real, 1) + wrong(fake, 0), rel=1e-5)
    assert losses["encoder"] == pytest.approx(wrong(real, 0), rel=1e-5)
    assert losses["actor"] == pytest.approx(wrong(fake, 1), rel=1e-5)


@pytest.mark.slow
def test_bigan_inverts_in_the_plane() -> None:
    """A curved plane, where the critic can tell pairs: each network is the other's inverse."""
    u = np.random.RandomState(0).randn(6_000, 2).astype(np.float32)
    x = np.stack([u[:, 0], u[:, 1] + (u[:, 0] ** 2 - 1) / 2], 1)
    train, unseen = x[:4_000], x[4_000:]
    actor, encoder = (model(name, MLP((64, 64), (2,))) for name in ("actor", "encoder"))

    def evaluate(params: Any, world: Any, key: Any) -> Any:
        draw = lambda z: actor.apply(params["actor"], {}, z)[0]  # noqa: E731
        encode = lambda x: encoder.apply(params["encoder"], {}, x)[0]  # noqa: E731
        noise = jax.random.normal(key, (2_000, 2))
        return {
            "example": jnp.mean((draw(encode(unseen)) - unseen) ** 2) / np.var(unseen, 0).mean(),
            "code": jnp.mean((encode(draw(noise)) - noise) ** 2),
        }

    game = flows.bigan(actor, encoder, MLP((64, 64)), train, 2, penalty=r1(0.01), evaluate=evaluate)
    rate = optax.cosine_decay_schedule(1e-3, 4_000, 0.01)
    order = ("critic", "encoder", "actor")
    rule = gacf.rules.alternating({p: optax.adam(rate, b1=0.5) for p in order})
    _, found = gacf.run(gacf.compose(game, rule), KEY, 4_000, log_every=4_000, evaluate_every=4_000)
    # 1 is what a constant scores in either
    assert found["evaluate/example"][0, -1] < 0.3
    assert found["evaluate/code"][0, -1] < 0.3


@pytest.mark.long
def test_the_adversarial_autoencoder_is_judged_by_its_codes() -> None:
    game = flows.adversarial_autoencoder(linear(2), linear(3), linear(1), X, 3, 0.5, 6)
    params, batch, losses, _ = at(game)
    x = batch["real"]
    code = through(params["encoder"], x)
    real, fake = (through(params["critic"], c) for c in (batch["noise"], code))
    lost = np.mean(np.sum((x - through(params["actor"], code)) ** 2, 1))
    assert losses["critic"] == pytest.approx(wrong(real, 1) + wrong(fake, 0), rel=1e-5)
    assert losses["encoder"] == pytest.approx(lost + 0.5 * wrong(fake, 1), rel=1e-5)
    assert losses["actor"] == pytest.approx(lost, rel=1e-5)


@pytest.mark.long
def test_vae_gan_reconstructs_in_the_critics_features() -> None:
    game = flows.vae_gan(linear(2), linear(6), linear(5), X, 3, 2.0, 0.1, 6)
    params, batch, losses, _ = at(game)
    x = batch["real"]
    mean, log_scale = np.split(through(params["encoder"], x), 2, 1)
    code = mean + np.exp(log_scale) * batch["code_noise"]
    kl = np.mean(np.sum(np.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale, 1)) / 2
    drawn = through(params["actor"], np.concatenate([batch["noise"], code]))
    real, fake = through(params["critic"], x), through(params["critic"], drawn)
    lost = np.mean(np.sum((real[:, 1:] - fake[6:, 1:]) ** 2, 1)) / 2
    wanted = wrong(real[:, 0], 1) + wrong(fake[:, 0], 0)
    assert losses["critic"] == pytest.approx(wanted, rel=1e-5)
    assert losses["encoder"] == pytest.approx(0.1 * kl + lost, rel=1e-5)
    assert losses["actor"] == pytest.approx(2 * lost + wrong(fake[:, 0], 1), rel=1e-5)


@pytest.mark.long
def test_the_encoder_of_two_domains_reverses_the_critics_gradient() -> None:
    labels = np.arange(12) % 3

    def make(weight: Any) -> gacf.Game:
        return flows.domain_adversarial(linear(4), linear(3), linear(1), (X, labels), X + 1, weight)

    (params, batch, losses, full), (_, _, _, none) = at(make(0.5)), at(make(0.0))
    near, far = (through(params["encoder"], batch[name]) for name in ("source", "target"))
    told = wrong(through(params["critic"], near), 1) + wrong(through(params["critic"], far), 0)
    logits = through(params["posterior"], near)
    right = np.take_along_axis(logits, batch["label"][:, None], 1)[:, 0]
    lost = np.mean(np.log(np.exp(logits).sum(1)) - right)
    assert losses["critic"] == pytest.approx(told, rel=1e-5)
    assert losses["posterior"] == pytest.approx(lost, rel=1e-5)
    assert losses["encoder"] == pytest.approx(lost - 0.5 * told, rel=1e-5)
    assert np.abs(full["encoder"] - none["encoder"]).max() > 1e-3
    np.testing.assert_allclose(at(make(flows.ramp(10)))[3]["encoder"], none["encoder"], atol=1e-7)


def rollout(rewards: str) -> tuple[gacf.Game, dict[str, Any]]:
    env = gacf.envs.make("probe-match", actions="discrete")
    game = gacf.a2c(env, linear(2), linear(1), rollout=gacf.Rollout(2, 3, 2))
    names = ("observation", "action", "next_observation", "terminated")
    rows = (np.ones((4, 1)), np.ones(4, np.int32), np.ones((4, 1)), np.zeros(4, bool))
    expert: dict[str, Any] = dict(zip(names, rows, strict=True))
    if rewards == "gail":
        judge = (
            lambda key, s, a: jax.random.normal(key, (2,)),
            lambda w, s, a: s[:, 0] * w[0] + a * w[1],
        )
        return flows.gail(game, judge, expert, r1(0.1)), expert
    states = (lambda key, s: jax.random.normal(key, (1,)), lambda w, s: s @ w)
    chance = lambda params, world, s, a: jnp.full(a.shape, -0.7)  # noqa: E731
    return flows.airl(game, states, states, chance, expert, 0.9), expert


@pytest.mark.long
@pytest.mark.parametrize("rewards", ["gail", "airl"])
def test_the_discriminator_is_the_reward(rewards: str) -> None:
    game, expert = rollout(rewards)

    @jax.jit
    def paid() -> Any:
        params, world = game.init(KEY)
        world, _ = game.observe(params, with_clock(world), KEY)
        batch = game.sample(world, KEY)
        # the environment's own reward is not read
        other = {**batch, "reward": batch["reward"] + 5}
        both = [field(game, world, b, KEY) for b in (batch, other)]
        gradients = [f.gradient("actor", params)[0] for f in both]
        doubled = jax.tree.map(lambda w: 2 * w, params["discriminator"])
        moved = both[0].gradient("actor", {**params, "discriminator": doubled})[0]
        return (
            params,
            batch,
            both[0].loss("discriminator", params["discriminator"], params),
            (
                *gradients,
                moved,
            ),
        )

    params, batch, (loss, _), (here, other, moved) = jax.tree.map(np.asarray, paid())
    w = params["discriminator"]
    np.testing.assert_array_equal(here, other)
    assert np.abs(here - moved).max() > 1e-6
    if rewards == "gail":
        slope = w[0] ** 2 / 2 * 0.1  # actions are whole numbers
        logits = [b["observation"][:, 0] * w[0] + b["action"] * w[1] for b in (expert, batch)]
        assert loss - wrong(logits[0], 1) - wrong(logits[1], 0) == pytest.approx(slope, rel=1e-4)
    else:

        def logits_of(b: Any) -> Any:
            then = 0.9 * (1 - b["terminated"]) * (b["next_observation"] @ w["potential"])
            first = b["observation"] @ w["reward"] - b["observation"] @ w["potential"]
            return first + then + 0.7

        wanted = wrong(logits_of(batch["expert"]), 1) + wrong(logits_of(batch), 0)
        assert loss == pytest.approx(wanted, rel=1e-5)


def test_a_method_that_records_returns_cannot_be_paid_otherwise() -> None:
    env = gacf.envs.make("probe-match", actions="discrete")
    game = gacf.ppo(env, rollout=gacf.Rollout(num_envs=2, length=2))
    game = flows.rewarded(game, lambda p, w, b: b["return"])
    params, world = jax.eval_shape(game.init, KEY)
    batch = jax.eval_shape(game.sample, world, KEY)
    with pytest.raises(ValueError, match="records no `reward`"):
        jax.eval_shape(game.losses["actor"], params["actor"], params, world, batch, KEY)
