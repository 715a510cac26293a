"""What rules promise besides their formulas: states, worlds, batches, errors, one program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Outcome, Rule, rules
from gacf.games import bilinear, dirac_gan
from gacf.rules import simultaneous
from tests import contract_cases
from tests.rules.common import sgd


def noisy_game() -> gacf.Game:
    """Losses that count, in the world, the batches they see, and depend on batch and key."""

    def actor(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        value = own * params["critic"] + 0.5 * own**2 + batch * own
        return value, Outcome({}, {"actor_seen": world["actor_seen"] + 1})

    def critic(own: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
        wiggle = jax.random.normal(key)
        value = 0.5 * own**2 - own * params["actor"] + batch * own + 0.1 * wiggle * own
        return value, Outcome({}, {"critic_seen": world["critic_seen"] + 1})

    def init(key: Any) -> Any:
        params = {"actor": jnp.ones(()), "critic": jnp.ones(())}
        return params, {"actor_seen": jnp.zeros(()), "critic_seen": jnp.zeros(())}

    losses = {"actor": actor, "critic": critic}
    return gacf.Game(losses, init, sample=lambda world, key: jax.random.normal(key))


PAIR = ("actor", "critic")
LISTED = {**rules.SCHEDULES, **rules.DIRECTIONS}
RULES: dict[str, Any] = {
    **{name: case.make for name, case in contract_cases.RULES.items() if name in LISTED},
    "committed": lambda o: rules.extragradient(o, commit=True),
}


def test_what_says_who_moves_when_or_along_what_is_listed() -> None:
    """The lists are read off the signatures of the package's public functions."""
    assert {"alternating", "simultaneous", "lookahead", "competitive"} <= {*rules.SCHEDULES}
    assert {"gradient", "nested", "implicit", "lola"} <= {*rules.DIRECTIONS}
    assert not {"sequence", "repeat", "minibatches", "player_step"} & {*LISTED}
    assert {*LISTED, "SCHEDULES", "DIRECTIONS", "Field", "CG", "minibatches"} <= {*rules.__all__}
    assert all(hasattr(rules, name) for name in rules.__all__)


@pytest.mark.long
@pytest.mark.parametrize("name", RULES)
def test_one_step_counts_once_in_the_world(name: str) -> None:
    """Extrapolations, unrolled steps and products with the Jacobian leave no trace in the world."""
    algorithm = gacf.compose(noisy_game(), RULES[name](sgd(0.1, 0.1)))
    state, metrics = jax.jit(algorithm.step)(algorithm.init(jax.random.key(0)))
    assert {seen: float(n) for seen, n in state.world.items()} == {
        "actor_seen": 1,
        "critic_seen": 1,
    }
    assert all(bool(jnp.isfinite(x)) for x in jax.tree.leaves((state.params, metrics)))
    assert {"actor/loss", "critic/loss"} <= set(metrics)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("commit", [False, True])
def test_extragradient_keeps_the_half_steps_state_only_if_told(commit: bool) -> None:
    """ExtraAdam on the bilinear game, two steps, against optax by hand."""
    adam = optax.adam(0.1, b1=0.5)
    rule = rules.extragradient({"actor": adam, "critic": adam}, commit=commit)
    algorithm = gacf.compose(bilinear(), rule)
    state = algorithm.init(jax.random.key(0))
    for _ in range(2):
        state, _ = jax.jit(algorithm.step)(state)

    def field(z: Any) -> Any:
        return jnp.array([z[1], -z[0]])

    z, memory = jnp.ones(2), adam.init(jnp.ones(2))
    for _ in range(2):
        change, half = adam.update(field(z), memory)
        change, memory = adam.update(field(z + change), half if commit else memory)
        z = z + change
    found = [state.params[player] for player in PAIR]
    np.testing.assert_allclose(found, z, rtol=1e-10)
    assert int(state.opt_state["actor"].optimizer[0].count) == (4 if commit else 2)


def test_extragradient_uses_one_batch_for_both_evaluations() -> None:
    """With losses b·own the two gradients are the batch itself: the step is one batch, once."""
    game = gacf.from_losses(
        {"actor": 0.0, "critic": 0.0},
        {
            "actor": lambda p, batch, key: batch * p["actor"] * (1 + p["actor"]),
            "critic": lambda p, batch, key: p["critic"] ** 2,
        },
        lambda key: jax.random.normal(key),
    )
    algorithm = gacf.compose(game, rules.extragradient(sgd(0.1, 0.1)))
    start = algorithm.init(jax.random.key(0))
    state, _ = algorithm.step(start)
    key = jax.random.split(jax.random.split(start.key, 3)[2])[0]
    b = float(jax.random.normal(key))
    half = -0.1 * b
    assert float(state.params["actor"]) == pytest.approx(-0.1 * b * (1 + 2 * half), rel=1e-5)


@pytest.mark.long
def test_competitive_follows_a_schedule_of_its_own_count() -> None:
    rates = {"actor": lambda n: jnp.where(n < 2, 0.1, 0.0), "critic": lambda n: 0.1 * (n < 2)}
    algorithm = gacf.compose(bilinear(), rules.repeat(rules.competitive(rates), 2))
    first, _ = gacf.run(algorithm, jax.random.key(0), 1)
    later, _ = gacf.run(algorithm, jax.random.key(0), 3)
    assert abs(float(first.params["actor"][0]) - 1) > 0.1
    assert float(first.params["actor"][0]) == float(later.params["actor"][0])


def averaged(levels: list[tuple[int, float]], steps: int, rate: float = 0.3) -> np.ndarray:
    """Nested lookahead-minmax on the bilinear game by hand, the innermost level first."""
    z = np.ones(2)
    slow = [z for _ in levels]
    for t in range(1, steps + 1):
        z = z - rate * np.array([z[1], -z[0]])
        for depth, (period, alpha) in enumerate(levels):
            if t % period == 0:
                z = slow[depth] + alpha * (z - slow[depth])
                slow[: depth + 1] = [z] * (depth + 1)
    return z


def inside(kind: str, rule: Rule) -> Rule:
    """The rule within another one that leaves its moves as they are."""
    nobody = rules.player_step("critic", optax.sgd(0.0))
    kinds = {
        "bare": lambda: rule,
        "sequence": lambda: rules.sequence(nobody, rules.sequence(rule)),
        "every": lambda: rules.every(1, rules.repeat(rule, 1)),
        "parallel": lambda: rules.parallel(rule),
    }
    return kinds[kind]()


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        ("bare", [(3, 0.4), (3, 0.7)]),
        ("sequence", [(2, 0.5), (4, 0.3), (8, 0.6)]),
        ("every", [(2, 0.5), (4, 0.5)]),
        ("parallel", [(3, 0.5), (4, 0.5)]),
    ],
)
def test_an_outer_lookahead_takes_the_inner_ones_back(
    kind: str, levels: list[tuple[int, float]]
) -> None:
    """At any depth, under scan and vmap, wherever in the outer rule the inner one stands."""

    def build(step_size: Any) -> gacf.Algorithm:
        rule: Rule = simultaneous(sgd(step_size, step_size))
        for period, alpha in levels:
            rule = rules.lookahead(inside(kind, rule), period, alpha)
        return gacf.compose(bilinear(), rule)

    rates = jnp.array([0.3, 0.1])
    state, _ = gacf.run(build, jax.random.key(0), 21, log_every=21, hyper=rates, map="vmap")
    for i, rate in enumerate(rates):
        found = [float(state.params[player][i, 0]) for player in PAIR]
        np.testing.assert_allclose(found, averaged(levels, 21, float(rate)), rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("combine", [rules.sequence, rules.parallel])
def test_lookaheads_of_single_players_are_taken_back_too(combine: Any) -> None:
    """Two inner ones with periods of their own, side by side, under an outer one of both."""
    step = {player: rules.player_step(player, optax.sgd(0.3)) for player in PAIR}
    inner = [rules.lookahead(step["actor"], 2, 0.5), rules.lookahead(step["critic"], 3, 0.25)]
    algorithm = gacf.compose(bilinear(), rules.lookahead(combine(*inner), 4, 0.5))
    state, advance = algorithm.init(jax.random.key(0)), jax.jit(algorithm.step)
    x = y = slow_x = slow_y = outer_x = outer_y = 1.0
    for t in range(1, 20):
        state, _ = advance(state)
        old_x, x = x, x - 0.3 * y
        if t % 2 == 0:
            x = slow_x = slow_x + 0.5 * (x - slow_x)
        y = y + 0.3 * (x if combine is rules.sequence else old_x)
        if t % 3 == 0:
            y = slow_y = slow_y + 0.25 * (y - slow_y)
        if t % 4 == 0:
            x = slow_x = outer_x = outer_x + 0.5 * (x - outer_x)
            y = slow_y = outer_y = outer_y + 0.5 * (y - outer_y)
    np.testing.assert_allclose([state.params["actor"], state.params["critic"]], [x, y], rtol=1e-12)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_two_lookaheads_in_a_row_have_slow_weights_of_their_own() -> None:
    """Of the same players and period; the same rule twice is one rule that is applied twice."""

    def by_hand(shared: bool) -> np.ndarray:
        z, slow = np.ones(2), [np.ones(2), np.ones(2)]
        for t in range(1, 12):
            for turn in (0, 1):
                own = 0 if shared else turn
                z = z - 0.3 * np.array([z[1], -z[0]])
                if t % 3 == 0:
                    z = slow[own] = slow[own] + 0.5 * (z - slow[own])
        return z

    def end(*turns: Rule) -> list[float]:
        algorithm = gacf.compose(bilinear(), rules.sequence(*turns))
        state, _ = gacf.run(algorithm, jax.random.key(0), 11, log_every=11)
        return [float(state.params[player][0]) for player in PAIR]

    first, second = (rules.lookahead(simultaneous(sgd(0.3, 0.3)), 3, 0.5) for _ in range(2))
    np.testing.assert_allclose(end(first, second), by_hand(shared=False), rtol=1e-12)
    np.testing.assert_allclose(end(first, first), by_hand(shared=True), rtol=1e-12)
    # also where one of them already holds two of the same name
    both = rules.lookahead(second, 3, 1.0)
    np.testing.assert_allclose(end(first, both), by_hand(shared=False), rtol=1e-12)


def test_the_slow_copy_of_a_lookahead_stays_one_branch_under_vmap() -> None:
    """The counter is not batched, so the averaging is a branch and no select over seeds."""
    rule = rules.lookahead(rules.lookahead(simultaneous(sgd(0.1, 0.1)), 2), 4)
    algorithm = gacf.compose(bilinear(), rule)
    keys = jax.random.split(jax.random.key(0), 3)
    axes = gacf.State(0, 0, 0, 0, None)  # type: ignore[arg-type]
    states = jax.vmap(algorithm.init, out_axes=axes)(keys)
    assert len(states.opt_state) == 4, "nested lookaheads share a copy"
    program = jax.make_jaxpr(jax.vmap(algorithm.step, in_axes=(axes,), out_axes=(axes, 0)))(states)
    assert str(program).count("cond[") == 2


@pytest.mark.long
def test_sweeping_a_rule_is_one_trace_and_equals_single_runs() -> None:
    """Weight, damping and learning rates as one batched pytree over three different rules."""
    game = dirac_gan()

    def build(hyper: Any) -> gacf.Algorithm:
        o = sgd(hyper["rate"], 2 * hyper["rate"])
        mix = rules.sequence(
            simultaneous(o, rules.consensus(hyper["weight"])),
            rules.competitive({"actor": hyper["rate"], "critic": hyper["rate"]}, iterations=2),
            rules.follow_the_ridge(o, *PAIR, iterations=2, damping=hyper["weight"], solver="gmres"),
            simultaneous(o, rules.lola(hyper["weight"])),
        )
        return gacf.compose(game, mix)

    hyper = {"rate": jnp.array([0.05, 0.2]), "weight": jnp.array([0.5, 1.0])}
    state, _ = gacf.run(build, jax.random.key(0), 5, seeds=2, hyper=hyper, map="vmap")
    one = {name: x[1] for name, x in hyper.items()}
    single, _ = gacf.run(build(one), jax.random.key(0), 5)
    for player in PAIR:
        expected = float(single.params[player][0])
        np.testing.assert_allclose(state.params[player][1], expected, rtol=1e-4, atol=1e-6)
        assert abs(float(state.params[player][0, 0]) - expected) > 1e-3


@pytest.mark.long
def test_consensus_under_simultaneous_computes_the_field_once() -> None:
    """Two players, the same joint products: the compiler merges them."""

    def widths(rule: Rule, still: Any = ()) -> float:
        def loss(p: Any, batch: Any, key: Any) -> Any:
            return jnp.mean(jnp.tanh(batch @ jnp.tanh(p["actor"]) @ p["critic"]) ** 2)

        shapes = {"actor": jnp.ones((32, 32)), "critic": jnp.ones((32, 32))}
        losses = {"actor": loss, "critic": lambda p, batch, key: -loss(p, batch, key)}
        game = gacf.from_losses(shapes, losses, lambda key: jnp.ones((64, 32)))
        algorithm = gacf.compose(game, rule, still=still)
        start = jax.eval_shape(algorithm.init, jax.random.key(0))
        return jax.jit(algorithm.step).lower(start).compile().cost_analysis()["flops"]

    o = sgd(0.1, 0.1)
    both = widths(simultaneous(o, rules.consensus(0.1)))
    one = widths(rules.player_step("actor", o["actor"], rules.consensus(0.1), o), "critic")
    assert both < 1.5 * one


ERRORS: dict[str, tuple[Any, str]] = {
    "optax in competitive": (
        lambda: rules.competitive({"actor": optax.adam(1e-3), "critic": 0.1}),
        "learning_rates\\['actor'\\]: an optax transformation was given; allowed: a number",
    ),
    "one player": (lambda: rules.competitive({"actor": 0.1}), "two players or more"),
    "cg for three": (
        lambda: rules.competitive(dict.fromkeys("abc", 0.1), "cg"),
        "more than two players",
    ),
    "solver": (
        lambda: rules.implicit("x", "y", "gmre"),
        "implicit: solver: 'gmre' is unknown; did you mean 'gmres'",
    ),
    "iterations": (lambda: rules.implicit("x", "y", iterations=0), "iterations: 0 was given"),
    "damping": (lambda: rules.implicit("x", "y", damping=-1.0), "damping: -1.0 was given"),
    "solver's damping": (lambda: rules.CG(damping=-1.0), "CG: damping: -1.0 was given"),
    "solver's rate": (lambda: rules.Neumann(rate=0.0), "Neumann: rate: 0.0 was given"),
    "solver and settings": (
        lambda: rules.implicit("x", "y", rules.GMRES(4), iterations=5),
        "implicit: iterations: 5 was given with a solver object; allowed: .* GMRES\\(iterations=",
    ),
    "ridge's solver and settings": (
        lambda: rules.follow_the_ridge(sgd(0.1, 0.1), solver=rules.CG(), damping=1.0),
        "follow_the_ridge: damping: 1.0 was given with a solver object",
    ),
    "solver's class": (
        lambda: rules.competitive(dict.fromkeys("ab", 0.1), rules.CG),  # type: ignore[arg-type]
        "competitive: solver: a type was given; allowed: cg, .* gacf.rules.CG\\(iterations=10\\)",
    ),
    "symmetric solver for three": (
        lambda: rules.competitive(dict.fromkeys("abc", 0.1), rules.CG()),
        "solver: CG was given for more than two players",
    ),
    "itself": (lambda: rules.unrolled("x", "x"), "other than the leader"),
    "nobody": (lambda: rules.unrolled("x", ()), "one or more players"),
    "steps": (lambda: rules.unrolled("x", "y", steps=2.0), "steps: 2.0 was given"),  # type: ignore[arg-type]
    "weight": (lambda: rules.consensus(-0.1), "weight: -0.1 was given"),
    "rate": (lambda: rules.lookahead(simultaneous(sgd(0.1, 0.1)), 5, 1.5), "rate: 1.5 was given"),
    "no optimiser": (
        lambda: rules.follow_the_ridge({"actor": optax.sgd(0.1)}),
        "'critic' has no optimiser",
    ),
    "direction for nobody": (
        lambda: rules.extragradient(sgd(0.1, 0.1), direction={"critc": rules.gradient()}),
        "no player 'critc'; did you mean 'critic'",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_argument(name: str) -> None:
    make, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        make()


PLAYED: dict[str, tuple[Rule, str]] = {
    "unknown follower": (
        simultaneous(sgd(0.1, 0.1), rules.implicit("actor", "critik")),
        "implicit: follower: 'critik' is not a player; did you mean 'critic'",
    ),
    "unknown optimiser": (
        rules.player_step("actor", optax.sgd(0.1), rules.unrolled(*PAIR)),
        "no optimiser of 'critic' is known",
    ),
    "memory inside": (
        simultaneous(sgd(0.1, 0.1), rules.nested(rules.implicit(*PAIR), rules.single_loop(*PAIR))),
        "nested: inner: a direction that remembers",
    ),
}


@pytest.mark.parametrize("name", PLAYED)
def test_errors_when_played(name: str) -> None:
    rule, message = PLAYED[name]
    game = bilinear()
    algorithm = gacf.compose(game, rule, still=sorted({*game.losses} - {*rule.players}))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(algorithm.step, jax.eval_shape(algorithm.init, jax.random.key(0)))
