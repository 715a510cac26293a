"""Rules: schedule × direction. To add one: a file beside these, and a line here."""

from gacf.rules.algebra import Move, every, parallel, player_step, repeat, sequence
from gacf.rules.competitive import competitive
from gacf.rules.consensus import consensus
from gacf.rules.direction import Direction, Field, field, gradient
from gacf.rules.extragradient import extragradient
from gacf.rules.finite_difference import finite_difference
from gacf.rules.follow_the_ridge import follow_the_ridge
from gacf.rules.implicit import implicit
from gacf.rules.lola import lola
from gacf.rules.lookahead import lookahead
from gacf.rules.minibatches import minibatches
from gacf.rules.nested import nested
from gacf.rules.schedules import alternating, simultaneous
from gacf.rules.single_loop import single_loop
from gacf.rules.symplectic import symplectic
from gacf.rules.unrolled import unrolled

SCHEDULES = {
    "simultaneous": simultaneous,
    "alternating": alternating,
    "extragradient": extragradient,
    "lookahead": lookahead,
    "competitive": competitive,
    "follow_the_ridge": follow_the_ridge,
}
DIRECTIONS = {
    "gradient": gradient,
    "consensus": consensus,
    "symplectic": symplectic,
    "unrolled": unrolled,
    "implicit": implicit,
    "single_loop": single_loop,
    "finite_difference": finite_difference,
    "lola": lola,
    "nested": nested,
}

__all__ = [
    "DIRECTIONS",
    "SCHEDULES",
    "Direction",
    "Field",
    "Move",
    "alternating",
    "competitive",
    "consensus",
    "every",
    "extragradient",
    "field",
    "finite_difference",
    "follow_the_ridge",
    "gradient",
    "implicit",
    "lola",
    "lookahead",
    "minibatches",
    "nested",
    "parallel",
    "player_step",
    "repeat",
    "sequence",
    "simultaneous",
    "single_loop",
    "symplectic",
    "unrolled",
]
