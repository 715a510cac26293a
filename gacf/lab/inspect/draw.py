"""Drawings of how information flows in a game, traced from its losses.

They follow figure 1 of Pfau & Vinyals (2016): models, evidence, forward paths and gradient paths.
Nothing is written by hand: each loss is traced once, and every value in it is followed.

A value that depends on parameters alone is a weight. Where weights of player j meet data, the data
enters model j: there is a path to j from the origin of the data, which is another model or evidence
in the batch. The result belongs to j. A path carries a gradient if it can be differentiated with
respect to the player's own parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from gacf.core import clock
from gacf.core.game import Game
from gacf.core.tracing import blank
from gacf.core.types import Algorithm
from gacf.rules import field

LOSS = "loss"
Path = tuple[str, str]


class Flow(NamedTuple):
    """How information flows in a game.

    Attributes:
        players: the players, in order.
        evidence: batch entry -> its origin: "data", "environment" or "noise".
        forward: player -> the paths of its loss, from a model or evidence to a model or the loss.
        gradient: player -> the paths along which its gradient runs back.
        depends: player i -> the players on whose params v_i = ∇_own loss_i depends smoothly: the
            blocks ∂v_i/∂params_j of the Jacobian that are not zero.
        reads: player -> the entries of the world that its loss reads.
    """

    players: tuple[str, ...]
    evidence: dict[str, str]
    forward: dict[str, frozenset[Path]]
    gradient: dict[str, frozenset[Path]]
    depends: dict[str, frozenset[str]]
    reads: dict[str, tuple[str, ...]]


class _Value(NamedTuple):
    """What is known about a value: its origin, and whether it can be differentiated.

    Attributes:
        weights: the players of whose params it is a function, as long as no data has entered.
        origins: the models and the evidence that it comes from, once data has entered.
    """

    weights: Mapping[str, bool] = {}
    origins: Mapping[str, bool] = {}

    def frozen(self) -> _Value:
        return _Value(dict.fromkeys(self.weights, False), dict.fromkeys(self.origins, False))


def _merged(parts: Iterable[Mapping[str, bool]]) -> dict[str, bool]:
    merged: dict[str, bool] = {}
    for each in parts:
        for name, smooth in each.items():
            merged[name] = merged.get(name, False) or smooth
    return merged


def _used(jaxpr: Jaxpr, requested: Sequence[bool] | None) -> list[tuple[Any, list[bool]]]:
    """The equations on which the requested outputs depend, with a mark for each used output."""
    ends = zip(jaxpr.outvars, requested or [True] * len(jaxpr.outvars), strict=True)
    needed = {atom for atom, is_requested in ends if is_requested and not isinstance(atom, Literal)}
    equations = []
    for equation in reversed(jaxpr.eqns):
        used = [variable in needed for variable in equation.outvars]
        if any(used):
            equations.append((equation, used))
            needed |= {atom for atom in equation.invars if not isinstance(atom, Literal)}
    return equations[::-1]


class _Tracer:
    """Follows values through a traced program; `paths` maps a path to whether it is smooth."""

    def __init__(self) -> None:
        self.paths: dict[Path, bool] = {}

    def meet(self, values: Sequence[_Value]) -> _Value:
        weights = _merged(v.weights for v in values)
        origins = _merged(v.origins for v in values)
        if not (weights and origins):
            return _Value(weights, origins)
        for model in weights:
            for origin, smooth in origins.items():
                if origin != model:
                    path = (origin, model)
                    self.paths[path] = self.paths.get(path, False) or smooth
        smooth = any(origins.values())
        return _Value({}, {model: own or smooth for model, own in weights.items()})

    def run(
        self,
        jaxpr: Jaxpr,
        inputs: Sequence[_Value],
        consts: Sequence[_Value] = (),
        requested: Sequence[bool] | None = None,
    ) -> list[_Value]:
        traced: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        traced |= zip(jaxpr.constvars, consts, strict=False)

        def read(atom: Any) -> _Value:
            return _Value() if isinstance(atom, Literal) else traced.get(atom, _Value())

        for equation, used in _used(jaxpr, requested):
            values = [read(atom) for atom in equation.invars]
            outputs = self.equation(equation, values, used)
            for variable, value in zip(equation.outvars, outputs, strict=True):
                kind = getattr(variable.aval, "dtype", None)
                rough = kind is None or not jnp.issubdtype(kind, jnp.inexact)
                traced[variable] = value.frozen() if rough else value
        return [read(atom) for atom in jaxpr.outvars]

    def closed(self, jaxpr: Any, inputs: Sequence[_Value], used: Any = None) -> list[_Value]:
        opened = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
        return self.run(opened, inputs, requested=used)

    def settled(self, jaxpr: Any, fixed: list[_Value], carry: list[_Value], xs: Any) -> Any:
        """The outputs of a loop, iterated until nothing changes any more."""
        while True:
            outputs = self.closed(jaxpr, [*fixed, *carry, *xs])
            ends = zip(carry, outputs[: len(carry)], strict=True)
            longer = [
                _Value(_merged([a.weights, b.weights]), _merged([a.origins, b.origins]))
                for a, b in ends
            ]
            if longer == carry:
                return outputs
            carry = longer

    def equation(self, equation: Any, values: list[_Value], used: list[bool]) -> list[_Value]:
        name, params = equation.primitive.name, equation.params
        if name == "stop_gradient":
            return [value.frozen() for value in values]
        if name == "scan":
            consts, carry = params["num_consts"], params["num_carry"]
            split = (values[:consts], values[consts : consts + carry], values[consts + carry :])
            return self.settled(params["jaxpr"], *split)
        if name == "while":
            tests, consts = params["cond_nconsts"], params["body_nconsts"]
            fixed, carry = values[tests : tests + consts], values[tests + consts :]
            return self.settled(params["body_jaxpr"], fixed, carry, [])
        if name == "cond":
            branches = [self.closed(branch, values[1:], used) for branch in params["branches"]]
            return [self.meet(outputs) for outputs in zip(*branches, strict=True)]
        for part in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
            inner = params.get(part)
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                outputs = self.closed(inner, values, used)
                if not name.startswith("custom_"):
                    return outputs
                # its derivative may depend on more than its value does
                return [self.meet([output, *values]) for output in outputs]
        return [self.meet(values)] * len(equation.outvars)


def _like(tree: Any, value: _Value) -> list[_Value]:
    return [value] * len(jax.tree.leaves(tree))


def _named(batch: Any) -> list[str]:
    """The batch entry that each of its leaves belongs to."""
    if not isinstance(batch, Mapping):
        return ["batch"] * len(jax.tree.leaves(batch))
    return [str(path[0].key) for path, _ in jax.tree_util.tree_leaves_with_path(batch)]


def _sources(game: Game, world: Any, key: Any) -> dict[str, str]:
    """The origin of each entry of the batch."""
    closed, shape = jax.make_jaxpr(game.sample, return_shape=True)(world, key)
    consts = [_Value({}, {"data": False} if jnp.ndim(value) else {}) for value in closed.consts]
    entries = [
        _Value({}, {} if path[0].key in clock.NAMES else {"environment": False})
        for path, _ in jax.tree_util.tree_leaves_with_path(world)
    ]
    outputs = _Tracer().run(closed.jaxpr, [*entries, _Value()], consts)
    kinds: dict[str, str] = {}
    for name, value in zip(_named(shape), outputs, strict=True):
        kind = next((k for k in ("environment", "data") if k in value.origins), "noise")
        kinds[name] = kind if kinds.get(name, "noise") == "noise" else kinds[name]
    return kinds


def trace(game: Game) -> Flow:
    """Traces how information flows in a game, without training it.

    Args:
        game: any game.

    Example:
        >>> import gacf
        >>> from gacf.networks import MLP
        >>> flow = trace(gacf.gan(MLP((4,), (2,)), MLP((4,)), gacf.data.ring(), noise=2))
        >>> sorted(flow.gradient["actor"])
        [('actor', 'critic'), ('critic', 'loss')]
        >>> sorted(flow.gradient["critic"])
        [('critic', 'loss')]
        >>> flow.evidence
        {'noise': 'noise', 'real': 'data'}
    """
    key = jax.random.key(0)
    params, world = blank_of(*jax.eval_shape(game.init, key))
    clocked = clock.with_clock(world)
    batch = blank_of(jax.eval_shape(game.sample, clocked, key))
    names = _named(batch)
    forward, gradient, depends, reads = {}, {}, {}, {}
    for player in game.losses:

        def value(
            own: Any, params: Any, world: Any, batch: Any, key: Any, player: str = player
        ) -> Any:
            return game.losses[player](own, params, world, batch, key)[0]

        closed = jax.make_jaxpr(value)(params[player], params, clocked, batch, key)
        tracer = _Tracer()
        fixed = [
            _Value({str(path[0].key): False})
            for path, _ in jax.tree_util.tree_leaves_with_path(params)
        ]
        inputs = [
            *_like(params[player], _Value({player: True})),
            *fixed,
            *_like(clocked, _Value()),
            *(_Value({}, {name: False}) for name in names),
            _Value(),
        ]
        (end,) = tracer.run(closed.jaxpr, inputs)
        ends = end.origins or end.weights
        paths = {**tracer.paths, **{(name, LOSS): smooth for name, smooth in ends.items()}}
        forward[player] = frozenset(paths)
        gradient[player] = frozenset(path for path, smooth in paths.items() if smooth)

        def vector(params: Any, world: Any, batch: Any, key: Any, player: str = player) -> Any:
            return field(game, world, batch, key).gradient(player, params)[0]

        def pushed(tangents: Any, params: Any, world: Any, batch: Any, key: Any) -> Any:
            return jax.jvp(lambda at: vector(at, world, batch, key), (params,), (tangents,))[1]

        closed = jax.make_jaxpr(pushed)(params, params, clocked, batch, key)
        inputs = [*(v._replace(weights=dict.fromkeys(v.weights, True)) for v in fixed)]
        inputs += _like((params, clocked, batch, key), _Value())
        outputs = _Tracer().run(closed.jaxpr, inputs)
        smooth = _merged(output.weights for output in outputs)
        depends[player] = frozenset(name for name in smooth if smooth[name])

        closed = jax.make_jaxpr(value)(params[player], params, clocked, batch, key)
        paths = jax.tree_util.tree_leaves_with_path(clocked)
        entries = [str(path[0].key) for path, _ in paths]
        inputs = [
            *_like((params[player], params), _Value()),
            *(_Value({name: False}) for name in entries),
            *_like((batch, key), _Value()),
        ]
        (end,) = _Tracer().run(closed.jaxpr, inputs)
        reads[player] = tuple(sorted(end.weights))
    sources = _sources(game, clocked, key)
    return Flow(tuple(game.losses), sources, forward, gradient, depends, reads)


def blank_of(*trees: Any) -> Any:
    """Zeros with the shapes of some trees, which may hold keys."""

    def zeros(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0), leaf.shape)
        return blank(leaf)

    blanks = jax.tree.map(zeros, trees)
    return blanks if len(trees) > 1 else blanks[0]


def game_of(algorithm: Algorithm) -> Game | None:
    """The game of an algorithm that `compose` made; None for any other algorithm."""
    game = inspect.getclosurevars(algorithm.step).nonlocals.get("game")
    return game if isinstance(game, Game) else None


def _ordered(flow: Flow, player: str) -> list[str]:
    """The models and the evidence of one loss; those nearest to the loss come last."""
    depth = {LOSS: 0}
    paths = flow.forward[player]
    for _ in range(len(flow.players) + 1):
        for source, target in paths:
            if target in depth and source not in flow.players:
                depth[source] = max(depth.get(source, 0), depth[target] + 1)
            elif target in depth and depth.get(source, 0) <= depth[target] < len(flow.players):
                depth[source] = depth[target] + 1
    return sorted(depth, key=lambda name: (-depth[name], name))


def words(flow: Flow) -> str:
    """The drawing in words, one paragraph per player.

    Example:
        >>> import gacf
        >>> from gacf.networks import MLP
        >>> print(words(trace(gacf.gan(MLP((4,), (2,)), MLP((4,)), gacf.data.ring(), noise=2))))
        actor
          forward   noise → actor, actor → critic, critic → loss
          gradient  loss ⇢ critic, critic ⇢ actor
          depends   actor, critic
        critic
          forward   noise → actor, actor → critic, real → critic, critic → loss
          gradient  loss ⇢ critic
          depends   actor, critic
    """
    lines = []
    for player in flow.players:
        order = _ordered(flow, player)
        rank = {name: i for i, name in enumerate(order)}
        paths = sorted(flow.forward[player], key=lambda p: (rank[p[1]], rank[p[0]]))
        back = [path for path in reversed(paths) if path in flow.gradient[player]]
        lines += [player, "  forward   " + ", ".join(" → ".join(path) for path in paths)]
        lines.append("  gradient  " + (", ".join(" ⇢ ".join(p[::-1]) for p in back) or "none"))
        lines.append("  depends   " + (", ".join(sorted(flow.depends[player])) or "nothing"))
        if flow.reads[player]:
            lines.append("  world     " + ", ".join(flow.reads[player]))
    return "\n".join(lines)


def mermaid(flow: Flow) -> str:
    """The drawing for Markdown: boxes are models, barrels are evidence, circles are noise.

    Example:
        >>> import gacf
        >>> from gacf.networks import MLP
        >>> flow = trace(gacf.gan(MLP((4,), (2,)), MLP((4,)), gacf.data.ring(), noise=2))
        >>> mermaid(flow).splitlines()[0]
        'flowchart LR'
    """
    ids = {name: f"n{i}" for i, name in enumerate([*flow.players, *flow.evidence])}
    lines = ["flowchart LR", *(f'  {ids[p]}["{p}"]' for p in flow.players)]
    used = {source for paths in flow.forward.values() for source, _ in paths}
    for name, kind in flow.evidence.items():
        if name in used:
            shape = ("((", "))") if kind == "noise" else ("[(", ")]")
            lines.append(f'  {ids[name]}{shape[0]}"{name}"{shape[1]}')
    for i, player in enumerate(flow.players):
        lines.append(f'  l{i}{{{{"loss of {player}"}}}}')
    inner = sorted({p for paths in flow.forward.values() for p in paths if p[1] != LOSS})
    lines += [f"  {ids[source]} --> {ids[target]}" for source, target in inner]
    for i, player in enumerate(flow.players):
        ends = sorted(source for source, target in flow.forward[player] if target == LOSS)
        lines += [f"  {ids[source]} --> l{i}" for source in ends]
        for source, target in sorted(flow.gradient[player]):
            start = f"l{i}" if target == LOSS else ids[target]
            lines.append(f"  {start} -. {player} .-> {ids[source]}")
    return "\n".join(lines)


COLOURS = {"data": "tab:green", "environment": "tab:green", "noise": "0.5"}


def figure(flow: Flow, title: str = "") -> Figure:
    """The drawing in the style of the paper, one panel per player.

    Boxes are models, with the player's own one in bold. Ellipses are evidence (green) and noise
    (grey). Black arrows are forward paths, and red dashed arrows show how the gradient flows back.
    """
    rows = len(flow.players)
    result = Figure(figsize=(8, 1.9 * rows), layout="constrained")
    for ax, player in zip(result.subplots(rows, 1, squeeze=False)[:, 0], flow.players, strict=True):
        places = _places(flow, player)
        for name, (x, y) in places.items():
            own, model = name == player, name in flow.players
            edge = "black" if model or name == LOSS else COLOURS[flow.evidence.get(name, "data")]
            box = "round" if model else "rarrow,pad=0.15" if name == LOSS else "ellipse"
            ax.text(
                x, y, name, ha="center", va="center", fontsize=9, zorder=3,
                fontweight="bold" if own else "normal",
                bbox={"boxstyle": box, "fc": "white", "ec": edge, "lw": 2 if own else 1},
            )  # fmt: skip
        for path in flow.forward[player]:
            start, end = (places[name] for name in path)
            _arrow(ax, start, end, color="black", rad=0.0)
            if path in flow.gradient[player]:
                _arrow(ax, end, start, color="tab:red", rad=0.35, linestyle="--")
        high = max(abs(y) for _, y in places.values()) + 0.8
        ax.set(xlim=(-0.7, max(x for x, _ in places.values()) + 0.7), ylim=(-high, high))
        ax.set_title(f"loss of {player}", fontsize=9, loc="left")
        ax.axis("off")
    result.suptitle(title)
    return result


def _arrow(ax: Any, start: Any, end: Any, color: str, rad: float, linestyle: str = "-") -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 10, "shrinkA": 24, "shrinkB": 24}
    bend = f"arc3,rad={rad}"
    ax.add_patch(
        FancyArrowPatch(
            start, end, connectionstyle=bend, color=color, linestyle=linestyle, zorder=2, **style
        )
    )


def _places(flow: Flow, player: str) -> dict[str, tuple[float, float]]:
    """Places models and evidence in columns by their distance to the loss, evenly spread."""
    distance = {LOSS: 0}
    for _ in flow.forward[player]:
        for source, target in flow.forward[player]:
            if target in distance and distance[target] <= len(flow.players):
                distance[source] = max(distance.get(source, 0), distance[target] + 1)
    columns: dict[int, list[str]] = {}
    for name in sorted(distance):
        columns.setdefault(distance[name], []).append(name)
    deepest = max(columns)
    return {
        name: (1.6 * (deepest - d), 0.9 * (i - (len(column) - 1) / 2) + 0.25 * (d % 2))
        for d, column in columns.items()
        for i, name in enumerate(column)
    }
