"""The drawings against the Jacobian of the field, and against what is known of each game."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gacf
from gacf.core.clock import with_clock
from gacf.lab.cli import main
from gacf.lab.inspect import draw
from gacf.methods import flows
from gacf.networks import MLP
from gacf.rules import field
from tests.contract_cases import GAMES, OFF, RANDOM, Q
from tests.methods.flows.test_flows import X, linear, rollout
from tests.methods.flows.test_lapgan import made as lapgan

LABELS = np.arange(12) % 3
TRACED: dict[str, Any] = {
    "gan": lambda: gacf.gan(MLP((4,), (2,)), MLP((4,)), gacf.data.ring(), noise=2, batch_size=4),
    "infogan": lambda: flows.infogan(linear(2), linear(1), linear(3), X, 3, 1.0, 2, batch_size=4),
    "bigan": lambda: flows.bigan(linear(2), linear(3), linear(1), X, 3, 6),
    "vae_gan": lambda: flows.vae_gan(linear(2), linear(6), linear(5), X, 3, 2.0, 0.1, 6),
    "aae": lambda: flows.adversarial_autoencoder(linear(2), linear(3), linear(1), X, 3, 1.0, 6),
    "domains": lambda: flows.domain_adversarial(
        linear(4), linear(3), linear(1), (X, LABELS), X + 1, 1.0
    ),
    "gail": lambda: rollout("gail")[0],
    "airl": lambda: rollout("airl")[0],
    "seqgan": GAMES["seqgan"].make,
    "lapgan": lapgan,
    "ebgan": GAMES["gan, energy"].make,
    "bilinear": GAMES["bilinear"].make,
    "worldly": GAMES["worldly"].make,
    # not every step of this one ends an episode: there is a target to go on from
    "sac": lambda: gacf.sac("probe-delayed", RANDOM, Q, **OFF),
    "td3": GAMES["td3"].make,
}


def blocks(game: gacf.Game) -> dict[str, set[str]]:
    """The players j for whom ∂v_i/∂params_j is not zero, found with numbers at random points."""

    @jax.jit
    def at(key: Any) -> Any:
        def near(i: int, x: Any) -> jax.Array:
            return 0.3 * jax.random.normal(jax.random.fold_in(key, i), jnp.shape(x))

        params, world = game.init(key)
        params, push = (jax.tree.map(lambda x, k=k: x + near(k, x), params) for k in (0, 1))
        push = jax.tree.map(jnp.subtract, push, params)
        world = with_clock(world, 50)
        # several steps: running statistics of one observation alone would saturate every policy
        world = jax.lax.fori_loop(
            0, 8, lambda i, w: game.observe(params, w, jax.random.fold_in(key, i))[0], world
        )
        here = field(game, world, game.sample(world, key), key)
        found = {}
        for i in game.losses:
            for j in game.losses:

                def moved(own: Any, i: str = i, j: str = j) -> Any:
                    return here.gradient(i, {**params, j: own})[0]

                change = jax.jvp(moved, (params[j],), (push[j],))[1]
                found[i, j] = sum(jnp.abs(x).sum() for x in jax.tree.leaves(change))
        return found

    keys = [jax.random.key(seed) for seed in range(3)]
    sizes = [at(key) for key in keys]
    return {
        i: {j for j in game.losses if any(float(size[i, j]) > 1e-9 for size in sizes)}
        for i in game.losses
    }


@pytest.mark.long
@pytest.mark.parametrize("name", TRACED)
def test_the_gradient_paths_are_the_jacobians_pattern(name: str) -> None:
    game = TRACED[name]()
    flow = draw.trace(game)
    assert {i: set(found) for i, found in flow.depends.items()} == blocks(game)
    for i, paths in flow.gradient.items():
        assert paths <= flow.forward[i]
        assert any(target == draw.LOSS for _, target in paths)
        through = {source for source, _ in paths} - {i}
        assert through <= flow.depends[i], f"{i}'s gradient passes through who does not matter"


@pytest.mark.long
def test_the_paths_of_known_games() -> None:
    bigan, gail = draw.trace(TRACED["bigan"]()), draw.trace(TRACED["gail"]())
    assert bigan.gradient["encoder"] == {("encoder", "critic"), ("critic", "loss")}
    assert ("real", "critic") not in bigan.forward["actor"]
    assert bigan.evidence == {"real": "data", "noise": "noise"}
    # three levels: the actor hears the discriminator only by way of what the critic learns from
    assert gail.gradient["actor"] == {("actor", "loss")}
    assert ("expert", "discriminator") in gail.forward["discriminator"]
    assert not any("expert" in path for path in gail.forward["actor"])
    td3 = draw.trace(TRACED["td3"]())
    assert ("actor", "critic") in td3.gradient["actor"]
    assert ("actor", "critic") in td3.forward["critic"] - td3.gradient["critic"]
    assert "slow" in td3.reads["critic"]


def test_stopped_and_unused_values_are_no_paths() -> None:
    def loss(p: Any, batch: Any, key: Any) -> Any:
        unused = p["critic"] * batch
        del unused
        return jnp.sum(jax.lax.stop_gradient(p["model"]) * batch * p["actor"])

    start = {"actor": 1.0, "critic": 1.0, "model": 1.0}
    flow = draw.trace(gacf.from_losses(start, dict.fromkeys(start, loss), lambda key: jnp.ones(2)))
    assert not any("critic" in path for path in flow.forward["actor"])
    assert flow.depends["actor"] == frozenset()
    assert not flow.gradient["model"]
    assert flow.gradient["actor"]


@pytest.mark.long
def test_the_command_draws_an_experiment(tmp_path: Path, capsys: Any) -> None:
    file = Path(__file__).parents[3] / "experiments" / "ring_gan.py"
    assert main(["draw", str(file), "--workdir", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "loss ⇢ critic, critic ⇢ actor" in told
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["ring_gan.md", "ring_gan.png", "ring_gan.svg"]
    assert (tmp_path / "ring_gan.md").read_text().startswith("```mermaid\nflowchart LR")
