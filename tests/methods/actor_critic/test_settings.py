"""Rollout and Replay: what they check, who takes them, and what a method refuses."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

import gacf
from gacf.methods.actor_critic import METHODS

REPLAYING = ("ddpg", "td3", "sac", "svg", "nfqca")
OLD = {
    "rollout": {"num_envs": 4, "length": 2, "episodes": 3, "normalize_observations": True,
                "normalize_rewards": True},
    "replay": {"capacity": 1000, "batch_size": 8, "warmup": 4, "n_step": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_its_settings_as_objects_and_little_else(name):
    parameters = inspect.signature(METHODS[name]).parameters
    assert parameters["rollout"].default == gacf.Rollout()
    assert ("replay" in parameters) == (name in REPLAYING)
    assert not {field for group in OLD.values() for field in group} & set(parameters)
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert set(positional) <= {"env", "horizon", "actor", "critic", "dynamics"}


@pytest.mark.parametrize(
    ("name", "group", "field"),
    [
        (name, group, field)
        for name in METHODS
        for group, fields in OLD.items()
        for field in fields
        if group == "rollout" or name in REPLAYING
    ],
)
def test_a_field_that_is_given_to_the_method_is_told_its_place(name, group, field):
    value, kind = OLD[group][field], group.title()
    message = f"{field}: is a field of {kind}; write {group}=gacf.{kind}({field}={value})"
    with pytest.raises(ValueError) as error:
        METHODS[name]("Pendulum-v1", **{field: value})
    assert str(error.value) == message


def test_several_fields_are_written_together():
    with pytest.raises(ValueError, match=r"rollout=gacf.Rollout\(num_envs=4, length=8\)"):
        gacf.ppo("CartPole-v1", num_envs=4, length=8)


def test_settings_do_not_change():
    settings: Any = gacf.Replay(capacity=10)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.capacity = 20
    assert settings == gacf.Replay(10) and hash(settings) == hash(gacf.Replay(10))


@pytest.mark.parametrize(
    ("kind", "field", "value", "allowed"),
    [
        *(("Rollout", name, 0, "a whole number >= 1") for name in ("num_envs", "length")),
        ("Rollout", "episodes", 2.0, "a whole number >= 1"),
        ("Rollout", "normalize_observations", "yes", "True or False"),
        ("Rollout", "normalize_rewards", 0.99, "True or False"),
        *(("Replay", name, 0, "a whole number >= 1") for name in ("capacity", "batch_size")),
        ("Replay", "n_step", True, "a whole number >= 1"),
        ("Replay", "warmup", -1, "a whole number >= 0"),
        ("Replay", "warmup", 1.5, "a whole number >= 0"),
    ],
)
def test_what_a_field_cannot_be(kind, field, value, allowed):
    with pytest.raises(ValueError) as error:
        getattr(gacf, kind)(**{field: value})
    assert str(error.value) == f"{field}: {value!r} was given; allowed: {allowed}"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (lambda n=name: METHODS[n]("Pendulum-v1", rollout=gacf.Rollout(length=8)),
             "rollout: length: 8 was given; allowed: 1, since")
            for name in REPLAYING
        ),
        *(
            (lambda n=name: METHODS[n]("Pendulum-v1", rollout=gacf.Rollout(normalize_rewards=True)),
             "rollout: normalize_rewards: True was given; allowed: False, since")
            for name in REPLAYING
        ),
        (lambda: gacf.svg("Pendulum-v1", 4, rollout=gacf.Rollout(length=8)),
         "rollout: length: 8 was given; allowed: 4, since"),
        (lambda: gacf.svg("Pendulum-v1", 4, rollout=gacf.Rollout(normalize_rewards=True)),
         "rollout: normalize_rewards: True was given; allowed: False, since"),
        (lambda: gacf.svg("Pendulum-v1", 4, replay=gacf.Replay(capacity=8)),
         r"replay: Replay\(capacity=8\) was given; allowed: nothing for a horizon of at least 1"),
        (lambda: gacf.nfqca("Pendulum-v1", transitions=64, replay=gacf.Replay(capacity=8)),
         "replay: capacity: 8 was given; allowed: 64, since"),
        (lambda: METHODS["ppo"]("CartPole-v1", rollout=8),
         "rollout: 8 was given; allowed: a gacf.Rollout"),
        (lambda: METHODS["ddpg"]("Pendulum-v1", replay=gacf.Rollout(length=1)),
         r"replay: Rollout\(length=1\) was given; allowed: a gacf.Replay"),
    ],
)  # fmt: skip
def test_a_method_refuses_what_it_cannot_use_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_what_a_method_does_anyway_may_be_said():
    gacf.ddpg("Pendulum-v1", rollout=gacf.Rollout(length=1, normalize_rewards=False))
    gacf.svg("Pendulum-v1", 4, rollout=gacf.Rollout(length=4))
    gacf.nfqca("Pendulum-v1", transitions=64, replay=gacf.Replay(capacity=64, n_step=2))
