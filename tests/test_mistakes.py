"""Wrong calls of the library: a ValueError that names the argument, or a TypeError of Python's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules
from gacf.lab.sweep import choice, cross, grid, integers, log_uniform, sample, uniform, zipped

KEY = jax.random.key(0)
SGD = optax.sgd(0.1)
BOTH = {"actor": SGD, "critic": SGD}
LOSSES: dict[str, Any] = {
    "actor": lambda p, batch, key: p["actor"] * p["critic"],
    "critic": lambda p, batch, key: -p["actor"] * p["critic"],
}
START = {"actor": 1.0, "critic": 1.0}
GAME = gacf.from_losses(START, LOSSES)
RULE = rules.simultaneous(BOTH)
ALGORITHM = gacf.compose(GAME, RULE)
MLP = gacf.networks.MLP


def run(*args: Any, **options: Any) -> Any:
    return gacf.run(*args, **options)


def started(game: gacf.Game, players: Any = ("actor",)) -> Any:
    rule = rules.simultaneous(dict.fromkeys(players, SGD))
    return gacf.compose(game, rule).init(KEY)


def state() -> Any:
    return gacf.run(ALGORITHM, KEY, 1, seeds=3)[0]


def typed(x: Any) -> Any:
    """Keeps the type checker from seeing what is wrong."""
    return x


CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "run of a game": (lambda: run(GAME, KEY, 1), "algorithm: .*Game.*compose"),
    "run of a rule": (lambda: run(RULE, KEY, 1), "algorithm: .*Rule.*compose"),
    "run of nothing": (lambda: run(None, KEY, 1), "algorithm: None"),
    "run of a name": (lambda: run("gan", KEY, 1), "algorithm: 'gan'"),
    "int for a key": (lambda: run(ALGORITHM, 0, 1), "key: 0 was given.*jax.random.key"),
    "old key": (lambda: run(ALGORITHM, jax.random.PRNGKey(0), 1), r"key: uint32 was given"),
    "several keys": (lambda: run(ALGORITHM, jax.random.split(KEY, 3), 1), r"key: .*\(3,\)"),
    "no key": (lambda: run(ALGORITHM, None, 1), "key: None"),
    "no steps": (lambda: run(ALGORITHM, KEY, 0), "steps: 0"),
    "negative steps": (lambda: run(ALGORITHM, KEY, -1), "steps: -1"),
    "float steps": (lambda: run(ALGORITHM, KEY, 10.0), "steps: 10.0"),
    "numpy float steps": (lambda: run(ALGORITHM, KEY, np.float64(10)), "steps: .*10.0"),
    "true steps": (lambda: run(ALGORITHM, KEY, True), "steps: True"),
    "text steps": (lambda: run(ALGORITHM, KEY, "10"), "steps: '10'"),
    "no number of steps": (lambda: run(ALGORITHM, KEY, None), "steps: None"),
    "steps beyond int32": (lambda: run(ALGORITHM, KEY, 2**31), "steps: 2147483648.*<= 2147483647"),
    "steps beyond memory": (lambda: run(ALGORITHM, KEY, 2**31 - 1), "steps: 2147483647 with log"),
    "no log_every": (lambda: run(ALGORITHM, KEY, 1, log_every=0), "log_every: 0"),
    "None log_every": (lambda: run(ALGORITHM, KEY, 1, log_every=None), "log_every: None"),
    "huge log_every": (lambda: run(ALGORITHM, KEY, 1, log_every=2**40), "log_every: 1099"),
    "evaluate_every": (lambda: run(ALGORITHM, KEY, 4, log_every=2, evaluate_every=3),
                       "evaluate_every: 3.*multiple of log_every, 2"),
    "true evaluate_every": (lambda: run(ALGORITHM, KEY, 4, evaluate_every=True),
                            "evaluate_every: True"),
    "no seeds": (lambda: run(ALGORITHM, KEY, 1, seeds=0), "seeds: 0"),
    "float seeds": (lambda: run(ALGORITHM, KEY, 1, seeds=2.0), "seeds: 2.0"),
    "true seeds": (lambda: run(ALGORITHM, KEY, 1, seeds=True), "seeds: True"),
    "list of seeds": (lambda: run(ALGORITHM, KEY, 1, seeds=[0, 1]), r"seeds: \[0, 1\]"),
    "map": (lambda: run(ALGORITHM, KEY, 1, map="vmpa"), "map: 'vmpa'.*did you mean 'vmap'"),
    "map of a list": (lambda: run(ALGORITHM, KEY, 1, map=["vmap"]), "map: "),
    "hyper without a builder": (lambda: run(ALGORITHM, KEY, 1, hyper=jnp.ones(2)), "hyper: "),
    "a builder without hyper": (lambda: run(lambda h: ALGORITHM, KEY, 1), "hyper: "),
    "hyper without an axis": (lambda: run(lambda h: ALGORITHM, KEY, 1, hyper=1.0), "hyper: "),
    "hyper of two lengths": (lambda: run(lambda h: ALGORITHM, KEY, 1,
                                         hyper=(jnp.ones(2), jnp.ones(3))), "hyper: "),
    "swapped": (lambda: gacf.compose(typed(RULE), typed(GAME)), "game: .*Rule.*compose"),
    "compose a dict": (lambda: gacf.compose(typed(LOSSES), RULE), "game: "),
    "compose an optimiser": (lambda: gacf.compose(GAME, typed(SGD)), "rule: "),
    "compose rules": (lambda: gacf.compose(GAME, typed([RULE])), "rule: "),
    "no updates": (lambda: gacf.compose(GAME, RULE, updates=0), "updates: 0"),
    "float updates": (lambda: gacf.compose(GAME, RULE, updates=typed(1.0)), "updates: 1.0"),
    "true updates": (lambda: gacf.compose(GAME, RULE, updates=True), "updates: True"),
    "unknown player": (lambda: gacf.compose(GAME, rules.simultaneous({"critc": SGD})),
                       "'critc' is not a player; did you mean 'critic'"),
    "seed 99": (lambda: gacf.take_seed(state(), 99), r"i: 99 .*\(3,\).*-3 to 2"),
    "seed 1.0": (lambda: gacf.take_seed(state(), typed(1.0)), "i: 1.0"),
    "seed True": (lambda: gacf.take_seed(state(), True), "i: True"),
    "setting of none": (lambda: gacf.take_seed(state(), (0, 1)), r"i: \(0, 1\)"),
    "seed of a number": (lambda: gacf.take_seed(typed(3), 0), "state: 3"),
    "seed of one seed": (lambda: gacf.take_seed(ALGORITHM.init(KEY), 0), "i: 0"),
    "int params": (lambda: started(gacf.Game({"actor": GAME.losses["actor"]}, lambda key: (
        {"actor": jnp.ones(2, int)}, {}))), "params: actor is int32"),
    "text params": (lambda: started(gacf.from_losses({"actor": "one"}, typed(
        {"actor": LOSSES["actor"]}))), "init: 'one'.*arrays"),
    "params for nobody": (lambda: started(gacf.from_losses({"actr": 1.0}, typed(
        {"actor": LOSSES["actor"]}))), "init: .*'actor'.*'actr'"),
    "params of one": (lambda: gacf.from_losses(typed(1.0), LOSSES), "init: 1.0"),
    "no losses": (lambda: gacf.from_losses(START, {}), "losses: {}"),
    "losses in a list": (lambda: gacf.from_losses(START, typed(list(LOSSES.values()))), "losses: "),
    "loss that is none": (lambda: gacf.from_losses(START, typed({"actor": 3.0})), "losses: act.*3"),
    "sample": (lambda: gacf.from_losses(START, LOSSES, typed(jnp.ones(3))), "sample: "),
    "optimiser alone": (lambda: rules.alternating(typed(SGD)), "optimizers: .*dict"),
    "optimiser alone, at once": (lambda: rules.simultaneous(typed(SGD)), "optimizers: .*dict"),
    "optimiser alone, twice": (lambda: rules.extragradient(typed(SGD)), "optimizers: .*dict"),
    "optimisers in a list": (lambda: rules.alternating(typed([SGD, SGD])), "optimizers: .*dict"),
    "rate for an optimiser": (lambda: rules.alternating(typed({"actor": 0.1})),
                              "optimizers: 0.1 .*'actor'.*optax"),
    "constructor for an optimiser": (lambda: rules.simultaneous(typed({"actor": optax.adam})),
                                     "optimizers: .*'actor'.*optax"),
    "optimiser of one step": (lambda: rules.player_step("actor", typed(0.1)), "optimizers: 0.1"),
    "no optimisers": (lambda: rules.alternating({}), "optimizers: {}"),
    "order": (lambda: rules.alternating(BOTH, order=["actor"]), "order: .*permutation"),
    "steps": (lambda: rules.alternating(BOTH, steps={"critic": 0}), "steps: critic: 0"),
    "steps of nobody": (lambda: rules.alternating(BOTH, steps={"critc": 2}), "steps: .*'critic'"),
    "steps as a number": (lambda: rules.alternating(BOTH, steps=typed(5)), "steps: 5.*dict"),
    "direction by name": (lambda: rules.alternating(BOTH, direction=typed("lola")),
                          "direction: 'lola'"),
    "direction of nobody": (lambda: rules.alternating(BOTH, direction={"actr": rules.gradient()}),
                            "direction: .*'actor'"),
    "uniform to infinity": (lambda: uniform(0, float("inf")), "high: inf.*finite"),
    "uniform from nan": (lambda: uniform(float("nan"), 1), "low: nan"),
    "uniform backwards": (lambda: uniform(1, 0), "high: 0"),
    "uniform of texts": (lambda: uniform(typed("0"), typed("1")), "low: '0'"),
    "uniform beyond floats": (lambda: uniform(-1e308, 1e308), "high: "),
    "log_uniform from 0": (lambda: log_uniform(0, 1), "low: 0"),
    "log_uniform to infinity": (lambda: log_uniform(1, float("inf")), "high: inf"),
    "integers of halves": (lambda: integers(typed(0.5), 2), "low: 0.5"),
    "integers beyond 64 bits": (lambda: integers(0, 2**70), "high: 1180"),
    "integers backwards": (lambda: integers(3, 2), "high: 2"),
    "choice of nothing": (choice, "values: "),
    "sample of nothing": (lambda: sample({"a": uniform(0, 1)}, 0), "n: 0"),
    "sample of floats": (lambda: sample({"a": uniform(0, 1)}, typed(2.0)), "n: 2.0"),
    "zipped": (lambda: zipped({"a": [1], "b": [1, 2]}), "zipped: "),
    "crossed twice": (lambda: cross(grid({"a": [1]}), grid({"a": [2]})), "a: is set twice"),
    "gan's loss": (lambda: gacf.gan(MLP((4,), (2,)), MLP((4,)), gacf.data.ring(), loss="hinje"),
                   "loss: 'hinje'.*did you mean 'hinge'"),
    "gan's batch": (lambda: gacf.gan(MLP((4,), (2,)), MLP((4,)), gacf.data.ring(), batch_size=0),
                    "batch_size: 0"),
    "gan's noise": (lambda: gacf.gan(MLP((4,), (2,)), MLP((4,)), gacf.data.ring(),
                                     noise=typed(2.0)), "noise: 2.0"),
    "generator's width": (lambda: started(gacf.gan(
        MLP((4,), (3,)), MLP((4,)), gacf.data.ring(), noise=2, batch_size=4), ("actor", "critic")),
        r"generator: .*\b3\b.*\b2\b"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_what_is_allowed(name: str):
    call, words = CALLS[name]
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def toy(rate: float = 0.1) -> gacf.Algorithm:
    losses = {"x": lambda p, batch, key: jnp.sum(p["x"] ** 2)}
    game = gacf.from_losses({"x": jnp.ones(2)}, losses)
    return gacf.compose(game, gacf.rules.simultaneous({"x": optax.sgd(rate)}))


@pytest.mark.parametrize("combine", ["sequence", "parallel", "repeat", "every"])
def test_optimisers_are_no_rules(combine: str) -> None:
    arguments = {"repeat": (optax.sgd(0.1), 2), "every": (2, optax.sgd(0.1))}
    with pytest.raises(ValueError, match=f"{combine}: .* was given; allowed: rules, as"):
        getattr(gacf.rules, combine)(*arguments.get(combine, (optax.sgd(0.1),)))


@pytest.mark.parametrize("leaf", [[], ["a", "b"], [True, False], [None]])
def test_hyperparameters_that_are_no_numbers(leaf: Any) -> None:
    with pytest.raises(ValueError, match=r"hyper: .* was given; allowed: leaves of numbers"):
        gacf.run(lambda h: toy(h["r"]), jax.random.key(0), 2, hyper={"r": np.array(leaf)})


def test_counts_may_be_numbers_of_jax() -> None:
    _, metrics = gacf.run(toy(), jax.random.key(0), jnp.int32(4), log_every=jnp.int32(2))
    assert metrics["x/loss"].shape == (1, 2)
