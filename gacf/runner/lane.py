"""The program of one lane: windows of steps, each with its metrics and perhaps an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.tracing import blank
from gacf.core.types import Metrics, PyTree, State
from gacf.runner.traces import Traces

HUGE = 1e15  # a squared error this large is an error of 3e7, where float32 values are 2 apart
Consts = tuple[Sequence[jax.Array], Sequence[jax.Array]]  # of steps, of evaluations


def diverged(params: PyTree, metrics: Metrics) -> jax.Array:
    """Whether a parameter or a player's loss is infinite or beyond `HUGE`, or a parameter NaN.

    A loss that is NaN does not count: a player that did not move in this step (`every`) reports
    NaN, and a true NaN soon reaches the player's parameters. Optimiser states do not count either,
    because some of them start at infinity.
    """
    leaves = [x for x in jax.tree.leaves(params) if jnp.issubdtype(x.dtype, jnp.inexact)]
    sound = [jnp.all(jnp.isfinite(x) & (jnp.abs(x) <= HUGE)) for x in leaves]
    losses = [loss for name, loss in metrics.items() if name.endswith("/loss")]
    sound += [jnp.all(~(jnp.abs(loss) > HUGE)) for loss in losses]
    return ~jnp.all(jnp.stack(sound or [jnp.bool_(True)]))


def metrics_shape(traces: Traces) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of one lane's metrics, by the names that `advance` gives them."""
    measured = {f"evaluate/{name}": leaf for name, leaf in traces.evaluate.shape.items()}
    flag = jax.ShapeDtypeStruct((), jnp.bool_)
    return {**traces.step.shape[1], "diverged": flag, **measured}


def advance(
    traces: Traces,
    consts: Consts,
    step: jax.Array,
    counts: jax.Array,
    due: jax.Array,
    lane: tuple[PyTree, PyTree],
) -> tuple[PyTree, Metrics]:
    """Runs one window of steps after the other.

    Args:
        traces: the traces of the algorithm.
        consts: the data that the traces need.
        step: the number of steps made so far.
        counts: the number of steps of each window [W].
        due: whether to evaluate at the end of each window [W].
        lane: hyperparameters, and the state without its step counter.

    Returns:
        The state without its step counter, and the metrics of each window's last step [W, …].
    """
    hyper, body = lane

    def once(i: jax.Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
        return traces.step.call(consts[0], hyper, carry[0])

    def floating(x: Any) -> Any:
        return jnp.promote_types(x.dtype, jnp.float32)

    def measure(state: State) -> Metrics:
        measured = traces.evaluate.call(consts[1], hyper, state)
        return {f"evaluate/{k}": v.astype(floating(v)) for k, v in measured.items()}

    def unknown(state: State) -> Metrics:
        shapes = traces.evaluate.shape.items()
        return {f"evaluate/{k}": jnp.full(v.shape, jnp.nan, floating(v)) for k, v in shapes}

    def window(state: State, x: tuple[jax.Array, jax.Array]) -> tuple[State, Metrics]:
        count, due = x
        first = (state, blank(traces.step.shape[1]))
        state, metrics = jax.lax.fori_loop(0, count, once, first)
        metrics = {**metrics, "diverged": diverged(state.params, metrics)}
        if traces.evaluate.jaxpr is not None:
            metrics |= jax.lax.cond(due, measure, unknown, state)
        return state, metrics

    state, metrics = jax.lax.scan(window, State._make((*body, step)), (counts, due))
    return tuple(state[:4]), metrics
