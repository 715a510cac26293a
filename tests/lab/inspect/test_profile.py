"""Where a step's time goes."""

from __future__ import annotations

import gzip
import itertools
import json

import jax
import jax.numpy as jnp
import optax
import pytest

import gacf
from gacf.lab.cli import main
from gacf.lab.inspect import profile
from gacf.networks.conv import conv
from gacf.runner import Program

KEY = jax.random.key(0)


def flops(function, *args):
    return profile.matmul_flops(jax.make_jaxpr(function)(*args).jaxpr)


def test_arithmetic_of_an_mlp_and_its_gradient():
    batch, sizes = 8, (3, 5, 7)
    weights = [jnp.ones(pair) for pair in itertools.pairwise(sizes)]
    x = jnp.ones((batch, sizes[0]))

    def loss(weights, x):
        for w in weights:
            x = jnp.tanh(x @ w)
        return jnp.sum(x)

    forward = 2 * batch * (3 * 5 + 5 * 7)
    assert flops(loss, weights, x) == forward
    # dW of every layer, dx of all but the first
    assert flops(jax.grad(loss), weights, x) == 2 * forward + 2 * batch * 5 * 7


def test_arithmetic_of_loops_branches_batches_and_convolutions():
    square = jnp.ones((4, 4))
    once = 2 * 4**3
    assert flops(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, None, 10), square) == (
        10 * once
    )
    twice = lambda x: x @ x @ x  # noqa: E731
    branch = lambda x: jax.lax.cond(x[0, 0] > 0, twice, lambda x: x @ x, x)  # noqa: E731
    assert flops(branch, square) == 2 * once
    assert flops(jax.vmap(twice), jnp.ones((3, 4, 4))) == 6 * once
    image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
    convolved = lambda x, k: jax.lax.conv_general_dilated(  # noqa: E731
        x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert flops(convolved, image, kernel) == 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)
    # of two forms that one and the same convolution has, that of this platform counts, once
    one = flops(lambda x, k: conv(x, k), image, kernel)
    assert one == flops(convolved, image, kernel)
    # a transposed one multiplies each pixel with the kernel, and no zeros
    grown = flops(lambda x, k: jax.lax.conv_transpose(x, k, (2, 2), "VALID"), image, kernel)
    assert grown == pytest.approx(2 * (2 * 17 * 17 * 5) * (3 * 3 * 3) / 4)


def test_names_of_a_compiled_program():
    def step(x):
        with jax.named_scope("gacf.actor"):
            y = jnp.tanh(x @ x)
        with jax.named_scope("gacf.sample"):
            return y + jax.random.normal(KEY, x.shape)

    known = profile.names(jax.jit(step).lower(jnp.ones((64, 64))).compile().as_text())
    kinds = {profile.kind(operation, name) for operation, name in known.items()}
    assert ("actor", "matrix products") in kinds
    assert ("sample", "random numbers") in kinds
    assert ("actor", "tanh") in kinds


def test_self_times_leave_out_what_runs_inside():
    def event(operation, start, duration):
        return {
            "ph": "X", "pid": 1, "tid": 1, "name": operation, "ts": start, "dur": duration,
            "args": {"hlo_op": operation},
        }  # fmt: skip

    known = {
        "while.1": "jit(_all)/while",
        "while.2": "gacf.observe/jit(_threefry_split)/while",
        "add.3": "elsewhere/add",
        "dot.4": "gacf.critic/dot_general/matrix products",
    }
    events = [
        event("while.1", 0.0, 100.0),
        event("while.2", 10.0, 30.0),
        event("add.3", 15.0, 10.0),  # within random numbers
        event("dot.4", 50.0, 20.0),
        event("add.3", 80.0, 5.0),
        {**event("add.3", 85.0, 0.1), "name": "end: add.3"},
        {"ph": "X", "pid": 1, "tid": 1, "name": "python", "ts": 0.0, "dur": 1e9},
    ]
    spent, calls = profile.self_times(events, known)
    microseconds = {kind: round(1e6 * time, 6) for kind, time in spent.items()}
    assert microseconds == {
        ("", "loops"): 45.0,
        ("observe", "random numbers"): 30.0,
        ("critic", "matrix products"): 20.0,
        ("", "add"): 5.0,
    }
    assert calls["observe", "random numbers"] == 2


def small_game():
    def loss(params, batch, key):
        return jnp.sum(jnp.tanh(batch @ params["actor"]) ** 2)

    def sample(key):
        return jax.random.normal(key, (8, 4))

    game = gacf.from_losses({"actor": jnp.ones((4, 6))}, {"actor": loss}, sample)
    return gacf.compose(game, gacf.rules.simultaneous({"actor": optax.adam(1e-2)}))


@pytest.mark.long
@pytest.mark.parametrize("map", ["loop", "sharded-vmap"])
def test_a_window_is_traced(tmp_path, map):
    program = Program(small_game(), seeds=3, map=map)
    found = profile.profile(program, KEY, tmp_path, seconds=0.2)
    assert found.flops == 2 * 2 * 8 * 4 * 6  # x is no parameter: no dx
    assert sum(cost.share for cost in found.costs) == pytest.approx(1)
    assert {"actor", "sample", "optimizer"} <= {cost.scope for cost in found.costs}
    assert found.lanes == 3 and 0 <= found.idle < 1
    assert found.achieved == pytest.approx(found.flops * 3 / found.step_seconds)
    assert list(tmp_path.rglob("*.trace.json.gz"))


@pytest.mark.long
def test_a_trace_holds_no_more_operations_than_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(profile, "EVENTS", 2_000)
    profile.profile(Program(small_game(), seeds=2), KEY, tmp_path, seconds=0.1)
    (written,) = tmp_path.rglob("*.trace.json.gz")
    with gzip.open(written, "rt") as file:
        events = json.load(file)["traceEvents"]
    _, calls = profile.self_times(events, {})
    assert 1_000 < sum(calls.values()) < 2_500


@pytest.mark.long
def test_the_command_prints_it_and_trains_as_without(tmp_path, capsys):
    tiny = ["--config.seeds=2", "--config.steps=2", "--config.batch_size=4"]
    tiny += ["--config.actor.hidden=(4,)", "--config.critic.hidden=(4,)"]
    command = ["run", "experiments/ring_gan.py", *tiny, "--workdir"]
    assert main([*command, str(tmp_path / "plain")]) == 0
    capsys.readouterr()
    assert main([*command, str(tmp_path / "profiled"), "--profile"]) == 0
    printed = capsys.readouterr().out
    assert "matrix products" in printed and "GFLOP/s" in printed and "ms a step" in printed
    assert list((tmp_path / "profiled" / "profile").rglob("*.trace.json.gz"))
    files = [tmp_path / name / "metrics.parquet" for name in ("plain", "profiled")]
    assert files[0].read_bytes() == files[1].read_bytes()
