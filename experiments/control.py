"""Any actor-critic method on any environment, many seeds at once.

    gacf run experiments/control.py --config.method=sac --config.env=Pendulum-v1
    gacf sweep experiments/control.py --workdir runs/control
    python experiments/control.py runs/control     # the table in docs/results.md
    python experiments/control.py --paired runs/control     # tests between its rules

Keys that the command line does not set take their values from `METHODS` and `TASKS` below. For
evaluation the deterministic policy plays 100 episodes per seed, from start states that all seeds
share. Expected results and cost: docs/results.md.
"""

import itertools
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict, config_dict

import gacf
from gacf import rules
from gacf.core import lookup
from gacf.lab.report import effects, markdown
from gacf.methods.actor_critic import heads, ornstein_uhlenbeck
from gacf.networks import MLP, computed_in, encoded

KEY_METRIC = "evaluate/return"
GOAL = "max"

OFF_POLICY = {
    "env_steps": 20_000,
    "num_envs": 1,
    "length": 1,
    "hidden": (64, 64),
    "learning_rate": 1e-3,
    "batch_size": 128,
    "warmup": 1_000,
    "target_rate": 0.01,
    "discount": 0.99,
    "exploration": 0.1,
    "noise": "gaussian",
    "rule": "alternating",
}
ON_POLICY = {
    "env_steps": 500_000,
    "num_envs": 16,
    "length": 32,
    "hidden": (64, 64),
    "learning_rate": 3e-4,
    "trace": 0.95,
    "discount": 0.99,
    "entropy": 0.0,
    "log_scale": 0.0,
    "normalize": True,
    "rule": "alternating",
}
METHODS: dict[str, dict[str, Any]] = {
    "ddpg": OFF_POLICY,
    "td3": {**OFF_POLICY, "rule": "delayed"},
    "sac": {**OFF_POLICY, "exploration": 0.0},
    "svg0": OFF_POLICY,
    "svg1": {**ON_POLICY, "length": 1, "num_envs": 64, "learning_rate": 1e-3},
    "svg16": {**ON_POLICY, "length": 16, "num_envs": 16, "learning_rate": 1e-3},
    "nfqca": {**OFF_POLICY, "num_envs": 16, "critic_steps": 20, "actor_steps": 10},
    "dpg": {
        **ON_POLICY, "learning_rate": 1e-3, "exploration": 0.1, "noise": "gaussian",
        "normalize": False,
    },
    "a2c": {**ON_POLICY, "env_steps": 1_000_000, "length": 8, "learning_rate": 1e-3},
    "natural_actor_critic": {**ON_POLICY, "learning_rate": 1e-2},
    "ppo": {**ON_POLICY, "env_steps": 150_000, "length": 64, "epochs": 10, "pieces": 8},
}  # fmt: skip
# What a task needs beyond its method's settings; chosen on seeds other than those reported
# (--config.seed=1). On the mountain car, only noise with inertia finds the reward behind the hill.
PENDULUM, HILL = "Pendulum-v1", "MountainCarContinuous-v0"
EARLY = 4_000
INERTIA = {"noise": "ou", "exploration": 0.5}
# Balancing needs a long horizon, because the cart drifts slowly, and small moves.
BALANCE = "brax-inverted_pendulum"
PATIENT = {"env_steps": 2_000_000, "discount": 0.998, "trace": 0.99, "log_scale": -1.0}
TASKS: dict[tuple[str, str], dict[str, Any]] = {
    ("ppo", PENDULUM): {"learning_rate": 1e-3},
    ("a2c", PENDULUM): {"discount": 0.95},
    ("sac", HILL): {"env_steps": 50_000, **INERTIA},
    ("ddpg", HILL): {"env_steps": 50_000, **INERTIA},
    ("td3", HILL): {"env_steps": 50_000, **INERTIA},
    ("ppo", "CartPole-v1"): {"env_steps": 100_000},
    ("a2c", "CartPole-v1"): {"env_steps": 500_000},
    ("ppo", "Acrobot-v1"): {"env_steps": 500_000},
    ("a2c", "Acrobot-v1"): {"env_steps": 500_000},
    ("ppo", BALANCE): PATIENT,
    ("a2c", BALANCE): {**PATIENT, "length": 16},
}


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seeds": 16,
            "seed": 0,
            "steps": config_dict.placeholder(int),
            "map": "auto",
            "dtype": "float32",
            "method": "ddpg",
            "env": "Pendulum-v1",
            "rule": config_dict.placeholder(str),
            "env_steps": config_dict.placeholder(int),
            "num_envs": config_dict.placeholder(int),
            "length": config_dict.placeholder(int),
            "hidden": config_dict.placeholder(tuple),
            "learning_rate": config_dict.placeholder(float),
            "discount": config_dict.placeholder(float),
            "trace": config_dict.placeholder(float),
            "entropy": config_dict.placeholder(float),
            "log_scale": config_dict.placeholder(float),
            "exploration": config_dict.placeholder(float),
            "noise": config_dict.placeholder(str),
            "normalize": config_dict.placeholder(bool),
            "batch_size": config_dict.placeholder(int),
            "capacity": 100_000,
            "warmup": config_dict.placeholder(int),
            "target_rate": config_dict.placeholder(float),
            "n_step": 1,
            "updates": 1,
            "temperature": 1.0,
            "learn_temperature": True,
            "head": "scalar",
            "low": -400.0,
            "high": 100.0,
            "clip": 0.2,
            "epochs": config_dict.placeholder(int),
            "pieces": config_dict.placeholder(int),
            "critic_steps": config_dict.placeholder(int),
            "actor_steps": config_dict.placeholder(int),
            "max_norm": 0.5,
            "delay": 2,
            "iterations": 5,
            "damping": 1.0,
            "episodes": 100,
        }
    )


def complete(config: Any) -> None:
    """Fills in what the command line left open."""
    preset = {
        **lookup("method", config.method, METHODS),
        **TASKS.get((config.method, config.env), {}),
    }
    for key, value in preset.items():
        if config[key] is None:
            config[key] = value
    if config.steps is None:
        config.steps = max(1, config.env_steps // (config.num_envs * config.length))
    if config.evaluate_every is None and config.log_every is None:
        config.log_every = max(1, config.steps // 100)
        config.evaluate_every = 10 * config.log_every


def network(config: ConfigDict, env: gacf.envs.Environment, *settings: Any) -> Any:
    mlp = computed_in(config.dtype, MLP(config.hidden, *settings))
    return encoded(gacf.envs.features(env.observation), mlp)


# The keys of the config that are arguments of each method, besides `discount`.
OWN: dict[str, tuple[str, ...]] = {
    "ddpg": ("target_rate",),
    "td3": ("target_rate",),
    "sac": ("target_rate", "temperature", "learn_temperature"),
    "svg0": ("target_rate",),
    "svg1": ("trace", "log_scale"),
    "svg16": ("trace", "log_scale"),
    "nfqca": (),
    "dpg": (),
    "a2c": ("trace", "log_scale", "entropy"),
    "natural_actor_critic": ("trace", "log_scale"),
    "ppo": ("trace", "log_scale", "entropy", "clip"),
}
REPLAYING = ("ddpg", "td3", "sac", "svg0")
EXPLORING = ("ddpg", "td3", "sac", "nfqca", "dpg")
SCALING = ("dpg", "a2c", "natural_actor_critic", "ppo")


def game_of(config: ConfigDict) -> gacf.Game:
    env, name = gacf.envs.make(config.env), config.method
    settings = {key: config[key] for key in ("discount", *OWN[name])}
    settings["rollout"] = gacf.Rollout(
        num_envs=config.num_envs,
        length=config.length,
        episodes=config.episodes,
        normalize_observations=config.normalize,
        normalize_rewards=config.normalize if name in SCALING else None,
    )
    shape = ()
    if name in REPLAYING:
        sizes = (config.capacity, config.batch_size, config.warmup, config.n_step)
        settings["replay"] = gacf.Replay(*sizes)
        settings["divergence"] = divergence(config)
        shape = getattr(settings["divergence"], "shape", ())
    if name in EXPLORING:
        noise = lookup("noise", config.noise, {"gaussian": float, "ou": ornstein_uhlenbeck})
        settings["exploration"] = noise(config.exploration)
    settings["actor"], settings["critic"] = networks(config, env, shape)
    if name.startswith("svg"):
        return gacf.svg(env, 0 if name == "svg0" else config.length, **settings)
    return getattr(gacf, name)(env, **settings)


def divergence(config: ConfigDict) -> Any:
    makers = {
        "scalar": lambda: "squared_error",
        "huber": lambda: "huber",
        "two_hot": lambda: heads.two_hot(config.low, config.high),
        "hl_gauss": lambda: heads.hl_gauss(config.low, config.high),
        "quantile": heads.quantile,
    }
    return lookup("head", config.head, makers)()


def networks(config: ConfigDict, env: gacf.envs.Environment, shape: tuple[int, ...]) -> Any:
    """The networks of actor and critic; `shape` is that of the critic's output for one example."""
    if config.method in (*REPLAYING, *EXPLORING):
        (size,) = env.action.shape
        outputs = 2 * size if config.method in ("sac", "svg0") else size
        return network(config, env, (outputs,)), network(config, env, shape)
    discrete = isinstance(env.action, gacf.envs.Discrete)
    width = env.action.n if discrete else env.action.shape[0]
    return network(config, env, (width,), jnp.tanh), network(config, env, (), jnp.tanh)


def rule_of(config: ConfigDict, game: gacf.Game) -> gacf.Rule:
    def adam(player: str) -> optax.GradientTransformation:
        if config.method == "nfqca":
            return optax.rprop(config.learning_rate)
        if config.method in ("ddpg", "td3", "sac", "svg0"):
            return optax.adam(config.learning_rate)
        rate = optax.linear_schedule(config.learning_rate, 0.0, moves(config, player))
        if config.method == "natural_actor_critic" and player == "actor":
            return optax.chain(optax.clip_by_global_norm(config.max_norm), optax.sgd(rate))
        return optax.chain(optax.clip_by_global_norm(config.max_norm), optax.adam(rate, eps=1e-5))

    optimizers = {player: adam(player) for player in game.losses}
    if config.method == "ppo":
        joint = rules.simultaneous(optimizers)
        return rules.minibatches(joint, config.epochs, config.pieces)
    if config.method == "nfqca":
        steps = {"critic": config.critic_steps, "actor": config.actor_steps}
        return rules.alternating(optimizers, steps=steps)
    step, implicit = rules.player_step, rules.implicit
    schedules = {
        "alternating": lambda: rules.alternating(optimizers),
        "simultaneous": lambda: rules.simultaneous(optimizers),
        "delayed": lambda: rules.sequence(
            *(step(player, optimizers[player]) for player in game.losses if player != "actor"),
            rules.every(config.delay, step("actor", optimizers["actor"])),
        ),
        # The actor leads: it differentiates through the critic's response.
        "stackelberg": lambda: rules.simultaneous(
            optimizers,
            {"actor": implicit("actor", "critic", "gmres", config.iterations, config.damping)},
        ),
    }
    return lookup("rule", config.rule, schedules)()


def moves(config: Any, player: str) -> int:
    """How often a run of an on-policy method moves the player; its schedule counts these."""
    updates = config.steps * config.updates
    if config.method == "ppo":
        return updates * config.epochs * config.pieces
    delayed = config.rule == "delayed" and player == "actor"
    return max(1, updates // config.delay) if delayed else updates


def build(config: ConfigDict) -> gacf.Algorithm:
    game = game_of(config)
    return gacf.compose(game, rule_of(config, game), updates=config.updates)


def get_sweep(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """The rows of docs/results.md; those of brax only if it is installed."""
    pairs = [
        *((m, "Pendulum-v1") for m in ("ddpg", "td3", "sac", "svg0", "ppo", "a2c")),
        *((m, "MountainCarContinuous-v0") for m in ("sac", "ddpg")),
        *((m, "CartPole-v1") for m in ("ppo", "a2c")),
        *((m, "Acrobot-v1") for m in ("ppo", "a2c")),
        *((m, BALANCE) for m in ("ppo", "a2c") if find_spec("brax")),
    ]
    rows: dict[str, dict[str, Any]] = {
        f"{method}-{env}": {"method": method, "env": env} for method, env in pairs
    }
    for method, env in pairs:
        if env == BALANCE:  # physics are many small operations, which batches of seeds share
            rows[f"{method}-{env}"]["map"] = "vmap"
    # Early in training, when it still matters who leads, and which critic the actor sees.
    for method in ("ddpg", "td3", "sac"):
        for rule in ("simultaneous", "alternating", "stackelberg"):
            row = {"method": method, "rule": rule, "env_steps": EARLY}
            rows[f"{method}-{rule}"] = row
    return rows


# The table of rl-baselines3-zoo: one run each, mean ± deviation of its episodes @ steps.
ZOO = {
    (PENDULUM, "ddpg"): "−152 ± 94 @ 20k",
    (PENDULUM, "td3"): "−152 ± 90 @ 20k",
    (PENDULUM, "sac"): "−157 ± 89 @ 20k",
    (PENDULUM, "a2c"): "−163 ± 103 @ 1M",
    (PENDULUM, "ppo"): "−172 ± 104 @ 100k",
    (HILL, "ddpg"): "93.5 @ 300k",
    (HILL, "sac"): "94.7 @ 50k",
    ("CartPole-v1", "a2c"): "500 @ 500k",
    ("CartPole-v1", "ppo"): "500 @ 100k",
    ("Acrobot-v1", "a2c"): "−83 @ 500k",
    ("Acrobot-v1", "ppo"): "−74 @ 1M",
}


def table(directory: str) -> str:
    """The runs of a sweep's directory as Markdown, in the order of `get_sweep`."""
    heads_of = ["environment", "method", "rule", "steps a seed", "return", "n", "zoo", "s a seed"]
    lines = [heads_of, ["---"] * len(heads_of)]
    for variant in get_sweep(get_config()):
        path = Path(directory) / variant
        if not (path / "summary.json").exists():
            continue
        config = json.loads((path / "config.json").read_text())["config"]
        (cell,) = json.loads((path / "summary.json").read_text())["cells"].values()
        score = cell["metrics"]["evaluate/return"]
        digits = 1 if abs(score["iqm"]) < 200 else 0
        end = [f"{score[name]:.{digits}f}".replace("-", "−") for name in ("iqm", "low", "high")]
        lines.append(
            [
                config["env"],
                config["method"],
                config["rule"],
                f"{config['steps'] * config['num_envs'] * config['length']:,}",
                f"{end[0]} [{end[1]}, {end[2]}]",
                f"{score['n']}/{cell['seeds']}",
                ZOO.get((config["env"], config["method"]), "") * (config["env_steps"] != EARLY),
                f"{cell['train_seconds'] / cell['seeds']:.1f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


RULES = ("simultaneous", "alternating", "stackelberg")


def paired(directory: str) -> str:
    """Tests between the rules of each method, pair by pair of seeds, as Markdown."""
    scores: dict[tuple[str, str], np.ndarray] = {}
    for method, rule in itertools.product(("ddpg", "td3", "sac"), RULES):
        path = Path(directory) / f"{method}-{rule}" / "summary.json"
        if not path.exists():
            continue
        (cell,) = json.loads(path.read_text())["cells"].values()
        finals = np.array(cell["metrics"]["evaluate/return"]["finals"], float)  # None is NaN
        finals[[int(seed) for seed in cell["diverged"]]] = np.nan
        scores[method, rule] = finals
    runs = {
        f"{method}: {other} over {one}": (scores[method, one], scores[method, other])
        for method in ("ddpg", "td3", "sac")
        for one, other in itertools.combinations(RULES, 2)
        if {(method, one), (method, other)} <= scores.keys()
    }
    return markdown(effects.paired(runs))


if __name__ == "__main__":
    print(paired(sys.argv[2]) if sys.argv[1] == "--paired" else table(sys.argv[1]))
