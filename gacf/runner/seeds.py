"""Training many seeds in one call with `run`, and taking one of them out with `take_seed`."""

from __future__ import annotations

import functools

import jax
import jax.core
import jax.numpy as jnp
from jax.sharding import Mesh

from gacf.core.checks import lookup, shown
from gacf.core.types import Algorithm, Key, Metrics, PyTree, State
from gacf.runner.placement import MAPS
from gacf.runner.program import Program, check_key, check_seeds
from gacf.runner.traces import Build
from gacf.runner.windows import plan_windows


@functools.lru_cache(maxsize=8)
def _cached(
    algorithm: Algorithm, seeds: int, map: str, evaluate: bool, mesh: Mesh | None, x64: bool
) -> Program:
    return Program(algorithm, seeds, None, map, evaluate, mesh)


def run(
    algorithm: Algorithm | Build,
    key: Key,
    steps: int,
    seeds: int = 1,
    log_every: int = 1,
    evaluate_every: int | None = None,
    hyper: PyTree = None,
    map: str = "auto",
    mesh: Mesh | None = None,
    state: State | None = None,
) -> tuple[State, Metrics]:
    """Trains many seeds, and many settings of the hyperparameters, in one compiled program.

    Args:
        algorithm: an `Algorithm`, or `hyper -> Algorithm`, which then gets traced numbers.
        key: PRNG key; seed i starts from `fold_in(key, i)`, the same for every setting.
        steps: the number of steps T.
        seeds: the number of seeds S.
        log_every: metrics are those of the steps log_every, 2·log_every, …
        evaluate_every: a multiple of `log_every`: how often `evaluate` runs, inside the program.
            Its metrics are named `evaluate/…`; they are NaN where it did not run.
        hyper: pytree of floats with a leading axis [hypers], one entry per setting.
        map: how the lanes run, one of `auto`, `vmap`, `loop`, `sharded-vmap`, `sharded-loop`.
        mesh: the devices over which the lanes are spread, whatever its axes are called; by default
            all devices of this process, or of all processes if there are several. Devices along an
            axis called "batch" share a lane, each with a part of its batch: see `data_parallel`.
        state: a batched state to go on from, which `run` or `gacf.load` returned; it stays usable.
            Its own keys are used, not `key`, and its seeds are trained (`seeds` may be left out).
            20 steps are the same, bit for bit, as 10 and then 10 more from there; windows and
            evaluations are counted from step 0 in both cases.

    Returns:
        The batched `State`, leaves [S, …] or [H, S, …] but for the step counter, and the metrics,
        leaves [S, T // log_every, …] or [H, S, T // log_every, …]. The metric `diverged` says
        whether, in the last step of a window, a parameter was not finite or beyond 1e15, or a loss
        infinite or beyond 1e15. A diverged seed does not affect the others.
        On CPUs all results are on the first host device, whichever devices computed them.

    Raises:
        ValueError: an argument out of bounds, or a state that is not one of this algorithm; the
            message names it.

    Example:
        >>> import gacf, jax, optax
        >>> game = gacf.from_losses(
        ...     {"actor": 1.0, "critic": 1.0},
        ...     {"actor": lambda p, batch, key: p["actor"] * p["critic"],
        ...      "critic": lambda p, batch, key: -p["actor"] * p["critic"]})
        >>> rule = gacf.rules.simultaneous({p: optax.sgd(0.1) for p in game.losses})
        >>> state, metrics = gacf.run(gacf.compose(game, rule), jax.random.key(0), 10, seeds=3)
        >>> state.params["actor"].shape, metrics["actor/loss"].shape
        ((3,), (3, 10))
        >>> more, _ = gacf.run(gacf.compose(game, rule), jax.random.key(0), 5, state=state)
        >>> int(more.step)
        15
    """
    check_seeds(seeds)
    start = 0
    if state is not None:
        seeds, start = _seeds_of(state, seeds, hyper), int(state.step)
    counts, due = plan_windows(steps, log_every, evaluate_every, start)
    lookup("map", map, dict.fromkeys(MAPS))
    check_key(key)
    evaluates = evaluate_every is not None
    if hyper is None and isinstance(algorithm, Algorithm):
        x64 = jax.config.read("jax_enable_x64")
        program = _cached(algorithm, seeds, map, evaluates, mesh, x64)
    else:
        program = Program(algorithm, seeds, hyper, map, evaluates, mesh)
    if state is None:
        lanes = program.init(key)
    else:
        _check_state(state, program.state_shape())
        lanes = program.lanes_of(jax.tree.map(jnp.copy, state))  # `advance` consumes its buffers
    lanes, metrics = program.advance(lanes, counts, due)
    logged = steps // log_every
    axis = 1 if hyper is None else 2
    state = program.state_of(lanes)
    if len(counts) != logged:
        metrics = jax.tree.map(lambda x: jax.lax.slice_in_dim(x, 0, logged, axis=axis), metrics)
    return state, metrics


def _seeds_of(state: State, seeds: int, hyper: PyTree) -> int:
    """The number of seeds of a batched state, which `seeds` must not contradict."""
    if not isinstance(state, State):
        raise ValueError(f"state: {shown(state)} was given; allowed: a State, as gacf.run gives it")
    axes = ("seeds",) if hyper is None else ("hypers", "seeds")
    lead = state.key.shape
    if len(lead) != len(axes):
        raise ValueError(
            f"state: its leading axes are {list(lead)}; allowed: [{', '.join(axes)}], as gacf.run "
            f"gives it {'without' if hyper is None else 'with'} `hyper`"
        )
    if seeds not in (1, lead[-1]):
        raise ValueError(f"seeds: {seeds} was given; allowed with this state: {lead[-1]}")
    return lead[-1]


def _check_state(state: State, expected: State) -> None:
    """Raises a ValueError unless the state has the structure, shapes and types expected."""
    given, wanted = map(jax.tree_util.tree_flatten_with_path, (state, expected))
    if given[1] != wanted[1]:
        mine, theirs = ({jax.tree_util.keystr(p) for p, _ in t[0]} for t in (wanted, given))
        apart = sorted(mine ^ theirs)
        detail = f"; {apart[0]} is in one of them alone" if apart else ""
        raise ValueError(f"state: its structure is not that of the algorithm's states{detail}")
    for (path, leaf), (_, spec) in zip(given[0], wanted[0], strict=True):
        if (leaf.shape, leaf.dtype) != (spec.shape, spec.dtype):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"state: {name} is {leaf.dtype}{list(leaf.shape)}; allowed for this algorithm: "
                f"{spec.dtype}{list(spec.shape)}"
            )


class _NoSuchSeed(IndexError, ValueError):
    """The batched state does not hold this seed."""


def take_seed(state: State, i: int | tuple[int, int]) -> State:
    """One seed's state out of a batched one; `algorithm.step` takes it.

    Args:
        state: leaves [S, …], or [H, S, …] but for the step counter.
        i: the seed, or `(setting, seed)`.

    Raises:
        ValueError: there is no such seed (this is an IndexError too), or `state` is no state.
    """
    if not isinstance(state, State):
        raise ValueError(f"state: {shown(state)} was given; allowed: a State, as gacf.run gives it")
    index = i if isinstance(i, tuple) else (i,)
    lead = state.key.shape
    fits = len(index) == len(lead) and all(
        not isinstance(j, bool) and hasattr(j, "__index__") and -n <= j < n
        for j, n in zip(index, lead, strict=True)
    )
    if not fits:
        allowed = (
            " and ".join(f"{-n} to {n - 1}" for n in lead) or "none, since it holds one seed only"
        )
        raise _NoSuchSeed(
            f"i: {shown(i)} was given to take_seed; the state's leading axes are {lead}; allowed: "
            f"{allowed}"
        )
    return State._make((*jax.tree.map(lambda x: x[index], tuple(state[:4])), state.step))
