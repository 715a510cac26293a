"""A GAN is an actor-critic method: the paper's theorem, and what breaks without its assumptions.

    gacf run experiments/equivalence.py

The rows are Goodfellow's algorithm written out by hand; the same GAN as an actor-critic method in
the decision process of Pfau & Vinyals (2016), in which the environment shows both images, or tosses
the paper's coin between them; and then the paper's assumptions removed one at a time. The columns:

    distance          ‖θ − θ_textbook‖ / ‖θ_textbook‖ at the end, both players together
    actor_cosine      between the expected first gradients of the row's actor and the textbook's
    actor_ratio       ⟨row, textbook⟩ / ‖textbook‖² of the same two: 1 is equal, ½ the coin's factor
    critic_cosine, critic_ratio     the same for the critics
    modes, high_quality             of 2,500 samples on the ring of 8 Gaussians
    blind_quality     high quality when the actor sees noise instead of the state

Expected: the distance of the second row is rounding, 1e-14; the coin's ratios are ½; each later row
departs from the textbook's path. Cost: minutes on 2 cores, in float64.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import gacf
from gacf.methods.actor_critic import DIVERGENCES, Source, identity, pathwise, reward_target
from gacf.networks import MLP, model

KEY_METRIC = "evaluate/modes"
GOAL = "max"
METRICS = [
    "final/distance",
    "final/actor_cosine",
    "final/actor_ratio",
    "final/critic_cosine",
    "final/critic_ratio",
    "evaluate/modes",
    "evaluate/high_quality",
    "evaluate/blind_quality",
]


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 8,
            "seed": 0,
            "steps": 3_000,
            "log_every": 100,
            "evaluate_every": 1_000,
            "checkpoint_every": 1_000,
            "map": "auto",
            "x64": True,
            "batch_size": 128,
            "noise": 4,
            "gradient_batches": 1_000,
            "actor": {"hidden": (64, 64), "learning_rate": 1e-3},
            "critic": {"hidden": (64, 64), "learning_rate": 1e-3},
        }
    )


def networks(config):
    dtype = jnp.result_type(float)
    return (
        MLP(config.actor.hidden, (2,), param_dtype=dtype),
        MLP(config.critic.hidden, param_dtype=dtype),
    )


def adams(config):
    return {p: optax.adam(config[p].learning_rate, b1=0.5) for p in ("actor", "critic")}


def draw(config, key):
    """The random numbers of one move, the same in all rows."""
    real_key, noise_key, coin_key = jax.random.split(key, 3)
    return {
        "real": gacf.data.ring().sample(real_key, config.batch_size).astype(float),
        "noise": jax.random.normal(noise_key, (config.batch_size, config.noise)),
        "coin": jax.random.bernoulli(coin_key, 0.5, (config.batch_size, 1)),
    }


def quality(act, key):
    """`act(noise_key, state) -> samples`, scored with real states and with meaningless ones."""
    ring = gacf.data.ring()
    key, state_key, blind_key = jax.random.split(key, 3)
    state = ring.sample(state_key, 2_500)
    metrics = gacf.metrics.modes(act(key, state), ring.means, ring.scale)
    blind = act(key, jax.random.normal(blind_key, state.shape))
    blind_quality = gacf.metrics.modes(blind, ring.means, ring.scale)["high_quality"]
    return {
        "modes": metrics["modes"],
        "high_quality": metrics["high_quality"],
        "blind_quality": blind_quality,
    }


def textbook(config):
    """Goodfellow et al. (2014), algorithm 1, by hand, without a game or a rule."""
    generator, discriminator = networks(config)
    adam = adams(config)

    def discriminator_loss(d, g, batch):
        fake = generator.apply({"params": g}, batch["noise"])
        log_d = jax.nn.log_sigmoid(discriminator.apply({"params": d}, batch["real"]))
        log_not_d = jax.nn.log_sigmoid(-discriminator.apply({"params": d}, fake))
        return -(log_d.mean() + log_not_d.mean())

    def generator_loss(g, d, batch):
        fake = generator.apply({"params": g}, batch["noise"])
        return -jax.nn.log_sigmoid(discriminator.apply({"params": d}, fake)).mean()

    def move(player, loss, params, other, opt_state, key):
        batch_key, _ = jax.random.split(key)
        value, gradient = jax.value_and_grad(loss)(params, other, draw(config, batch_key))
        change, opt_state = adam[player].update(gradient, opt_state, params)
        return optax.apply_updates(params, change), opt_state, value

    def init(key):
        """The initial state of the other rows, because only the steps are compared."""
        state = actor_critic_row(config)[0].init(key)
        return state._replace(opt_state={p: adam[p].init(state.params[p]) for p in adam})

    def step(state):
        key, _, update_key = jax.random.split(state.key, 3)
        first, second = jax.random.split(update_key)
        (g, d), moments = (state.params["actor"], state.params["critic"]), state.opt_state
        d, d_moments, d_loss = move("critic", discriminator_loss, d, g, moments["critic"], first)
        g, g_moments, g_loss = move("actor", generator_loss, g, d, moments["actor"], second)
        params, moments = {"actor": g, "critic": d}, {"actor": g_moments, "critic": d_moments}
        state = gacf.State(params, state.world, moments, key, state.step + 1)
        return state, {"critic/loss": d_loss, "actor/loss": g_loss}

    def evaluate(state):
        def act(key, states):
            noise = jax.random.normal(key, (len(states), config.noise))
            return generator.apply({"params": state.params["actor"]}, noise)

        return quality(act, jax.random.fold_in(state.key, 3))

    def gradients(params, batch):
        g, d = params["actor"], params["critic"]
        return {
            "actor": jax.grad(generator_loss)(g, d, batch),
            "critic": jax.grad(discriminator_loss)(d, g, batch),
        }

    return gacf.Algorithm(init, step, evaluate), gradients


def both(batch, action):
    return {"real": batch["real"], "fake": action}


def labels(batch):
    ones = jnp.ones(len(batch["real"]))
    return {"real": ones, "fake": 0 * ones}


def actor_critic_row(
    config,
    sees=lambda batch: batch["noise"],
    view=both,
    rewards=labels,
    divergence=DIVERGENCES["cross_entropy"],
    improve=None,
):
    """The decision process: blind actor, reward 1 for a real image, discount 0, cross-entropy."""
    generator, discriminator = networks(config)
    actor = model("actor", generator)

    def evaluate(params, world, key):
        def act(key, states):
            noise = jax.random.normal(key, (len(states), config.noise))
            inputs = sees({"noise": noise, "real": states})
            inputs = inputs if isinstance(inputs, tuple) else (inputs,)
            return actor.apply(params["actor"], world, *inputs)[0]

        return quality(act, key)

    game = gacf.actor_critic(
        actor,
        discriminator,
        source=Source(lambda key: {}, lambda world, key: draw(config, key), evaluate=evaluate),
        view=view,
        target=reward_target(rewards),
        divergence=divergence,
        improve=improve or pathwise(jax.nn.log_sigmoid, of=("fake",)),
        sees=sees,
    )
    algorithm = gacf.compose(game, gacf.rules.alternating(adams(config)))

    def gradients(params, batch):
        at = gacf.rules.field(game, {}, batch, jax.random.key(0))
        return {player: at.gradient(player, params)[0] for player in game.losses}

    return algorithm, gradients


def rows(config):
    """Row -> (algorithm, gradients of both players on one batch)."""
    row = functools.partial(actor_critic_row, config)
    return {
        "textbook GAN": textbook(config),
        "actor-critic": row(),
        "actor-critic, the paper's coin": row(
            view=lambda batch, action: {"shown": jnp.where(batch["coin"], batch["real"], action)},
            rewards=lambda batch: {"shown": batch["coin"][:, 0].astype(jnp.float32)},
            improve=pathwise(jax.nn.log_sigmoid),
        ),
        "actor sees the state": row(sees=lambda batch: (batch["noise"], batch["real"])),
        "squared Bellman error": row(
            divergence=DIVERGENCES["squared_error"], improve=pathwise(identity, of=("fake",))
        ),
        "actor moves at reward 1": row(
            # The verdict on the real image reaches the actor as if the image were its own.
            view=lambda batch, action: {
                "real": batch["real"] + (action - jax.lax.stop_gradient(action)),
                "fake": action,
            },
            improve=pathwise(jax.nn.log_sigmoid),
        ),
    }


def build(config):
    return {name: algorithm for name, (algorithm, _) in rows(config).items()}


def flat(tree):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def finish(config, finals):
    """Distances to the textbook's parameters, and expected first gradients against its own."""
    variants = rows(config)
    start = jax.vmap(variants["textbook GAN"][0].init)(
        jax.vmap(lambda i: jax.random.fold_in(jax.random.key(config.seed), i))(
            jnp.arange(config.seeds)
        )
    ).params

    def expected(gradients):
        def of_seed(params, key):
            def add(total, key):
                return jax.tree.map(jnp.add, total, gradients(params, draw(config, key))), None

            zero = jax.tree.map(jnp.zeros_like, params)
            return jax.lax.scan(add, zero, jax.random.split(key, config.gradient_batches))[0]

        keys = jax.random.split(jax.random.key(config.seed + 1), config.seeds)
        return jax.jit(jax.vmap(of_seed))(start, keys)

    reference = expected(variants["textbook GAN"][1])
    results = {}
    for name, (_, gradients) in variants.items():
        results[name] = {}
        if name == "actor sees the state":
            continue  # its actor has more inputs: there is nothing to compare with
        mine = expected(gradients)
        for player in ("actor", "critic"):
            a, b = jax.vmap(flat)(mine[player]), jax.vmap(flat)(reference[player])
            dot, norm = jnp.sum(a * b, axis=1), jnp.linalg.norm(b, axis=1)
            results[name][f"{player}_cosine"] = dot / norm / jnp.linalg.norm(a, axis=1)
            results[name][f"{player}_ratio"] = dot / norm**2
        a, b = (jax.vmap(flat)(finals[row].params) for row in (name, "textbook GAN"))
        results[name]["distance"] = jnp.linalg.norm(a - b, axis=1) / jnp.linalg.norm(b, axis=1)
    return results
