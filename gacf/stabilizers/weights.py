"""Finds out which of a network's parameters are weights, from the program that it computes.

A weight is a parameter by which the inputs, or values computed from them, are multiplied in a
matrix product or a convolution, or from which they pick rows. A parameter that is added, or that
scales numbers one by one (a bias, a normalisation's scale, a positional code), is no weight,
whatever its shape and name.
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Literal

from gacf.core.types import PyTree
from gacf.networks.conv import image_p, output_p

Axes = tuple[int, ...]


class Weight(NamedTuple):
    """The axes of a parameter that is a matrix, or several of them.

    Attributes:
        members: the axes that count matrices: of an ensemble, of layers under one scan, of experts.
        into: the axes over which the inputs are summed.
        out: the axes of the outputs.
    """

    members: Axes
    into: Axes
    out: Axes


class _Value(NamedTuple):
    """What is known about an intermediate result.

    Attributes:
        seen: whether it depends on the inputs.
        picked: whether it consists of rows of parameters, and inputs only choose the rows.
        parts: parameter -> which of its axes lie along each axis of the result, if the result
            consists of parameters.
        scaled: the same, for parameters by which each number of the inputs is multiplied.
    """

    seen: bool = False
    picked: bool = False
    parts: dict[int, tuple[Axes, ...]] = {}  # noqa: RUF012 - never changed
    scaled: dict[int, tuple[Axes, ...]] = {}  # noqa: RUF012


def _joined(values: Iterable[_Value]) -> dict[int, tuple[Axes, ...]]:
    joined: dict[int, tuple[Axes, ...]] = {}
    for value in values:
        for i, places in value.parts.items():
            old = joined.get(i, places)
            if len(old) == len(places):
                joined[i] = tuple(tuple({*a, *b}) for a, b in zip(old, places, strict=True))
            else:  # one of the two is a single number, such as a norm
                joined[i] = max(old, places, key=len)
    return joined


def _reshaped(places: tuple[Axes, ...], old: Sequence[int], new: Sequence[int]) -> tuple[Axes, ...]:
    """The places of the axes after a reshape: axes that are merged or split stay together."""

    def spans(shape: Sequence[int]) -> list[tuple[int, int]]:
        """The range that each axis covers, in terms of the product of the sizes before it."""
        ends = list(itertools.accumulate(shape, operator.mul, initial=1))
        return list(itertools.pairwise(ends))

    before, after = spans(old), spans(new)
    cuts = sorted({end for _, end in before} & {end for _, end in after} | {1})

    def group(span: tuple[int, int]) -> tuple[int, bool]:
        """The group of an axis: axes between the same cuts belong together; size 1 is separate."""
        return bisect.bisect_right(cuts, span[0]), span[0] == span[1]

    gathered: dict[tuple[int, bool], Axes] = {}
    for axes, span in zip(places, before, strict=True):
        gathered[group(span)] = (*gathered.get(group(span), ()), *axes)
    return tuple(gathered.get(group(span), ()) for span in after)


class _Reader:
    """Follows the parameters through a program and notes the products in which they are factors."""

    def __init__(self, shapes: Sequence[Sequence[int]], members: int):
        self.shapes = shapes
        self.members = members
        self.noted: dict[int, set[Weight]] = {}
        self.rows: dict[int, set[Weight]] = {}
        self.lost: dict[int, str] = {}

    def weight(self, i: int, into: Iterable[int], out: Iterable[int]) -> Weight:
        inner, outer = ({a for a in axes if a >= self.members} for axes in (into, out))
        # an input that all members share meets them as one product with further outputs, which
        # come first: [members, in, out]
        if any(a > max(inner) for a in outer):
            outer = {a for a in outer if a > min(inner)}
        every = range(len(self.shapes[i]))
        rest = [a for a in every if a not in inner | outer]
        members = tuple(a for a in rest if self.shapes[i][a] > 1 or a < self.members)
        single = {a for a in rest if a not in members}
        return Weight(members, tuple(sorted(inner | single)), tuple(sorted(outer)))

    def product(self, value: _Value, other: _Value, summed: set[int], free: set[int]) -> None:
        """Notes the parameters of one factor of a product, by its summed and its free axes."""
        for i, places in value.parts.items():
            into = {a for axis in summed for a in places[axis]}
            out = {a for axis in free for a in places[axis]}
            inner = {a for a in into if a >= self.members}
            outer = {a for a in out if a >= self.members}
            # two parameters multiplied by each other are weights if they look like matrices
            if inner and (outer or (other.seen and not value.picked)):
                self.noted.setdefault(i, set()).add(self.weight(i, into, out))

    def _dot(self, eqn: Any, values: list[_Value]) -> _Value:
        summed, shared = eqn.params["dimension_numbers"]
        for own, (value, other) in enumerate((values, values[::-1])):
            rank = len(eqn.invars[own].aval.shape)
            free = set(range(rank)) - {*summed[own], *shared[own]}
            self.product(value, other, set(summed[own]), free)
        return _Value(any(v.seen or v.picked for v in values))

    def _convolution(self, eqn: Any, values: list[_Value]) -> _Value:
        if eqn.primitive is output_p:
            out = 4
        elif eqn.primitive is image_p:
            out = 3
        else:
            out = eqn.params["dimension_numbers"].rhs_spec[0]
        lead = {0} if eqn.primitive in (output_p, image_p) else set()
        summed = set(range(len(eqn.invars[1].aval.shape))) - {out} - lead
        self.product(values[1], values[0], summed, {out})
        return _Value(any(v.seen or v.picked for v in values))

    def _gather(self, eqn: Any, values: list[_Value]) -> _Value:
        (value, index), numbers = values, eqn.params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        removed = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        chosen = {a for a in numbers.start_index_map if eqn.params["slice_sizes"][a] < shape[a]}
        remaining = [a for a in range(len(shape)) if a not in removed]
        parts = {}
        for i, places in value.parts.items():
            along: list[Axes] = [()] * len(eqn.outvars[0].aval.shape)
            for axis, place in zip(remaining, numbers.offset_dims, strict=True):
                along[place] = places[axis]
            parts[i] = tuple(along)
            rows = {a for axis in chosen for a in places[axis] if a >= self.members}
            if index.seen and rows:
                out = {a for axis in remaining if axis not in chosen for a in places[axis]}
                self.rows.setdefault(i, set()).add(self.weight(i, rows, out))
        return _Value(value.seen, value.picked or (index.seen and bool(parts)), parts)

    def _loop(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        name, params = eqn.primitive.name, eqn.params
        if name == "scan":
            body = params["jaxpr"]
            consts, carried = params["num_consts"], params["num_carry"]
            fixed = values[:consts]
            carry = values[consts : consts + carried]
            over = [
                v._replace(parts={i: p[1:] for i, p in v.parts.items()}, scaled={})
                for v in values[consts + carried :]
            ]
        else:
            skipped, body = params["cond_nconsts"], params["body_jaxpr"]
            fixed = values[skipped : skipped + params["body_nconsts"]]
            carry = values[skipped + params["body_nconsts"] :]
            over, carried = [], len(carry)
        while True:
            results = self.read(body, [*fixed, *carry, *over])
            after = [
                # the carry of a loop counts as a parameter only if it stays that parameter
                _Value(old.seen or new.seen or new.picked, False, old.parts)
                if old.parts == new.parts
                else _Value(old.seen or new.seen or new.picked or old.picked)
                for old, new in zip(carry, results[:carried], strict=True)
            ]
            if after == carry:
                break
            carry = after
        stacked = [_Value(v.seen or v.picked) for v in results[carried:]]
        return [*after, *stacked]

    def _step(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        name, params = eqn.primitive.name, eqn.params
        if name in ("scan", "while"):
            return self._loop(eqn, values)
        if name == "cond":
            each = [self.read(branch, values[1:]) for branch in params["branches"]]
            return [
                _Value(
                    values[0].seen or any(v.seen for v in outcomes), any(v.picked for v in outcomes)
                )
                if values[0].seen
                else _Value(
                    any(v.seen for v in outcomes),
                    any(v.picked for v in outcomes),
                    _joined(outcomes),
                )
                for outcomes in zip(*each, strict=True)
            ]
        for inner in params.values():
            if hasattr(inner, "eqns") or isinstance(inner, ClosedJaxpr):
                own = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
                if len(own.invars) == len(values) and len(own.outvars) == len(eqn.outvars):
                    return self.read(inner, values)
        if name == "dot_general":
            return [self._dot(eqn, values)]
        if eqn.primitive in (output_p, image_p) or name == "conv_general_dilated":
            return [self._convolution(eqn, values)]
        if name == "gather":
            return [self._gather(eqn, values)]
        return self._plain(eqn, values)

    def _plain(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        """An operation that keeps the axes, moves them, or leaves some out."""
        name, params = eqn.primitive.name, eqn.params
        shapes = [v.aval.shape for v in eqn.outvars]
        if name == "dynamic_slice" and any(v.seen for v in values[1:]):
            values = [values[0]._replace(picked=bool(values[0].parts) or values[0].picked)]
        seen = any(v.seen for v in values)
        picked = any(v.picked for v in values)
        if seen:
            if name == "reduce_sum":
                axes = set(params["axes"])
                whole = values[0]._replace(parts=values[0].scaled)
                rank = len(eqn.invars[0].aval.shape)
                # one that has no outputs scales features and is no weight
                self.product(whole._replace(picked=True), whole, axes, set(range(rank)) - axes)
            scaled = {}
            if name == "mul":
                scaled = _joined(v for v in values if not v.seen)
            elif name in ("convert_element_type", "transpose", "broadcast_in_dim", "reshape"):
                scaled = self._moved(eqn, values[0].scaled)
            return [_Value(True, scaled=scaled) for _ in shapes]
        parts = _joined(values) if name not in MOVES else self._moved(eqn, values[0].parts)
        results = []
        for shape in shapes:
            matching = {i: p for i, p in parts.items() if len(p) == len(shape)}
            for i in parts.keys() - matching.keys():
                self.lost.setdefault(i, name)
            results.append(_Value(False, picked, matching))
        return results

    def _moved(self, eqn: Any, parts: dict[int, tuple[Axes, ...]]) -> dict[int, tuple[Axes, ...]]:
        name, params = eqn.primitive.name, eqn.params
        old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape

        def move(places: tuple[Axes, ...]) -> tuple[Axes, ...]:
            if name == "transpose":
                return tuple(places[a] for a in params["permutation"])
            if name == "reshape":
                return _reshaped(places, old, new)
            if name == "broadcast_in_dim":
                along: list[Axes] = [()] * len(new)
                for axis, place in enumerate(params["broadcast_dimensions"]):
                    along[place] = places[axis]
                return tuple(along)
            removed = MOVES.get(name)
            if removed is None:
                return places
            return tuple(axes for a, axes in enumerate(places) if a not in params[removed])

        return {i: move(places) for i, places in parts.items()}

    def read(self, program: Any, values: Sequence[_Value]) -> list[_Value]:
        """What is known about a program's results, given what is known about its inputs."""
        jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
        known: dict[Any, _Value] = dict(zip(jaxpr.invars, values, strict=True))

        def of(variable: Any) -> _Value:
            if isinstance(variable, Literal):
                return _Value()
            return known.get(variable, _Value())

        for eqn in jaxpr.eqns:
            results = self._step(eqn, [of(v) for v in eqn.invars])
            known.update(zip(eqn.outvars, results, strict=True))
        return [of(v) for v in jaxpr.outvars]


MOVES: dict[str, str | None] = {
    "transpose": None,
    "reshape": None,
    "broadcast_in_dim": None,
    "squeeze": "dimensions",
    **{f"reduce_{how}": "axes" for how in ("sum", "max", "min", "prod", "and", "or")},
    **dict.fromkeys(("argmax", "argmin"), "axes"),
}
"""Operations that move or remove axes, and the argument that lists the axes they remove."""


def weights_of(
    apply: Callable[..., Any], params: PyTree, rest: PyTree, inputs: PyTree, members: int = 0
) -> dict[str, Weight]:
    """The weights among the parameters, by their paths.

    Args:
        apply: `(params, rest, inputs) -> output`; it is traced once.
        params: arrays, or their shapes.
        rest: whatever else it needs: arrays, or their shapes.
        inputs: the inputs of the network: arrays, or their shapes.
        members: how many leading axes of every parameter count the members of ensembles.

    Raises:
        ValueError: a parameter is a different matrix in different places.
    """

    def shape(x: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    shapes = jax.tree.map(shape, (params, rest, inputs))
    closed = jax.make_jaxpr(apply)(*shapes)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(shapes[0])]
    leaves, others, input_leaves = (jax.tree.leaves(tree) for tree in shapes)
    reader = _Reader([leaf.shape for leaf in leaves], members)
    values = [
        *(
            _Value(parts={i: tuple((a,) for a in range(leaf.ndim))})
            for i, leaf in enumerate(leaves)
        ),
        *(_Value() for _ in others),
        *(_Value(seen=True) for _ in input_leaves),
    ]
    reader.read(closed, values)
    weights: dict[str, Weight] = {}
    for i, path in enumerate(paths):
        # an embedding is a product with one-hot codes; a matrix picked from several is not
        uses = reader.noted.get(i) or reader.rows.get(i) or set()
        if len({frozenset((w.into, w.out)) for w in uses}) > 1 or any(
            set(w.into) & set(w.out) for w in uses
        ):
            raise ValueError(
                f"params{path}: the network multiplies by it in different ways, so that it is not "
                "one matrix; allowed: a parameter for each weight"
            )
        if uses:
            weights[path] = min(uses, key=lambda w: w.into)
        elif i in reader.lost and math.prod(leaves[i].shape) > max((*leaves[i].shape, 1)):
            raise ValueError(
                f"params{path}: `{reader.lost[i]}` transforms it, so that it is unknown whether it "
                "is a weight; allowed: products, convolutions and embeddings"
            )
    return weights
