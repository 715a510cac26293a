"""Parts that the games of more than two players share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import lookup
from gacf.core.game import Game, add_player
from gacf.core.tracing import blank
from gacf.core.types import Batch, Key, Loss, Metrics, Params, PyTree, World
from gacf.methods.actor_critic import DIVERGENCES
from gacf.methods.actor_critic.constructor import Groups, Penalty, penalty_judge
from gacf.methods.gan import inputs as checks
from gacf.networks import Model, column

Inputs = Callable[[dict[str, Any]], tuple[Any, ...]]


def inputs(seen: Any) -> tuple[Any, ...]:
    """A tuple is several inputs; anything else is one input."""
    return seen if isinstance(seen, tuple) else (seen,)


def no_metrics(params: Params, world: World, key: Key) -> Metrics:
    """An evaluation that reports nothing."""
    del params, world, key
    return {}


def rows(*arrays: Any) -> Callable[[Key, int], tuple[jax.Array, ...]]:
    """A sampler of rows, `(key, n) -> ([n, …], …)`: the same rows of each array.

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
        return lambda key, n: inputs(arrays[0].sample(key, n))
    found = jax.tree.map(jnp.asarray, arrays, is_leaf=lambda x: isinstance(x, list))
    leaves = jax.tree.leaves(found)
    counts = {array.shape[:1] for array in leaves}
    if len(counts) != 1 or min(counts) in ((), (0,)):
        shapes = ", ".join(str(array.shape) for array in leaves)
        raise ValueError(f"data: shapes {shapes} were given; allowed: [n, …] with one n >= 1")

    def draw(key: Key, n: int) -> tuple[jax.Array, ...]:
        chosen = jax.random.randint(key, (n,), 0, leaves[0].shape[0])
        return jax.tree.map(lambda array: array[chosen], found)

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


def built(game: Game) -> Game:
    """The game, after tracing its initialisation to check that networks and data fit together."""
    try:
        jax.eval_shape(game.init, jax.random.key(0))
    except ValueError as error:
        # raised again, without JAX's frames and its note about them
        raise ValueError(str(error)) from error.__cause__
    return game


def begin(
    key: Key,
    steps: Sequence[tuple[Model, Inputs]],
    given: Mapping[str, Any],
    yields: Mapping[str, tuple[str, Any]],
) -> tuple[Params, World]:
    """Params and statistics of several models, each of which may see the outputs of earlier ones.

    Args:
        key: the key for all models.
        steps: pairs (model, `outputs so far -> its inputs`), in an order in which they are known.
        given: the arrays, or their shapes, that are known beforehand, by name; the output of a
            model is added under its player's name.
        yields: player -> the name of the argument that gave its network, and the required output:
            the name of one of the arrays, for a generator's samples; allowed shapes, in which a
            word stands for any number; or a function that raises for outputs it does not allow.

    Raises:
        ValueError: a network does not take its inputs, or yields something else.
    """
    params: Params = {}
    world: World = {}
    known = dict(blank(given))
    for (made, shown), own_key in zip(steps, jax.random.split(key, len(steps)), strict=True):
        seen = shown(known)
        argument, allowed = yields[made.player]

        def both(*seen: Any, made: Model = made, world: World = world) -> Any:
            own, entries = made.init(jax.random.key(0), *seen)
            draws = jax.random.key(0)  # for networks that draw in evaluation too
            return made.apply(own, {**world, **entries}, *seen, key=draws, train=False)[0]

        yielded = checks.traced(argument, seen, both, *seen)
        if callable(allowed):
            allowed(yielded)
        elif isinstance(allowed, str):
            checks.check_samples(argument, yielded, "data", known[allowed])
        else:
            checks.check_output(argument, yielded, allowed)
        params[made.player], entries = made.init(own_key, *seen)
        world |= entries
        known[made.player] = blank(yielded)
    return params, world


def enter(game: Game, made: Model, shown: Callable[[Batch], tuple[Any, ...]], loss: Loss) -> Game:
    """The game with one more player, whose network may keep statistics in the world.

    Args:
        game: any game.
        made: the player's model.
        shown: `batch -> its inputs`, for initialisation.
        loss: the player's loss.
    """
    game = add_player(game, made.player, lambda key: (), loss)
    start = game.init

    def init(key: Key) -> tuple[Params, World]:
        base_key, own_key = jax.random.split(key)
        params, world = start(base_key)
        batch = blank(jax.eval_shape(game.sample, world, own_key))
        own, entries = made.init(own_key, *shown(batch))
        return {**params, made.player: own}, {**world, **entries}

    return game._replace(init=init)


class Adversary(NamedTuple):
    """A critic that distinguishes `real` from `fake`, whatever the two are.

    Attributes:
        learn: `(own, params, world, groups, key) -> (loss, metrics, entries)`: its own loss,
            Σ mean D(1 ‖ C(real)) + mean D(0 ‖ C(fake)).
        fool: `(params, world, groups, key) -> loss` of the players that make the examples: D from
            the exchanged labels. A group that the player does not influence is left out.
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
    wrong = lookup("divergence", divergence, DIVERGENCES)
    name = critic.player

    def verdicts(
        own: PyTree, params: Params, world: World, groups: Groups, key: Key
    ) -> tuple[dict[str, jax.Array], World]:
        found: dict[str, jax.Array] = {}
        entries: World = {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
            output, news = critic.given(params).apply(
                own, {**world, **entries}, *inputs(groups[group]), key=group_key
            )
            found[group] = column(output)
            entries |= news
        return found, entries

    def total(found: dict[str, jax.Array], labels: Mapping[str, float]) -> jax.Array:
        each = [jnp.mean(wrong(v, jnp.full_like(v, labels[g]))) for g, v in found.items()]
        return functools.reduce(jnp.add, each)

    def learn(
        own: PyTree, params: Params, world: World, groups: Groups, key: Key
    ) -> tuple[jax.Array, Metrics, World]:
        judge_key, penalty_key = jax.random.split(key)
        found, entries = verdicts(own, params, world, groups, judge_key)
        loss = total(found, {"real": 1.0, "fake": 0.0})
        metrics = {f"verdict/{group}": jnp.mean(v) for group, v in found.items()}
        if penalty is not None:
            judge = penalty_judge(critic, own, params, world, column, judge_key)
            metrics["penalty"] = penalty(judge, groups, penalty_key)
            loss = loss + metrics["penalty"]
        return loss, metrics, entries

    def fool(params: Params, world: World, groups: Groups, key: Key) -> jax.Array:
        found, _ = verdicts(params[name], params, world, groups, key)
        return total(found, {"real": 0.0, "fake": 1.0})

    return Adversary(learn, fool)


def square_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """The squared distance of examples [B, …], summed per example, averaged over the batch."""
    return jnp.mean(jnp.sum(jnp.square(x - y).reshape(x.shape[0], -1), axis=-1))
