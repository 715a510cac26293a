"""Derivatives through an optimiser's step where its operations have none.

Adam divides by a root that has no derivative at 0, so that 0 · ∞ = NaN comes back for every
parameter whose gradients have all been 0, such as those of a dead unit. The step itself is
differentiable there: m / (√v + ε) with m = v = 0 changes with the gradient through m alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import optax

from gacf.core.types import PyTree

# Operations on each element alone whose derivatives may be infinite or NaN: where the number is 0,
# and for a product where a factor has become infinite so.
_SINGULAR = frozenset(("sqrt", "rsqrt", "cbrt", "log", "log1p", "div", "mul", "pow", "integer_pow"))


def differentiable(
    optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser, whose steps may be differentiated backwards where a second moment is 0.

    An operation on which an update does not depend (the derivative that comes back to it is exactly
    0) passes nothing back, also where its own derivative is infinite: 0 · ∞ = 0. That is the
    derivative of the step where the infinite one is of a root of squares, as every adaptive
    optimiser's: |g| has bounded slopes, and what they are multiplied by is 0. An update that
    does depend on something without a derivative still gets the infinite one. Values, and
    derivatives elsewhere, are the optimiser's own, but for rounding.
    """

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        def step(updates: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
            return optimizer.update(updates, state, params, **extra)

        program, shape = jax.make_jaxpr(step, return_shape=True)(updates, state, params)
        leaves = jax.tree.leaves((updates, state, params))
        found = _evaluate(program.jaxpr, program.consts, leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _evaluate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The program's outputs, its singular operations replaced."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        outputs = _apply(equation, [read(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _closed(program: Any) -> Callable[..., list[Any]]:
    return lambda *inputs: _evaluate(program.jaxpr, program.consts, inputs)


def _apply(equation: Any, inputs: list[Any]) -> Sequence[Any]:
    name, settings = equation.primitive.name, equation.params
    if name == "jit":
        return _closed(settings["jaxpr"])(*inputs)
    if name == "cond":
        branches = [_closed(each) for each in settings["branches"]]
        return jax.lax.switch(inputs[0], branches, *inputs[1:])
    if name == "scan":
        return _scan(settings, inputs)
    if name in _SINGULAR and _may_be_singular(equation):
        shape = equation.outvars[0].aval.shape
        operation = _resolved(lambda *each: equation.primitive.bind(*each, **settings))
        return [operation(*(jnp.broadcast_to(each, shape) for each in inputs))]
    found = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(settings))
    return found if equation.primitive.multiple_results else [found]


def _may_be_singular(equation: Any) -> bool:
    name, last = equation.primitive.name, equation.invars[-1]
    if not jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.inexact):
        return False
    if name == "integer_pow":
        return equation.params["y"] < 0
    if name == "div":  # by a number
        return not isinstance(last, jax.extend.core.Literal)
    if name == "mul":  # with a number
        return not any(isinstance(atom, jax.extend.core.Literal) for atom in equation.invars)
    return True


def _scan(settings: Any, inputs: list[Any]) -> Sequence[Any]:
    fixed, carried = settings["num_consts"], settings["num_carry"]
    body = _closed(settings["jaxpr"])
    consts, start, xs = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]

    def step(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
        found = body(*consts, *carry, *xs)
        return list(found[:carried]), list(found[carried:])

    carry, ys = jax.lax.scan(
        step, start, xs, settings["length"], settings["reverse"], settings["unroll"]
    )
    return [*carry, *ys]


def _resolved(operation: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The elementwise operation, through which a cotangent of 0 comes back as 0."""

    @jax.custom_vjp
    def resolved(*inputs: jax.Array) -> jax.Array:
        return operation(*inputs)

    def steep(inputs: tuple[jax.Array, ...], like: jax.Array) -> jax.Array:
        slopes = _back(operation, inputs, jnp.ones_like(like))
        return ~jnp.isfinite(jnp.stack(slopes)).all(0)

    # What is differentiated again is evaluated elsewhere than at the singular numbers, or its
    # derivatives would be NaN in their turn: second ones are 0 there.

    def forward(*inputs: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        here = jax.lax.stop_gradient(operation(*inputs))
        singular = steep(inputs, here)
        return jnp.where(singular, here, operation(*_away(inputs, singular))), inputs

    def backward(inputs: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[jax.Array, ...]:
        singular = (cotangent == 0) & steep(inputs, cotangent)
        return tuple(
            jnp.where(singular, jnp.zeros_like(each), each)
            for each in _back(operation, _away(inputs, singular), cotangent)
        )

    resolved.defvjp(forward, backward)
    return resolved


def _away(inputs: tuple[jax.Array, ...], singular: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.where(singular, jnp.ones_like(each), each) for each in inputs)


def _back(
    operation: Callable[..., jax.Array], inputs: tuple[jax.Array, ...], cotangent: jax.Array
) -> tuple[jax.Array, ...]:
    return jax.vjp(operation, *inputs)[1](cotangent)
