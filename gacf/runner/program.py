"""An algorithm over many lanes, as compiled programs."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
    use_abstract_mesh,
)

from gacf.core.checks import lookup, require, shown, whole
from gacf.core.tracing import blank, through_data
from gacf.core.types import Algorithm, Key, Metrics, PyTree, State
from gacf.runner.hoist import Traced, check_placed, check_step, hoist
from gacf.runner.lanes import MAPS, Lanes, lane_grid, on_one_device
from gacf.runner.parallel import AXIS

Build = Callable[[Any], Algorithm]
HUGE = 1e15  # a squared error of that size is an error of 3e7, which float32 knows in steps of 2
LOOP_FROM = 1e7  # floating-point operations a step from which a loop beats vmap on one CPU core


def _diverged(params: PyTree, metrics: Metrics) -> jax.Array:
    """Whether a parameter or a player's loss is infinite or beyond `HUGE`, or a parameter NaN.

    Losses that are NaN do not count: that is what a player reports who did not move in this step
    (`every`), and one whose loss is NaN spoils its parameters. Neither do optimiser states: some
    of them start at infinity.
    """
    leaves = [x for x in jax.tree.leaves(params) if jnp.issubdtype(x.dtype, jnp.inexact)]
    sound = [jnp.all(jnp.isfinite(x) & (jnp.abs(x) <= HUGE)) for x in leaves]
    losses = [loss for name, loss in metrics.items() if name.endswith("/loss")]
    sound += [jnp.all(~(jnp.abs(loss) > HUGE)) for loss in losses]
    return ~jnp.all(jnp.stack(sound or [jnp.bool_(True)]))


class Program:
    """An algorithm over many lanes, as two compiled programs: `init` and `advance`.

    Args:
        build: an `Algorithm`, or `hyper -> Algorithm` if there are hyperparameters.
        seeds: how many seeds, each `fold_in(key, i)`: seed i is the same however many there are.
        hyper: pytree of floats with a leading axis [hypers], or None.
        map: one of `MAPS`.
        evaluate: whether windows may end with an evaluation.
        mesh: the devices over which the lanes are spread; None: all, if `map` spreads them. Those
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
        if isinstance(build, Algorithm):
            if hyper is not None:
                raise ValueError("hyper: needs a function `hyper -> Algorithm`, not an Algorithm")
            algorithm = build
            build = lambda hyper: algorithm  # noqa: E731
        elif not callable(build):
            raise ValueError(
                f"algorithm: {shown(build)} was given; allowed: an Algorithm, as "
                "compose(game, rule) makes one, or a function hyper -> Algorithm"
            )
        elif hyper is None:
            raise ValueError("hyper: a function `hyper -> Algorithm` was given, and nothing for it")
        self.build, self.seeds, self.evaluates = build, seeds, evaluate
        self.hyper = jax.tree.map(jnp.asarray, () if hyper is None else hyper)
        lengths = {x.shape[:1] for x in jax.tree.leaves(self.hyper)}
        if hyper is not None and (len(lengths) != 1 or lengths == {()}):
            raise ValueError(f"hyper: leaves need one leading axis [hypers]; theirs are {lengths}")
        self.hypers = None if hyper is None else lengths.pop()[0]
        self.lanes = seeds * (self.hypers or 1)
        self.compile_seconds = 0.0
        self._compiled: dict[int, Any] = {}
        one_key = jax.eval_shape(lambda: jax.random.key(0))
        self._one_hyper = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.hyper
        )
        self._init = hoist(lambda hyper, key: self.build(hyper).init(key), self._one_hyper, one_key)
        axes = State._make((0, 0, 0, 0, None))
        self._start = jax.jit(jax.vmap(self._init.call, in_axes=(None, 0, 0), out_axes=axes))
        one = self._init.shape
        if not isinstance(one, State):
            raise ValueError("algorithm: `init` must return a State; make it with `compose`")
        grid = lane_grid(mesh, map, self.lanes)
        self.share = grid.shape[1]  # devices that share a lane
        with self._tracing(grid):
            self._step = hoist(
                lambda hyper, state: self.build(hyper).step(state), self._one_hyper, one
            )
            check_step(one, self._step.shape[0])
            self._evaluate = (
                hoist(lambda hyper, state: self.build(hyper).evaluate(state), self._one_hyper, one)
                if evaluate
                else Traced(lambda consts, hyper, state: {}, [], {})
            )
        if self.share > 1 and "sharding_constraint" not in str(self._step.jaxpr):
            raise ValueError(
                f"mesh: an axis {AXIS!r} of {self.share} devices was given, and no batch to spread "
                "over it; allowed: for games made by data_parallel(game)"
            )
        self.map = self._choose(map, grid)
        grid = grid if self.map.startswith("sharded") else grid[:1]
        self.rows = len(grid)  # devices, or groups that share a lane, among which lanes are spread
        self.mesh = Mesh(grid, ("lane", AXIS)) if self.share > 1 else Mesh(grid[:, 0], ("lane",))
        if self.mesh.size > 1:
            check_placed((*self._step.consts, *self._evaluate.consts))
        self.padded = -(-self.lanes // self.rows) * self.rows
        own = [any(d.process_index == jax.process_index() for d in row) for row in grid]
        self._own = np.repeat(own, self.padded // self.rows)  # the lanes of this process

    def _tracing(self, grid: np.ndarray) -> contextlib.AbstractContextManager[Any]:
        """Lets a game see that its batches are to be spread."""
        if self.share == 1:
            return contextlib.nullcontext()
        mesh = Mesh(grid, ("lane", AXIS)).abstract_mesh
        manual = {"lane": AxisType.Manual} if len(grid) > 1 else {}
        return use_abstract_mesh(mesh.update_axis_types(manual))

    def _choose(self, map: str, grid: np.ndarray) -> str:
        if map != "auto":
            return map
        over = "sharded-" if len(grid) > 1 else ""
        if grid.flat[0].platform != "cpu":
            return over + "vmap"
        if self.share > 1:
            return over + "loop"
        if self.lanes == 1:
            return "loop"  # a batch of one is not free: it takes other, slower matrix products
        lowered = jax.jit(self._step.call).lower(
            self._step.consts, self._one_hyper, self._init.shape
        )
        flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
        return over + ("loop" if flops >= LOOP_FROM else "vmap")

    def _sharding(self, spec: PartitionSpec) -> Sharding:
        if self.mesh.size == 1:  # what a run returns may be closed over by another, on any devices
            return SingleDeviceSharding(self.mesh.devices.item())
        return NamedSharding(self.mesh, spec)

    def init(self, key: Key) -> Lanes:
        """The lanes at step 0; seed i of every setting starts from `fold_in(key, i)`."""
        check_key(key)
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(self.seeds))
        index = self._index()
        hyper = jax.tree.map(lambda x: x[index // self.seeds], self.hyper)
        state = self._start(self._init.consts, hyper, keys[index % self.seeds])
        return self._place(hyper, state[:4], state.step)

    def _index(self) -> np.ndarray:
        """The lanes that this process holds; the last one stands in for those added as padding."""
        return np.minimum(np.arange(self.padded), self.lanes - 1)[self._own]

    def _place(self, hyper: PyTree, body: PyTree, step: jax.Array) -> Lanes:
        """Puts the lanes of this process where they belong."""
        hyper, body = self._put((hyper, body), PartitionSpec("lane"))
        return Lanes(hyper, body, self._put(step, PartitionSpec()))

    def _put(self, tree: PyTree, spec: PartitionSpec) -> PyTree:
        """What this process holds of arrays, on the devices."""
        sharding = self._sharding(spec)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)

        def put(x: jax.Array) -> jax.Array:
            return jax.make_array_from_process_local_data(sharding, np.asarray(x))

        return jax.tree.map(functools.partial(through_data, put), tree)

    def _home(self, tree: PyTree) -> PyTree:
        """Arrays of all lanes, whole on each process, and those of CPUs on its first device.

        Indexing or reshaping an array that is spread over host devices is a collective of these,
        and the wait for one of them may end the process.
        """
        if jax.process_count() > 1:

            def gather(x: jax.Array) -> jax.Array:
                return jnp.asarray(multihost_utils.process_allgather(x, tiled=True))

        elif self.mesh.devices.flat[0].platform == "cpu":

            def gather(x: jax.Array) -> jax.Array:
                if len(x.devices()) == 1 or x.is_fully_replicated:
                    return jax.device_put(x.addressable_data(0), on_one_device())
                whole = np.empty(x.shape, x.dtype)  # `device_put` of x would keep a copy with x
                for shard in x.addressable_shards:
                    whole[shard.index] = np.asarray(shard.data)
                return jax.device_put(whole, on_one_device())

        else:
            return tree
        return jax.tree.map(functools.partial(through_data, gather), tree)

    def lanes_of(self, state: State) -> Lanes:
        """The lanes of a batched state, to go on from it."""
        body = state[:4]
        if self.hypers is not None:
            body = jax.tree.map(lambda x: x.reshape(self.lanes, *x.shape[2:]), body)
        hyper = jax.tree.map(lambda x: jnp.repeat(x, self.seeds, axis=0), self.hyper)
        if self.padded != self.lanes or not self._own.all():
            hyper, body = jax.tree.map(lambda x: x[self._index()], (hyper, body))
        return self._place(hyper, body, state.step)

    def state_of(self, lanes: Lanes) -> State:
        """The batched state of the lanes: leaves [S, …] or [H, S, …], the step a scalar."""
        if jax.process_count() == 1:
            step = self._home(lanes.step)
        else:
            step = jnp.asarray(lanes.step.addressable_data(0))
        return State._make((*self._shape(lanes.body), step))

    def state_shape(self) -> State:
        """Shapes and dtypes of the batched state."""
        lead = (self.seeds,) if self.hypers is None else (self.hypers, self.seeds)

        def batched(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype)

        one = self._init.shape
        return State._make((*jax.tree.map(batched, one[:4]), one.step))

    def one(self) -> tuple[PyTree, State]:
        """Shapes and dtypes of one lane's hyperparameters and state."""
        return self._one_hyper, self._init.shape

    def bytes_a_lane(self) -> int:
        """Bytes of one lane's state: params, optimiser state, world with its buffers, key."""
        return sum(
            x.size * x.dtype.itemsize for x in jax.tree.leaves((self._one_hyper, self._init.shape))
        )

    def bytes_needed(self) -> int:
        """Bytes that all lanes need at once, an upper bound of what a run takes up at its peak.

            state · (copies · lanes + in flight) + data

        Under `vmap` the lanes are renewed in place, and a checkpoint copies them: 2 copies. In a
        loop those given and those made are apart, 3 copies, and each lane in flight (one a device)
        is held twice over while it is stepped. Spread lanes are gathered: one copy more for
        `sharded-vmap`. Data sets are held once a device, and so are lanes that devices share.
        """
        loops = self.map.endswith("loop")
        copies = 3 if loops or self.mesh.size > 1 else 2
        lanes = copies * self.padded * self.share + (2 * self.mesh.size if loops else 0)
        consts = {id(c): c for c in (*self._step.consts, *self._evaluate.consts)}
        data = sum(c.size * c.dtype.itemsize for c in consts.values()) * self.mesh.size
        return lanes * self.bytes_a_lane() + data

    def metrics_shape(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one lane's metrics, by the names that `advance` gives them."""
        found = {f"evaluate/{name}": leaf for name, leaf in self._evaluate.shape.items()}
        return {**self._step.shape[1], "diverged": jax.ShapeDtypeStruct((), jnp.bool_), **found}

    def _shape(self, tree: PyTree) -> PyTree:
        def unpad(x: jax.Array) -> jax.Array:
            x = x if self.padded == self.lanes else x[: self.lanes]
            return x if self.hypers is None else x.reshape(self.hypers, self.seeds, *x.shape[1:])

        return jax.tree.map(unpad, self._home(tree))

    def _lane(
        self,
        consts: tuple[Sequence[jax.Array], Sequence[jax.Array]],
        step: jax.Array,
        counts: jax.Array,
        due: jax.Array,
        lane: tuple[PyTree, PyTree],
    ) -> tuple[PyTree, Metrics]:
        hyper, body = lane

        def window(state: State, x: tuple[jax.Array, jax.Array]) -> tuple[State, Metrics]:
            count, due = x

            def once(i: jax.Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
                return self._step.call(consts[0], hyper, carry[0])

            first = (state, blank(self._step.shape[1]))
            state, metrics = jax.lax.fori_loop(0, count, once, first)
            metrics = {**metrics, "diverged": _diverged(state.params, metrics)}
            if self.evaluates:
                metrics |= jax.lax.cond(due, measure, unknown, state)
            return state, metrics

        def floating(x: Any) -> Any:
            return jnp.promote_types(x.dtype, jnp.float32)

        def measure(state: State) -> Metrics:
            found = self._evaluate.call(consts[1], hyper, state)
            return {f"evaluate/{k}": v.astype(floating(v)) for k, v in found.items()}

        def unknown(state: State) -> Metrics:
            shapes = self._evaluate.shape.items()
            return {f"evaluate/{k}": jnp.full(v.shape, jnp.nan, floating(v)) for k, v in shapes}

        state, metrics = jax.lax.scan(window, State._make((*body, step)), (counts, due))
        return tuple(state[:4]), metrics

    def _spread_empty(self, body: PyTree) -> PyTree:
        """Puts leaves without elements where the program takes them; XLA leaves them anywhere."""
        sharding = self._sharding(PartitionSpec("lane"))
        return jax.tree.map(lambda x: x if x.size else jax.device_put(x, sharding), body)

    def _all(
        self,
        consts: Any,
        step: jax.Array,
        counts: jax.Array,
        due: jax.Array,
        hyper: PyTree,
        body: PyTree,
    ) -> tuple[PyTree, jax.Array, Metrics]:
        def inner(consts: Any, step: Any, counts: Any, due: Any, hyper: Any, body: Any) -> Any:
            lane = functools.partial(self._lane, consts, step, counts, due)
            each = (
                jax.vmap(lane)
                if self.map.endswith("vmap")
                else functools.partial(jax.lax.map, lane)
            )
            return each((hyper, body))

        if self.rows > 1:
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
        """The compiled program for that many windows; compiled once, its time is added up."""
        if windows not in self._compiled:
            self._consts = getattr(self, "_consts", None) or self._replicated()
            start = time.perf_counter()
            spec = (jnp.zeros(windows, jnp.int32), jnp.zeros(windows, bool))
            args = (self._consts, lanes.step, *self._control(*spec), lanes.hyper, lanes.body)
            jitted, mesh = jax.jit(self._all, donate_argnums=5), contextlib.nullcontext()
            if self.share > 1:  # else the partitioner may leave the lanes elsewhere
                split, whole = map(self._sharding, (PartitionSpec("lane"), PartitionSpec()))
                put = split, whole, split
                jitted = jax.jit(self._all, donate_argnums=5, out_shardings=put)
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
                    placed[id(c)] = self._put(c, PartitionSpec())
            return [placed[id(c)] for c in consts]

        return put(self._step.consts), put(self._evaluate.consts)

    def _control(self, counts: Any, due: Any) -> tuple[jax.Array, jax.Array]:
        control = (jnp.asarray(counts, jnp.int32), jnp.asarray(due, bool))
        return self._put(control, PartitionSpec())

    def advance(
        self, lanes: Lanes, counts: Sequence[int], due: Sequence[bool]
    ) -> tuple[Lanes, Metrics]:
        """Runs one window of steps after the other; the given lanes' buffers are used up.

        Args:
            lanes: where to start.
            counts: steps of each window [W]; the numbers are data, only W is compiled in.
            due: whether to evaluate at the end of each window [W].

        Returns:
            The lanes, and the metrics of each window's last step, leaves [S, W, …] or [H, S, W, …].
        """
        program = self.compile(lanes, len(counts))
        control = self._control(counts, due)
        body, step, metrics = program(self._consts, lanes.step, *control, lanes.hyper, lanes.body)
        if self.mesh.size > 1:
            body = self._spread_empty(body)
        return Lanes(lanes.hyper, body, step), self._shape(metrics)


def check_seeds(seeds: int) -> None:
    """Raises a ValueError unless it is a number of seeds."""
    require("seeds", seeds, whole, "a whole number >= 1")


def check_key(key: Key) -> None:
    """Raises a ValueError unless it is one typed key."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        given = shown(key) if dtype is None else str(dtype)
        raise ValueError(f"key: {given} was given; allowed: a typed key, jax.random.key(…)")
    if shape != ():
        raise ValueError(f"key: keys of shape {shape} were given; allowed: one key, shape ()")
