"""What the contract suite takes. One line enrols a rule, one line enrols a game."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

import gacf
from gacf import Game, Outcome, Rule, games, rules
from gacf.methods import flows
from gacf.methods.actor_critic import heads, ornstein_uhlenbeck
from gacf.methods.gan import pulling_away, r1, wgan_gp
from gacf.networks import MLP
from gacf.networks.images import Autoencoder
from tests.methods.actor_critic import linear

Optimizers = dict[str, optax.GradientTransformation]


class RuleCase(NamedTuple):
    """A rule for the suite.

    Attributes:
        make: `{player: optimiser} -> Rule`; the suite's games all have an `actor` and a `critic`.
        factor: step size η -> contraction of one period on the bilinear game F = xy, f = -xy under
            gradient steps, that is the spectral radius; None where no closed form is known.
        period: steps in one period.
        games: the toy games that it can play; None for all.
    """

    make: Callable[[Optimizers], Rule]
    factor: Callable[[float], float] | None = None
    period: int = 1
    games: tuple[str, ...] | None = None


class GameCase(NamedTuple):
    """A game for the suite.

    Attributes:
        make: `() -> Game`.
        optimizer: what its players move with.
        rtol: how near a vmapped step comes to a single one.
        rules: which of the suite's two rules play it; one is enough for what differs from
            another game in a part or two.
    """

    make: Callable[[], Game]
    optimizer: Callable[[], optax.GradientTransformation] = lambda: optax.sgd(0.1)
    rtol: float = 1e-5
    rules: tuple[str, ...] = ("simultaneous", "alternating")


def bilinear() -> Game:
    """F = xy, f = -xy."""
    return gacf.from_losses(
        {"actor": 1.0, "critic": 1.0},
        {
            "actor": lambda p, batch, key: p["actor"] * p["critic"],
            "critic": lambda p, batch, key: -p["actor"] * p["critic"],
        },
    )


def quadratic() -> Game:
    """General-sum, strongly monotone, parameters in a tree, noise in the batch."""
    coupling = jnp.asarray(np.linspace(-0.5, 0.5, 6).reshape(2, 3), jnp.float32)

    def actor(p: Any, batch: Any, key: Any) -> jax.Array:
        x, y = p["actor"]["x"], p["critic"]["y"]
        return jnp.sum(x**2) + x @ coupling @ y + p["actor"]["bias"] ** 2

    def critic(p: Any, batch: Any, key: Any) -> jax.Array:
        x, y = p["actor"]["x"], p["critic"]["y"]
        return jnp.sum((y - 0.01 * jnp.mean(batch, 0)) ** 2) - 0.5 * x @ coupling @ y

    def init(key: Any) -> Any:
        start = jax.random.uniform(key, (5,))
        return {"actor": {"x": start[:2], "bias": 1.0}, "critic": {"y": start[2:]}}

    return gacf.from_losses(
        init, {"actor": actor, "critic": critic}, lambda key: jax.random.uniform(key, (4, 3))
    )


def worldly() -> Game:
    """A world with an environment, a buffer, running statistics; metrics; three players."""

    def init(key: Any) -> Any:
        params = {"actor": 0.5, "critic": jnp.ones(2), "model": jnp.zeros(())}
        world = {
            "env": jax.random.uniform(key, (2,)),
            "buffer": {"rows": jnp.zeros((8, 2)), "count": 0},
            "stats": jnp.zeros(2),
        }
        return params, world

    def observe(params: Any, world: Any, key: Any) -> Any:
        env = 0.9 * world["env"] + params["actor"] * 0.1 + 0.1 * jax.random.uniform(key, (2,))
        count = world["buffer"]["count"]
        buffer = {"rows": world["buffer"]["rows"].at[count % 8].set(env), "count": count + 1}
        return {**world, "env": env, "buffer": buffer}, {"reward": jnp.sum(env), "seen": count + 1}

    def sample(world: Any, key: Any) -> Any:
        return world["buffer"]["rows"][jax.random.randint(key, (3,), 0, 8)]

    def actor(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        value = (own - jnp.mean(params["critic"])) ** 2 + 0.1 * own * world["step"] / 100
        return value, Outcome({"gap": jnp.abs(own)}, {})

    def critic(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        target = jnp.mean(batch, axis=0) + 0.5 * params["critic"] + params["actor"]
        stats = 0.9 * world["stats"] + 0.1 * jnp.mean(batch, axis=0)
        value = jnp.mean((own - target - stats) ** 2)
        return value, Outcome({"error": value, "right": value < 1}, {"stats": stats})

    def model(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        return (own - jnp.mean(batch)) ** 2, Outcome({}, {})

    def evaluate(params: Any, world: Any, key: Any) -> Any:
        return {"return": params["actor"] + jax.random.normal(key), "rows": jnp.zeros(3)}

    losses = {"actor": actor, "critic": critic, "model": model}
    return Game(losses, init, observe, sample, evaluate=evaluate)


def gan() -> Game:
    """Two small networks on a ring of Gaussians."""
    data = gacf.data.ring()
    return gacf.gan(MLP((4,), (2,)), MLP((4,)), data, batch_size=4, noise=2)


class Normalised(linen.Module):
    """A layer with batch normalisation, so that there are statistics in the world."""

    size: int

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(4)(x))
        return linen.Dense(self.size)(linen.tanh(x))


def gan_with_batch_norm() -> Game:
    data = np.random.RandomState(0).randn(32, 2).astype(np.float32)
    return gacf.gan(Normalised(2), Normalised(1), data, batch_size=4, noise=2)


class Crowd(linen.Module):
    """A critic of examples with labels that sees how alike they are."""

    @linen.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        x = jnp.concatenate([x, label[:, None].astype(x.dtype)], axis=-1)
        return linen.Dense(1)(gacf.stabilizers.MinibatchDiscrimination(2, 2)(linen.Dense(4)(x)))


class Labelled(linen.Module):
    """A critic of examples with labels that judges each by itself."""

    @linen.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        x = jnp.concatenate([x, label[:, None].astype(x.dtype)], axis=-1)
        return linen.Dense(1)(jnp.tanh(linen.Dense(4)(x)))


def gan_of_energies() -> Game:
    """With an autoencoder for a critic, and the pulling-away term."""
    critic, actor = Autoencoder((4, 2)), MLP((4,), (2,))
    game = gacf.gan(actor, critic, gacf.data.ring(), "energy_based", batch_size=4, noise=2)
    return pulling_away(
        game, actor, lambda params, x: critic.apply({"params": params}, x, method="encode")
    )


def bigan() -> Game:
    """Three players: whoever makes examples, whoever reads them, whoever tells the pairs apart."""
    data = np.random.RandomState(0).randn(12, 2).astype(np.float32)
    return flows.bigan(MLP((4,), (2,)), MLP((4,), (2,)), MLP((4,)), data, noise=2, batch_size=4)


def seqgan() -> Game:
    """Sequences of two tokens out of three, with a table for an actor."""
    table = flows.Autoregressive(
        init=lambda key: jax.random.normal(key, (3, 3)),
        start=lambda n: jnp.zeros((n, 0)),
        step=lambda params, memory, token: (memory, params[token]),
    )
    judge = (lambda key: jax.random.normal(key, (3, 3)), lambda w, y: 2 * w[y[:, 0], y[:, 1]])
    every = jnp.array(list(itertools.product(range(3), repeat=2)))
    return flows.seqgan(table, judge, every, batch_size=8)


def gan_with_options() -> Game:
    """With all that a GAN without labels can be told."""
    return gacf.gan(
        MLP((4,), (2,)), MLP((4,)), gacf.data.ring(), "least_squares", batch_size=4, noise=2,
        penalty=wgan_gp(0.1), real_term=True, pack=2,
        instance_noise=lambda step: 0.1 / (1 + step),
        transform_target=gacf.stabilizers.smooth(0.1, one_sided=True),
    )  # fmt: skip


def gan_with_labels(critic: Any, **options: Any) -> Game:
    """Relativistic, on examples with labels."""
    data = np.random.RandomState(0).randn(32, 2).astype(np.float32), np.arange(32) % 3
    actor = MLP((4,), (2,))
    return gacf.gan(actor, critic, data, "relativistic", batch_size=4, noise=2, **options)


FEW = gacf.Rollout(num_envs=2)
OFF: dict[str, Any] = {"rollout": gacf.Rollout(episodes=2), "replay": gacf.Replay(16, 4, 4)}
ON: dict[str, Any] = {"rollout": gacf.Rollout(num_envs=2, length=3, episodes=2)}
ACTOR, RANDOM = linear.actor(0.1), linear.actor(0.1, -1.0)
LOGITS = linear.actor(0.1, -0.1)
V, Q = linear.of_states(), linear.of_actions()


def td3() -> Game:
    """With all that an off-policy method can be told."""
    head = heads.quantile(3)
    return gacf.td3(
        "probe-delayed", ACTOR, MLP((), head.shape), divergence=head,
        exploration=ornstein_uhlenbeck(), replay=gacf.Replay(16, 4, 4, n_step=2),
        rollout=gacf.Rollout(episodes=2, normalize_observations=True),
    )  # fmt: skip


def ppo() -> Game:
    """With all that an on-policy method can be told; actions are discrete."""
    env = gacf.envs.make("probe-delayed", actions="discrete")
    return gacf.ppo(env, LOGITS, V, entropy=0.1, rollout=gacf.Rollout(2, 3, 2, True, True))


# Small enough to be compiled in a few seconds.
METHODS: dict[str, Callable[[], Game]] = {
    "sac": lambda: gacf.sac("probe-match", RANDOM, Q, **OFF),
    "svg(2)": lambda: gacf.svg("probe-match", 2, ACTOR, V, linear.model(1), rollout=FEW),
    "svg(2), true": lambda: gacf.svg("probe-delayed", 2, ACTOR, V, "true", rollout=FEW),
    "nfqca": lambda: gacf.nfqca("probe-match", ACTOR, Q, transitions=8, rollout=FEW),
    "dpg": lambda: gacf.dpg("probe-match", ACTOR, V, **ON),
    "a2c": lambda: gacf.a2c("probe-match", ACTOR, V, **ON),
    "ppo": ppo,
    "natural": lambda: gacf.natural_actor_critic("probe-match", ACTOR, V, **ON),
}

TOYS: dict[str, GameCase] = {
    "bilinear": GameCase(bilinear),
    "quadratic": GameCase(quadratic),
    "worldly": GameCase(worldly),
}

# Each of these is played under two rules, if it does not say otherwise.
GAMES: dict[str, GameCase] = {
    **TOYS,
    "dirac_gan": GameCase(games.dirac_gan),
    "lqr": GameCase(games.lqr, lambda: optax.sgd(1e-3)),
    "gan": GameCase(gan, lambda: optax.adam(1e-3), rtol=1e-4),
    "gan, batch norm": GameCase(gan_with_batch_norm, rtol=1e-4),
    "gan, options": GameCase(gan_with_options, rtol=1e-4, rules=("alternating",)),
    "gan, labels": GameCase(lambda: gan_with_labels(Crowd()), rtol=1e-4, rules=("alternating",)),
    # a penalty needs a critic that judges each example by itself
    "gan, labels and penalty": GameCase(
        lambda: gan_with_labels(Labelled(), penalty=r1(0.1)), rtol=1e-4, rules=("alternating",)
    ),
    "gan, energy": GameCase(gan_of_energies, rtol=1e-4, rules=("alternating",)),
    "bigan": GameCase(bigan, rtol=1e-4, rules=("alternating",)),
    "seqgan": GameCase(seqgan, rtol=1e-4, rules=("alternating",)),
    "td3": GameCase(td3, lambda: optax.adam(1e-3), rtol=1e-4),
    **{
        name: GameCase(make, lambda: optax.sgd(1e-2), rtol=1e-4, rules=("alternating",))
        for name, make in METHODS.items()
    },
}

# Each of these plays every toy game.
RULES: dict[str, RuleCase] = {
    "simultaneous": RuleCase(rules.simultaneous, lambda h: (1 + h**2) ** 0.5),
    "alternating": RuleCase(rules.alternating, lambda h: 1.0),
    "alternating-actor-first": RuleCase(
        lambda o: rules.alternating(o, order=["actor", *(p for p in o if p != "actor")]),
        lambda h: 1.0,
    ),
    # Two critic steps before each actor step: the same map with critic rate 2η.
    "alternating-2-1": RuleCase(lambda o: rules.alternating(o, steps={"critic": 2}), lambda h: 1.0),
    "delayed": RuleCase(
        lambda o: rules.sequence(
            rules.player_step("critic", o["critic"]),
            rules.every(2, rules.player_step("actor", o["actor"])),
        ),
        lambda h: 1.0,
        period=2,
    ),
    "critic-only": RuleCase(lambda o: rules.player_step("critic", o["critic"])),
    "repeated": RuleCase(
        lambda o: rules.repeat(rules.simultaneous(o), 3), lambda h: (1 + h**2) ** 1.5
    ),
    "extragradient": RuleCase(rules.extragradient, lambda h: (1 - h**2 + h**4) ** 0.5),
    "lookahead": RuleCase(
        lambda o: rules.lookahead(rules.simultaneous(o), period=6, rate=0.5),
        lambda h: abs(0.5 + 0.5 * (1 + 1j * h) ** 6),
        period=6,
    ),
    "competitive": RuleCase(lambda o: rules.competitive(dict.fromkeys(o, 0.1))),
    "follow_the_ridge": RuleCase(
        lambda o: rules.follow_the_ridge(o, damping=1.0), lambda h: (1 - h + h**2) ** 0.5
    ),
    **{
        name: RuleCase(lambda o, d=direction: rules.simultaneous(o, direction=d), factor)
        for name, direction, factor in [
            ("consensus", rules.consensus(0.5), lambda h: ((1 - h / 2) ** 2 + h**2) ** 0.5),
            ("symplectic", rules.symplectic(0.5), lambda h: ((1 - h / 2) ** 2 + h**2) ** 0.5),
            ("lola", rules.lola(0.4), lambda h: ((1 - 0.8 * h) ** 2 + h**2) ** 0.5),
            ("lola-taylor", rules.lola(0.4, False), lambda h: ((1 - 0.4 * h) ** 2 + h**2) ** 0.5),
            (
                "implicit",
                {"actor": rules.implicit("actor", "critic", damping=1.0)},
                lambda h: (1 - h + h**2) ** 0.5,
            ),
            ("unrolled", {"actor": rules.unrolled("actor", "critic", 2)}, None),
            ("single_loop", {"actor": rules.single_loop("actor", "critic")}, None),
            (
                "finite_difference",
                {"actor": rules.finite_difference("actor", "critic", 0.4)},
                lambda h: (1 - 0.8 * h + h**2) ** 0.5,
            ),
            # Every solver but `cg`, which "implicit" is.
            *(
                (
                    f"implicit-{solver}",
                    {"actor": rules.implicit("actor", "critic", solver, 4, damping=1.0)},
                    lambda h: (1 - h + h**2) ** 0.5,
                )
                for solver in ("gmres", "normal")
            ),
            # u = ½ (1 + ½ + ¼) F_y
            (
                "implicit-neumann",
                {"actor": rules.implicit("actor", "critic", "neumann", 3, 1.0, rate=0.5)},
                lambda h: (1 - 0.875 * h + h**2) ** 0.5,
            ),
            # The critic follows 0.4 y − x, and the leader responds by x / (0.4 + 0.6) to that.
            (
                "nested",
                rules.nested(
                    rules.implicit("actor", "critic", "gmres", 2, damping=0.6),
                    rules.lola(0.4, False),
                ),
                lambda h: ((1 - 0.7 * h) ** 2 + 0.91 * h**2) ** 0.5,
            ),
        ]
    },
}
