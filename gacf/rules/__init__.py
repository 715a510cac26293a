"""Rules: schedule × direction (L1). To add one: a file beside these, and a line here."""

from gacf.rules.algebra import Move, every, parallel, player_step, repeat, sequence
from gacf.rules.direction import Direction, Field, field, gradient
from gacf.rules.schedules import alternating, simultaneous

SCHEDULES = {"simultaneous": simultaneous, "alternating": alternating}
DIRECTIONS = {"gradient": gradient}

__all__ = [
    "DIRECTIONS",
    "SCHEDULES",
    "Direction",
    "Field",
    "Move",
    "alternating",
    "every",
    "field",
    "gradient",
    "parallel",
    "player_step",
    "repeat",
    "sequence",
    "simultaneous",
]
