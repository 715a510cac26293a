"""Which parameters an optimiser moves, read off the program of its update.

A direction that solves for a follower's response must solve only over parameters that respond:
those that `optax.set_to_zero`, a mask or a partition keeps as they are count as constants. Numbers
cannot say which these are (a gradient may be zero for now, a step may be skipped, a rate may be
zero at first), but the program of the optimiser's update can: a parameter is moved if its update
depends on a gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import optax

from gacf.core.types import PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Trained:
    """Which of a player's parameters its optimiser moves.

    Attributes:
        leaves: for each leaf of the parameters, in order: True if all of it moves, False if
            nothing does, or, where a mask cuts through it, one byte for each element.
    """

    leaves: tuple[bool | bytes, ...]

    def movable(self, tree: PyTree) -> PyTree:
        """A tree of the parameters' structure, with zeros where nothing moves."""
        leaves, structure = jax.tree.flatten(tree)
        masked = [_masked(leaf, mask) for leaf, mask in zip(leaves, self.leaves, strict=True)]
        return jax.tree.unflatten(structure, masked)

    def moves_anything(self) -> bool:
        """Whether anything moves."""
        return any(self.leaves)

    def joined(self, other: Trained) -> Trained:
        """The parameters that either of the two moves."""
        both = (_either(a, b) for a, b in zip(self.leaves, other.leaves, strict=True))
        return Trained(tuple(both))


def _masked(leaf: jax.Array, mask: bool | bytes) -> jax.Array:
    if mask is True:
        return leaf
    if mask is False:
        return jnp.zeros_like(leaf)
    here = np.frombuffer(mask, bool).reshape(leaf.shape)
    return jnp.where(here, leaf, jnp.zeros_like(leaf))


def _either(a: bool | bytes, b: bool | bytes) -> bool | bytes:
    if isinstance(a, bool) or isinstance(b, bool):
        return a if b is False else b if a is False else True
    return _packed(np.frombuffer(a, bool) | np.frombuffer(b, bool))


def _packed(mask: np.ndarray) -> bool | bytes:
    if mask.size == 0 or mask.all():
        return True
    return mask.tobytes() if mask.any() else False


def trained_by(optimizer: optax.GradientTransformationExtraArgs) -> Callable[[PyTree], Trained]:
    """`params -> Trained` of an optimiser, worked out once for each structure of parameters.

    A part of a player that is scaled by a constant zero (`optax.sgd(0.0)`, a mask of numbers) does
    not move. But if all of a player is scaled by zero, then its rate holds it still, and it counts
    as moved: rates may be traced, and are not masks.

    An optimiser that cannot be traced here, because it asks for something that only a game has,
    counts as moving everything.
    """
    known: dict[Any, Trained] = {}

    def of(params: PyTree) -> Trained:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
        leaves, structure = jax.tree.flatten(shapes)
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in known:
            known[key] = _analysed(optimizer, shapes)
        return known[key]

    return of


class _Metrics(dict[str, jax.Array]):
    """Metrics of every name, since those that a game reports are not known at initialisation."""

    def __missing__(self, name: str) -> jax.Array:
        return jnp.zeros(())


def _analysed(optimizer: optax.GradientTransformationExtraArgs, shapes: PyTree) -> Trained:
    everything = Trained((True,) * len(jax.tree.leaves(shapes)))

    def update(vector: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        def value_fn(own: PyTree, *, step: Any = None, metrics: Any = None) -> jax.Array:
            del step, metrics  # line searches refuse extra arguments that this does not take
            return sum((jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(own)), jnp.zeros(()))

        return optimizer.update(
            vector,
            state,
            params,
            step=jnp.zeros((), jnp.int32),
            metrics=_Metrics(),
            value=value_fn(params),
            grad=vector,
            value_fn=value_fn,
        )

    try:
        start, state = jax.make_jaxpr(optimizer.init, return_shape=True)(shapes)
        program, (updates, _) = jax.make_jaxpr(update, return_shape=True)(shapes, state, shapes)
    except Exception:
        return everything
    if jax.tree.structure(updates) != jax.tree.structure(shapes):
        return everything
    trained = _moved(start, program, shapes, scalars=True)
    return trained if trained.moves_anything() else _moved(start, program, shapes, scalars=False)


def _moved(start: Any, program: Any, shapes: PyTree, scalars: bool) -> Trained:
    """The updates that depend on the gradients, also by way of the optimiser's state."""
    leaves = jax.tree.leaves(shapes)
    reader, unknown = _Reader(scalars), [Part()] * len(leaves)
    gradients = [Part(reached=_YES)] * len(leaves)

    def after(state: list[Part]) -> list[Part]:
        inputs = [*gradients, *state, *unknown]
        return reader.read(program.jaxpr, program.consts, inputs)

    state = reader.read(start.jaxpr, start.consts, unknown)
    state = _settled(lambda state: after(state)[len(leaves) :], state)
    updates = after(state)[: len(leaves)]
    masks = (np.broadcast_to(u.reached, s.shape) for u, s in zip(updates, leaves, strict=True))
    return Trained(tuple(_packed(np.asarray(mask)) for mask in masks))


_NO, _YES = np.asarray(False), np.asarray(True)


class Part(NamedTuple):
    """What is known about an array in the program of an update.

    Attributes:
        reached: which elements depend on a gradient; bool, of the array's shape, or of shape () if
            it is the same for all of them.
        zero: which elements are zero whatever the inputs are; of a shape like that of `reached`.
        value: the array itself, if it is a constant.
    """

    reached: np.ndarray = _NO
    zero: np.ndarray = _NO
    value: np.ndarray | None = None


def _settled(step: Callable[[list[Part]], list[Part]], state: list[Part]) -> list[Part]:
    """What holds for the state of a loop before each of its steps."""
    state = [Part(each.reached, each.zero) for each in state]
    while True:
        after = [
            Part(a.reached | b.reached, a.zero & b.zero)
            for a, b in zip(state, step(state), strict=True)
        ]
        if all(
            np.all(old == new)
            for a, b in zip(state, after, strict=True)
            for old, new in ((a.reached, b.reached), (a.zero, b.zero))
        ):
            return after
        state = after


# Primitives that work on each element by itself. The first ones map zero to zero.
# fmt: off
_ZERO_STAYS = frozenset((
    "neg", "abs", "sign", "sqrt", "cbrt", "square", "tanh", "sinh", "asinh", "sin", "tan", "asin",
    "atan", "erf", "expm1", "log1p", "floor", "ceil", "round", "real", "imag", "conj", "copy",
    "copy_p", "convert_element_type", "reduce_precision", "integer_pow", "stop_gradient",
))
_ELEMENTWISE = _ZERO_STAYS | frozenset((
    "add", "sub", "add_any", "max", "min", "pow", "exp", "exp2", "log", "rsqrt", "logistic", "cos",
    "acos", "cosh", "acosh", "atan2", "erfc", "erf_inv", "lgamma", "digamma", "is_finite", "and",
    "or", "not", "xor", "eq", "ne", "lt", "le", "gt", "ge", "rem", "nextafter", "clamp",
))
_MOVES_ELEMENTS = frozenset((
    "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "slice", "rev",
    "concatenate",
))
# fmt: on


class _Reader:
    """Follows gradients and zeros through a program, element by element.

    Args:
        scalars: whether a constant scalar zero that scales an array counts as a zero.
    """

    def __init__(self, scalars: bool) -> None:
        self.scalars = scalars

    def read(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Part]) -> list[Part]:
        known: dict[Any, Part] = {}

        def part(atom: Any) -> Part:
            if isinstance(atom, jax.extend.core.Literal):
                return _constant(atom.val)
            return known[atom]

        known.update(zip(jaxpr.constvars, map(_constant, consts), strict=True))
        known.update(zip(jaxpr.invars, inputs, strict=True))
        for equation in jaxpr.eqns:
            outputs = self.outputs(equation, [part(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, outputs, strict=True))
        return [part(atom) for atom in jaxpr.outvars]

    def outputs(self, equation: Any, inputs: list[Part]) -> list[Part]:
        name, settings = equation.primitive.name, equation.params
        if name == "cond":
            return self.branches(settings["branches"], inputs)
        if name == "while":
            return self.loop(settings, inputs)
        inner = settings.get("jaxpr", settings.get("call_jaxpr"))
        if inner is not None and name != "scan":
            consts = getattr(inner, "consts", ())
            inner = getattr(inner, "jaxpr", inner)
            if len(inner.invars) == len(inputs) and len(inner.outvars) == len(equation.outvars):
                return self.read(inner, consts, inputs)
        shapes = [variable.aval.shape for variable in equation.outvars]
        if name == "select_n":
            return [self.selected(*inputs)]
        if name in ("mul", "div"):
            return [self.product(name, *inputs, shape=shapes[0])]
        if (constant := _evaluated(equation, inputs)) is not None:
            return [constant]
        if name in _ELEMENTWISE:
            reached = _any([each.reached for each in inputs])
            stays = name in _ZERO_STAYS and settings.get("y", 1) > 0  # y: of integer_pow
            zero = inputs[0].zero if stays else _NO
            if name in ("add", "sub", "add_any", "max", "min"):
                zero = inputs[0].zero & inputs[1].zero
            return [Part(reached, zero)]
        if name in _MOVES_ELEMENTS:
            return [Part(_moved_elements(equation, [each.reached for each in inputs]))]
        reached = np.asarray(any(each.reached.any() for each in inputs))
        return [Part(reached)] * len(shapes)

    def branches(self, branches: Sequence[Any], inputs: list[Part]) -> list[Part]:
        index, *rest = inputs
        outputs = [self.read(each.jaxpr, each.consts, rest) for each in branches]
        return [
            Part(
                _any([one.reached for one in ones])
                | (index.reached & ~_all([one.zero for one in ones])),
                _all([one.zero for one in ones]),
            )
            for ones in zip(*outputs, strict=True)
        ]

    def loop(self, settings: Any, inputs: list[Part]) -> list[Part]:
        test, step = settings["cond_jaxpr"], settings["body_jaxpr"]
        first, second = settings["cond_nconsts"], settings["body_nconsts"]
        of_test, of_step = inputs[:first], inputs[first : first + second]
        state = _settled(
            lambda state: self.read(step.jaxpr, step.consts, [*of_step, *state]),
            inputs[first + second :],
        )
        # if the number of steps depends on a gradient, then so does all that changes in them
        (goes_on,) = self.read(test.jaxpr, test.consts, [*of_test, *state])
        again = goes_on.reached.any()
        return [Part(each.reached | (again & ~each.zero), each.zero) for each in state]

    def selected(self, which: Part, *cases: Part) -> Part:
        zero = _all([case.zero for case in cases])
        if which.value is not None:
            index = np.asarray(which.value).astype(int)
            return Part(
                np.choose(index, [case.reached for case in cases]),
                np.choose(index, [case.zero for case in cases]),
            )
        return Part(_any([case.reached for case in cases]) | (which.reached & ~zero), zero)

    def product(self, name: str, a: Part, b: Part, shape: tuple[int, ...]) -> Part:
        def zero(part: Part) -> np.ndarray:
            scalar = part.value is not None and np.ndim(part.value) == 0
            return _NO if scalar and not self.scalars else part.zero

        reached = (a.reached & (_YES if name == "div" else ~zero(b))) | (b.reached & ~zero(a))
        return Part(reached, zero(a) | (_NO if name == "div" else zero(b)))


def _constant(value: Any) -> Part:
    if isinstance(value, jax.core.Tracer) or jnp.issubdtype(
        jnp.result_type(value), jax.dtypes.prng_key
    ):
        return Part()
    numbers = np.asarray(value)
    zero = numbers == 0
    uniform = zero.all() or not zero.any()
    return Part(_NO, np.asarray(bool(zero.all())) if uniform else zero, numbers)


def _evaluated(equation: Any, inputs: list[Part]) -> Part | None:
    """The result of an operation whose inputs are all constants."""
    if len(equation.outvars) != 1 or not inputs or any(each.value is None for each in inputs):
        return None
    with jax.ensure_compile_time_eval():
        values = [jnp.asarray(each.value) for each in inputs]
        return _constant(equation.primitive.bind(*values, **equation.params))


def _moved_elements(equation: Any, masks: list[np.ndarray]) -> np.ndarray:
    """The masks, rearranged as the operation rearranges the elements."""
    if all(mask.ndim == 0 and mask == masks[0] for mask in masks):
        return masks[0]
    shapes = [atom.aval.shape for atom in equation.invars]
    with jax.ensure_compile_time_eval():
        full = [jnp.asarray(np.broadcast_to(m, s)) for m, s in zip(masks, shapes, strict=True)]
        return np.asarray(equation.primitive.bind(*full, **equation.params))


def _any(masks: Sequence[np.ndarray]) -> np.ndarray:
    union = masks[0]
    for mask in masks[1:]:
        union = union | mask
    return union


def _all(masks: Sequence[np.ndarray]) -> np.ndarray:
    return ~_any([~mask for mask in masks])
