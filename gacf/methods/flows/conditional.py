"""Conditional GANs, Mirza & Osindero 2014: both players see the label.

The game is `gacf.gan` on labelled data. This file has perceptrons that take a label; networks for
images are in `gacf.networks.images`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from gacf.core.checks import lookup
from gacf.networks import MLP
from gacf.networks.images import CONDITIONS
from gacf.networks.labels import class_labels, one_hot


class Labelled(linen.Module):
    """An MLP over its first input and the label's one-hot code: `(x [B, …], label [B])`.

    Attributes:
        hidden: widths of the hidden layers.
        classes: K.
        shape: the shape of one output; `()` for one number.
        last: the function after the last layer.

    Reference:
        Mirza & Osindero 2014.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> output = lambda: Labelled((8,), 10, (2,)).init_with_output(
        ...     jax.random.key(0), jnp.zeros((4, 3)), jnp.zeros(4, int))[0]
        >>> jax.eval_shape(output).shape
        (4, 2)
    """

    hidden: Sequence[int]
    classes: int
    shape: Sequence[int] = ()
    last: Callable[[jax.Array], jax.Array] | None = None

    @linen.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        code = one_hot(label, self.classes, x.dtype)
        return MLP(self.hidden, self.shape, last=self.last)(x, code)


class Projection(linen.Module):
    """A critic whose verdict is v = w·φ(x) + b + e_y·φ(x): `(x [B, …], label [B]) -> [B]`.

    Attributes:
        hidden: widths of the layers of φ.
        classes: K.

    Reference:
        Miyato & Koyama 2018, eq. 3.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> output = lambda: Projection((8,), 10).init_with_output(
        ...     jax.random.key(0), jnp.zeros((4, 3)), jnp.zeros(4, int))[0]
        >>> jax.eval_shape(output).shape
        (4,)
    """

    hidden: Sequence[int]
    classes: int

    @linen.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        features = linen.relu(MLP(self.hidden[:-1], (self.hidden[-1],))(x))
        verdict = linen.Dense(1)(features)[:, 0]
        rows = class_labels(label, self.classes)
        return verdict + jnp.sum(linen.Embed(self.classes, self.hidden[-1])(rows) * features, -1)


def conditional_critic(condition: str, hidden: Sequence[int], classes: int) -> Any:
    """The critic that takes the label by "concatenation" or by "projection".

    Example:
        >>> conditional_critic("projection", (8,), 10).classes
        10
    """
    kinds: dict[str, Any] = dict(zip(CONDITIONS, (Labelled, Projection), strict=True))
    return lookup("condition", condition, kinds)(hidden, classes)
