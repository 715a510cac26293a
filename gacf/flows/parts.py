"""What the games of more than two players share (L4)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.actor_critic import DIVERGENCES
from gacf.actor_critic.constructor import Groups, Penalty
from gacf.game import Game, add_player
from gacf.networks import Model, column
from gacf.types import Batch, Key, Loss, Metrics, Params, PyTree, World, blank, lookup

Inputs = Callable[[dict[str, Any]], tuple[Any, ...]]


def inputs(seen: Any) -> tuple[Any, ...]:
    """Several inputs are a tuple; one stands for itself."""
    return seen if isinstance(seen, tuple) else (seen,)


def no_metrics(params: Params, world: World, key: Key) -> Metrics:
    """Nothing to evaluate."""
    del params, world, key
    return {}


def rows(*arrays: Any) -> Callable[[Key, int], tuple[jax.Array, ...]]:
    """A sampler of rows, `(key, n) -> ([n, …], …)`: the same rows of each array.

    In place of arrays one object with a sampler, `.sample`, may be given.

    Raises:
        ValueError: arrays of different lengths, or empty ones.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> draw = rows(jnp.arange(3.0), jnp.arange(3))
        >>> x, y = draw(jax.random.key(0), 5)
        >>> bool((x == y).all())
        True
    """
    if len(arrays) == 1 and hasattr(arrays[0], "sample"):
        return lambda key, n: inputs(arrays[0].sample(key, n))
    found = [jnp.asarray(array) for array in arrays]
    counts = {array.shape[:1] for array in found}
    if len(counts) != 1 or min(counts) in ((), (0,)):
        shapes = ", ".join(str(array.shape) for array in found)
        raise ValueError(f"data: shapes {shapes} were given; allowed: [n, …] with one n >= 1")

    def draw(key: Key, n: int) -> tuple[jax.Array, ...]:
        chosen = jax.random.randint(key, (n,), 0, found[0].shape[0])
        return tuple(array[chosen] for array in found)

    return draw


def begin(
    key: Key, steps: Sequence[tuple[Model, Inputs]], given: Mapping[str, Any]
) -> tuple[Params, World]:
    """Params and statistics of several models, each of which may see what earlier ones yield.

    Args:
        key: of all.
        steps: (model, `outputs so far -> its inputs`), in an order in which that is known.
        given: arrays, or their shapes, that are known beforehand, by name; a model's output takes
            its player's name.
    """
    params: Params = {}
    world: World = {}
    known = dict(blank(given))
    for (made, shown), own_key in zip(steps, jax.random.split(key, len(steps)), strict=True):
        seen = shown(known)
        params[made.player], entries = made.init(own_key, *seen)
        world |= entries
        mine = functools.partial(made.apply, params[made.player], world, train=False)
        yielded, _ = jax.eval_shape(lambda k, *x, mine=mine: mine(*x, key=k), own_key, *seen)
        known[made.player] = blank(yielded)
    return params, world


def enter(game: Game, made: Model, shown: Callable[[Batch], tuple[Any, ...]], loss: Loss) -> Game:
    """The game with one more player, whose network may keep statistics in the world.

    Args:
        game: any game.
        made: the player's model.
        shown: `batch -> its inputs`, for initialisation.
        loss: the player's.
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
    """A critic that tells `real` from `fake`, whatever the two are.

    Attributes:
        learn: `(own, params, world, groups, key) -> (loss, metrics, entries)`: its own loss,
            Σ mean D(1 ‖ C(real)) + mean D(0 ‖ C(fake)).
        fool: `(params, world, groups, key) -> loss` of those who make the examples: D from the
            exchanged labels. A group that the player does not touch is left out.
    """

    learn: Callable[..., tuple[jax.Array, Metrics, World]]
    fool: Callable[[Params, World, Groups, Key], jax.Array]


def adversary(
    critic: Model, divergence: str = "cross_entropy", penalty: Penalty | None = None
) -> Adversary:
    """The two sides of telling two groups of examples apart.

        critic   min D(1 ‖ C(real)) + D(0 ‖ C(fake))        others   min D(0 ‖ C(real)) + D(1 ‖ C(fake))

    With cross-entropy the others' loss is the non-saturating one.

    Args:
        critic: yields logits [B] or [B, 1].
        divergence: a name in `gacf.actor_critic.DIVERGENCES`.
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

            def judge(*seen: Any) -> jax.Array:
                given = critic.given(params)
                return column(given.apply(own, world, *seen, key=judge_key)[0])

            metrics["penalty"] = penalty(judge, groups, penalty_key)
            loss = loss + metrics["penalty"]
        return loss, metrics, entries

    def fool(params: Params, world: World, groups: Groups, key: Key) -> jax.Array:
        found, _ = verdicts(params[name], params, world, groups, key)
        return total(found, {"real": 0.0, "fake": 1.0})

    return Adversary(learn, fool)


def square_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared distance of examples [B, …], summed over an example, averaged over the batch."""
    return jnp.mean(jnp.sum(jnp.square(x - y).reshape(x.shape[0], -1), axis=-1))
