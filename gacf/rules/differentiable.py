"""Derivatives through an optimiser's step at points where its single operations have none.

Adam divides by a root that has no derivative at 0, so the backward pass yields 0 · ∞ = NaN for
every parameter whose gradients have all been 0, such as those of a dead unit. The step as a whole
is differentiable there: m / (√v + ε) at m = v = 0 changes with the gradient only through m.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import optax

from gacf.core.types import PyTree

# Elementwise operations whose derivatives may be infinite or NaN: those of a product are so where a
# factor is, the others where their input is 0.
_SINGULAR = frozenset(("sqrt", "rsqrt", "cbrt", "log", "log1p", "div", "mul", "pow", "integer_pow"))


def differentiable(
    optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser, with steps that can be differentiated backwards where a second moment is 0.

    If an update does not depend on an operation (the cotangent that reaches it is exactly 0), then
    the operation passes 0 on, even where its own derivative is infinite: 0 · ∞ = 0. This is the
    derivative of the step if the infinite one belongs to a root of squares, as in every adaptive
    optimiser: |g| has bounded slopes, and they are multiplied by 0. An update that does depend on
    something without a derivative still gets the infinite one. Values, and derivatives elsewhere,
    are those of the optimiser itself, up to rounding.
    """

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        def step(updates: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
            return optimizer.update(updates, state, params, **extra)

        program, shape = jax.make_jaxpr(step, return_shape=True)(updates, state, params)
        leaves = jax.tree.leaves((updates, state, params))
        outputs = _evaluate(program.jaxpr, program.consts, leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _evaluate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The program's outputs, with its singular operations replaced."""
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
    result = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(settings))
    return result if equation.primitive.multiple_results else [result]


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
        outputs = body(*consts, *carry, *xs)
        return list(outputs[:carried]), list(outputs[carried:])

    carry, ys = jax.lax.scan(
        step, start, xs, settings["length"], settings["reverse"], settings["unroll"]
    )
    return [*carry, *ys]


def _resolved(operation: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The elementwise operation, whose backward pass takes a cotangent of 0 to 0."""

    @jax.custom_vjp
    def resolved(*inputs: jax.Array) -> jax.Array:
        return operation(*inputs)

    def steep(inputs: tuple[jax.Array, ...], like: jax.Array) -> jax.Array:
        slopes = _back(operation, inputs, jnp.ones_like(like))
        return ~jnp.isfinite(jnp.stack(slopes)).all(0)

    # Both passes may be differentiated again, so they must not be evaluated at singular inputs, or
    # these derivatives would be NaN. The second derivatives there are 0.

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
