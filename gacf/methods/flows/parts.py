"""Parts that the games of more than two players share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import lookup, require, whole
from gacf.core.game import Game, add_player
from gacf.core.tracing import blank
from gacf.core.types import Batch, Key, Loss, Metrics, Params, PyTree, World
from gacf.methods.actor_critic import DIVERGENCES
from gacf.methods.actor_critic.constructor import Groups, Penalty, penalty_judge
from gacf.methods.gan import inputs as checks
from gacf.methods.gan import normal
from gacf.methods.gan.proposals import ProposedSamples, by_actor
from gacf.networks import Model, column
from gacf.networks.network import as_inputs


def no_metrics(params: Params, world: World, key: Key) -> Metrics:
    """An evaluation that reports nothing."""
    del params, world, key
    return {}


def rows(*arrays: Any) -> Callable[[Key, int], tuple[jax.Array, ...]]:
    """A sampler of rows, `(key, n) -> ([n, …], …)`, which draws the same rows of each array.

    Each array may also be a pytree of arrays. Instead of arrays, one object with a sampler,
    `.sample`, may be given.

    Raises:
        ValueError: the arrays have different lengths, or are empty.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> draw = rows(jnp.arange(3.0), jnp.arange(3))
        >>> x, y = draw(jax.random.key(0), 5)
        >>> bool((x == y).all())
        True
    """
    if len(arrays) == 1 and hasattr(arrays[0], "sample"):
        return lambda key, n: as_inputs(arrays[0].sample(key, n))
    columns = jax.tree.map(jnp.asarray, arrays, is_leaf=lambda x: isinstance(x, list))
    leaves = jax.tree.leaves(columns)
    counts = {array.shape[:1] for array in leaves}
    if len(counts) != 1 or min(counts) in ((), (0,)):
        shapes = ", ".join(str(array.shape) for array in leaves)
        raise ValueError(f"data: shapes {shapes} were given; allowed: [n, …] with one n >= 1")

    def draw(key: Key, n: int) -> tuple[jax.Array, ...]:
        index = jax.random.randint(key, (n,), 0, leaves[0].shape[0])
        return jax.tree.map(lambda array: array[index], columns)

    return draw


def examples(name: str, given: Any) -> Callable[[Key, int], tuple[jax.Array, ...]]:
    """A sampler of examples of real numbers, as `rows`, from one array or an object with a sampler.

    Raises:
        ValueError: there are labels as well, or the examples are whole numbers, NaN or infinite.
    """
    if isinstance(given, tuple):
        raise ValueError(f"{name}: {len(given)} arrays were given; allowed: examples alone")
    draw = rows(given)
    shapes = jax.eval_shape(lambda: draw(jax.random.key(0), 1))
    if len(shapes) > 1:
        raise ValueError(f"{name}: labels were drawn with the examples; allowed: examples alone")
    checks.check_examples(name, shapes[0] if hasattr(given, "sample") else np.asarray(given))
    return draw


def real_and_noise(
    data: Any, noise: int, batch_size: int, names: Sequence[str] = ("noise",)
) -> Callable[[World, Key], Batch]:
    """The `sample` of a game whose batches hold real examples and standard normal noise.

    Args:
        data: examples [n, …], or an object with a sampler.
        noise: Z.
        batch_size: B.
        names: the entries of the batch that hold noise [B, Z]; the examples are `real`.

    Raises:
        ValueError: the examples are not real numbers, or a size is below 1.
    """
    require("batch_size", batch_size, whole, "a whole number >= 1")
    real, latent = examples("data", data), normal(noise)

    def sample(world: World, key: Key) -> Batch:
        real_key, *noise_keys = jax.random.split(key, 1 + len(names))
        drawn = {
            name: latent(own_key, batch_size)
            for name, own_key in zip(names, noise_keys, strict=True)
        }
        return {"real": real(real_key, batch_size)[0], **drawn}

    return sample


def of_noise(actor: Model, noise: int) -> Callable[[Params, World, PyTree, Key], PyTree]:
    """The `propose` of a game whose actor makes samples of standard normal noise [n, Z]."""
    latent = normal(noise)

    def draw(world: World, key: Key, n: int) -> jax.Array:
        del world
        return latent(key, n)

    return ProposedSamples(by_actor(actor), lambda: draw({}, jax.random.key(0), 1), draw)


class Stage(NamedTuple):
    """One of several models that are initialised in turn, each on outputs of those before it.

    Attributes:
        model: the model.
        argument: the name of the argument that gave its network, for messages.
        inputs: `arrays known so far -> the model's inputs`: those of the batch by their names, and
            the outputs of earlier models by the names of their players.
        output: what the network must yield: the name of an array of the batch, for a generator's
            samples; allowed shapes, in which a word stands for any number; or a function that
            raises for outputs that it does not allow.
    """

    model: Model
    argument: str
    inputs: Callable[[dict[str, Any]], tuple[Any, ...]]
    output: str | Sequence[tuple[int | str, ...]] | Callable[[Any], None]


def game_of_stages(
    losses: dict[str, Loss],
    stages: Sequence[Stage],
    sample: Callable[[World, Key], Batch],
    evaluate: Callable[[Params, World, Key], Metrics],
) -> Game:
    """The game of several models; its initialisation is traced once, to check that they fit.

    Args:
        losses: the losses of all players.
        stages: the models, in an order in which each finds its inputs.
        sample: `(world, key) -> batch`, a dict; it must not read the world.
        evaluate: `(params, world, key) -> metrics`.

    Raises:
        ValueError: a network does not take its inputs, or yields something that is not allowed.
    """

    def init(key: Key) -> tuple[Params, World]:
        return _initialised(key, stages, jax.eval_shape(sample, {}, key))

    try:
        jax.eval_shape(init, jax.random.key(0))
    except ValueError as error:
        # raised again, without JAX's frames and its note about them
        raise ValueError(str(error)) from error.__cause__
    return Game(losses, init, sample=sample, evaluate=evaluate)


def _initialised(
    key: Key, stages: Sequence[Stage], batch: Mapping[str, Any]
) -> tuple[Params, World]:
    """Params and statistics of the models, for a batch of these shapes."""
    params: Params = {}
    world: World = {}
    arrays = dict(blank(batch))
    for stage, own_key in zip(stages, jax.random.split(key, len(stages)), strict=True):
        given = stage.inputs(arrays)

        def output_of(*given: Any, model: Model = stage.model, world: World = world) -> Any:
            own, entries = model.init(jax.random.key(0), *given)
            draws = jax.random.key(0)  # for networks that draw in evaluation too
            return model.apply(own, {**world, **entries}, *given, key=draws, train=False)[0]

        output = checks.traced(stage.argument, given, output_of, *given)
        if callable(stage.output):
            stage.output(output)
        elif isinstance(stage.output, str):
            checks.check_samples(stage.argument, output, "data", arrays[stage.output])
        else:
            checks.check_output(stage.argument, output, stage.output)
        player = stage.model.player
        params[player], entries = stage.model.init(own_key, *given)
        world |= entries
        arrays[player] = blank(output)
    return params, world


def add_model(
    game: Game, model: Model, inputs: Callable[[Batch], tuple[Any, ...]], loss: Loss
) -> Game:
    """The game with one more player, whose network may keep statistics in the world.

    Args:
        game: any game.
        model: the player's model.
        inputs: `batch -> the model's inputs`, for initialisation.
        loss: the player's loss.
    """
    game = add_player(game, model.player, lambda key: (), loss)
    init_others = game.init

    def init(key: Key) -> tuple[Params, World]:
        base_key, own_key = jax.random.split(key)
        params, world = init_others(base_key)
        batch = blank(jax.eval_shape(game.sample, world, own_key))
        own, entries = model.init(own_key, *inputs(batch))
        return {**params, model.player: own}, {**world, **entries}

    return game._replace(init=init)


class Adversary(NamedTuple):
    """A critic that distinguishes `real` from `fake`, whatever the two are.

    Attributes:
        learn: `(own, params, world, groups, key) -> (loss, metrics, entries)`: its own loss,
            Σ mean D(1 ‖ C(real)) + mean D(0 ‖ C(fake)).
        fool: `(params, world, groups, key) -> loss` of the players that make the examples: D from
            the exchanged labels. Leave out a group that the player does not influence.
    """

    learn: Callable[..., tuple[jax.Array, Metrics, World]]
    fool: Callable[[Params, World, Groups, Key], jax.Array]


def adversary(
    critic: Model, divergence: str = "cross_entropy", penalty: Penalty | None = None
) -> Adversary:
    """The losses of a critic that distinguishes two groups of examples, and of its opponents.

        critic   min D(1 ‖ C(real)) + D(0 ‖ C(fake))        others   min D(0 ‖ C(real)) + D(1 ‖ C(fake))

    With cross-entropy the others' loss is the non-saturating one.

    Args:
        critic: a model that yields logits [B] or [B, 1].
        divergence: a name in `gacf.methods.actor_critic.DIVERGENCES`.
        penalty: `(judge, groups, key) -> scalar`, added to the critic's loss.

    Reference:
        Goodfellow et al. 2014, section 3.
    """  # noqa: E501
    divergence_of = lookup("divergence", divergence, DIVERGENCES)
    name = critic.player

    def verdicts(
        own: PyTree, params: Params, world: World, groups: Groups, key: Key
    ) -> tuple[dict[str, jax.Array], World]:
        by_group: dict[str, jax.Array] = {}
        entries: World = {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
            output, news = critic.given(params).apply(
                own, {**world, **entries}, *as_inputs(groups[group]), key=group_key
            )
            by_group[group] = column(output)
            entries |= news
        return by_group, entries

    def total(by_group: dict[str, jax.Array], labels: Mapping[str, float]) -> jax.Array:
        means = [
            jnp.mean(divergence_of(v, jnp.full_like(v, labels[g]))) for g, v in by_group.items()
        ]
        return functools.reduce(jnp.add, means)

    def learn(
        own: PyTree, params: Params, world: World, groups: Groups, key: Key
    ) -> tuple[jax.Array, Metrics, World]:
        judge_key, penalty_key = jax.random.split(key)
        by_group, entries = verdicts(own, params, world, groups, judge_key)
        loss = total(by_group, {"real": 1.0, "fake": 0.0})
        metrics = {f"verdict/{group}": jnp.mean(v) for group, v in by_group.items()}
        if penalty is not None:
            judge = penalty_judge(critic, own, params, world, column, judge_key)
            metrics["penalty"] = penalty(judge, groups, penalty_key)
            loss = loss + metrics["penalty"]
        return loss, metrics, entries

    def fool(params: Params, world: World, groups: Groups, key: Key) -> jax.Array:
        by_group, _ = verdicts(params[name], params, world, groups, key)
        return total(by_group, {"real": 0.0, "fake": 1.0})

    return Adversary(learn, fool)


def square_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """The squared distance of examples [B, …], summed per example, averaged over the batch."""
    return jnp.mean(jnp.sum(jnp.square(x - y).reshape(x.shape[0], -1), axis=-1))
