"""Where a step's time goes: a trace of one window, added up by the purpose of the operations.

    arithmetic   floating-point operations of matrix products and convolutions, 2 per multiply-add
    achieved     arithmetic / time, as a share of the rate of one large float32 matrix product
    idle         1 − (time that operations ran) / (wall time · devices)

An operation counts with its self time, without the operations inside it. Operations are named by
JAX's own metadata: the scopes "observe", a player's name and "optimizer", which gacf sets, and the
primitive. Tracing slows down programs of many tiny operations. So the same steps are also timed
without a trace, and the difference is subtracted in equal parts from all calls.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from rich.table import Table

from gacf.core.tracing import MARK
from gacf.core.types import Key
from gacf.networks import conv
from gacf.runner import Lanes, Program

RANDOM = re.compile(r"threefry|random_bits|jit\(_(uniform|normal|randint|bernoulli|categorical)")
INNER = re.compile(r"[\w.]*\(([^()]*)\)")  # jvp(actor) -> actor, transpose(jvp(MLP)) -> jvp(MLP)

# Operations of a trace: its format holds a million, which take gigabytes while it is written.
EVENTS = 200_000
FULL = 900_000


class Cost(NamedTuple):
    """One kind of operation.

    Attributes:
        scope: its purpose: "observe", "sample", a player, "optimizer", …; "" if unknown.
        operation: a primitive's name, "random numbers", "copies" or "loops".
        share: its share of the time of all operations.
        seconds: seconds per step of all lanes, on each device.
        calls: calls per step of all lanes, on all devices.
    """

    scope: str
    operation: str
    share: float
    seconds: float
    calls: float


class Profile(NamedTuple):
    """The costs of one window of steps.

    Attributes:
        costs: the costs by kind of operation, largest first.
        step_seconds: wall time of one more step of all lanes, without a trace.
        lanes: the number of lanes.
        devices: the number of devices over which they are spread.
        flops: the arithmetic of one step of one lane.
        achieved: floating-point operations per second on all devices.
        peak: the same for large matrix products.
        idle: the share of the devices' time in which no operation ran; NaN if a step has more
            operations than a trace holds.
    """

    costs: list[Cost]
    step_seconds: float
    lanes: int
    devices: int
    flops: float
    achieved: float
    peak: float
    idle: float


def matmul_flops(jaxpr: jax.extend.core.Jaxpr) -> float:
    """Floating-point operations of the matrix products and convolutions, 2 per multiply-add.

    The body of a `scan` counts as often as it runs. Of a `cond` the most expensive branch counts,
    or the branch for this platform. A `while`, whose length is unknown, counts once.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> matmul_flops(jax.make_jaxpr(lambda x: x @ x)(jnp.ones((4, 4))).jaxpr)
        128.0
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if (flops := conv.flops(equation)) is not None:
            total += flops
        elif name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            shape = _shape(equation.invars[0])
            size = math.prod(_shape(equation.outvars[0]))
            total += 2.0 * size * math.prod(shape[i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel = _shape(equation.invars[1])
            size = math.prod(_shape(equation.outvars[0]))
            out = equation.params["dimension_numbers"].rhs_spec[0]
            # If zeros are inserted between pixels, only the pixels are multiplied.
            spread = math.prod(equation.params["lhs_dilation"])
            total += 2.0 * size * math.prod(kernel) / kernel[out] / spread
        else:
            inner = [matmul_flops(each) for each in _inside(_here(equation.params))]
            times = equation.params["length"] if name == "scan" else 1
            total += times * (max(inner, default=0.0) if name == "cond" else sum(inner))
    return total


def _here(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keeps only the branch for this platform, if the branches are for platforms."""
    platforms = params.get("branches_platforms")
    if not platforms:
        return params
    pairs = zip(params["branches"], platforms, strict=True)
    mine = next(b for b, names in pairs if names is None or jax.default_backend() in names)
    return {**params, "branches": (mine,)}


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inside(params: Mapping[str, Any]) -> Iterator[jax.extend.core.Jaxpr]:
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, jax.extend.core.ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, jax.extend.core.Jaxpr):
                yield each


def profile(program: Program, key: Key, directory: Path, seconds: float = 0.5) -> Profile:
    """Traces a window of steps from step 0; the trained lanes are discarded.

    The window is as long as possible: `seconds`, or `EVENTS` operations, because the memory of a
    trace grows with them (about 10 KB each while it is written).

    Args:
        program: the program to run.
        key: as for `Program.init`.
        directory: for the trace, which TensorBoard and Perfetto (the .json.gz) can open.
        seconds: the approximate largest duration of the window without a trace.

    Returns:
        The `Profile`.
    """
    lanes, taken = program.init(key), 0.0
    steps = 1
    while True:
        lanes, taken = _timed(program, lanes, steps)
        if taken >= seconds / 2 or steps >= 1 << 20:
            break
        steps = max(2 * steps, min(8 * steps, int(steps * seconds / max(taken, 1e-6))))
    lanes, taken = _timed(program, lanes, steps, repeats=4)
    lanes, twice = _timed(program, lanes, 2 * steps, repeats=3)
    # The fixed cost of a call belongs to no step.
    step_seconds = max(twice - taken, 0.1 * taken) / steps
    known = names(program.compile(lanes, 1).as_text())
    window = 1
    while True:
        lanes, traced, events = _traced(program, lanes, window, directory)
        spent, calls = self_times(events, known)
        operations = sum(calls.values())
        if window == steps or 2 * operations > EVENTS:
            break
        window = min(steps, 16 * window, max(2 * window, window * EVENTS // max(1, operations)))
    lanes, untraced = _timed(program, lanes, window, repeats=3)
    devices, flops = program.mesh.size, step_flops(program)
    overhead = max(0.0, traced - untraced) * devices / max(1, operations)
    spent = {kind: max(0.0, time - overhead * calls[kind]) for kind, time in spent.items()}
    busy = sum(spent.values()) or 1.0
    costs = [
        Cost(*kind, spent[kind] / busy, spent[kind] / window / devices, calls[kind] / window)
        for kind in sorted(spent, key=lambda kind: -spent[kind])
    ]
    return Profile(
        costs=costs,
        step_seconds=step_seconds,
        lanes=program.lanes,
        devices=devices,
        flops=flops,
        achieved=flops * program.lanes / step_seconds,
        peak=peak_flops(program),
        idle=max(0.0, 1 - busy / (untraced * devices)) if len(events) < FULL else math.nan,
    )


def _traced(
    program: Program, lanes: Lanes, steps: int, directory: Path
) -> tuple[Lanes, float, list[dict[str, Any]]]:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    shutil.rmtree(directory / "plugins", ignore_errors=True)  # left by an earlier trace
    with jax.profiler.trace(str(directory), profiler_options=options):
        lanes, traced = _timed(program, lanes, steps)
    (trace,) = directory.rglob("*.trace.json.gz")
    with gzip.open(trace, "rt") as file:
        return lanes, traced, json.load(file)["traceEvents"]


def _timed(program: Program, lanes: Lanes, steps: int, repeats: int = 1) -> tuple[Lanes, float]:
    program.compile(lanes, 1)
    best = math.inf
    for _ in range(repeats):
        jax.block_until_ready(lanes)
        start = time.perf_counter()
        lanes, _ = program.advance(lanes, [steps], [False])
        jax.block_until_ready(lanes.body)
        best = min(best, time.perf_counter() - start)
    return lanes, best


def step_flops(program: Program) -> float:
    """The arithmetic of one step of one lane; see `matmul_flops`."""
    return matmul_flops(program.step_jaxpr)


def peak_flops(program: Program, size: int = 1024, repeats: int = 5) -> float:
    """The rate of float32 products of [size, size] matrices, on all devices of the program."""
    spec = PartitionSpec(program.mesh.axis_names)
    x = jax.device_put(
        jnp.ones((program.mesh.size, size, size), jnp.float32), NamedSharding(program.mesh, spec)
    )

    def product(x: jax.Array) -> jax.Array:
        return (x[0] @ x[0])[None]

    spread = jax.shard_map(product, mesh=program.mesh, in_specs=spec, out_specs=spec)
    compiled = jax.jit(spread).lower(x).compile()
    best = math.inf
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(compiled(x))
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 * program.mesh.size / best


def names(hlo: str) -> dict[str, str]:
    """Operation -> its name in JAX, followed by "/matrix products" if it contains any.

    A fusion without a name gets that of its root.

    Args:
        hlo: the text of a compiled module.
    """
    names: dict[str, str] = {}
    roots: dict[str, str] = {}
    calls: dict[str, str] = {}
    products: set[str] = set()
    computation = ""
    for line in hlo.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.-]+) .*{$", line):
            computation = head[1]
        if not (operation := re.match(r"\s+(ROOT )?%?([\w.-]+) = ", line)):
            continue
        if called := re.search(r"calls=%?([\w.-]+)", line):
            calls[operation[2]] = called[1]
        if re.search(r"[ \]})](dot|convolution)\(", line):
            products |= {computation, operation[2]}
        if named := re.search(r'op_name="([^"]*)"', line):
            names[operation[2]] = named[1]
            if operation[1]:
                roots[computation] = named[1]
    names = {**{o: roots[c] for o, c in calls.items() if c in roots}, **names}
    products |= {operation for operation, called in calls.items() if called in products}
    return {**names, **{o: names.get(o, "") + "/matrix products" for o in products}}


def kind(operation: str, name: str) -> tuple[str, str]:
    """The scope and the kind of an operation, from its own name and its name in JAX.

    Example:
        >>> kind("dot.3", "jit(_all)/while/gacf.critic/transpose(jvp(MLP))/Dense_0/matrix products")
        ('critic', 'matrix products, backward')
        >>> kind("while.7", "jit(_all)/while/body/gacf.observe/jit(_threefry_split)/while")
        ('observe', 'random numbers')
    """
    parts = []
    for part in name.split("/"):
        while inner := INNER.fullmatch(part):
            part = "" if part.startswith("jit(") else inner[1]
        parts.append(part)
    scope = next((part[len(MARK) :] for part in reversed(parts) if part.startswith(MARK)), "")
    if RANDOM.search(name):
        return scope, "random numbers"
    if operation.startswith("copy"):
        return scope, "copies"
    last = parts[-1] if name else ""
    if operation.startswith(("while", "call", "conditional")):
        return scope, "loops"
    backward = ", backward" if "transpose(jvp" in name else ""
    return scope, (last or re.sub(r"[.\d]+$", "", operation)) + backward


def self_times(
    events: list[dict[str, Any]], known: Mapping[str, str]
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], int]]:
    """The seconds and calls of each kind of operation.

    An operation whose scope is unknown, or which runs inside the generation of random numbers,
    counts as part of the operation that contains it.

    Args:
        events: the events of a trace, in Chrome's format; those that name an `hlo_op` count.
        known: operation -> its name in JAX.
    """
    rows = defaultdict(list)
    for event in events:
        operation = event.get("args", {}).get("hlo_op")
        if operation and event.get("ph") == "X" and not event["name"].startswith("end: "):
            rows[event["pid"], event["tid"]].append((event["ts"], -event["dur"], operation))
    spent: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows.values():
        open_: list[tuple[float, tuple[str, str]]] = []
        for start, minus, operation in sorted(row):
            end = start - minus
            while open_ and open_[-1][0] <= start:
                open_.pop()
            key = kind(operation, known.get(operation, ""))
            if open_:
                around = open_[-1][1]
                if around[1] == "random numbers":
                    key = around
                elif not key[0]:
                    key = (around[0], key[1])
                spent[around] += 1e-6 * minus
            spent[key] -= 1e-6 * minus
            calls[key] += 1
            open_.append((end, key))
    return spent, calls


def table(result: Profile, title: str, rows: int = 10) -> Table:
    """The largest costs, for the terminal."""
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("for", "operation"):
        grid.add_column(column)
    for column in ("share", "ms a step", "calls a step"):
        grid.add_column(column, justify="right")
    for cost in result.costs[:rows]:
        grid.add_row(
            cost.scope, cost.operation, f"{cost.share:.1%}", f"{1e3 * cost.seconds:.4f}",
            f"{cost.calls:,.1f}",
        )  # fmt: skip
    return grid


def share(value: float) -> str:
    """A share in per cent, or "unknown"."""
    return "unknown" if math.isnan(value) else f"{value:.0%}"


def words(result: Profile) -> str:
    """The arithmetic and the idle time in one line."""
    return (
        f"lanes: {result.lanes}, devices: {result.devices}, "
        f"{1e3 * result.step_seconds:.4g} ms a step, "
        f"{1e-6 * result.flops:.4g} MFLOP a step and lane in matrix products: "
        f"{1e-9 * result.achieved:.3g} GFLOP/s, {result.achieved / result.peak:.0%} of the "
        f"{1e-9 * result.peak:.3g} of one large product; idle {share(result.idle)}"
    )
