"""Settings of a method in one flat dict, so that tests can combine and override them."""

from __future__ import annotations

import dataclasses
from typing import Any

import gacf


def packed(**settings: Any) -> dict[str, Any]:
    """The fields of `Rollout` and `Replay` among the settings in those objects, and the others."""
    for kind in (gacf.Rollout, gacf.Replay):
        fields = {field.name for field in dataclasses.fields(kind)} & set(settings)
        if fields:
            given = {name: settings.pop(name) for name in fields}
            settings[kind.__name__.lower()] = kind(**given)
    return settings
