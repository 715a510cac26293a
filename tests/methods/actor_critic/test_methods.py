"""What the named methods promise beyond what probes and regulators show."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import gacf
from gacf import envs, rules
from gacf.core.clock import with_clock
from gacf.methods.actor_critic import METHODS, heads
from gacf.networks import MLP
from gacf.rules import field
from tests.methods.actor_critic.packed import packed
from tests.methods.actor_critic.probes import one_reward

KEY = jax.random.key(0)
SMALL: dict[str, Any] = {"batch_size": 8, "capacity": 32, "warmup": 16, "episodes": 2}


def told(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """A divergence that tells the target."""
    return target + 0 * prediction


def at(game: gacf.Game) -> Any:
    params, world = jax.jit(game.init)(KEY)
    batch = game.sample(world, KEY)
    return params, world, batch, field(game, world, batch, KEY)


TWINS = (
    lambda key, o, a: jax.random.normal(key, (2,)),
    lambda c, o, a: c[0] + c[1] * a[:, 0],
)


@pytest.mark.long
def test_td3_goes_on_from_the_smaller_of_its_slow_critics():
    env = one_reward(truncates=True)
    actor = (lambda key: jnp.array(0.3), lambda p, o: jnp.arctanh(p * o))
    game = gacf.td3(
        env, actor, TWINS, discount=0.9, divergence=told, target_noise=0.0, **packed(**SMALL)
    )
    params, world, batch, here = at(game)
    assert params["critic"].shape == (2, 2) and world["slow"]["critic"].shape == (2, 2)
    slow = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    world = {**world, "slow": {**world["slow"], "critic": slow}}
    found, _ = field(game, world, batch, KEY).loss("critic", params["critic"], params)
    # both learn from one target, 1 + γ min(2 + 0.3, 1 + 0.6)
    assert float(found) == pytest.approx(2 * (1 + 0.9 * 1.6), rel=1e-5)
    # the actor hears the first of the live ones
    heard, _ = here.loss("actor", params["actor"], params)
    live = params["critic"][0]
    assert float(heard) == pytest.approx(-float(live[0] + live[1] * 0.3), rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("head", [heads.quantile(1), heads.quantile(3)])
def test_twins_of_quantiles(head):
    env = one_reward(truncates=True)
    critic = MLP((4,), head.shape)
    game = gacf.td3(env, MLP((4,), (1,)), critic, divergence=head, discount=0.0, **packed(**SMALL))
    params, _, _, here = at(game)
    for player in game.losses:
        value, outcome = here.loss(player, params[player], params)
        assert np.isfinite(value) and value.shape == ()
    assert outcome.metrics["verdict/taken"].shape == ()


@pytest.mark.long
def test_td3_smooths_its_target_within_the_clip():
    env = one_reward(truncates=True)
    actor = (lambda key: jnp.array(0.0), lambda p, o: jnp.arctanh(p * o))
    slope = (lambda key: jnp.zeros(()), lambda c, o, a: c + a[:, 0])
    game = gacf.td3(
        env, actor, slope, discount=1.0, divergence=told, target_noise=9.0, target_clip=0.25,
        **packed(**{**SMALL, "batch_size": 1}),
    )  # fmt: skip

    def target(key):
        params, world = game.init(KEY)
        near = field(game, world, game.sample(world, KEY), key)
        return near.loss("critic", params["critic"], params)[0] / 2 - 1

    noise = np.asarray(jax.jit(jax.vmap(target))(jax.random.split(KEY, 200)))
    assert np.abs(noise).max() == pytest.approx(0.25, rel=1e-5)
    assert np.mean(np.abs(noise) > 0.2499) > 0.9 and abs(noise.mean()) < 5 * 0.25 / 200**0.5


def sac(**options: Any) -> gacf.Game:
    actor = (lambda key: jnp.array([0.2, -0.7]), lambda p, o: jnp.tile(p[None], (len(o), 1)))
    env = one_reward(truncates=True)
    return gacf.sac(env, actor, TWINS, discount=0.9, **packed(**{**SMALL, **options}))


@pytest.mark.long
def test_sac_in_formulas():
    """Target, actor and temperature against the formulas, at a batch's own noise."""
    game = sac(divergence=told, temperature=0.5)
    params, world, batch, _ = at(game)
    params = {**params, "temperature": jnp.log(0.3)}  # the live one counts
    slow = np.array([[2.0, 1.0], [1.0, 2.0]])
    world = {**world, "slow": {"critic": jnp.asarray(slow, jnp.float32)}}
    here = field(game, world, batch, KEY)

    def played(noise: Any) -> tuple[np.ndarray, np.ndarray]:
        raw = 0.2 + np.exp(-0.7) * np.asarray(noise[:, 0], np.float64)
        log_p = -0.5 * np.asarray(noise[:, 0]) ** 2 + 0.7 - 0.5 * np.log(2 * np.pi)
        return np.tanh(raw), log_p - np.log(1 - np.tanh(raw) ** 2)

    action, log_p = played(batch["next_noise"])
    y = 1 + 0.9 * (np.minimum(2 + action, 1 + 2 * action) - 0.3 * log_p)
    found, _ = here.loss("critic", params["critic"], params)
    assert float(found) == pytest.approx(2 * y.mean(), rel=1e-4)

    action, log_p = played(batch["noise"])
    q = np.asarray(params["critic"])
    smaller = np.minimum(q[0, 0] + q[0, 1] * action, q[1, 0] + q[1, 1] * action)
    found, outcome = here.loss("actor", params["actor"], params)
    assert float(found) == pytest.approx(np.mean(0.3 * log_p - smaller), rel=1e-4)
    assert float(outcome.metrics["entropy"]) == pytest.approx(-log_p.mean(), rel=1e-4)

    slope, outcome = here.gradient("temperature", params)
    assert float(slope) == pytest.approx(-(log_p.mean() - 1), rel=1e-4)  # H̄ = −A
    assert float(outcome.metrics["temperature"]) == pytest.approx(0.3, rel=1e-5)
    # the slow copies are the critics' alone
    assert list(world["slow"]) == ["critic"]


@pytest.mark.long
def test_sac_with_a_temperature_for_good():
    game = sac(temperature=0.3, learn_temperature=False)
    assert sorted(game.losses) == ["actor", "critic"]
    assert sac(target_entropy=-7.0).losses["temperature"] is not None
    _, _, _, here = at(sac(target_entropy=-7.0))
    params, _, _, same = at(sac(target_entropy=-1.0))
    slopes = [float(f.gradient("temperature", params)[0]) for f in (here, same)]
    assert slopes[0] - slopes[1] == pytest.approx(6, rel=1e-5)


SIZES: dict[str, dict[str, Any]] = {
    "a2c": {"num_envs": 4, "length": 3},
    "ddpg": {**SMALL, "target_rate": 0.1},
}


@pytest.mark.long
@pytest.mark.parametrize("name", SIZES)
def test_a_leader_differentiates_through_the_critic(name):
    """Stackelberg actor-critic is a rule on any method.

    DDPG's critic responds to the actor, by what its target says of the next action. A2C's is fitted
    to what was played, which no longer depends on the actor: nothing is added.
    """
    env = envs.make("probe-truncation")
    game = METHODS[name](env, MLP((4,), (1,)), MLP((4,)), **packed(**SIZES[name]))
    leader = rules.implicit("actor", "critic", "gmres", 4, damping=0.1)

    @jax.jit
    def play(key):
        params, world = game.init(key)
        world, _ = game.observe(params, with_clock(world), key)
        here = field(game, world, game.sample(world, key), key)

        def heard(critic):
            return here.loss("actor", params["actor"], {**params, "critic": critic})[0]

        toward = jax.grad(heard)(params["critic"])
        own = here.gradient("actor", params)[0]
        led, outcome, _ = leader.follow(here, "actor", params, ())
        return *(ravel_pytree(x)[0] for x in (toward, own, led)), outcome.metrics["residual"]

    toward, own, led, residual = play(KEY)
    assert np.linalg.norm(toward) > 1e-3, "F_y is 0: there is nothing to lead through"
    assert np.all(np.isfinite(led)) and float(residual) < 1
    added = np.linalg.norm(led - own) / np.linalg.norm(own)
    assert added > 1e-3 if name == "ddpg" else added == 0


@pytest.mark.long
def test_ppo_records_what_it_will_be_judged_by():
    env = envs.make("probe-truncation", length=3)
    critic = (lambda key: jnp.array([0.5, 0.2]), lambda v, o: v[0] + v[1] * o[:, 0])
    actor = (lambda key: jnp.array([0.1]), lambda k, o: k[None] * o)
    game = gacf.ppo(
        env, actor, critic, discount=0.9, trace=0.7, rollout=gacf.Rollout(num_envs=2, length=4)
    )
    params, world = game.init(KEY)
    world, _ = jax.jit(game.observe)(params, with_clock(world), KEY)
    batch = game.sample(world, KEY)
    assert sorted(batch) == ["action", "advantage", "log_prob", "observation", "return"]
    o = np.asarray(batch["observation"]).reshape(4, 2)
    r, then, now = (1 + o) / 2, 0.5 - 0.2 * o, 0.5 + 0.2 * o
    later = then[3]
    for t in reversed(range(4)):
        # the episode is cut short after its third step
        ahead = then[t] if t in (2, 3) else 0.3 * then[t] + 0.7 * later
        later = r[t] + 0.9 * ahead
        np.testing.assert_allclose(batch["return"].reshape(4, 2)[t], later, rtol=1e-5)
        np.testing.assert_allclose(
            batch["advantage"].reshape(4, 2)[t], later - now[t], rtol=1e-4, atol=1e-6
        )
    noise = np.asarray(batch["action"])[:, 0] - 0.1 * o.ravel()
    wanted = -0.5 * noise**2 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(batch["log_prob"], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("grow", [True, False])
def test_nfqca_is_fitted_to_all_transitions_at_once(grow):
    env = one_reward(truncates=True)
    still = (lambda key: jnp.zeros(()), lambda p, o: 0 * o + p)
    number = (lambda key: jnp.zeros(()), lambda q, o, a: jnp.zeros(len(o)) + q)
    rollout = gacf.Rollout(num_envs=2)
    game = gacf.nfqca(env, still, number, discount=0.5, transitions=8, grow=grow, rollout=rollout)
    moves = {p: optax.sgd(0.5) for p in game.losses}
    rule = rules.alternating(moves, steps={"critic": 30})
    algorithm = gacf.compose(game, rule)

    @jax.jit
    def play(key):
        def step(state, _):
            before = state.world["buffer"].items["action"]
            state, _ = algorithm.step(state)
            batch = game.sample(state.world, key)
            return state, (state.params["critic"], before, batch["action"])

        return jax.lax.scan(step, algorithm.init(key), length=4)[1]

    q, before, after = play(KEY)
    # one exact backup an update: Q_{k+1} = 1 + ½ Q_k
    np.testing.assert_allclose(q, [1, 1.5, 1.75, 1.875], rtol=1e-5)
    assert np.all(np.sum(before != after, axis=(1, 2)) == (2 if grow else 0))
    assert len(np.unique(before[0])) == 8  # the first data are random


def quantiles() -> gacf.Game:
    head, networks = heads.quantile(4), (MLP((2,), (1,)), MLP((2,), (3,)))
    settings = packed(**{**SMALL, "warmup": 0})
    return gacf.ddpg("probe-constant", *networks, divergence=head, **settings)


def critic_loss(game: gacf.Game) -> Any:
    def loss(key: jax.Array) -> jax.Array:
        params, world = game.init(key)
        here = field(game, world, game.sample(world, key), key)
        return here.loss("critic", params["critic"], params)[0]

    return jax.eval_shape(loss, KEY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gacf.td3("probe-match", critics=0), "critics: 0 was given"),
        (lambda: gacf.ddpg("probe-match", replay=gacf.Replay(n_step=0)), "n_step: 0 was given"),
        (lambda: gacf.sac("probe-match", temperature=0.0), "temperature: 0.0 was given"),
        (lambda: gacf.sac("CartPole-v1"), "env: CartPole-v1 has discrete actions"),
        (lambda: gacf.svg("probe-match", horizon=-1), "horizon: -1 was given"),
        (
            lambda: gacf.svg("probe-match", 1, dynamics="ture"),
            "dynamics: 'ture' was given; allowed: a network, or 'true'",
        ),
        (lambda: gacf.a2c("probe-mach"), "did you mean 'probe-match'"),
        (lambda: gacf.a2c("probe-match", trace=1.5), r"trace: 1.5 was given"),
        (lambda: gacf.a2c("probe-match", rollout=gacf.Rollout(length=0)), "length: 0 was given"),
        (lambda: gacf.ppo("probe-match", clip=0.0), "clip: 0.0 was given"),
        (
            lambda: gacf.nfqca("probe-match", transitions=10, rollout=gacf.Rollout(num_envs=4)),
            "transitions: 10 was given; allowed: a multiple of num_envs, 4",
        ),
        (lambda: gacf.dpg("probe-match", discount=-1), "discount: -1 was given"),
        (
            lambda: jax.eval_shape(gacf.ddpg("probe-match", MLP((2,), (3,))).init, KEY),
            r"actor: its output is \[1, 3\]; allowed: \[B, 1\]",
        ),
        (
            lambda: jax.eval_shape(gacf.sac("probe-match", MLP((2,), (1,))).init, KEY),
            r"actor: its output is \[1, 1\]; allowed: \[B, 2\]",
        ),
        (
            lambda: jax.eval_shape(
                gacf.ppo(envs.make("probe-match", actions="discrete"), MLP((2,), (3,))).init, KEY
            ),
            r"actor: its output is \[16, 3\]; allowed: \[B, 2\]",
        ),
        (
            lambda: critic_loss(quantiles()),
            r"critic: its output is \[8, 3\] in group 'taken'; allowed: \[B, 4\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


NETWORKS: dict[str, Any] = {"actor": MLP((2,), (1,)), "critic": MLP((2,))}
FEW: dict[str, Any] = {**NETWORKS, "num_envs": 2, "length": 2}
SWEPT: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "ddpg": ({**NETWORKS, **SMALL, "n_step": 2}, {"exploration": 0.1, "target_rate": 0.1}),
    "td3": ({**NETWORKS, **SMALL}, {"target_noise": 0.1, "target_clip": 0.3}),
    "sac": (
        {**NETWORKS, **SMALL, "actor": MLP((2,), (2,)), "learn_temperature": False},
        {"temperature": 0.3, "target_rate": 0.1},
    ),
    "svg": ({**NETWORKS, "horizon": 2, "num_envs": 2}, {"trace": 0.5, "log_scale": -1.0}),
    "nfqca": ({**NETWORKS, "num_envs": 2, "transitions": 4}, {"exploration": 0.2}),
    "dpg": (FEW, {"exploration": 0.2}),
    "a2c": ({**FEW, "normalize_rewards": True}, {"trace": 0.5, "entropy": 0.1, "log_scale": -1.0}),
    "ppo": ({**FEW, "normalize_rewards": True}, {"trace": 0.5, "entropy": 0.1, "clip": 0.1}),
    "natural_actor_critic": (FEW, {"trace": 0.5, "log_scale": -1.0}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_numbers_may_be_traced(name):
    """So that one program serves a whole sweep."""
    settings, numbers = SWEPT[name]

    def step(numbers: Any) -> Any:
        game = METHODS[name]("probe-match", **packed(**settings, **numbers))
        optimizers = {p: optax.sgd(0.1) for p in game.losses}
        algorithm = gacf.compose(game, rules.simultaneous(optimizers))
        return algorithm.step(algorithm.init(KEY))

    numbers = {name: jnp.full(3, number) for name, number in {**numbers, "discount": 0.9}.items()}
    state, _ = jax.eval_shape(jax.vmap(step), numbers)
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(state.params))


def uneven(precision: str) -> envs.Environment:
    """An environment that shows and pays in one precision, whatever acts in it."""

    def reset(key: Any) -> Any:
        seen = jax.random.normal(key, (2,), precision)
        return seen, seen

    def step(key: Any, seen: Any, action: Any) -> Any:
        fresh, _ = reset(key)
        paid = -jnp.sum(jnp.square(action)).astype(precision)
        ends = jnp.bool_(True)
        return fresh, envs.Timestep(fresh, fresh, paid, ends, ~ends)

    wide, one = jnp.full(2, jnp.inf, precision), jnp.ones(1, precision)
    return envs.Environment(
        "uneven", reset, step, envs.Box((2,), -wide, wide), envs.Box((1,), -one, one), 1
    )


PRECISE: dict[str, tuple[int, dict[str, Any]]] = {
    **dict.fromkeys(("ddpg", "td3"), (1, SMALL)),
    "sac": (2, SMALL),
    "nfqca": (1, {"transitions": 4, "num_envs": 2}),
    **{name: (1, {"num_envs": 2, "length": 2}) for name in ("dpg", "natural_actor_critic")},
    **{
        name: (1, {"num_envs": 2, "length": 2, "normalize_observations": True, "entropy": 0.1})
        for name in ("a2c", "ppo")
    },
    "svg-0": (2, {"horizon": 0, **SMALL}),
    "svg-1": (1, {"horizon": 1, "num_envs": 2}),
    "svg-3": (1, {"horizon": 3, "num_envs": 2}),
    "svg-3-true": (1, {"horizon": 3, "num_envs": 2, "dynamics": "true"}),
}


MIXED = [
    (name, *kinds) for name in PRECISE for kinds in (("float32", "float64"), ("float64", "float32"))
]
MIXED += [(name, "gymnax", "float32") for name in ("a2c", "sac", "svg-3")]


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "of_env", "of_networks"), MIXED)
def test_networks_and_environments_may_differ_in_precision(name, of_env, of_networks):
    """A step goes through, and leaves all that is kept as it was, dtypes included."""
    method, *_ = name.split("-")
    outputs, settings = PRECISE[name]
    env = envs.make("Pendulum-v1") if of_env == "gymnax" else uneven(of_env)

    def network(*shape: int) -> MLP:
        return MLP((3,), shape, param_dtype=of_networks)

    if settings.get("horizon") and "dynamics" not in settings:
        settings = {**settings, "dynamics": network(env.observation.shape[0] + 1)}
    game = METHODS[method](env, actor=network(outputs), critic=network(), **packed(**settings))
    rule = rules.alternating({p: optax.adam(1e-3) for p in game.losses})
    algorithm = gacf.compose(game, rule)
    state = jax.eval_shape(algorithm.init, KEY)
    after, _ = jax.eval_shape(algorithm.step, state)
    jax.eval_shape(algorithm.evaluate, after)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    weights = jax.tree.leaves({p: v for p, v in after.params.items() if p in ("actor", "critic")})
    assert of_networks in {leaf.dtype.name for leaf in weights}


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_svg_with_precise_networks_has_the_gradient_of_the_true_chain():
    """r = −a², a = θ + σ ξ, and each step ends an episode: −∇ is 2 a, summed over time steps."""
    actor = (lambda key: jnp.array([0.3], jnp.float64), lambda p, o: p[None] + 0 * o[:, :1])
    critic = (lambda key: jnp.zeros((), jnp.float64), lambda v, o: v + 0 * o[:, 0])
    game = gacf.svg(
        uneven("float32"), 3, actor, critic, "true", bootstrap=False, log_scale=-1.0,
        rollout=gacf.Rollout(num_envs=4),
    )  # fmt: skip

    @jax.jit
    def play(key: Any) -> Any:
        params, world = game.init(key)
        world, _ = game.observe(params, with_clock(world), key)
        batch = game.sample(world, key)
        return batch, field(game, world, batch, key).gradient("actor", params)[0]

    batch, slope = play(KEY)
    action = np.asarray(batch["action"], np.float64)  # its bounds cut off what lies outside
    wanted = np.sum(np.where(np.abs(action) < 1, 2 * action, 0)) / 4
    assert slope["mean"].dtype == jnp.float64
    np.testing.assert_allclose(slope["mean"], [wanted], rtol=1e-5)


def test_clipped_targets_are_counted():
    """Targets are 1, of which a head up to ½ clips all, and one up to 2 none."""
    env = one_reward()
    actor = (lambda key: jnp.zeros(()), lambda p, o: p * o)
    critic = (lambda key: jnp.zeros(4), lambda v, o, a: jnp.tile(v[None], (len(o), 1)))

    @jax.jit
    def share(high: Any) -> Any:
        head = heads.two_hot(-1.0, high, 4)
        game = gacf.td3(env, actor, critic, divergence=head, **packed(**SMALL))
        params, world = game.init(KEY)
        here = field(game, world, game.sample(world, KEY), KEY)
        return here.loss("critic", params["critic"], params)[1].metrics["clipped/taken"]

    assert [float(share(high)) for high in (0.5, 2.0)] == [1, 0]


def test_one_quantile_is_read_from_one_number_an_example():
    critic = (lambda key: jnp.array(0.5), lambda v, o: v * jnp.ones(len(o)))
    rollout = gacf.Rollout(num_envs=2)
    game = gacf.a2c("probe-match", critic=critic, divergence=heads.quantile(1), rollout=rollout)

    def loss(key: Any) -> Any:
        params, world = game.init(key)
        here = field(game, world, game.sample(world, key), key)
        return here.loss("critic", params["critic"], params)[0]

    assert jax.eval_shape(loss, KEY).shape == ()
