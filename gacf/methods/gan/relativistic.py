"""Relativistic critics, which judge real and generated examples against each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.types import Batch, Key, Metrics, Params, PyTree, World
from gacf.methods.actor_critic.constructor import Groups, Penalty
from gacf.methods.actor_critic.improve import Evidence, Improve
from gacf.networks import Model
from gacf.networks.network import as_inputs


class Judged(NamedTuple):
    """The critic's side of a GAN, as `actor_critic` takes it."""

    critic: Model
    view: Callable[[Batch, PyTree], Groups]
    rewards: Callable[[Batch], dict[str, jax.Array]]
    divergence: Callable[[jax.Array, jax.Array], jax.Array]
    improve: Improve
    penalty: Penalty | None


def _coupled(critic: Model) -> Model:
    """The critic of two groups: r = C(real) − mean C(fake), f = C(fake) − mean C(real).

    It yields r and f joined, [2B]. Each group is evaluated by itself, so that batch statistics do
    not mix. An input that is not a pair of groups goes to the critic unchanged.
    """

    def init(key: Key, real: Any, fake: Any) -> tuple[PyTree, World]:
        del fake
        return critic.init(key, *real)

    def apply(
        params: PyTree, world: World, *inputs: Any, key: Key | None = None, train: bool = True
    ) -> tuple[jax.Array, World]:
        if not isinstance(inputs[0], tuple):
            return critic.apply(params, world, *inputs, key=key, train=train)
        keys = (None, None) if key is None else jax.random.split(key)
        real, entries = critic.apply(params, world, *inputs[0], key=keys[0], train=train)
        fake, news = critic.apply(
            params, {**world, **entries}, *inputs[1], key=keys[1], train=train
        )
        real, fake = real.reshape(-1), fake.reshape(-1)
        verdicts = jnp.concatenate([real - jnp.mean(fake), fake - jnp.mean(real)])
        return verdicts, {**entries, **news}

    bind = critic.bind
    if bind is None:
        return critic._replace(init=init, apply=apply)

    def given_others(params: Params) -> Model:
        return _coupled(bind(params))

    return critic._replace(init=init, apply=apply, bind=given_others)


def in_pairs(judged: Judged) -> Judged:
    """The relativistic average form of a GAN whose groups are `real` and `fake`.

    The two become one group `pair`. Its mean over 2B verdicts is doubled, which makes it the sum of
    the two means. The actor's labels are the critic's labels exchanged. A penalty sees the groups
    separately, with the verdicts of the critic itself.

    Reference:
        Jolicoeur-Martineau 2019, section 4.2.
    """

    def view(batch: Batch, action: PyTree) -> Groups:
        groups = judged.view(batch, action)
        both = (groups["real"], groups["fake"])
        return {"pair": tuple(map(as_inputs, both))}

    def rewards(batch: Batch) -> dict[str, jax.Array]:
        labels = judged.rewards(batch)
        return {"pair": jnp.concatenate([labels["real"], labels["fake"]])}

    def divergence(verdict: jax.Array, label: jax.Array) -> jax.Array:
        return 2 * judged.divergence(verdict, label)

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        action, entries = evidence.propose(own)
        verdict = evidence.judge(action)["pair"]
        exchanged = 1 - rewards(evidence.batch)["pair"]
        return jnp.mean(divergence(verdict, exchanged)), {}, entries

    def penalty(judge: Callable[..., jax.Array], groups: Groups, key: Key) -> jax.Array:
        assert judged.penalty is not None
        real, fake = groups["pair"]
        return judged.penalty(judge, {"real": real, "fake": fake}, key)

    return Judged(
        _coupled(judged.critic),
        view,
        rewards,
        divergence,
        improve,
        None if judged.penalty is None else penalty,
    )
