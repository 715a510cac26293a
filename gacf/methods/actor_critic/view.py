"""Views: what a critic sees of a batch and an action."""

from __future__ import annotations

from typing import Any

import jax

from gacf.core.types import Batch


def state_action_view(batch: Batch, action: jax.Array) -> dict[str, Any]:
    """The view of a critic of actions, Q(s, a)."""
    return {"taken": (batch["observation"], action)}


def state_view(batch: Batch, action: jax.Array) -> dict[str, Any]:
    """The view of a critic of states, V(s)."""
    del action
    return {"taken": (batch["observation"],)}
