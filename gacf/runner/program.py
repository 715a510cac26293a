"""An algorithm over many lanes, as compiled programs."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gacf.core.checks import lookup, require, shown, whole
from gacf.core.types import Algorithm, Key, Metrics, PyTree, State
from gacf.runner import lane
from gacf.runner.placement import MAPS, Lanes, Placement, lane_grid
from gacf.runner.traces import Build, Traces, builder, trace

LOOP_FROM = 1e7  # floating-point operations per step above which a loop beats vmap on a CPU core


def _choose(map: str, grid: np.ndarray, lanes: int, traces: Traces) -> str:
    """How the lanes run: `map` itself, or the choice that `auto` makes."""
    if map != "auto":
        return map
    over = "sharded-" if len(grid) > 1 else ""
    if grid.flat[0].platform != "cpu":
        return over + "vmap"
    if grid.shape[1] > 1:
        return over + "loop"
    if lanes == 1:
        return "loop"  # a batch of one is not free: it uses other, slower matrix products
    step = jax.jit(traces.step.call)
    lowered = step.lower(traces.step.consts, traces.hyper, traces.init.shape)
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
    return over + ("loop" if flops >= LOOP_FROM else "vmap")


class Program:
    """An algorithm over many lanes, as two compiled programs: `init` and `advance`.

    Args:
        build: an `Algorithm`, or `hyper -> Algorithm` if there are hyperparameters.
        seeds: the number of seeds. Seed i starts from `fold_in(key, i)` however many there are.
        hyper: pytree of floats with a leading axis [hypers], or None.
        map: one of `MAPS`.
        evaluate: whether windows may end with an evaluation.
        mesh: the devices over which the lanes are spread; None: all, if `map` spreads them. Devices
            along an axis called "batch" share a lane.
    """

    def __init__(
        self,
        build: Algorithm | Build,
        seeds: int = 1,
        hyper: PyTree = None,
        map: str = "auto",
        evaluate: bool = False,
        mesh: Mesh | None = None,
    ):
        check_seeds(seeds)
        lookup("map", map, dict.fromkeys(MAPS))
        build = builder(build, hyper)
        self.seeds, self.evaluates = seeds, evaluate
        for leaf in jax.tree.leaves(hyper):
            require("hyper", leaf, _is_numbers, "leaves of numbers [hypers, …]")
        self.hyper = jax.tree.map(jnp.asarray, () if hyper is None else hyper)
        lengths = {x.shape[:1] for x in jax.tree.leaves(self.hyper)}
        if hyper is not None and (len(lengths) != 1 or lengths == {()}):
            raise ValueError(f"hyper: leaves need one leading axis [hypers]; theirs are {lengths}")
        self.hypers = None if hyper is None else lengths.pop()[0]
        self.lanes = seeds * (self.hypers or 1)
        self.compile_seconds = 0.0
        self._compiled: dict[int, Any] = {}
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.hyper)
        grid = lane_grid(mesh, map, self.lanes)
        self._traces = trace(build, one, grid, evaluate)
        self.map = _choose(map, grid, self.lanes, self._traces)
        grid = grid if self.map.startswith("sharded") else grid[:1]
        self.placement = Placement(grid, self.lanes, self._traces.consts)
        self.mesh, self.padded = self.placement.mesh, self.placement.padded
        axes = State._make((0, 0, 0, 0, None))
        self._start = jax.jit(jax.vmap(self._traces.init.call, in_axes=(None, 0, 0), out_axes=axes))

    def init(self, key: Key) -> Lanes:
        """The lanes at step 0; seed i of every setting starts from `fold_in(key, i)`."""
        check_key(key)
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(self.seeds))
        index = self.placement.index()
        hyper = jax.tree.map(lambda x: x[index // self.seeds], self.hyper)
        state = self._start(self._traces.init.consts, hyper, keys[index % self.seeds])
        return self.placement.place(hyper, state[:4], state.step)

    def lanes_of(self, state: State) -> Lanes:
        """The lanes of a batched state, from which training can go on."""
        body = state[:4]
        if self.hypers is not None:
            body = jax.tree.map(lambda x: x.reshape(self.lanes, *x.shape[2:]), body)
        hyper = jax.tree.map(lambda x: jnp.repeat(x, self.seeds, axis=0), self.hyper)
        if self.padded != self.lanes or not self.placement.own.all():
            hyper, body = jax.tree.map(lambda x: x[self.placement.index()], (hyper, body))
        return self.placement.place(hyper, body, state.step)

    def state_of(self, lanes: Lanes) -> State:
        """The batched state of the lanes: leaves [S, …] or [H, S, …], the step a scalar."""
        return State._make((*self._batched(lanes.body), self.placement.gather_step(lanes.step)))

    def _batched(self, tree: PyTree) -> PyTree:
        """Arrays [padded lanes, …] as [S, …] or [H, S, …], gathered."""

        def unpad(x: jax.Array) -> jax.Array:
            x = x if self.padded == self.lanes else x[: self.lanes]
            return x if self.hypers is None else x.reshape(self.hypers, self.seeds, *x.shape[1:])

        return jax.tree.map(unpad, self.placement.gather(tree))

    def state_shape(self) -> State:
        """Shapes and dtypes of the batched state."""
        lead = (self.seeds,) if self.hypers is None else (self.hypers, self.seeds)
        return batched_shape(self._traces.init.shape, lead)

    def one(self) -> tuple[PyTree, State]:
        """Shapes and dtypes of one lane's hyperparameters and state."""
        return self._traces.hyper, self._traces.init.shape

    @property
    def step_jaxpr(self) -> Any:
        """The traced program of one step of one lane."""
        return self._traces.step.jaxpr

    @property
    def code(self) -> list[tuple[Any, list[jax.Array]]]:
        """The traced programs of a step and of an evaluation, and the data that they read."""
        return [(t.jaxpr, t.consts) for t in (self._traces.step, self._traces.evaluate)]

    def bytes_a_lane(self) -> int:
        """Bytes of one lane's state: params, optimiser state, world with its buffers, key."""
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(self.one()))

    def bytes_needed(self) -> int:
        """Bytes that all lanes need together: an upper bound on the peak memory of a run.

            state · (copies · lanes + in flight) + data

        Under `vmap` the lanes are updated in place and a checkpoint copies them, which makes 2
        copies. In a loop the input and the output lanes are separate, which makes 3 copies, and
        each lane in flight (one per device) is held twice while it is stepped. Spread lanes are
        gathered, which adds a copy for `sharded-vmap`. Each device holds data sets once, and lanes
        that devices share are held by each of them.
        """
        loops = self.map.endswith("loop")
        copies = 3 if loops or self.mesh.size > 1 else 2
        lanes = copies * self.padded * self.placement.share + (2 * self.mesh.size if loops else 0)
        data = sum(c.size * c.dtype.itemsize for c in self._traces.consts) * self.mesh.size
        return lanes * self.bytes_a_lane() + data

    def metrics_shape(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one lane's metrics, by the names that `advance` gives them."""
        return lane.metrics_shape(self._traces)

    def _all(
        self,
        consts: Any,
        step: jax.Array,
        counts: jax.Array,
        due: jax.Array,
        hyper: PyTree,
        body: PyTree,
    ) -> tuple[PyTree, jax.Array, Metrics]:
        """Takes all lanes through all windows; this is the function that is compiled."""

        def inner(consts: Any, step: Any, counts: Any, due: Any, hyper: Any, body: Any) -> Any:
            one = functools.partial(lane.advance, self._traces, consts, step, counts, due)
            vmapped = self.map.endswith("vmap")
            each = jax.vmap(one) if vmapped else functools.partial(jax.lax.map, one)
            return each((hyper, body))

        if self.placement.rows > 1:
            whole, split = PartitionSpec(), PartitionSpec("lane")
            inner = jax.shard_map(
                inner,
                mesh=self.mesh,
                in_specs=(whole, whole, whole, whole, split, split),
                out_specs=split,
                axis_names={"lane"},
                check_vma=False,
            )
        body, metrics = inner(consts, step, counts, due, hyper, body)
        return body, step + jnp.sum(counts, dtype=step.dtype), metrics

    def compile(self, lanes: Lanes, windows: int) -> Callable[..., Any]:
        """The program for that many windows, compiled once; adds the time to compile_seconds."""
        if windows not in self._compiled:
            self._consts = getattr(self, "_consts", None) or self._replicated()
            start = time.perf_counter()
            spec = (jnp.zeros(windows, jnp.int32), jnp.zeros(windows, bool))
            args = (self._consts, lanes.step, *self._control(*spec), lanes.hyper, lanes.body)
            jitted, mesh = jax.jit(self._all, donate_argnums=5), contextlib.nullcontext()
            if self.placement.share > 1:  # otherwise the partitioner may move the lanes
                split, whole = map(
                    self.placement.sharding, (PartitionSpec("lane"), PartitionSpec())
                )
                shardings = split, whole, split
                jitted = jax.jit(self._all, donate_argnums=5, out_shardings=shardings)
                mesh = jax.set_mesh(self.mesh)
            with mesh:
                self._compiled[windows] = jitted.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - start
        return self._compiled[windows]

    def _replicated(self) -> tuple[list[jax.Array], list[jax.Array]]:
        placed: dict[int, jax.Array] = {}

        def put(consts: list[jax.Array]) -> list[jax.Array]:
            for c in consts:
                if id(c) not in placed:
                    placed[id(c)] = self.placement.put(c, PartitionSpec())
            return [placed[id(c)] for c in consts]

        return put(self._traces.step.consts), put(self._traces.evaluate.consts)

    def _control(self, counts: Any, due: Any) -> tuple[jax.Array, jax.Array]:
        control = (jnp.asarray(counts, jnp.int32), jnp.asarray(due, bool))
        return self.placement.put(control, PartitionSpec())

    def advance(
        self, lanes: Lanes, counts: Sequence[int], due: Sequence[bool]
    ) -> tuple[Lanes, Metrics]:
        """Runs one window of steps after the other; the buffers of the given lanes are consumed.

        Args:
            lanes: the lanes to start from.
            counts: the steps of each window [W]; only W is compiled in, the numbers are data.
            due: whether to evaluate at the end of each window [W].

        Returns:
            The lanes, and the metrics of each window's last step, leaves [S, W, …] or [H, S, W, …].
        """
        program = self.compile(lanes, len(counts))
        control = self._control(counts, due)
        body, step, metrics = program(self._consts, lanes.step, *control, lanes.hyper, lanes.body)
        body = self.placement.place_empty(body)
        return Lanes(lanes.hyper, body, step), self._batched(metrics)


def batched_shape(one: State, lead: tuple[int, ...]) -> State:
    """Shapes and dtypes of a batched state, from those of one seed's.

    Args:
        one: of one seed.
        lead: the leading axes, (seeds,) or (hypers, seeds).
    """

    def batched(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype)

    return State._make((*jax.tree.map(batched, tuple(one[:4])), one.step))


def _is_numbers(leaf: Any) -> bool:
    return jnp.issubdtype(np.asarray(leaf).dtype, jnp.number) and np.size(leaf) > 0


def check_seeds(seeds: int) -> None:
    """Raises a ValueError unless the argument is a number of seeds."""
    require("seeds", seeds, whole, "a whole number >= 1")


def check_key(key: Key) -> None:
    """Raises a ValueError unless the argument is one typed key."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        given = shown(key) if dtype is None else str(dtype)
        raise ValueError(f"key: {given} was given; allowed: a typed key, jax.random.key(…)")
    if shape != ():
        raise ValueError(f"key: keys of shape {shape} were given; allowed: one key, shape ()")
