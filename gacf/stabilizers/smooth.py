"""Label smoothing: targets drawn toward a prior."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gacf.core.checks import lookup, require


def smooth(
    amount: float | jax.Array, prior: float | jax.Array | str = 0.5, one_sided: bool = False
) -> Callable[[jax.Array], jax.Array]:
    """A `transform_target` that draws targets toward a prior.

        target ← (1 − amount) target + amount prior

    A GAN's labels are drawn toward ½; or only those of real examples are moved, to α = 1 − amount,
    so that the best critic says α p / (p + q). TD targets are drawn toward their mean over the
    batch, so that values differ less.

    A GAN's loss must have a best verdict for such a label. Cross-entropies, squares and
    f-divergences have one; with "wasserstein", "hinge" or "energy_based" the game refuses it.

    Args:
        amount: in [0, 1]; 0 is off, to the bit. May be traced.
        prior: a number: ½ for labels; or "mean": the mean over the batch, for TD targets.
        one_sided: only targets of exactly 1 are moved, to 1 − amount, so that a GAN's critic
            is not taught to call fakes half real; `prior` is then not used.

    Returns:
        `target [..., B] -> target [..., B]`.

    Raises:
        ValueError: the amount is out of bounds, or the prior is a word other than "mean".

    Reference:
        Szegedy et al. 2016; one-sided: Salimans et al. 2016, section 3.4.

    Example:
        >>> import jax.numpy as jnp
        >>> smooth(0.5)(jnp.array([1.0, 0.0])).tolist()
        [0.75, 0.25]
        >>> smooth(0.25, one_sided=True)(jnp.array([1.0, 0.0])).tolist()
        [0.75, 0.0]
    """
    require("amount", amount, lambda a: 0 <= a <= 1, "a number in [0, 1]")
    if isinstance(prior, str):
        lookup("prior", prior, {"mean": None})

    def transform(target: jax.Array) -> jax.Array:
        if one_sided:
            moved = jnp.where(target == 1, target * (1 - amount), target)
        else:
            toward = target.mean(-1, keepdims=True) if isinstance(prior, str) else prior
            moved = (1 - amount) * target + amount * toward
        return jnp.where(amount == 0, target, moved.astype(target.dtype))

    return transform
