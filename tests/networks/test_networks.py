"""Every kind of network serves as actor and as critic, and keeps its statistics to itself."""

from __future__ import annotations

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import gacf
from gacf import rules
from gacf.core.types import Algorithm
from gacf.methods.gan import generate
from gacf.networks import MLP, column, computed_in, ensemble, model
from tests.methods.actor_critic.probes import one_reward

KEY = jax.random.key(0)
WIDTH = 4


def joined(inputs: Any) -> jax.Array:
    return jnp.concatenate(inputs, axis=-1)


class Linen(linen.Module):
    """Told whether it trains by the argument that its fields ask for."""

    size: int
    norm: bool = False
    dropout: float = 0.0

    @linen.compact
    def __call__(self, *inputs, train: bool):
        x = linen.Dense(WIDTH)(joined(inputs))
        x = linen.BatchNorm(use_running_average=not train)(x) if self.norm else x
        x = linen.Dropout(self.dropout, deterministic=not train)(x)
        return linen.Dense(self.size)(linen.tanh(x))


class Deterministic(linen.Module):
    size: int

    @linen.compact
    def __call__(self, *inputs, deterministic: bool):
        x = linen.Dropout(0.5)(joined(inputs), deterministic=deterministic)
        return linen.Dense(self.size)(x)


class Nnx(nnx.Module):
    def __init__(self, into, size, norm=False, dropout=0.0, *, rngs):
        self.first = nnx.Linear(into, WIDTH, rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs) if norm else None
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.last = nnx.List([nnx.Linear(WIDTH, size, rngs=rngs)])

    def __call__(self, *inputs):
        x = self.first(joined(inputs))
        x = x if self.norm is None else self.norm(x)
        x = x if self.dropout is None else self.dropout(x)
        return self.last[0](jnp.tanh(x))


def bare_init(key: jax.Array, into: int, size: int) -> Any:
    first, last = jax.random.split(key)
    return {
        "first": {"kernel": jax.random.normal(first, (into, WIDTH)), "bias": jnp.zeros(WIDTH)},
        "last": {"kernel": jax.random.normal(last, (WIDTH, size)), "bias": jnp.zeros(size)},
    }


def bare_apply(params: Any, *inputs: jax.Array) -> jax.Array:
    x = joined(inputs)
    for name, act in (("first", jnp.tanh), ("last", lambda x: x)):
        layer = params[name]
        x = act(x @ layer["kernel"] + layer["bias"][None])
    return x


def bare_of_inputs(size: int) -> Any:
    def init(key: jax.Array, *inputs: jax.Array) -> Any:
        return bare_init(key, joined(inputs).shape[-1], size)

    return init, bare_apply


def factory(into: int, size: int, **options: Any) -> Any:
    return lambda rngs: Nnx(into, size, **options, rngs=rngs)


# kind -> (inputs, outputs) -> network
KINDS = {
    "linen": lambda into, size: linen.Sequential([lambda *x: joined(x), linen.Dense(size)]),
    "linen, batch norm and dropout": lambda into, size: Linen(size, norm=True, dropout=0.2),
    "linen, deterministic": lambda into, size: Deterministic(size),
    "nnx": factory,
    "nnx instance": lambda into, size: Nnx(into, size, norm=True, rngs=nnx.Rngs(3)),
    "nnx, batch norm and dropout": functools.partial(factory, norm=True, dropout=0.2),
    "bare": lambda into, size: (lambda key: bare_init(key, into, size), bare_apply),
    "bare, of inputs": lambda into, size: bare_of_inputs(size),
}
KEEPS = {kind: "norm" in kind or "instance" in kind for kind in KINDS}


def make_gan(network: Any) -> gacf.Game:
    return gacf.gan(
        network(2, 2),
        network(2, 1),
        gacf.data.ring(),
        batch_size=6,
        noise=2,
        evaluate=lambda samples, key: {"spread": jnp.std(samples)},
        samples=5,
    )


def make_ddpg(network: Any) -> gacf.Game:
    return gacf.ddpg(
        one_reward(length=2), network(1, 1), network(2, 1),
        rollout=gacf.Rollout(num_envs=2, episodes=3), replay=gacf.Replay(8, 6, 3),
    )  # fmt: skip


GAMES = {"gan": make_gan, "ddpg": make_ddpg}


def under(game: gacf.Game, rule: Any, optimizer: optax.GradientTransformation) -> Algorithm:
    return gacf.compose(game, rule(dict.fromkeys(game.losses, optimizer)))


def plain(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        tree,
    )


# Not Adam: it would make much of the rounding of a bias that batch norm leaves without a gradient.
SGD = optax.sgd(0.1)


# DDPG compiles longest; what it asks of a network beyond a GAN, the kinds named here show.
SERVES = [
    pytest.param(
        kind,
        game,
        marks=[pytest.mark.slow] * (game == "ddpg" and "dropout" not in kind and kind != "bare"),
    )
    for kind in KINDS
    for game in GAMES
]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "game"), SERVES)
def test_every_kind_serves_as_actor_and_critic(kind, game):
    algorithm = under(GAMES[game](KINDS[kind]), rules.simultaneous, SGD)

    def run(key: jax.Array) -> Any:
        state, _ = jax.lax.scan(
            lambda state, _: (algorithm.step(state)[0], None), algorithm.init(key), length=3
        )
        return state.params, state.world, algorithm.evaluate(state)

    params, world, found = jax.jit(jax.vmap(run))(jax.random.split(KEY, 2))
    assert {f"stats/{p}" in world for p in ("actor", "critic")} == {KEEPS[kind]}
    stats = {name: entry for name, entry in world.items() if name.startswith("stats/")}
    for leaf in jax.tree.leaves(plain((params, stats, found))):
        assert np.isfinite(leaf).all()
    assert jax.tree.leaves(found)


@pytest.mark.long
@pytest.mark.parametrize(
    "map",
    [
        "sharded-loop",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("vmap", "loop", "sharded-vmap")),
    ],
)
def test_statistics_and_streams_are_the_same_under_every_map(map):
    algorithm = under(make_gan(KINDS["nnx, batch norm and dropout"]), rules.alternating, SGD)
    expected = jax.jit(algorithm.init)(jax.random.fold_in(KEY, 1))
    step = jax.jit(algorithm.step)
    for _ in range(3):
        expected, _ = step(expected)
    state, _ = gacf.run(algorithm, KEY, 3, seeds=3, log_every=3, map=map)
    one = gacf.take_seed(state, 1)
    chex.assert_trees_all_close(plain(one), plain(expected), rtol=1e-4, atol=1e-5)


def as_linen(p: Any, norm: bool) -> Any:
    made = {"Dense_0": p["first"], "Dense_1": p["last"]}
    return {**made, "BatchNorm_0": p["norm"]} if norm else made


def as_nnx(p: Any, norm: bool) -> Any:
    made = {"first": p["first"], "last": {0: p["last"]}}
    return {**made, "norm": p["norm"]} if norm else made


@pytest.mark.long
@pytest.mark.parametrize("game", GAMES)
def test_equal_networks_take_equal_steps(game):
    check_equal_steps(
        game,
        {
            "linen": (lambda into, size: Linen(size), as_linen),
            "nnx": (factory, as_nnx),
            "bare": (KINDS["bare"], lambda p, norm: p),
        },
        norm=False,
    )


@pytest.mark.long
def test_equal_networks_keep_equal_batch_statistics():
    ends = check_equal_steps(
        "gan",
        {
            "linen": (lambda into, size: Linen(size, norm=True), as_linen),
            "nnx": (functools.partial(factory, norm=True), as_nnx),
        },
        norm=True,
    )
    for player in ("actor", "critic"):
        ours = ends["linen"].world[f"stats/{player}"]["batch_stats"]["BatchNorm_0"]
        chex.assert_trees_all_close(
            ours, ends["nnx"].world[f"stats/{player}"]["norm"], rtol=1e-4, atol=1e-5
        )
        assert np.abs(ours["mean"]).max() > 1e-3


def check_equal_steps(game: str, kinds: Any, norm: bool) -> Any:
    sizes = {"actor": (2, 2) if game == "gan" else (1, 1), "critic": (2, 1)}
    start = {p: bare_init(jax.random.key(5), *sizes[p]) for p in sizes}
    if norm:
        fresh = {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}
        start = {player: {**entry, "norm": fresh} for player, entry in start.items()}
    ends, flat = {}, {}
    for kind, (network, translate) in kinds.items():
        algorithm = under(GAMES[game](network), rules.simultaneous, SGD)

        def run(key, algorithm=algorithm, translate=translate):
            state = algorithm.init(key)
            params = {player: translate(entry, norm) for player, entry in start.items()}
            world = {**state.world, "slow": params} if "slow" in state.world else state.world
            state = state._replace(params=params, world=world)
            return jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), state, length=4)[0]

        ends[kind] = jax.jit(run)(KEY)
        wanted = {player: translate(entry, norm) for player, entry in start.items()}
        assert jax.tree.structure(wanted) == jax.tree.structure(ends[kind].params)
        flat[kind] = {
            # sorted by value, so that the order of the names does not matter
            player: np.sort(np.concatenate([np.ravel(x) for x in jax.tree.leaves(entry)]))
            for player, entry in ends[kind].params.items()
        }
    first, *others = flat.values()
    moved = np.sort(np.concatenate([np.ravel(x) for x in jax.tree.leaves(start["critic"])]))
    assert np.abs(first["critic"] - moved).max() > 1e-3
    for other in others:
        chex.assert_trees_all_close(other, first, rtol=1e-5, atol=1e-6)
    return ends


class Whitened(linen.Module):
    """Batch normalisation of the inputs, and their sum: no parameter in between."""

    @linen.compact
    def __call__(self, x, train: bool):
        norm = linen.BatchNorm(momentum=0.9, use_scale=False, use_bias=False, epsilon=1e-6)
        return norm(x, use_running_average=not train) * self.param("w", lambda key: jnp.ones(()))


def normed() -> gacf.Game:
    far = 5 + 2 * jax.random.normal(jax.random.key(9), (32, 2))
    critic = (Whitened, lambda x: jnp.sum(x, axis=-1))
    return gacf.gan(
        Whitened(), model("critic", critic[0]()).then(critic[1]), far, batch_size=8, noise=2
    )


def one_batch(game: gacf.Game, state: gacf.State) -> Any:
    """The batch of a lone `player_step`, by the keys that `compose` documents."""
    update_key = jax.random.split(state.key, 3)[2]
    return game.sample(state.world, jax.random.split(update_key)[0])


@pytest.mark.long
def test_a_players_step_renews_its_own_statistics_alone():
    game = normed()
    for mover, other in (("actor", "critic"), ("critic", "actor")):
        algorithm = gacf.compose(game, rules.player_step(mover, optax.sgd(0.1)), still=other)
        before = algorithm.init(KEY)
        after, _ = jax.jit(algorithm.step)(before)
        chex.assert_trees_all_equal(before.world[f"stats/{other}"], after.world[f"stats/{other}"])
        chex.assert_trees_all_equal(before.params[other], after.params[other])
        mean = after.world[f"stats/{mover}"]["batch_stats"]["BatchNorm_0"]["mean"]
        assert np.abs(mean).min() > 1e-3


@pytest.mark.long
def test_real_and_fake_have_statistics_of_their_own():
    game = normed()
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(0.1)), still="actor")
    before = algorithm.init(KEY)
    after, metrics = jax.jit(algorithm.step)(before)
    # each group is centred by itself: mixed, the real ones would be high and the fakes low
    np.testing.assert_allclose(metrics["critic/verdict/real"], 0, atol=1e-5)
    np.testing.assert_allclose(metrics["critic/verdict/fake"], 0, atol=1e-5)
    batch = one_batch(game, before)
    noise = np.asarray(batch["noise"])
    fake = (noise - noise.mean(0)) / np.sqrt(noise.var(0) + 1e-6)
    mean = 0.9 * (0.1 * np.asarray(batch["real"]).mean(0)) + 0.1 * fake.mean(0)
    found = after.world["stats/critic"]["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-5, atol=1e-6)
    var = 0.9 * (0.9 + 0.1 * np.asarray(batch["real"]).var(0)) + 0.1 * fake.var(0)
    np.testing.assert_allclose(found["var"], var, rtol=1e-5)


@pytest.mark.long
def test_evaluation_uses_running_statistics():
    game = normed()
    params, world = game.init(KEY)
    noise = jax.random.normal(KEY, (7, 2))
    made = generate(Whitened(), params, world, KEY, 7, lambda key, n: noise)
    np.testing.assert_allclose(made, noise, rtol=1e-5)
    stats = {"batch_stats": {"BatchNorm_0": {"mean": jnp.ones(2), "var": jnp.full(2, 4.0)}}}
    made = generate(Whitened(), params, {"stats/actor": stats}, KEY, 7, lambda key, n: noise)
    np.testing.assert_allclose(made, (noise - 1) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_exploration_uses_running_statistics():
    game = gacf.ddpg(
        one_reward(), model("actor", Whitened()), MLP((4,)),
        exploration=0.0, rollout=gacf.Rollout(num_envs=3), replay=gacf.Replay(8, 4, 1),
    )  # fmt: skip
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(0.1)), still="actor")
    state, _ = jax.jit(algorithm.step)(algorithm.init(KEY))
    # all copies see a 1: over this batch it would be normalised to 0
    np.testing.assert_allclose(state.world["env"]["transition"]["action"], np.tanh(1), rtol=1e-5)


class Counts(linen.Module):
    """Counts its training evaluations."""

    @linen.compact
    def __call__(self, x, train: bool):
        count = self.variable("count", "n", lambda: jnp.zeros((), jnp.int32))
        if train and not self.is_initializing():
            count.value += 1
        return linen.Dense(1)(x)


@pytest.mark.long
@pytest.mark.parametrize(
    ("rule", "updates", "evaluations"),
    [
        (rules.simultaneous, 1, 2),
        (rules.extragradient, 1, 2),
        (lambda o: rules.simultaneous(o, {"actor": rules.unrolled("actor", "critic", 3)}), 1, 2),
        (lambda o: rules.simultaneous(o, rules.consensus(0.1)), 1, 2),
        (lambda o: rules.alternating(o, steps={"critic": 3}), 1, 2),
        (rules.simultaneous, 3, 6),
    ],
)
def test_the_world_moves_once_an_update(rule, updates, evaluations):
    game = gacf.gan(MLP((), (2,)), Counts(), gacf.data.ring(), batch_size=4, noise=2)
    algorithm = gacf.compose(game, rule({p: optax.sgd(0.1) for p in game.losses}), updates)
    state, _ = jax.jit(algorithm.step)(algorithm.init(KEY))
    assert int(state.world["stats/critic"]["count"]["n"]) == evaluations


@pytest.mark.long
def test_an_nnx_stream_goes_on_from_step_to_step():
    network = factory(2, 1, dropout=0.5)
    game = gacf.gan(MLP((), (2,)), network, gacf.data.ring(), batch_size=4, noise=2)
    algorithm = under(game, rules.simultaneous, SGD)
    state, step = algorithm.init(KEY), jax.jit(algorithm.step)
    for _ in range(2):
        state, _ = step(state)
    assert int(state.world["stats/critic"]["dropout"]["rngs"]["count"]) == 4

    drop = model("critic", lambda rngs: nnx.Dropout(0.5, rngs=rngs))
    params, world = drop.init(KEY, jnp.ones(64))
    once, then = drop.apply(params, world, jnp.ones(64))
    twice, _ = drop.apply(params, then, jnp.ones(64))
    assert set(np.unique(once)) == {0.0, 2.0}
    assert not np.array_equal(once, twice)
    np.testing.assert_array_equal(drop.apply(params, world, jnp.ones(64), train=False)[0], 1)


def test_linen_dropout_follows_the_key():
    drop = model("critic", linen.Dropout(0.5))
    ones = jnp.ones(64)
    outputs = [drop.apply({}, {}, ones, key=jax.random.key(i))[0] for i in (0, 0, 1)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])
    np.testing.assert_array_equal(drop.apply({}, {}, ones, train=False)[0], 1)


class TakesWidth(nnx.Module):
    def __init__(self, into: int = 2, *, rngs: nnx.Rngs):
        self.layer = nnx.Linear(into, 1, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("network", "weights"),
    [
        (TakesWidth, 2),
        (functools.partial(TakesWidth, 3), 3),
        (functools.partial(TakesWidth, into=3), 3),
    ],
)
def test_nnx_classes_serve(network, weights):
    critic = model("critic", network)
    params, world = critic.init(KEY)
    other, _ = critic.init(jax.random.key(1))
    assert params["layer"]["kernel"].shape == (weights, 1) and not world
    assert not np.array_equal(params["layer"]["kernel"], other["layer"]["kernel"])


def test_an_nnx_instance_starts_every_seed_from_its_weights():
    module = TakesWidth(rngs=nnx.Rngs(0))
    for key in jax.random.split(KEY, 2):
        params, _ = model("critic", module).init(key)
        np.testing.assert_array_equal(params["layer"]["kernel"], module.layer.kernel[...])


def test_a_bare_init_is_given_what_it_asks_for():
    def with_default(key, width=3):
        return jnp.zeros(width)

    def with_inputs(key, x):
        return jnp.zeros(x.shape[-1])

    x = jnp.ones((2, 5))
    assert model("critic", (with_default, jnp.matmul)).init(KEY, x)[0].shape == (3,)
    assert model("critic", (with_inputs, jnp.matmul)).init(KEY, x)[0].shape == (5,)


@pytest.mark.parametrize("network", [3, linen.Dense, (jnp.sin,), lambda x: x, None])
def test_what_is_no_network_is_refused(network):
    with pytest.raises(ValueError, match=r"critic: .* was given; allowed: a Linen module"):
        model("critic", network)


def test_another_players_model_is_refused():
    with pytest.raises(ValueError, match="critic: a Model of 'actor' was given"):
        model("critic", model("actor", MLP((2,))))


@pytest.mark.long
def test_mlp_shapes():
    x, y = jnp.ones((3, 2, 2)), jnp.ones((3, 5))
    for shape in ((), (2,), (2, 3)):
        params = MLP((4,), shape, last=jnp.tanh).init(KEY, x, y)
        assert params["params"]["Dense_0"]["kernel"].shape == (9, 4)
        out = MLP((4,), shape, last=jnp.tanh).apply(params, x, y)
        assert out.shape == (3, *shape) and np.abs(out).max() <= 1


@pytest.mark.long
@pytest.mark.parametrize("network", [MLP((5,)), Linen(1, norm=True), (lambda key, *x: jax.random.normal(key, (2,)), lambda w, x, y: x @ w)])  # fmt: skip  # noqa: E501
def test_an_ensemble_is_separate_networks_side_by_side(network):
    single, three = model("critic", network), model("critic", ensemble(network, 3))
    x, y = jax.random.normal(KEY, (2, 6, 2))
    params, entries = three.init(KEY, x, y)
    output, news = three.apply(params, entries, x, y, key=KEY)
    assert output.shape == (6, 3)
    assert len({float(number) for number in output[0]}) == 3  # members differ
    for i in range(3):
        one, stats = jax.tree.map(lambda leaf, i=i: leaf[i], (params, entries))
        alone, told = single.apply(one, stats, x, y, key=KEY)
        np.testing.assert_allclose(output[:, i], column(alone), rtol=1e-5, atol=1e-6)
        # batch statistics are each member's own
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], news)
        chex.assert_trees_all_close(mine, told, rtol=1e-5, atol=1e-6)
    assert bool(news) == bool(entries) == (isinstance(network, Linen))


@pytest.mark.long
def test_ensembles_of_one_and_of_several_outputs():
    network = MLP((5,), (4,))
    assert ensemble(network, 1) is network
    twins = model("critic", ensemble(network, 2))
    params, _ = twins.init(KEY, jnp.ones((6, 2)))
    assert twins.apply(params, {}, jnp.ones((6, 2)))[0].shape == (6, 2, 4)
    with pytest.raises(ValueError, match="members: 0 was given; allowed: a whole number >= 1"):
        ensemble(network, 0)


class Normed(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        return linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))


@pytest.mark.long
def test_a_network_computes_in_bfloat16_and_learns_in_float32():
    half, whole = (model("critic", computed_in(d, MLP((8,)))) for d in ("bfloat16", "float32"))
    x = jax.random.normal(KEY, (16, 3))
    params, _ = half.init(KEY, x)
    chex.assert_trees_all_equal(params, whole.init(KEY, x)[0])

    def loss(network: Any, params: Any) -> jax.Array:
        return jnp.mean(network.apply(params, {}, x)[0] ** 2)

    text = str(jax.make_jaxpr(lambda p: loss(half, p))(params))
    assert "bf16[16,8] = dot_general" in text and "f32[16,8] = dot_general" not in text
    ours, expected = (jax.grad(lambda p, n=n: loss(n, p))(params) for n in (half, whole))
    assert {x.dtype for x in jax.tree.leaves(ours)} == {jnp.dtype("float32")}
    chex.assert_trees_all_close(ours, expected, rtol=0.1, atol=0.02)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (ours, expected)), strict=True))


@pytest.mark.long
def test_statistics_and_ensembles_of_a_bfloat16_network():
    x = jax.random.normal(KEY, (16, 3))
    normed = model("critic", ensemble(computed_in("bfloat16", Normed()), 2))
    params, entries = normed.init(KEY, x)
    output, news = normed.apply(params, entries, x)
    assert output.dtype == jnp.float32 and output.shape == (16, 2, 8)
    chex.assert_trees_all_equal_shapes_and_dtypes(news, entries)
    with pytest.raises(ValueError, match="dtype: 'float16' is unknown; did you mean"):
        computed_in("float16", MLP((8,)))
    with pytest.raises(ValueError, match="network: a Model was given"):
        computed_in("bfloat16", normed)


@pytest.mark.parametrize("wrong", [(0,), (8, -1), (2.0,), (True,)])
def test_widths_of_an_mlp_are_whole_numbers(wrong) -> None:
    with pytest.raises(ValueError, match=r"hidden: .* was given; allowed: whole numbers >= 1"):
        MLP(wrong)
    with pytest.raises(ValueError, match=r"shape: .* was given; allowed: whole numbers >= 1"):
        MLP((), wrong)
