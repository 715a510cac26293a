# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Pure updates
#
# A game, its gradients and its update are plain functions here: call one, look at what comes back,
# call it again. This notebook goes from a game of two numbers to one seed of a GAN.

# %%
import os

import jax

# XLA gives each host device about one core, and reads this when it starts: so it comes first.
jax.config.update("jax_num_cpu_devices", os.cpu_count())

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import gacf
from gacf.methods.gan import generate, r1
from gacf.networks import MLP

# %% [markdown]
# ## A game is a dict of losses
#
# Each player minimises a loss of its own. Here the actor wants $xy$ small and the critic wants it
# large: the simplest game in which naive learning fails.

# %%
game = gacf.from_losses(
    {"actor": 1.0, "critic": 1.0},
    {
        "actor": lambda params, batch, key: params["actor"] * params["critic"],
        "critic": lambda params, batch, key: -params["actor"] * params["critic"],
    },
)

# %% [markdown]
# ## One update
#
# A **rule** says who moves when. `compose` makes three pure functions of a game and a rule:
# `init`, `step` and `evaluate`.

# %%
sgd = {"actor": optax.sgd(0.1), "critic": optax.sgd(0.1)}
algorithm = gacf.compose(game, gacf.rules.simultaneous(sgd))

state = algorithm.init(jax.random.key(0))
after, metrics = algorithm.step(state)
{player: (float(state.params[player]), float(after.params[player])) for player in game.losses}

# %% [markdown]
# ## Look at the gradients
#
# `rules.field` is the game at one batch and one key: a vector for each player, as a function of
# everybody's parameters.

# %%
field = gacf.rules.field(game, state.world, batch=(), key=jax.random.key(0))


def vector(z):
    params = {"actor": z[0], "critic": z[1]}
    return jnp.stack([field.gradient(player, params)[0] for player in ("actor", "critic")])


vector(jnp.array([1.0, 1.0]))

# %% [markdown]
# It can be differentiated again. The eigenvalues of its Jacobian are purely imaginary: following
# the gradients means going round in circles, not downhill.

# %%
np.linalg.eigvals(jax.jacobian(vector)(jnp.array([1.0, 1.0])))

# %% [markdown]
# ## Another rule is another argument
#
# The same game and the same steps of size 0.1, under three schedules. The arrows show which way
# small steps go.


# %%
def path(rule, steps=120):
    """Where the two players are after each step, [steps, 2]."""
    algorithm = gacf.compose(game, rule)

    def step(state, _):
        state, _ = algorithm.step(state)
        return state, jnp.stack([state.params["actor"], state.params["critic"]])

    return jax.lax.scan(step, algorithm.init(jax.random.key(0)), length=steps)[1]


rules = {
    "simultaneous": gacf.rules.simultaneous(sgd),
    "alternating": gacf.rules.alternating(sgd),
    "extragradient": gacf.rules.extragradient(sgd),
}
grid = jnp.stack(jnp.meshgrid(*2 * [jnp.linspace(-2.5, 2.5, 13)]), axis=-1)
arrows = -jax.vmap(jax.vmap(vector))(grid)

figure, ax = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
ax.quiver(*np.moveaxis(np.asarray(grid), -1, 0), *np.moveaxis(np.asarray(arrows), -1, 0), alpha=0.3)
for name, rule in rules.items():
    ax.plot(*np.asarray(path(rule)).T, label=name)
ax.plot(1, 1, "ko", markersize=4)
ax.set(xlabel="actor x", ylabel="critic y", aspect="equal")
ax.legend(fontsize=8, loc="lower right")
plt.show()

# %% [markdown]
# ## A GAN is a game too
#
# The actor draws points in the plane, the critic tells them from a ring of eight Gaussians. The
# batch that an update sees is a value as well.

# %%
ring = gacf.data.ring(scale=0.05)
generator = MLP((32, 32), (2,))
gan = gacf.gan(generator, MLP((32, 32)), ring, batch_size=64, noise=4, penalty=r1(0.1))

adam = {player: optax.adam(3e-3, b1=0.5) for player in gan.losses}
algorithm = gacf.compose(gan, gacf.rules.alternating(adam))
start = algorithm.init(jax.random.key(0))
batch = gan.sample(start.world, jax.random.key(1))
jax.tree.map(jnp.shape, batch)

# %% [markdown]
# Its one update: the critic moves first, then the actor on a fresh batch.

# %%
step = jax.jit(algorithm.step)
after, metrics = step(start)
{name: round(float(value), 3) for name, value in metrics.items()}

# %% [markdown]
# And its gradients, of the same shape as the parameters. Each player has a loss of its own, so no
# gradient ever leaks into the other.


# %%
@jax.jit
def gradient_norms(params):
    field = gacf.rules.field(gan, {}, batch, jax.random.key(2))
    return {p: optax.tree.norm(field.gradient(p, params)[0]) for p in gan.losses}


{player: float(norm) for player, norm in gradient_norms(start.params).items()}

# %% [markdown]
# ## Eight seeds, and one of them
#
# `run` trains many seeds at once; every leaf of the state has them as its leading axis.

# %%
state, metrics = gacf.run(algorithm, jax.random.key(0), steps=800, seeds=8, log_every=20)
jax.tree.map(jnp.shape, state.params["actor"]["Dense_0"]), metrics["critic/loss"].shape

# %% [markdown]
# `take_seed` takes one out. It is a state like any other, and the same `step` goes on with it.

# %%
one = gacf.take_seed(state, 3)
later, _ = jax.jit(lambda s: jax.lax.scan(lambda s, _: algorithm.step(s), s, length=800))(one)
int(one.step), int(later.step)

# %% [markdown]
# What seed 3 draws at the start, when it was taken out, and 800 steps of its own later.

# %%
first = algorithm.init(jax.random.fold_in(jax.random.key(0), 3))
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.6), layout="constrained")
for ax, shown in zip(axes, (first, one, later), strict=True):
    made = generate(generator, shown.params, shown.world, jax.random.key(4), 500, noise=4)
    ax.scatter(*np.asarray(made).T, s=3, alpha=0.5)
    ax.scatter(*np.asarray(ring.means).T, s=80, facecolors="none", edgecolors="tab:red")
    ax.set(title=f"step {int(shown.step)}", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
plt.show()
