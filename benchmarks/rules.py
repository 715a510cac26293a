"""Time of one step of each rule against its count of gradients and products with the Jacobian.

    python benchmarks/rules.py

The game is a GAN of two MLPs. g is half the time of both players' gradients, and h half of
what a joint VJP or JVP adds to them, each timed alone. A row's count is in these units, and its
ratio is the measured time over the counted one. Each time is the smallest of many, with all rules
taking turns. Prints Markdown.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np
import optax

import gacf
from gacf import rules
from gacf.networks import MLP
from gacf.rules.direction import field, joint

WIDTH, BATCH, REPEATS, M, K = 256, 512, 15, 5, 5
PAIR = ("actor", "critic")


def game() -> gacf.Game:
    data = np.random.RandomState(0).randn(2048, 2).astype(np.float32)
    hidden = (WIDTH, WIDTH)
    return gacf.gan(MLP(hidden, (2,)), MLP(hidden), data, batch_size=BATCH, noise=16)


def sgd() -> dict[str, optax.GradientTransformation]:
    return {player: optax.sgd(1e-4) for player in PAIR}


def counted() -> dict[str, tuple[gacf.Rule, str, Any]]:
    """Name -> the rule, and its count as text and as a function of g and h."""
    o = sgd()
    one = rules.simultaneous
    return {
        "simultaneous": (one(o), "2g", lambda g, h: 2 * g),
        "alternating": (rules.alternating(o), "2g", lambda g, h: 2 * g),
        "extragradient": (rules.extragradient(o), "4g", lambda g, h: 4 * g),
        "lookahead": (rules.lookahead(one(o)), "2g", lambda g, h: 2 * g),
        "consensus": (one(o, rules.consensus(0.1)), "2g + 2h", lambda g, h: 2 * g + 2 * h),
        "symplectic": (one(o, rules.symplectic(0.1)), "2g + 4h", lambda g, h: 2 * g + 4 * h),
        "competitive": (
            rules.competitive(dict.fromkeys(PAIR, 1e-4), iterations=M),
            "2g + (2m + 4)h",
            lambda g, h: 2 * g + (2 * M + 4) * h,
        ),
        "follow_the_ridge": (
            rules.follow_the_ridge(o, *PAIR, "gmres", M, 1.0),
            "2g + (m + 2)h",
            lambda g, h: 2 * g + (M + 2) * h,
        ),
        "unrolled": (
            one(o, rules.unrolled(*PAIR, K)),
            "k(2g + h) + 2g",
            lambda g, h: K * (2 * g + h) + 2 * g,
        ),
        "implicit, gmres": (
            one(o, rules.implicit(*PAIR, "gmres", M, 1.0)),
            "3g + (m + 1)h",
            lambda g, h: 3 * g + (M + 1) * h,
        ),
        "implicit, normal": (
            one(o, rules.implicit(*PAIR, "normal", M, 1.0)),
            "3g + (2m + 2)h",
            lambda g, h: 3 * g + (2 * M + 2) * h,
        ),
        "single_loop": (
            one(o, rules.single_loop(*PAIR)),
            "3g + 2h",
            lambda g, h: 3 * g + 2 * h,
        ),
        "finite_difference": (
            one(o, rules.finite_difference(*PAIR)),
            "5g",
            lambda g, h: 5 * g,
        ),
        "lola, exact": (one(o, rules.lola(0.1)), "4g + 2h", lambda g, h: 4 * g + 2 * h),
        "lola, Taylor": (one(o, rules.lola(0.1, False)), "4g + 2h", lambda g, h: 4 * g + 2 * h),
    }


def units(played: gacf.Game, state: gacf.State) -> dict[str, Any]:
    """Compiled calls: both gradients alone, with a joint VJP, and with a joint JVP."""

    def at(params: Any, key: Any) -> tuple[Any, Any]:
        here = field(played, state.world, played.sample(state.world, key), key)
        return joint(here, params)

    def gradients(params: Any, key: Any) -> Any:
        function, everyone = at(params, key)
        return function(everyone)[0]

    def backwards(params: Any, key: Any) -> Any:
        function, everyone = at(params, key)
        vector, pull, _ = jax.vjp(function, everyone, has_aux=True)
        return vector, pull(vector)

    def forwards(params: Any, key: Any) -> Any:
        function, everyone = at(params, key)
        vector, _ = function(everyone)
        return vector, jax.jvp(function, (everyone,), (vector,), has_aux=True)[1]

    functions = {"gradients": gradients, "backwards": backwards, "forwards": forwards}
    key = jax.random.key(1)
    compiled = {n: jax.jit(f).lower(state.params, key).compile() for n, f in functions.items()}
    return {n: (lambda f=f: f(state.params, key)) for n, f in compiled.items()}


def main() -> None:
    played, todo = game(), {}
    table = counted()
    for name, (rule, _, _) in table.items():
        algorithm = gacf.compose(played, rule)
        state = jax.jit(algorithm.init)(jax.random.key(0))
        step = jax.jit(algorithm.step).lower(state).compile()
        todo[name] = lambda step=step, state=state: step(state)
    algorithm = gacf.compose(played, table["simultaneous"][0])
    todo |= units(played, jax.jit(algorithm.init)(jax.random.key(0)))
    best = dict.fromkeys(todo, float("inf"))
    for _ in range(REPEATS):
        for name, call in todo.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            best[name] = min(best[name], time.perf_counter() - start)
    g = best["gradients"] / 2
    products = [best[name] - best["gradients"] for name in ("backwards", "forwards")]
    h = max(float(np.mean(products)) / 2, 1e-9)
    print(f"g = {1e3 * g:.2f} ms, h = {1e3 * h:.2f} ms (VJP {500 * products[0]:.2f}, ", end="")
    print(f"JVP {500 * products[1]:.2f}); m = {M}, k = {K}\n")
    print("| rule | count | ms | × simultaneous | measured / counted |\n|---|---|---|---|---|")
    for name, (_, words, count) in table.items():
        ratios = best[name] / best["simultaneous"], best[name] / count(g, h)
        print(f"| {name} | {words} | {1e3 * best[name]:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
