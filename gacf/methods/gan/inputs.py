"""Checks the inputs of a GAN against each other once, when the game is built."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.extend
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import shown
from gacf.core.types import PyTree

# Operations that change no number between a network's last function and its output.
LAYOUT = (
    "broadcast_in_dim", "convert_element_type", "copy", "reduce_precision", "reshape", "rev",
    "squeeze", "transpose",
)  # fmt: skip
RANGES = {"tanh": (-1.0, 1.0), "logistic": (0.0, 1.0)}
FAR = 10  # widths of a generator's range beyond which numbers must be in another unit


def described(x: Any) -> str:
    """`float32[8, 2]`, or several with "and" between them."""
    leaves = jax.tree.leaves(x)
    return " and ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)


def check_examples(name: str, examples: Any) -> None:
    """Refuses examples that are not finite real numbers.

    Whole numbers are refused and not scaled. A critic would distinguish bytes 0 … 255 from the
    output of a tanh by their size alone, and only the caller knows how to scale them.

    Args:
        name: the name of the argument.
        examples: an array, or its shape if the numbers are not known yet.

    Raises:
        ValueError: whole numbers, NaN or infinity.
    """
    if not jnp.issubdtype(examples.dtype, jnp.floating):
        raise ValueError(
            f"{name}: {described(examples)} was given; allowed: real numbers, scaled like the "
            "generator's samples (bytes for a tanh: x / 127.5 - 1; in a Feed, by `scale`)"
        )
    if isinstance(examples, jax.core.Tracer | jax.ShapeDtypeStruct) or not examples.size:
        return
    low, high = _range(examples)
    if not (np.isfinite(low) and np.isfinite(high)):  # NaN and infinity reach min and max
        finite = np.isfinite(np.asarray(examples, np.float32)).reshape(len(examples), -1).all(1)
        raise ValueError(
            f"{name}: example {int(np.argmin(finite))} holds NaN or infinity; allowed: finite "
            "numbers"
        )


def _range(x: Any) -> tuple[float, float]:
    on_host = np.asarray(x)
    return float(on_host.min()), float(on_host.max())


def traced(argument: str, given: Any, function: Callable[..., PyTree], *args: Any) -> PyTree:
    """The shapes of a network's output, or an error of one line that names the argument.

    Args:
        argument: the argument that gave the network.
        given: a description of its inputs, for the message.
        function: the function that applies the network.
        args: the arguments of the function, or their shapes.

    Raises:
        ValueError: the network raises.
    """
    try:
        return jax.eval_shape(function, *args)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{argument}: its network cannot be applied to {described(given)}: {reason}"
        ) from error


def check_output(argument: str, output: Any, allowed: Sequence[tuple[int | str, ...]]) -> None:
    """Refuses an output that is not one array of real numbers in one of the allowed shapes.

    Args:
        argument: the argument that gave the network.
        output: the network's output, or its shape.
        allowed: the allowed shapes; a word stands for any number.

    Raises:
        ValueError: the output is anything else.
    """

    def fits(shape: tuple[int | str, ...]) -> bool:
        named = [n if isinstance(m, str) else m for m, n in zip(shape, output.shape, strict=False)]
        return tuple(named) == output.shape and len(shape) == len(named)

    one = hasattr(output, "shape") and jnp.issubdtype(output.dtype, jnp.floating)
    if not (one and any(map(fits, allowed))):
        shapes = " or ".join(f"[{', '.join(map(str, shape))}]" for shape in allowed)
        raise ValueError(
            f"{argument}: its network yields {described(output)}; allowed: real numbers {shapes}"
        )


def check_samples(argument: str, output: Any, name: str, examples: Any) -> None:
    """Refuses samples whose shape differs from that of the examples.

    Args:
        argument: the argument that gave the generator.
        output: its samples, or their shape.
        name: the name of the examples' argument.
        examples: as many examples, or their shape.

    Raises:
        ValueError: the shapes differ, or the samples are not real numbers.
    """
    one = hasattr(output, "shape") and jnp.issubdtype(output.dtype, jnp.floating)
    if not one or output.shape != examples.shape:
        raise ValueError(
            f"{argument}: its samples are {described(output)}, and the examples of {name} "
            f"{described(examples)}; allowed: samples of the same shape"
        )


def check_seen(seen: Any, like: tuple[Any, ...], counted: bool) -> tuple[jax.Array, ...]:
    """What a generator is given to make samples of, as arrays [n, …].

    Args:
        seen: noise, or `(noise, labels)`.
        like: what the generator was built for: arrays [B, …], or their shapes.
        counted: whether a number of samples would have been allowed as well, for the message.

    Raises:
        ValueError: other shapes, or whole numbers for real ones or the reverse.
    """
    parts = seen if isinstance(seen, tuple) else (seen,)
    arrays = [jnp.asarray(part) if hasattr(part, "shape") else None for part in parts]

    def kind(x: Any) -> tuple[Any, ...]:
        return x.shape[1:], jnp.issubdtype(x.dtype, jnp.integer)

    known = [x for x in arrays if x is not None and x.ndim and x.shape[0]]
    lengths = {x.shape[0] for x in known}
    fits = len(known) == len(parts) and len(lengths) == 1
    if fits and list(map(kind, known)) == list(map(kind, like)):
        return tuple(known)
    shapes = ", ".join(f"{x.dtype}[{', '.join(['n', *map(str, x.shape[1:])])}]" for x in like)
    named = shapes if len(like) == 1 else f"(noise, labels) {shapes}"
    named += ", or the number n of samples" if counted else ""
    whole = all(x is not None for x in arrays)
    given = described(seen) if whole else shown(seen)
    raise ValueError(f"seen: {given} was given; allowed: {named}")


def reached(function: Callable[..., Any], *args: Any) -> tuple[float, float] | None:
    """The range of a function that ends in tanh or the logistic function; None for any other.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> reached(lambda x: jnp.tanh(x).reshape(-1), jnp.zeros((2, 2)))
        (-1.0, 1.0)
        >>> reached(lambda x: 3 * jnp.tanh(x), jnp.zeros(2)) is None
        True
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr

    def of(jaxpr: Any, variable: Any) -> Any:
        """The range of a variable, or the input variable that it equals."""
        equations = {out: eqn for eqn in jaxpr.eqns for out in eqn.outvars}
        while not isinstance(variable, jax.extend.core.Literal) and variable in equations:
            eqn = equations[variable]
            if eqn.primitive.name in RANGES:
                return RANGES[eqn.primitive.name]
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            if inner is not None:
                inner = getattr(inner, "jaxpr", inner)
                if len(inner.outvars) != len(eqn.outvars) or len(inner.invars) != len(eqn.invars):
                    return None
                source = of(inner, inner.outvars[eqn.outvars.index(variable)])
                if source not in inner.invars:
                    return source
                variable = eqn.invars[inner.invars.index(source)]
            elif eqn.primitive.name in LAYOUT:
                variable = eqn.invars[0]
            else:
                return None
        return variable

    limits = of(jaxpr, jaxpr.outvars[0])
    return limits if isinstance(limits, tuple) else None


def warn_of_range(name: str, examples: Any, limits: tuple[float, float] | None) -> None:
    """Warns if the examples are on another scale than the generator's output.

    It looks for images in [0, 1] with a tanh or in [−1, 1] with a logistic function, and for
    numbers far beyond both, such as bytes. This is only a warning, because real numbers may be
    intended as they are.

    Args:
        name: the name of the examples' argument.
        examples: an array [n, …].
        limits: the range of the generator's output; None if it is not known.
    """
    if limits is None or isinstance(examples, jax.core.Tracer) or not examples.size:
        return
    low, high = _range(examples)
    least, most = limits
    far = max(least - low, high - most) > FAR * (most - least)
    scales = [(a, b) for a, b in sorted(RANGES.values(), reverse=True) if a <= low < high <= b]
    if far or (examples.ndim >= 4 and scales and scales[0] != limits):
        warnings.warn(
            f"{name}: its numbers lie in [{low:g}, {high:g}], and the generator's samples in "
            f"[{least:g}, {most:g}]; scale the one to the other",
            stacklevel=4,
        )
