"""Checks which labels a loss can use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

FAR = 50.0  # no loss has its minimum beyond this verdict, and exponentials of it are finite
BETWEEN = (0.25, 0.75)  # labels to test with if the amount of smoothing is traced


def check_transform(
    transform: Callable[[jax.Array], jax.Array],
    labels: Mapping[str, jax.Array],
    divergence: Callable[[jax.Array, jax.Array], jax.Array],
    loss: Any,
) -> None:
    """Refuses labels for which the critic's loss has no best verdict.

    Smoothed labels ask the critic for a number between "real" and "fake", so D(t ‖ v) must have one
    minimum in v: it must fall where v is very low and rise where v is very high. Cross-entropies,
    squares and f-divergences do. In other losses the label is only a sign, and a smoothed label
    scales a slope instead: with "wasserstein" the critic becomes unbounded along a constant, and a
    "hinge" moves its margin. Labels of 0 and 1 work with every loss, and so does a transformation
    that leaves them alone.

    Args:
        transform: the transformation of the labels of one group, [B] -> [B].
        labels: group -> [B], as the critic's loss sees them.
        divergence: `(verdict [B], label [B]) -> [B]`.
        loss: the name of the loss, for the message.

    Raises:
        ValueError: the transformation gives a label that the loss cannot use, or another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from gacf.methods.actor_critic import DIVERGENCES
        >>> from gacf.stabilizers import smooth
        >>> labels = {"real": jnp.ones(4), "fake": jnp.zeros(4)}
        >>> check_transform(smooth(0.1), labels, DIVERGENCES["cross_entropy"], "non_saturating")
    """
    with jax.ensure_compile_time_eval():
        transformed = {group: transform(jnp.asarray(label)) for group, label in labels.items()}
        for group, label in labels.items():
            if transformed[group].shape != label.shape:
                raise ValueError(
                    f"transform_target: labels {list(label.shape)} became "
                    f"{list(transformed[group].shape)}; allowed: the same shape"
                )
        if any(isinstance(label, jax.core.Tracer) for label in transformed.values()):
            smoothed = np.array(BETWEEN)
        else:
            smoothed = np.unique(
                np.concatenate([np.asarray(x, np.float64) for x in transformed.values()])
            )
            smoothed = smoothed[(smoothed != 0) & (smoothed != 1)]
        if not smoothed.size:
            return
        label = jnp.asarray(smoothed, float)
        slope = jax.grad(lambda verdict: jnp.sum(divergence(verdict, label)))
        low, high = (slope(jnp.full_like(label, end)) for end in (-FAR, FAR))
    if isinstance(low, jax.core.Tracer) or np.all((np.asarray(low) < 0) & (np.asarray(high) > 0)):
        return
    numbers = ", ".join(f"{x:.4g}" for x in smoothed[:4])
    name = f"{loss!r}" if isinstance(loss, str) else "that was given"
    raise ValueError(
        f"transform_target: labels of {numbers} are the result; a critic with the loss {name} has "
        "no best verdict for them; allowed: labels left at 0 and 1, or smoothed ones in [0, 1] "
        "with a cross-entropy, a square or an f-divergence"
    )
