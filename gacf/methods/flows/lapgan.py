"""LAPGAN, Denton et al. 2015: a pyramid of GANs, each of which adds detail to the coarser one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import lookup, require
from gacf.core.clock import clock_of, without_clock
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Loss, Metrics, Outcome, Params, PyTree, World
from gacf.methods.actor_critic.constructor import Penalty
from gacf.methods.flows.parts import no_metrics
from gacf.methods.gan import gan, normal
from gacf.methods.gan.inputs import check_examples
from gacf.methods.gan.proposals import DRAWS, ProposedSamples
from gacf.networks import model
from gacf.networks.images import doubled, halved


def side_by_side(games: Mapping[str, Game]) -> Game:
    """Several independent games as one game.

    Player p of game g is named `g/p`, and the entries of g's world are named in the same way. The
    batch is a dict of the games' batches; if those are dicts, it is flat with entries `g/entry`.

    Args:
        games: name -> game.

    Example:
        >>> import gacf
        >>> one = gacf.from_losses({"actor": 1.0}, {"actor": lambda p, batch, key: p["actor"] ** 2})
        >>> sorted(side_by_side({"left": one, "right": one}).losses)
        ['left/actor', 'right/actor']
    """
    require("games", games, lambda given: len(given) > 0, "a dict with at least one game")

    def put(name: str, entries: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{name}/{entry}": value for entry, value in entries.items()}

    def take(name: str, entries: Mapping[str, Any]) -> dict[str, Any]:
        own = {
            entry.removeprefix(f"{name}/"): value
            for entry, value in entries.items()
            if entry.startswith(f"{name}/")
        }
        return {**own, **clock_of(entries)}

    def put_world(name: str, entries: World) -> World:
        return put(name, without_clock(entries))

    def keys(key: Key) -> dict[str, Key]:
        return dict(zip(games, jax.random.split(key, len(games)), strict=True))

    def own_batch(name: str, batch: Batch) -> Batch:
        return batch[name] if name in batch else take(name, batch)

    def init(key: Key) -> tuple[Params, World]:
        params: Params = {}
        world: World = {}
        for name, own_key in keys(key).items():
            own, entries = games[name].init(own_key)
            params |= put(name, own)
            world |= put_world(name, entries)
        return params, world

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        metrics: Metrics = {}
        observed: World = {}
        for name, own_key in keys(key).items():
            own, own_metrics = games[name].observe(take(name, params), take(name, world), own_key)
            observed |= put_world(name, own)
            metrics |= put(name, own_metrics)
        return {**observed, **clock_of(world)}, metrics

    def sample(world: World, key: Key) -> Batch:
        batch: dict[str, Any] = {}
        for name, own_key in keys(key).items():
            own = games[name].sample(take(name, world), own_key)
            batch |= put(name, own) if isinstance(own, dict) else {name: own}
        return batch

    def settle(params: Params, world: World, outcomes: Mapping[str, Outcome]) -> World:
        settled = clock_of(world)
        for name, game in games.items():
            own = {
                player: outcome._replace(world=take(name, outcome.world))
                for player, outcome in take(name, outcomes).items()
            }
            settled |= put_world(name, game.settle(take(name, params), take(name, world), own))
        return settled

    def evaluate(params: Params, world: World, key: Key) -> Metrics:
        metrics: Metrics = {}
        for name, own_key in keys(key).items():
            own_metrics = games[name].evaluate(take(name, params), take(name, world), own_key)
            metrics |= put(name, own_metrics)
        return metrics

    def of(name: str, loss: Loss) -> Loss:
        def own_loss(
            own: PyTree, params: Params, world: World, batch: Batch, key: Key
        ) -> tuple[jax.Array, Outcome]:
            value, outcome = loss(
                own, take(name, params), take(name, world), own_batch(name, batch), key
            )
            return value, outcome._replace(world=put_world(name, outcome.world))

        return own_loss

    losses = {
        f"{name}/{player}": of(name, loss)
        for name, game in games.items()
        for player, loss in game.losses.items()
    }
    return Game(losses, init, observe, sample, settle, evaluate)


def down(images: jax.Array) -> jax.Array:
    """Half the height and width: means of 2 × 2 pixels, [B, H, W, C] -> [B, H/2, W/2, C]."""
    _, height, width, _ = images.shape
    if height % 2 or width % 2:
        raise ValueError(f"images: {height} × {width} were given; allowed: even sizes")
    return halved(images)


def up(images: jax.Array) -> jax.Array:
    """Twice the height and width: each pixel is repeated four times."""
    return doubled(images)


def laplacian_pyramid(images: jax.Array, levels: int) -> list[jax.Array]:
    """The detail that each size adds to the next coarser one, finest first, then the coarsest.

        I_0 = images,   I_{k+1} = down(I_k),   h_k = I_k − up(I_{k+1}),   h_K = I_K

    Args:
        images: [B, H, W, C], H and W multiples of 2^levels.
        levels: K; the pyramid has K + 1 entries.

    Reference:
        Burt & Adelson 1983; Denton et al. 2015, section 2.2.

    Example:
        >>> import jax.numpy as jnp
        >>> [h.shape[1] for h in laplacian_pyramid(jnp.zeros((1, 8, 8, 1)), 2)]
        [8, 4, 2]
    """
    details = []
    for _ in range(levels):
        coarse = down(images)
        details.append(images - up(coarse))
        images = coarse
    return [*details, images]


def reconstruct(pyramid: list[jax.Array]) -> jax.Array:
    """The images of a Laplacian pyramid: I_k = up(I_{k+1}) + h_k."""
    *rest, images = pyramid
    for detail in reversed(rest):
        images = up(images) + detail
    return images


def lapgan(
    generators: Mapping[str, Any],
    discriminators: Mapping[str, Any],
    data: jax.Array,
    noise: int = 32,
    loss: str = "non_saturating",
    batch_size: int = 64,
    penalty: Penalty | None = None,
    evaluate: Callable[[Params, World, Key], Metrics] = no_metrics,
) -> Game:
    """One GAN per level of the Laplacian pyramid, side by side; `draw_pyramid` chains samples.

        level K   a GAN of the coarsest images I_K
        level k   a GAN of h_k = I_k − up(I_{k+1}), conditional on the real up(I_{k+1})

    Args:
        generators: level -> the actor's network, coarsest first: noise [B, Z] -> [B, h, w, C], and
            for all other levels `(noise, up(coarser) [B, h, w, C]) -> [B, h, w, C]`.
        discriminators: level -> the critic's network, `[B, h, w, C]` -> logits, and for all levels
            but the first `(h_k, up(coarser))` -> logits.
        data: images [n, H, W, C].
        noise: Z, for each level.
        loss: a name in `gacf.methods.gan.LOSSES`.
        batch_size: B, for each level.
        penalty: added to each critic's loss.
        evaluate: `(params, world, key) -> metrics`.

    Returns:
        A `Game` of the players `level/actor` and `level/critic`. `gacf.propose` takes noise of all
        K levels, [n, K, Z], or n.

    Raises:
        ValueError: the discriminators have other levels than the generators.

    Reference:
        Denton et al. 2015, section 2.3 and algorithm 1. There d and u blur the images; a pyramid
        that averages and repeats pixels reconstructs them just as exactly.

    Example:
        >>> import jax.numpy as jnp
        >>> from gacf.networks import MLP
        >>> generators = {"2x2": MLP((8,), (2, 2, 1)), "4x4": MLP((8,), (4, 4, 1))}
        >>> discriminators = {"2x2": MLP((8,)), "4x4": MLP((8,))}
        >>> game = lapgan(generators, discriminators, jnp.zeros((5, 4, 4, 1)))
        >>> sorted(game.losses)
        ['2x2/actor', '2x2/critic', '4x4/actor', '4x4/critic']
    """
    if isinstance(data, tuple) or callable(data) or hasattr(data, "sample"):
        kind = type(data).__name__
        raise ValueError(f"data: a {kind} was given; allowed: an array of images [n, H, W, C]")
    check_examples("data", np.asarray(data))
    pyramid = laplacian_pyramid(jnp.asarray(data), len(generators) - 1)[::-1]
    images = pyramid[0]
    games: dict[str, Game] = {}
    for level, detail in zip(generators, pyramid, strict=True):
        examples: Any = images
        if games:
            enlarged = up(images)
            examples, images = (detail, enlarged), enlarged + detail
        games[level] = gan(
            generators[level], lookup("discriminators", level, discriminators), examples, loss,
            batch_size, noise, penalty=penalty,
        )  # fmt: skip
    latent, levels = normal(noise), len(generators)

    def draw(world: World, key: Key, n: int) -> jax.Array:
        del world
        return jnp.stack([latent(k, n) for k in jax.random.split(key, levels)], axis=1)

    def make(params: Params, world: World, inputs: tuple[Any, ...], key: Key) -> jax.Array:
        images = _pyramid(generators, params, world, inputs[0], jax.random.split(key, levels))
        return list(images.values())[-1]

    like = lambda: draw({}, jax.random.key(0), 1)  # noqa: E731
    return side_by_side(games)._replace(
        evaluate=evaluate, propose=ProposedSamples(make, like, draw)
    )


def draw_pyramid(
    generators: Mapping[str, Any], params: Params, world: World, key: Key, n: int, noise: int = 32
) -> dict[str, jax.Array]:
    """Samples of all levels, level -> images [n, h, w, C], each made from the level before it.

    Args:
        generators: as given to `lapgan`.
        params: the params of all players.
        world: the world.
        key: the key of the noise.
        n: the number of samples.
        noise: as given to `lapgan`.
    """
    keys = jax.random.split(key, len(generators))
    noises = jnp.stack([normal(noise)(own_key, n) for own_key in keys], axis=1)
    draws = jax.vmap(lambda own_key: jax.random.fold_in(own_key, DRAWS))(keys)
    return _pyramid(generators, params, world, noises, draws)


def _pyramid(
    generators: Mapping[str, Any], params: Params, world: World, noises: jax.Array, keys: Key
) -> dict[str, jax.Array]:
    """Level -> images, from the noise of all levels [n, K, Z] and a key for what each draws."""
    by_level: dict[str, jax.Array] = {}
    images = None
    for index, level in enumerate(generators):
        actor, latent = model("actor", generators[level]), noises[:, index]
        prefix = f"{level}/"
        own = {k.removeprefix(prefix): v for k, v in world.items() if k.startswith(prefix)}
        inputs = (latent,) if images is None else (latent, up(images))
        detail, _ = actor.apply(
            params[f"{level}/actor"], own, *inputs, key=keys[index], train=False
        )
        images = detail if images is None else up(images) + detail
        by_level[level] = images
    return by_level
