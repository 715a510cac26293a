"""Entropy regularisation: rewards an actor for being random or diverse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma

from gacf.core.checks import require, whole
from gacf.core.game import Game
from gacf.core.types import Batch, Key, Metrics, Params, PyTree, World
from gacf.networks import model
from gacf.networks.network import as_inputs
from gacf.stabilizers.added_term import with_term

NEAREST = 1e-6
"""The distance that coinciding samples count as; the logarithm of 0 is infinite."""
TINY = 1e-12

Estimate = Callable[[jax.Array], jax.Array]


def nearest_neighbours(samples: jax.Array, k: int = 1) -> jax.Array:
    """The differential entropy in nats, estimated from the distance to each k-th neighbour.

        H = ψ(B) − ψ(k) + log V_d + (d/B) Σ_i log ‖x_i − x_i's k-th neighbour‖,
        V_d = π^{d/2} / Γ(d/2 + 1)

    In few dimensions its standard error is about √((ψ′(k) + Var log p) / B), and its bias smaller
    unless k is large: up to 0.12 at B = 200 and k = 4 if the density has edges. In many dimensions
    it changes with scale as it should, H(cX) = H(X) + d log c, but is right in little else. Its
    gradient drives neighbours apart.

    Args:
        samples: [B, …], each flattened to d numbers.
        k: which neighbour; a larger k is smoother, but does not notice small clusters.

    Returns:
        H, a scalar.

    Raises:
        ValueError: k is below 1, there are not more than k samples, or they are whole numbers.

    Reference:
        Kozachenko & Leonenko 1987 (k = 1); Kraskov, Stögbauer & Grassberger 2004, eq. 20.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.random.uniform(jax.random.key(0), (1000, 2))
        >>> wider = nearest_neighbours(2 * x) - nearest_neighbours(x)
        >>> bool(abs(nearest_neighbours(x)) < 0.1), round(float(wider / jnp.log(2)), 3)
        (True, 2.0)
    """
    require("k", k, whole, "a whole number >= 1")
    if samples.ndim < 1 or len(samples) <= k:
        raise ValueError(
            f"samples: shape {samples.shape} was given; allowed: [B, …] with B > k = {k}"
        )
    if not jnp.issubdtype(samples.dtype, jnp.floating):
        raise ValueError(
            f"samples: {samples.dtype} was given; allowed: floats, since whole numbers have no "
            "density (use the entropy of their policy)"
        )
    x = samples.reshape(len(samples), -1)
    fixed = jax.lax.stop_gradient(x)
    squares = jnp.sum(jnp.square(fixed[:, None] - fixed[None]), axis=-1)
    squares = jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, squares)
    neighbour = jax.lax.top_k(-squares, k)[1][:, -1]
    square = jnp.sum(jnp.square(x - x[neighbour]), axis=-1)
    distance = jnp.log(square + NEAREST**2) / 2
    count, d = x.shape
    volume = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
    offset = digamma(float(count)) - digamma(float(k)) + volume
    return (offset + d * jnp.mean(distance)).astype(samples.dtype)


def likeness(codes: jax.Array) -> jax.Array:
    """Mean squared cosine between different rows: 1/(B(B−1)) Σ_{i≠j} (s_i·s_j / ‖s_i‖‖s_j‖)².

    Args:
        codes: s, [B, F] with B >= 2.

    Reference:
        Zhao, Mathieu & LeCun 2017, section 2.4.

    Example:
        >>> import jax.numpy as jnp
        >>> float(likeness(jnp.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])))
        0.3333333432674408
    """
    count = codes.shape[0]
    if codes.ndim != 2 or count < 2:
        raise ValueError(f"codes: shape {codes.shape} was given; allowed: [B, F] with B >= 2")
    size = jnp.sqrt(jnp.sum(jnp.square(codes), axis=1, keepdims=True) + TINY)
    unit = codes / size
    cosines = jnp.square(unit @ unit.T)
    return (jnp.sum(cosines) - jnp.trace(cosines)) / (count * (count - 1))


def pulled_away(samples: jax.Array) -> jax.Array:
    """−`likeness` of [B, …], each flattened: a substitute for entropy without a unit, at most 0.

    Reference:
        Zhao, Mathieu & LeCun 2017; as a stand-in for entropy: Dai et al. 2017, section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(pulled_away(jnp.ones((3, 2)))), 3)
        -1.0
    """
    return -likeness(samples.reshape(len(samples), -1))


def entropy(
    game: Game,
    actor: Any,
    sees: Callable[[Batch], Any],
    strength: float | jax.Array,
    estimate: Estimate | None = nearest_neighbours,
    codes: Callable[[Params, jax.Array], jax.Array] | None = None,
    player: str = "actor",
) -> Game:
    """The game in which the actor's loss is lowered by strength · H of its output.

        loss ← loss − strength · H(codes(actor_θ(sees(batch))))

    A policy that yields a distribution has an entropy in closed form for each state,
    `policy.entropy`, which keeps the actor random. A sampler (a GAN's generator, a deterministic
    actor) has none. Its entropy is estimated from its outputs over the batch, which keeps samples,
    or actions over the states, diverse.

        entropy(game, generator, lambda batch: batch["noise"], 0.01)
        entropy(game, actor, lambda batch: batch["observation"], 0.01, policy.entropy)

    Args:
        game: any game.
        actor: the player's network, as the game has it.
        sees: `batch -> actor's inputs [B, …]`; a tuple is several inputs.
        strength: >= 0; 0 is off, to the bit. May be traced.
        estimate: `actor's output [B, …] -> H`, a scalar or [B], of which the mean is taken:
            `nearest_neighbours`, `pulled_away`, or a policy's `entropy`.
        codes: `(params, output) -> [B, …]`: the quantity whose entropy is taken instead of the
            output, such as the critic's features. `params` are those of all players, held fixed.
        player: the player whose loss is changed.

    Returns:
        A `Game`; the player's loss reports the metric `entropy_estimate`.

    Raises:
        ValueError: the strength is negative, the player or the estimate is missing, or `entropy`
            was applied before.

    Reference:
        Williams & Peng 1991; Mnih et al. 2016 (policies). Samplers: Zhao, Mathieu & LeCun 2017;
        Dai et al. 2017.

    Example:
        >>> import gacf
        >>> from gacf.networks import MLP
        >>> generator = MLP((8,), (2,))
        >>> game = gacf.gan(generator, MLP((8,)), gacf.data.ring(), noise=2)
        >>> sorted(entropy(game, generator, lambda batch: batch["noise"], 0.01).losses)
        ['actor', 'critic']
    """
    require("strength", strength, lambda s: s >= 0, "a number >= 0")
    if estimate is None:
        raise ValueError(
            "estimate: None was given, as by a policy without an entropy in closed form; allowed: "
            "`output -> H`: nearest_neighbours of samples, or the method's own −log π (SAC's α)"
        )
    network, measure = model(player, actor), estimate

    def term(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Metrics]:
        output, _ = network.apply(own, world, *as_inputs(sees(batch)), key=key)
        value = jnp.mean(measure(output if codes is None else codes(params, output)))
        return value, {"entropy_estimate": value}

    return with_term(
        game, player, "entropy", strength, term, lambda loss, value: loss - strength * value
    )
