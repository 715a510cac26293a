"""The same updates in PyTorch, as its users write them. Needs the extra `bench`."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

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


def adversaries(
    generator: nn.Module,
    discriminator: nn.Module,
    real: Callable[[], torch.Tensor],
    latent: Callable[[], torch.Tensor],
    compiled: bool,
    **adam_options: Any,
) -> Callable[[], None]:
    """One update of both. Compiled are the losses with their gradients, and Adam is fused."""
    g_adam, d_adam = (
        torch.optim.Adam(network.parameters(), fused=compiled, **adam_options)
        for network in (generator, discriminator)
    )

    def d_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()

    def g_loss(noise: torch.Tensor) -> torch.Tensor:
        return F.softplus(-discriminator(generator(noise))).mean()

    make = generator
    if compiled:
        d_loss, g_loss, make = (torch.compile(each) for each in (d_loss, g_loss, generator))

    def update() -> None:
        with torch.no_grad():
            fake = make(latent())
        d_adam.zero_grad()
        d_loss(real(), fake).backward()
        d_adam.step()
        # The discriminator's own gradient is not needed here, so it is not computed.
        discriminator.requires_grad_(False)
        g_adam.zero_grad()
        g_loss(latent()).backward()
        g_adam.step()
        discriminator.requires_grad_(True)

    return update


def gan(
    steps: int, hidden: int = 128, batch: int = 256, noise: int = 16, compiled: bool = False
) -> Callable[[], None]:
    torch.manual_seed(0)
    angles = 2 * math.pi * torch.arange(8) / 8
    modes = torch.stack([angles.cos(), angles.sin()], -1)
    update = adversaries(
        mlp(noise, hidden, hidden, 2),
        mlp(2, hidden, hidden, 1),
        lambda: modes[torch.randint(8, (batch,))] + 0.01 * torch.randn(batch, 2),
        lambda: torch.randn(batch, noise),
        compiled,
        lr=1e-3,
    )
    return repeated(update, steps)


def dcgan(
    steps: int, width: int = 64, batch: int = 64, noise: int = 64, compiled: bool = False
) -> Callable[[], None]:
    """Radford et al. 2016 on images of 28 × 28, as in `gacf.networks.images`."""
    torch.manual_seed(0)
    images = torch.rand(512, 1, 28, 28) * 2 - 1
    generator = nn.Sequential(
        nn.Linear(noise, 49 * 2 * width, bias=False),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(49 * 2 * width, 1),
    )
    update = adversaries(
        generator,
        discriminator,
        lambda: images[torch.randint(512, (batch,))],
        lambda: torch.randn(batch, noise),
        compiled,
        lr=2e-4,
        betas=(0.5, 0.999),
    )
    return repeated(update, steps)


def repeated(update: Callable[[], None], steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            update()

    return run


def on_threads(count: int, run: Callable[[], None]) -> Callable[[], None]:
    """The same call on `count` threads."""

    def limited() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            run()
        finally:
            torch.set_num_threads(before)

    return limited


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
    count = 0
    observation, _ = env.reset(seed=0)

    def act(random: bool) -> None:
        nonlocal count, observation
        if random:
            action = rng.uniform(-1, 1, 1)
        else:
            with torch.no_grad():
                action = actor(torch.as_tensor(observation)).numpy()
            action = np.clip(action + 0.1 * rng.standard_normal(1), -1, 1)
        then, reward, terminated, truncated, _ = env.step(2 * action)
        row = (observation, action, reward, terminated, then)
        for column, value in zip(buffer.values(), row, strict=True):
            column[count % capacity] = value
        count += 1
        observation = env.reset()[0] if terminated or truncated else then

    def drawn() -> dict[str, torch.Tensor]:
        index = rng.integers(0, min(count, capacity), batch)
        return {name: torch.from_numpy(column[index]) for name, column in buffer.items()}

    def update() -> None:
        act(random=False)
        b = drawn()
        with torch.no_grad():
            then = b["next_observation"]
            future = slow_critic(torch.cat([then, slow_actor(then)], -1))
            target = b["reward"] + 0.99 * (1 - b["terminated"]) * future
        c_loss = F.mse_loss(critic(torch.cat([b["observation"], b["action"]], -1)), target) / 2
        c_adam.zero_grad()
        c_loss.backward()
        c_adam.step()
        observations = drawn()["observation"]
        critic.requires_grad_(False)
        a_loss = -critic(torch.cat([observations, actor(observations)], -1)).mean()
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
