"""The same two updates in PyTorch eager, as its users write them. Needs the extra `bench`."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def threads() -> int:
    return torch.get_num_threads()


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=1e-3)


def gan(steps: int, hidden: int = 128, batch: int = 256, noise: int = 16) -> Callable[[], None]:
    torch.manual_seed(0)
    angles = 2 * math.pi * torch.arange(8) / 8
    modes = torch.stack([angles.cos(), angles.sin()], -1)
    generator, discriminator = mlp(noise, hidden, hidden, 2), mlp(2, hidden, hidden, 1)
    g_adam, d_adam = adam(generator), adam(discriminator)

    def update() -> None:
        real = modes[torch.randint(8, (batch,))] + 0.01 * torch.randn(batch, 2)
        with torch.no_grad():
            fake = generator(torch.randn(batch, noise))
        d_loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()
        d_adam.zero_grad()
        d_loss.backward()
        d_adam.step()
        # the discriminator's own gradient is not needed here: do not compute it
        discriminator.requires_grad_(False)
        g_loss = F.softplus(-discriminator(generator(torch.randn(batch, noise)))).mean()
        g_adam.zero_grad()
        g_loss.backward()
        g_adam.step()
        discriminator.requires_grad_(True)

    def run() -> None:
        for _ in range(steps):
            update()

    return run


def ddpg(
    steps: int, capacity: int = 100_000, batch: int = 256, warmup: int = 1_000
) -> Callable[[], None]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    env = gymnasium.make("Pendulum-v1")
    actor = nn.Sequential(mlp(3, 256, 256, 1), nn.Tanh())
    critic = mlp(4, 256, 256, 1)
    slow_actor, slow_critic = copy.deepcopy(actor), copy.deepcopy(critic)
    a_adam, c_adam = adam(actor), adam(critic)
    buffer = {
        "observation": np.zeros((capacity, 3), np.float32),
        "action": np.zeros((capacity, 1), np.float32),
        "reward": np.zeros((capacity, 1), np.float32),
        "terminated": np.zeros((capacity, 1), np.float32),
        "next_observation": np.zeros((capacity, 3), np.float32),
    }
    made = 0
    observation, _ = env.reset(seed=0)

    def act(random: bool) -> None:
        nonlocal made, observation
        if random:
            action = rng.uniform(-1, 1, 1)
        else:
            with torch.no_grad():
                action = actor(torch.as_tensor(observation)).numpy()
            action = np.clip(action + 0.1 * rng.standard_normal(1), -1, 1)
        then, reward, terminated, truncated, _ = env.step(2 * action)
        row = (observation, action, reward, terminated, then)
        for column, value in zip(buffer.values(), row, strict=True):
            column[made % capacity] = value
        made += 1
        observation = env.reset()[0] if terminated or truncated else then

    def drawn() -> dict[str, torch.Tensor]:
        index = rng.integers(0, min(made, capacity), batch)
        return {name: torch.from_numpy(column[index]) for name, column in buffer.items()}

    def update() -> None:
        act(random=False)
        b = drawn()
        with torch.no_grad():
            then = b["next_observation"]
            future = slow_critic(torch.cat([then, slow_actor(then)], -1))
            wanted = b["reward"] + 0.99 * (1 - b["terminated"]) * future
        c_loss = F.mse_loss(critic(torch.cat([b["observation"], b["action"]], -1)), wanted) / 2
        c_adam.zero_grad()
        c_loss.backward()
        c_adam.step()
        seen = drawn()["observation"]
        critic.requires_grad_(False)
        a_loss = -critic(torch.cat([seen, actor(seen)], -1)).mean()
        a_adam.zero_grad()
        a_loss.backward()
        a_adam.step()
        critic.requires_grad_(True)
        with torch.no_grad():
            for slow, live in ((slow_actor, actor), (slow_critic, critic)):
                for s, x in zip(slow.parameters(), live.parameters(), strict=True):
                    s.lerp_(x, 0.005)

    for _ in range(warmup):
        act(random=True)

    def run() -> None:
        for _ in range(steps):
            update()

    return run


SUBJECTS = {"MLP GAN": gan, "DDPG": ddpg}
