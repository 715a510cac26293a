"""GAIL and AIRL: a discriminator between expert and policy is the reward of any method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from gacf.core.game import Game
from gacf.core.types import Batch, Key, Loss, Outcome, Params, PyTree, World
from gacf.methods.actor_critic.constructor import Penalty
from gacf.methods.flows.parts import add_model, adversary, rows
from gacf.networks import Model, column, model

Reward = Callable[[Params, World, Batch], jax.Array]
LogProb = Callable[[Params, World, jax.Array, jax.Array], jax.Array]
RECORDED = ("observation", "action", "next_observation", "terminated")


def rewarded(game: Game, reward: Reward) -> Game:
    """The game whose losses see `reward` in place of the environment's reward.

    In a loss the reward is a function of all players' params, so rules that look ahead can
    differentiate it. Evaluation and the returns of episodes are still those of the environment.

    Args:
        game: a game whose batch holds `reward` [B]: `a2c`, `ddpg`, `td3`, `sac`, …
        reward: `(params, world, batch) -> [B]`.

    Example:
        >>> import gacf, jax.numpy as jnp
        >>> game = gacf.a2c("CartPole-v1")
        >>> game = rewarded(game, lambda params, world, batch: jnp.ones_like(batch["reward"]))
        >>> sorted(game.losses)
        ['actor', 'critic']
    """

    def with_reward(loss: Loss) -> Loss:
        def rewarded_loss(
            own: PyTree, params: Params, world: World, batch: Batch, key: Key
        ) -> tuple[jax.Array, Outcome]:
            if "reward" not in batch:
                raise ValueError(
                    "game: its batch records no `reward`; allowed: methods that compute their "
                    "targets in their losses, such as a2c, ddpg, td3, sac"
                )
            return loss(own, params, world, {**batch, "reward": reward(params, world, batch)}, key)

        return rewarded_loss

    return game._replace(losses={player: with_reward(loss) for player, loss in game.losses.items()})


def _imitating(
    game: Game, judge: Model, expert: Batch, view: Callable[[Batch], Any], reward: Reward,
    model_of: Callable[[Params, World, Batch], Model], penalty: Penalty | None,
) -> Game:  # fmt: skip
    draw = rows(*(expert[name] for name in RECORDED))

    def sample(world: World, key: Key) -> Batch:
        batch_key, expert_key = jax.random.split(key)
        batch = game.sample(world, batch_key)
        drawn = draw(expert_key, len(batch["reward"]))
        return {**batch, "expert": dict(zip(RECORDED, drawn, strict=True))}

    def loss(
        own: PyTree, params: Params, world: World, batch: Batch, key: Key
    ) -> tuple[jax.Array, Outcome]:
        critic = adversary(model_of(params, world, batch), penalty=penalty)
        groups = {"real": view(batch["expert"]), "fake": view(batch)}
        value, metrics, entries = critic.learn(own, params, world, groups, key)
        return value, Outcome(metrics, entries)

    imitation = rewarded(game, reward)._replace(sample=sample)
    return add_model(imitation, judge, lambda batch: view(batch)[:2], loss)


def gail(game: Game, discriminator: Any, expert: Batch, penalty: Penalty | None = None) -> Game:
    """Generative adversarial imitation: an actor is rewarded for acting like an expert.

        discriminator   min D(1 ‖ C(s, a) of the expert) + D(0 ‖ C(s, a) of the policy)
        all others      as in the game, with r = −log(1 − σ(C(s, a)))

    There are three levels: the actor follows the critic, the critic follows the discriminator, and
    only the discriminator sees the expert. With an off-policy game, the policy's examples come from
    its replay buffer.

    Args:
        game: a control method whose batch holds the reward; the environment's reward is not used.
        discriminator: `(observation, action) -> logits`; a discrete action is one number.
        expert: `observation`, `action`, `next_observation`, `terminated`, arrays [n, …]. Actions
            are as the game's batches record them: in [−1, 1] if the environment bounds them.
        penalty: added to the discriminator's loss, for instance `gacf.methods.gan.r1`.

    Returns:
        The game with one more player, `discriminator`.

    Reference:
        Ho & Ermon 2016, algorithm 1; off-policy: Kostrikov et al. 2019.

    Example:
        >>> import gacf, jax.numpy as jnp
        >>> from gacf.networks import MLP
        >>> expert = {"observation": jnp.ones((5, 3)), "action": jnp.ones((5, 1))}
        >>> expert |= {"next_observation": jnp.ones((5, 3)), "terminated": jnp.zeros(5, bool)}
        >>> game = gail(gacf.sac("Pendulum-v1"), MLP((8,)), expert)
        >>> sorted(game.losses)
        ['actor', 'critic', 'discriminator', 'temperature']
    """
    judge = model("discriminator", discriminator)

    def view(batch: Batch) -> tuple[jax.Array, ...]:
        return batch["observation"], batch["action"]

    def reward(params: Params, world: World, batch: Batch) -> jax.Array:
        logits, _ = judge.apply(params["discriminator"], world, *view(batch), train=False)
        return jax.nn.softplus(column(logits))

    return _imitating(game, judge, expert, view, reward, lambda *_: judge, penalty)


def airl(
    game: Game,
    reward: Any,
    potential: Any,
    log_prob: LogProb,
    expert: Batch,
    discount: float | jax.Array = 0.99,
    penalty: Penalty | None = None,
) -> Game:
    """Adversarial inverse reinforcement learning: a part of the discriminator is a reward.

        f(s, s′) = g(s) + γ (1 − d) h(s′) − h(s),   C = f(s, s′) − log π(a|s)
        discriminator   min D(1 ‖ C of the expert) + D(0 ‖ C of the policy)
        all others      as in the game, with r = C = log D − log(1 − D)

    If the expert's reward depends on states alone, at the optimum g equals it up to a constant, and
    h holds the dynamics. So g can be used in an environment with other dynamics, with `rewarded`.

    Args:
        game: as for `gail`.
        reward: g, a network of observations -> [B] or [B, 1].
        potential: h, a network like g.
        log_prob: `(params, world, observation, action) -> log π(a|s)`, [B], for recorded actions;
            for instance by `Policy.log_prob`, which treats expert and policy alike.
        expert: as for `gail`.
        discount: γ.
        penalty: added to the discriminator's loss.

    Returns:
        The game with one more player, `discriminator`; its params are `{"reward", "potential"}`.

    Reference:
        Fu, Luo & Levine 2018, eq. 4 and algorithm 1.
    """
    g, h = model("discriminator", reward), model("discriminator", potential)

    def shaped(
        params: PyTree, world: World, first: jax.Array, then: jax.Array, terminated: Any
    ) -> Any:
        def of(network: Model, part: str, observation: jax.Array) -> jax.Array:
            return column(network.apply(params[part], world, observation, train=False)[0])

        later = of(h, "potential", then) * (1 - terminated)
        return of(g, "reward", first) + discount * later - of(h, "potential", first)

    def init(key: Key, first: jax.Array, then: jax.Array) -> tuple[PyTree, World]:
        reward_key, potential_key = jax.random.split(key)
        (own, stats), (rest, more) = g.init(reward_key, first), h.init(potential_key, then)
        if stats or more:
            raise ValueError(
                "reward, potential: networks with statistics were given; allowed: params alone"
            )
        return {"reward": own, "potential": rest}, {}

    def view(batch: Batch) -> tuple[jax.Array, ...]:
        first, then = batch["observation"], batch["next_observation"]
        return first, then, batch["terminated"].astype(first.dtype), batch["action"]

    def model_of(params: Params, world: World, batch: Batch) -> Model:
        del batch

        def apply(
            own: PyTree, world: World, *inputs: jax.Array, key: Any = None, train: bool = True
        ) -> tuple[jax.Array, World]:
            *states, action = inputs
            log_probs = log_prob(params, world, states[0], action)
            return shaped(own, world, *states) - log_probs, {}

        return Model("discriminator", init, apply)

    def reward_of(params: Params, world: World, batch: Batch) -> jax.Array:
        return model_of(params, world, batch).apply(params["discriminator"], world, *view(batch))[0]

    judge = model_of({}, {}, {})
    return _imitating(game, judge, expert, view, reward_of, model_of, penalty)
