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
# # Many seeds, many learning rates, one program
#
# One run of a GAN says little: the next seed may do something else. So seeds are an axis here, and
# so is any number that an algorithm is built from.

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
from gacf.lab.statistics import interval, iqm
from gacf.methods.gan import r1
from gacf.networks import MLP

# %% [markdown]
# ## From a number to an algorithm
#
# `build` takes the hyperparameters and returns the algorithm. The learning rate is traced, not
# baked in: one compiled program serves all of its values.

# %%
ring = gacf.data.ring(scale=0.05)


def build(hyper):
    game = gacf.gan(
        MLP((32,), (2,)),
        MLP((32,)),
        ring,
        batch_size=32,
        noise=4,
        penalty=r1(0.1),
        evaluate=lambda samples, key: gacf.metrics.modes(samples, ring.means, ring.scale),
        samples=500,
    )
    sgd = optax.sgd(hyper["learning_rate"])
    return gacf.compose(game, gacf.rules.alternating(dict.fromkeys(game.losses, sgd)))


# %% [markdown]
# ## One call
#
# Five learning rates × 64 seeds are 320 GANs. Every metric comes back as
# `[learning rates, seeds, times]`.

# %%
rates = jnp.array([0.01, 0.03, 0.1, 0.3, 3.0])
state, metrics = gacf.run(
    build,
    jax.random.key(0),
    steps=400,
    seeds=64,
    log_every=25,
    evaluate_every=25,
    hyper={"learning_rate": rates},
)
metrics["evaluate/modes"].shape

# %% [markdown]
# ## Which of them broke?
#
# `diverged` says whether a parameter was no finite number any more, or a parameter or loss beyond
# 1e15. A broken seed stays in its lane: nobody else notices. The largest rate breaks every seed,
# and we say so rather than average over it.

# %%
diverged = np.asarray(metrics["diverged"])
broken = diverged.mean(axis=1)
{
    f"{rate:g}": f"{share:.0%} of the seeds diverged"
    for rate, share in zip(rates, broken[:, -1], strict=True)
}

# %% [markdown]
# ## The interquartile mean and its interval
#
# The mean of the middle half of the seeds, with a 95 % bootstrap interval; single seeds faint.

# %%
steps = 25 * np.arange(1, 17)
modes = np.asarray(metrics["evaluate/modes"])

figure, axes = plt.subplots(
    1, len(rates), figsize=(10, 2.6), sharex=True, sharey=True, layout="constrained"
)
for i, (ax, rate) in enumerate(zip(axes, rates, strict=True)):
    kept = modes[i][~diverged[i, :, -1]]
    ax.set(title=f"learning rate {rate:g}", xlabel="step", ylim=(0, 8.3))
    if not len(kept):
        ax.text(0.5, 0.5, "all seeds\ndiverged", transform=ax.transAxes, ha="center", color="C3")
        continue
    low, high = interval(kept, axis=0)
    ax.plot(steps, kept[:20].T, color="C0", linewidth=0.5, alpha=0.2)
    ax.plot(steps, iqm(kept, axis=0), color="C0")
    ax.fill_between(steps, low, high, color="C0", alpha=0.3, linewidth=0)
axes[0].set_ylabel("modes of 8")
plt.show()

# %% [markdown]
# ## The answer, with its uncertainty
#
# The same numbers at the last step, and when the broken ones broke.

# %%
for i, rate in enumerate(rates):
    kept = modes[i, ~diverged[i, :, -1], -1]
    if len(kept):
        low, high = interval(kept)
        print(f"{rate:5g}: {iqm(kept):.2f} modes [{low:.2f}, {high:.2f}], {len(kept)} seeds")
    else:
        first = steps[diverged[i].argmax(axis=1)]
        print(f"{rate:5g}: diverged, all by step {first.max()}")

# %% [markdown]
# ## One of the 320
#
# A pair picks one out: learning rate 2, seed 5. Its state is one that `step` takes.

# %%
one = gacf.take_seed(state, (2, 5))
_, after = jax.jit(build({"learning_rate": rates[2]}).step)(one)
{name: round(float(value), 3) for name, value in after.items()}
