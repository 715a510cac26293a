"""Table 1 of Pfau & Vinyals (2016), filled in and measured: each strategy on either family.

    gacf sweep experiments/table1.py --workdir runs/table1                     # everything
    gacf sweep experiments/table1.py --workdir runs/ring --config.tasks=ring   # one piece of it
    gacf sweep experiments/table1.py --workdir runs/quick --config.quick=True
    gacf sweep experiments/table1.py --workdir runs/tune --config.tune=True --config.seed=1
    python experiments/table1.py runs/table1     # keeps what is finished in experiments/results
    python experiments/table1.py --tuned runs/tune     # the strengths that a small sweep chooses
    gacf report experiments/results              # the table, Markdown, LaTeX, a heat map
    python experiments/table1.py --document      # that, and the tables of docs/table1.md
    python experiments/table1.py --power         # which gains this many seeds would have found
    gacf run experiments/table1.py --config.task=ring --config.strategy=freezing

`task` is one of three GANs (ring, grid, digits) or three actor-critic tasks (pendulum and
mountain_car by DDPG, cart_pole by A2C), each with so few steps that the plain method has not solved
it yet. `strategy` is one of `STRATEGIES`, added alone to the plain method, or "none". A strategy
that a method has already (DDPG: replay, target networks) is measured by taking it away,
"without_…". `strength`: None takes the one in `CHOSEN`. Cost and results: docs/table1.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from flax import linen
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

import gacf
from gacf import metrics, rules, stabilizers
from gacf.core import Batch, Key, Outcome, Params, PyTree, World, lookup
from gacf.lab.report import Table, effects, iqm, markdown, power_of_pairs
from gacf.methods.actor_critic import (
    Source,
    actor_critic,
    cross_entropy,
    deterministic,
    make_head,
    ornstein_uhlenbeck,
    pathwise,
    policy_of,
    reward_target,
    squared_error,
    v_network,
)
from gacf.networks import MLP, column, model

KEY_METRIC = "evaluate/score"
GOAL = "max"
METRICS = ["evaluate/score"]
PLAIN = "none"
RESULTS = Path(__file__).parent / "results"


class Task(NamedTuple):
    """One task.

    Attributes:
        family: gan, ddpg or a2c.
        subject: the data or the environment.
        defaults: of the config's keys that were left at None.
        has: the strategies that the plain method has already.
    """

    family: str
    subject: str
    defaults: dict[str, Any]
    has: tuple[str, ...] = ()


GAN = {"steps": 2_000, "hidden": (64, 64), "batch_size": 64, "learning_rate": 1e-3}
DDPG = {"hidden": (32, 32), "batch_size": 64, "learning_rate": 1e-3, "num_envs": 4}
HABITS = ("target_networks", "replay_buffer")
TASKS = {
    "ring": Task("gan", "ring", {**GAN, "steps": 1_500}),
    "grid": Task("gan", "grid", {**GAN, "steps": 3_000}),
    "digits": Task("gan", "digits", GAN),
    "pendulum": Task("ddpg", "Pendulum-v1", {**DDPG, "steps": 1_500}, HABITS),
    "mountain_car": Task("ddpg", "MountainCarContinuous-v0", {**DDPG, "steps": 8_000}, HABITS),
    "cart_pole": Task(
        "a2c", "CartPole-v1",
        {"hidden": (64, 64), "batch_size": 128, "learning_rate": 1e-3, "num_envs": 16,
         "steps": 500},
    ),
}  # fmt: skip

# Strategy -> strengths that the small sweep tries; a single one where there is nothing to choose.
# For freezing it is the critic's loss below which the critic rests, for replay how many batches are
# remembered.
STRATEGIES: dict[str, tuple[float, ...]] = {
    "freezing": (0.9, 1.1, 1.25),
    "label_smoothing": (0.05, 0.1, 0.25),
    "historical_averaging": (1e-4, 1e-3, 1e-2),
    "minibatch_discrimination": (0.1, 0.3, 1.0),
    "batch_normalisation": (0.3, 1.0),
    "target_networks": (0.01, 0.1, 0.5),
    "replay_buffer": (4.0, 16.0, 64.0),
    "entropy_regularisation": (1e-3, 1e-2, 1e-1),
    "compatibility": (1.0,),
}
# The same for single tasks or families, whose losses and rewards have units of their own.
SPECIAL: dict[tuple[str, str], tuple[float, ...]] = {
    ("pendulum", "freezing"): (0.3, 1.0, 3.0),
    ("mountain_car", "freezing"): (0.01, 0.1, 1.0),
    ("cart_pole", "freezing"): (0.001, 0.003, 0.01),
    ("cart_pole", "replay_buffer"): (2.0, 4.0, 16.0),
    ("gan", "entropy_regularisation"): (0.01, 0.1, 0.5),
    ("pendulum", "entropy_regularisation"): (1e-4, 1e-3, 1e-2),
}
WITHOUT = "without_"
# Chosen by the sweep with --config.tune=True --config.seed=1.
CHOSEN: dict[tuple[str, str], float] = {
    ("cart_pole", "batch_normalisation"): 1.0,
    ("cart_pole", "entropy_regularisation"): 0.01,
    ("cart_pole", "freezing"): 0.01,
    ("cart_pole", "historical_averaging"): 0.01,
    ("cart_pole", "label_smoothing"): 0.05,
    ("cart_pole", "minibatch_discrimination"): 0.1,
    ("cart_pole", "replay_buffer"): 16.0,
    ("cart_pole", "target_networks"): 0.5,
    ("digits", "batch_normalisation"): 0.3,
    ("digits", "entropy_regularisation"): 0.01,
    ("digits", "freezing"): 0.9,
    ("digits", "historical_averaging"): 0.001,
    ("digits", "label_smoothing"): 0.1,
    ("digits", "minibatch_discrimination"): 0.1,
    ("digits", "replay_buffer"): 4.0,
    ("digits", "target_networks"): 0.5,
    ("grid", "batch_normalisation"): 0.3,
    ("grid", "entropy_regularisation"): 0.01,
    ("grid", "freezing"): 0.9,
    ("grid", "historical_averaging"): 0.001,
    ("grid", "label_smoothing"): 0.05,
    ("grid", "minibatch_discrimination"): 0.3,
    ("grid", "replay_buffer"): 4.0,
    ("grid", "target_networks"): 0.5,
    ("mountain_car", "batch_normalisation"): 1.0,
    ("mountain_car", "entropy_regularisation"): 0.001,
    ("mountain_car", "freezing"): 0.01,
    ("mountain_car", "historical_averaging"): 0.001,
    ("mountain_car", "label_smoothing"): 0.05,
    ("mountain_car", "minibatch_discrimination"): 1.0,
    ("pendulum", "batch_normalisation"): 0.3,
    ("pendulum", "entropy_regularisation"): 0.001,
    ("pendulum", "freezing"): 0.3,
    ("pendulum", "historical_averaging"): 0.01,
    ("pendulum", "label_smoothing"): 0.1,
    ("pendulum", "minibatch_discrimination"): 0.3,
    ("ring", "batch_normalisation"): 0.3,
    ("ring", "entropy_regularisation"): 0.01,
    ("ring", "freezing"): 1.1,
    ("ring", "historical_averaging"): 0.001,
    ("ring", "label_smoothing"): 0.05,
    ("ring", "minibatch_discrimination"): 0.1,
    ("ring", "replay_buffer"): 64.0,
    ("ring", "target_networks"): 0.5,
}
# The combinations that are impossible, and why.
IMPOSSIBLE: dict[tuple[str, str], str] = {}


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": placeholder(int),
            "seed": 0,
            "steps": placeholder(int),
            "map": "auto",
            "task": "ring",
            "strategy": PLAIN,
            "strength": placeholder(float),
            "tasks": "all",
            "strategies": "all",
            "quick": False,
            "tune": False,
            "hidden": placeholder(tuple),
            "batch_size": placeholder(int),
            "learning_rate": placeholder(float),
            "num_envs": placeholder(int),
            "warmup": 500,
            "target_rate": 0.01,
            "capacity": 100_000,
            "episodes": 50,
        }
    )


QUICK = ("ring", "pendulum")


def complete(config: Any) -> None:
    task = lookup("task", config.task, TASKS)
    for key, value in {"num_envs": 1, **task.defaults}.items():
        if config[key] is None:
            shorter = config.quick and key == "steps"
            config[key] = value // 10 if shorter else value
    if config.seeds is None:
        config.seeds = 4 if config.quick else 8 if config.tune else 32
    if config.strength is None:
        config.strength = strength_of(config.task, config.strategy)
    if config.evaluate_every is None and config.log_every is None:
        config.log_every = max(1, config.steps // 10)


def strength_of(task: str, strategy: str) -> float:
    """The strength of the added strategy; 0 if none is added."""
    if strategy not in STRATEGIES:
        return 0.0
    strengths = tried(task, strategy)
    return CHOSEN.get((task, strategy), strengths[len(strengths) // 2])


def tried(task: str, strategy: str) -> tuple[float, ...]:
    """The strengths that the small sweep chooses from."""
    family = SPECIAL.get((TASKS[task].family, strategy), STRATEGIES[strategy])
    return SPECIAL.get((task, strategy), family)


def arms(task: str) -> list[str]:
    """The plain method, and everything it is compared with."""
    has = TASKS[task].has
    return [PLAIN] + [
        WITHOUT + name if name in has else name
        for name in STRATEGIES
        if (task, name) not in IMPOSSIBLE
    ]


def get_sweep(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """All strategies on all tasks, or with `tune` all strengths of each."""
    tasks = named("tasks", config.tasks, QUICK if config.quick else tuple(TASKS))
    strategies = named("strategies", config.strategies, (PLAIN, *STRATEGIES))
    rows: dict[str, dict[str, Any]] = {}
    for task in tasks:
        for arm in arms(task):
            if arm.removeprefix(WITHOUT) not in strategies:
                continue
            row = {"task": task, "strategy": arm}
            strengths = tried(task, arm) if config.tune and arm in STRATEGIES else ()
            if len(strengths) > 1:
                rows |= {f"{task}-{arm}-{s:g}": {**row, "strength": s} for s in strengths}
            elif not config.tune or arm == PLAIN:
                rows[f"{task}-{arm}"] = row
    return rows


def named(key: str, text: str, every: tuple[str, ...]) -> tuple[str, ...]:
    """The names in a list separated by commas, or all of them for "all"."""
    if text == "all":
        return every
    for name in text.split(","):
        lookup(key, name, dict.fromkeys((*TASKS, PLAIN, *STRATEGIES)))
    return tuple(text.split(","))


class Judge(linen.Module):
    """A critic's MLP that may normalise its layers, and see how alike its batch is.

    Attributes:
        hidden: widths.
        norm: strength of batch normalisation, or None without it.
        crowd: strength of minibatch discrimination, or None without it.
        activation: between layers.
    """

    hidden: tuple[int, ...]
    norm: Any = None
    crowd: Any = None
    activation: Callable[[jax.Array], jax.Array] = linen.relu

    @linen.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        x = jnp.concatenate([i.reshape(i.shape[0], -1) for i in inputs], axis=-1)
        for width in self.hidden:
            x = linen.Dense(width)(x)
            if self.norm is not None:
                batch = linen.BatchNorm(use_running_average=not train, momentum=0.9)
                x = stabilizers.Normalised(batch, self.norm)(x)
            x = self.activation(x)
        if self.crowd is not None:
            x = stabilizers.MinibatchDiscrimination(4, 3, self.crowd)(x)
        return linen.Dense(1)(x)[:, 0]


def judge(config: ConfigDict, activation: Any = linen.relu) -> Judge:
    norm = config.strength if config.strategy == "batch_normalisation" else None
    crowd = config.strength if config.strategy == "minibatch_discrimination" else None
    return Judge(config.hidden, norm, crowd, activation)


def covered(mixture: gacf.data.Mixture, samples: jax.Array) -> jax.Array:
    """Σ_k min(p_k, 1/K), p_k the share of samples within 3 deviations of mean k: 1 is perfect."""
    square = jnp.sum(jnp.square(samples[:, None] - mixture.means[None]), axis=-1)
    near = jax.nn.one_hot(jnp.argmin(square, axis=-1), mixture.means.shape[0])
    good = jnp.min(square, axis=-1) <= (3 * mixture.scale) ** 2
    share = jnp.mean(near * good[:, None], axis=0)
    return jnp.sum(jnp.minimum(share, 1 / mixture.means.shape[0]))


def standard(mixture: gacf.data.Mixture) -> gacf.data.Mixture:
    """The mixture in units of the deviation of its means, its modes wider than the textbook's."""
    means = np.asarray(mixture.means)
    size = float(np.std(means))
    return gacf.data.Mixture(jnp.asarray(means / size), 3 * mixture.scale / size)


def gan(config: ConfigDict) -> gacf.Game:
    """A non-saturating GAN with its strategy; the score is coverage of modes or of digits."""
    subject = TASKS[config.task].subject
    if subject == "digits":
        data, shape, noise = gacf.data.digits("train")[0], (8, 8, 1), 16
        features = metrics.digits_classifier().features

        def score(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
            real = features(gacf.data.digits("test")[0])
            return {"score": metrics.prdc(real, features(samples))["coverage"]}

        samples = 898
    else:
        mixture = standard(gacf.data.ring() if subject == "ring" else gacf.data.grid())
        data, shape, noise, samples = mixture, (2,), 2, 2_500

        def score(samples: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
            return {"score": covered(mixture, samples)}

    smoothed = config.strategy == "label_smoothing"
    actor = model("actor", MLP(config.hidden, shape, last=jnp.tanh if len(shape) == 3 else None))
    amount = config.strength if smoothed else 0.0
    game = gacf.gan(
        actor, judge(config), data, batch_size=config.batch_size, noise=noise,
        transform_target=stabilizers.smooth(amount, one_sided=True),
        evaluate=score, samples=samples,
    )  # fmt: skip
    if config.strategy == "compatibility":
        return compatible_gan(config, actor, game)
    if config.strategy == "entropy_regularisation":
        return stabilizers.entropy(game, actor, lambda batch: batch["noise"], config.strength)
    if config.strategy == "target_networks":
        return stabilizers.target_networks(game, config.strength)
    if config.strategy == "replay_buffer":

        def own_samples(params: Params, world: World, batch: Batch, key: Key) -> PyTree:
            return actor.apply(params["actor"], world, batch["noise"], train=False)[0]

        return stabilizers.replay(
            game, int(config.strength) * config.batch_size, config.batch_size, record=own_samples,
            join=lambda fresh, stored: {**fresh, "action": stored},
        )  # fmt: skip
    return game


def compatible_gan(config: ConfigDict, actor: Any, game: gacf.Game) -> gacf.Game:
    """Real and fake examples are judged together with noise: D = ⟨x − A(z), ∇A(z) w⟩ + V(z)."""
    size = config.batch_size
    return actor_critic(
        actor,
        stabilizers.compatible(actor, MLP(config.hidden)),
        Source(lambda key: {}, game.sample, evaluate=game.evaluate),
        view=lambda batch, x: {
            "real": (batch["noise"], batch["real"]),
            "fake": (batch["noise"], x),
        },
        target=reward_target(lambda batch: {"real": jnp.ones(size), "fake": jnp.zeros(size)}),
        divergence=cross_entropy,
        improve=pathwise(jax.nn.log_sigmoid, of=("fake",)),
        sees=lambda batch: batch["noise"],
    )


def ddpg(config: ConfigDict) -> gacf.Game:
    """DDPG with its strategy, or without replay or target networks."""
    env = gacf.envs.make(TASKS[config.task].subject)
    actor = model("actor", MLP(config.hidden, env.action.shape))
    policy = deterministic(env, actor)
    critic: Any = judge(config)
    if config.strategy == "compatibility":
        critic = stabilizers.compatible(policy, MLP(config.hidden))
    stale = config.strategy != WITHOUT + "replay_buffer"
    slow = config.strategy != WITHOUT + "target_networks"
    amount = config.strength if config.strategy == "label_smoothing" else 0.0
    hill = config.task == "mountain_car"
    # Without them: only the present transitions, and only the latest copies.
    capacity = config.capacity if stale else config.num_envs
    game = gacf.ddpg(
        env, actor, critic, exploration=ornstein_uhlenbeck(0.5) if hill else 0.1,
        target_rate=config.target_rate if slow else 1.0,
        transform_target=stabilizers.smooth(amount, "mean"),
        rollout=gacf.Rollout(num_envs=config.num_envs, episodes=config.episodes),
        replay=gacf.Replay(capacity, config.batch_size, config.warmup),
    )  # fmt: skip
    if config.strategy == "entropy_regularisation":
        # A deterministic policy has no entropy: use that of its actions over a batch of states.
        return stabilizers.entropy(
            game, policy, lambda batch: batch["observation"], config.strength
        )
    return game


def a2c(config: ConfigDict) -> gacf.Game:
    """A2C with its strategy."""
    env = gacf.envs.make(TASKS[config.task].subject)
    actor = MLP(config.hidden, (env.action.n,), jnp.tanh)
    smooth = stabilizers.smooth(
        config.strength if config.strategy == "label_smoothing" else 0.0, "mean"
    )
    rollout = gacf.Rollout(
        num_envs=config.num_envs, length=config.batch_size // config.num_envs,
        episodes=config.episodes, normalize_observations=True, normalize_rewards=True,
    )  # fmt: skip
    if config.strategy == "compatibility":
        return compatible_a2c(env, actor, MLP(config.hidden, (), jnp.tanh), rollout)
    game = gacf.a2c(
        env, actor, judge(config, jnp.tanh),
        entropy=config.strength if config.strategy == "entropy_regularisation" else 0.0,
        divergence=lambda prediction, target: squared_error(prediction, smooth(target)),
        rollout=rollout,
    )  # fmt: skip
    if config.strategy == "target_networks":
        return stabilizers.target_networks(game, config.strength)
    if config.strategy == "replay_buffer":
        # Whole rows of time steps are replayed, because returns are computed along them.
        return stabilizers.replay(
            game, int(config.strength), 1,
            record=lambda params, world, batch, key: jax.tree.map(lambda x: x[None], batch),
            join=lambda fresh, stored: jax.tree.map(lambda x: x[0], stored),
        )  # fmt: skip
    return game


def compatible_a2c(env: Any, actor: Any, critic: Any, rollout: gacf.Rollout) -> gacf.Game:
    """The critic Q_w(s, a) = ⟨∇ log π(a|s), w⟩ + V(s) is fitted to returns; A = Q_w − V."""
    game = gacf.natural_actor_critic(env, actor, critic, rollout=rollout)
    pi, policy = policy_of(env, actor, 0.0)
    base = v_network(env, critic, make_head("squared_error"))
    q = stabilizers.compatible(pi, base, policy.log_prob)

    def loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        observation, action = batch["observation"], batch["action"]
        now, before = (
            pi.apply(theta, world, observation, key=key)[0] for theta in (own, params["actor"])
        )
        ratio = jnp.exp(policy.log_prob(now, action) - policy.log_prob(before, action))
        verdict, _ = q.given(params).apply(params["critic"], world, observation, action, key=key)
        value, _ = base.apply(params["critic"]["baseline"], world, observation, key=key)
        return -jnp.mean(ratio * (verdict - column(value))), Outcome({}, {})

    return game._replace(losses={**game.losses, "actor": loss})


FAMILIES: dict[str, Callable[[ConfigDict], gacf.Game]] = {"gan": gan, "ddpg": ddpg, "a2c": a2c}


def build(config: ConfigDict) -> gacf.Algorithm:
    task = lookup("task", config.task, TASKS)
    allowed = arms(config.task)
    lookup("strategy", config.strategy, dict.fromkeys(allowed))
    game = FAMILIES[task.family](config)
    if task.family != "gan":
        played = game.evaluate
        game = game._replace(
            evaluate=lambda params, world, key: {"score": played(params, world, key)["return"]}
        )
    return gacf.compose(game, rules.alternating({p: optimizer(config, p) for p in game.losses}))


def optimizer(config: ConfigDict, player: str) -> optax.GradientTransformation:
    gan = TASKS[config.task].family == "gan"
    adam = optax.adam(config.learning_rate, b1=0.5 if gan else 0.9)
    if config.strategy == "historical_averaging":
        return optax.chain(stabilizers.historical_averaging(config.strength), adam)
    if config.strategy == "freezing" and player == "critic":
        # A critic that is accurate enough waits for the actor.
        return stabilizers.freeze(adam, lambda step, metrics: metrics["loss"] < config.strength)
    return adam


def keep(directory: str) -> list[Path]:
    """Writes a sweep's finished pieces as tidy Parquet, one file per task, into `RESULTS`."""
    parts_of: dict[str, list[pd.DataFrame]] = {}
    for path in sorted(Path(directory).glob("*/summary.json")):
        config = json.loads((path.parent / "config.json").read_text())["config"]
        if config["tune"] or config["quick"]:
            continue
        (cell,) = json.loads(path.read_text())["cells"].values()
        scores = cell["metrics"][KEY_METRIC]["finals"]
        arm = config["strategy"]
        rows = pd.DataFrame(
            {
                "task": config["task"],
                "strategy": arm.removeprefix(WITHOUT),
                "used": not arm.startswith(WITHOUT) and arm != PLAIN,
                "strength": config["strength"],
                "seed": np.arange(len(scores), dtype=np.int32),
                "score": np.array([np.nan if s is None else s for s in scores], np.float32),
                "diverged": [str(i) in cell["diverged"] for i in range(len(scores))],
                "steps": config["steps"],
                "train_seconds": np.float32(cell["train_seconds"]),
            }
        )
        parts_of.setdefault(config["task"], []).append(rows)
    written = []
    RESULTS.mkdir(exist_ok=True)
    for task, parts in parts_of.items():
        path = RESULTS / f"{task}.parquet"
        new: Any = pd.concat(parts, ignore_index=True)
        if path.exists():
            old = pd.read_parquet(path)
            again = old["strategy"].isin(new["strategy"].unique())
            new = pd.concat([old[~again], new], ignore_index=True)
        new.sort_values(by=["strategy", "seed"]).to_parquet(path, index=False)
        written.append(path)
    text = {
        "tasks": list(TASKS),
        "strategies": list(STRATEGIES),
        "families": {
            "GAN": [t for t, task in TASKS.items() if task.family == "gan"],
            "actor-critic": [t for t, task in TASKS.items() if task.family != "gan"],
        },
        "impossible": {f"{t}/{s}": why for (t, s), why in IMPOSSIBLE.items()},
    }
    (RESULTS / "table.json").write_text(json.dumps(text, indent=2) + "\n")
    return written


def tuned(directory: str) -> dict[tuple[str, str], float]:
    """The strength with the best interquartile mean of each strategy on each task."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for path in sorted(Path(directory).glob("*/summary.json")):
        config = json.loads((path.parent / "config.json").read_text())["config"]
        (cell,) = json.loads(path.read_text())["cells"].values()
        scores = cell["metrics"][KEY_METRIC]["finals"]
        bad = cell["diverged"]
        sound = [s for i, s in enumerate(scores) if s is not None and str(i) not in bad]
        # A strength at which most seeds diverge is not a candidate.
        middle = float(iqm(sound)) if 2 * len(sound) > len(scores) else -np.inf
        key = (config["task"], config["strategy"])
        print(f"{path.parent.name}: {middle:.4g}, diverged {len(bad)}/{len(scores)}")
        if key[1] in STRATEGIES and middle > best.get(key, (-np.inf, 0.0))[0]:
            best[key] = (middle, config["strength"])
    return {key: strength for key, (_, strength) in best.items()}


# The best possible score of each task: no method is rewarded beyond it.
BEST = {"ring": 1.0, "grid": 1.0, "digits": 1.0, "pendulum": 0.0, "mountain_car": 100.0}
BEST |= {"cart_pole": 500.0}


def gains() -> str:
    """How often gains of several sizes would have been found, from the plain method's stored seeds.

    Gains are shares of the distance from the plain method's interquartile mean to the best score. A
    gain counts as found if p < 5 % after the strictest of Holm's corrections.
    """
    measured = effects.read(RESULTS)
    level = 0.05 / len(measured.cells)
    shares = (0.25, 0.5, 0.75, 1.0)
    heads = ["task", "plain", "best", *(f"{share:.0%} of the way" for share in shares)]
    rows = []
    for task in measured.tasks:
        stored = pd.read_parquet(RESULTS / f"{task}.parquet")
        scores = stored.loc[(stored["strategy"] == PLAIN) & ~stored["diverged"], "score"].to_numpy(
            float
        )
        room = BEST[task] - float(iqm(scores))
        odds = [power_of_pairs(scores, s * room, BEST[task], level) for s in shares]
        cells = [f"+{s * room:.3g}: {p:.0%}" for s, p in zip(shares, odds, strict=True)]
        rows.append([task.replace("_", " "), f"{iqm(scores):.3g}", f"{BEST[task]:g}", *cells])
    note = f"Gain: share of redraws of {len(scores)} seeds in which it is found, p < {level:.2g}"
    return markdown(Table(heads, rows, note))


def document() -> list[Path]:
    """Writes the report of the stored results, and replaces the tables in docs/table1.md."""
    written = effects.write(RESULTS)
    path = Path(__file__).parents[1] / "docs" / "table1.md"
    lines = path.read_text().splitlines()
    tables = f"{effects.as_markdown(effects.read(RESULTS))}\n\n{gains()}".split("\n\n")
    # The notes below the tables stay.
    for new in (part.splitlines() for part in tables if part[:1] == "|"):
        start = lines.index(new[0])
        end = next(i for i in range(start, len(lines)) if lines[i][:1] != "|")
        lines[start:end] = new
    path.write_text("\n".join(lines) + "\n")
    return [*written, path]


if __name__ == "__main__":
    if sys.argv[1] == "--power":
        print(gains())
    elif sys.argv[1] == "--document":
        print(*document(), sep="\n")
    elif sys.argv[1] == "--tuned":
        for key, strength in tuned(sys.argv[2]).items():
            print(f"    {key}: {strength},".replace("'", '"'))
    else:
        for directory in sys.argv[1:]:
            print(*keep(directory), sep="\n")
