"""The handful of small types of which everything in gacf is made (L0).

Shape letters used throughout: S seeds, T steps, B batch, N environments, A actions,
O observation, Z noise.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.core
import jax.extend
import jax.numpy as jnp

PyTree = Any
Key = jax.Array
Params = dict[str, PyTree]
World = dict[str, PyTree]
Batch = PyTree
Metrics = dict[str, jax.Array]
MARK = "gacf."  # begins the names of the scopes that tell a profile what an operation is for


class Outcome(NamedTuple):
    """What evaluating a loss taught, besides its value.

    Attributes:
        metrics: name -> scalar (or small array), for logging.
        world: the entries of the world that this evaluation renews (running statistics, …);
            only keys that belong to the loss's owner. Committed once per real step, by `settle`.
    """

    metrics: Metrics
    world: World


Loss = Callable[[PyTree, Params, World, Batch, Key], tuple[jax.Array, Outcome]]
"""`(own, params, world, batch, key) -> (scalar, Outcome)`, differentiated in `own` alone."""


class State(NamedTuple):
    """All that an interrupted run needs in order to go on bit for bit.

    Attributes:
        params: player -> what that player learns by gradient.
        world: owner -> what nobody learns by gradient.
        opt_state: what the rule remembers: one entry a player, and more where a rule needs it.
        key: typed PRNG key of this seed.
        step: steps made, int32 scalar; the one leaf without a seed axis (a batched counter
            turns every `lax.cond` on it into "run both branches").
    """

    params: Params
    world: World
    opt_state: dict[str, PyTree]
    key: Key
    step: jax.Array


class Algorithm(NamedTuple):
    """A game under a rule: three pure functions.

    Attributes:
        init: `key -> State`.
        step: `State -> (State, metrics)`.
        evaluate: `State -> metrics`; leaves the state alone.
    """

    init: Callable[[Key], State]
    step: Callable[[State], tuple[State, Metrics]]
    evaluate: Callable[[State], Metrics]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A clause for an error message: the nearest allowed name and the list of all.

    Example:
        >>> nearest("hinje", ["hinge", "wasserstein"])
        "did you mean 'hinge'? allowed: hinge, wasserstein"
    """
    names = [str(a) for a in allowed]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"


def lookup(argument: str, name: str, table: Mapping[str, Any]) -> Any:
    """`table[name]`, or a ValueError that names the argument, the value and the nearest name."""
    if not isinstance(name, Hashable) or name not in table:
        raise ValueError(f"{argument}: {name!r} is unknown; {nearest(name, table)}")
    return table[name]


def require(argument: str, value: Any, holds: Callable[[Any], Any], allowed: str) -> None:
    """Raises a ValueError unless `holds(value)`; traced hyperparameters pass unchecked.

    A builder may be called with tracers in place of numbers (a sweep in one program), so
    only concrete values can be refused.
    """
    if isinstance(value, jax.core.Tracer):
        return
    try:
        fine = bool(holds(value))
    except (TypeError, ValueError, AttributeError):
        fine = False
    if not fine:
        raise ValueError(f"{argument}: {shown(value)} was given; allowed: {allowed}")


def shown(value: Any) -> str:
    """A value for an error message: numbers and short texts as they are, of others the kind.

    Example:
        >>> shown(0.5), shown([1, 2]), shown(dict.fromkeys(range(99)))
        ('0.5', '[1, 2]', 'a dict')
    """
    text = repr(value)
    long = len(text) > 80 or "\n" in text or text.startswith("<")
    return f"a {type(value).__name__}" if long or callable(value) else text


def whole(n: Any) -> bool:
    """Whether n is a whole number >= 1 (an index, so neither 2.0 nor True); for `require`."""
    return not isinstance(n, bool) and operator.index(n) >= 1


def at_most(most: int) -> Callable[[Any], bool]:
    """Whether a number is whole, >= 1 and <= `most`; for `require`."""
    return lambda n: whole(n) and operator.index(n) <= most


def trace_once(
    function: Callable[..., PyTree], *args: PyTree
) -> tuple[Callable[..., PyTree], PyTree]:
    """Traces `function` at the shapes of `args`, once.

    Returns:
        A function of the same arguments that replays the traced program, and the shapes and
        dtypes of its output. Knowing a loop body's output shape this way costs no second trace.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    flat = jax.extend.core.jaxpr_as_fun(closed)
    structure = jax.tree.structure(shape)

    def replay(*args: PyTree) -> PyTree:
        return jax.tree.unflatten(structure, flat(*jax.tree.leaves(args)))

    return replay, shape


def blank(shape: PyTree) -> PyTree:
    """Zeros of the given shapes and dtypes."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)


def scan_last(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], carry: PyTree, xs: PyTree
) -> tuple[PyTree, PyTree]:
    """`lax.scan` that keeps the last output alone, and traces `step` once.

    Args:
        step: `(carry, x) -> (carry, y)`.
        carry: first carry.
        xs: leaves with a leading axis of length >= 1.

    Returns:
        The last carry and the last y. Memory does not grow with the length.
    """
    replay, (_, y) = trace_once(step, carry, jax.tree.map(lambda x: x[0], xs))

    def body(carried: tuple[PyTree, PyTree], x: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
        return replay(carried[0], x), None

    return jax.lax.scan(body, (carry, blank(y)), xs)[0]


def scan_widened(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    xs: PyTree,
    reverse: bool = False,
) -> tuple[PyTree, PyTree]:
    """`lax.scan` whose first carry is raised to the precision that the body gives it.

    Networks and environments may differ in precision, and a scan takes no carry that changes.
    """
    first = jax.tree.map(lambda x: x[0], xs)
    after, _ = jax.eval_shape(body, carry, first)
    carry = jax.tree.map(lambda x, y: x.astype(jnp.promote_types(x.dtype, y.dtype)), carry, after)
    return jax.lax.scan(body, carry, xs, reverse=reverse)


def through_data(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """The function on an array, or on the numbers that keys consist of."""
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return function(x)
    return jax.random.wrap_key_data(function(jax.random.key_data(x)), impl=jax.random.key_impl(x))
