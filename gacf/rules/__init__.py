"""Rules: schedule × direction. To add one, write a file in this folder and import it here."""

import inspect as _inspect
from collections.abc import Callable as _Callable

from gacf.core.game import Rule as _Rule
from gacf.rules.algebra import Move as Move
from gacf.rules.algebra import every as every
from gacf.rules.algebra import parallel as parallel
from gacf.rules.algebra import player_step as player_step
from gacf.rules.algebra import repeat as repeat
from gacf.rules.algebra import sequence as sequence
from gacf.rules.competitive import competitive as competitive
from gacf.rules.consensus import consensus as consensus
from gacf.rules.direction import Direction as Direction
from gacf.rules.direction import Field as Field
from gacf.rules.direction import field as field
from gacf.rules.direction import gradient as gradient
from gacf.rules.extragradient import extragradient as extragradient
from gacf.rules.finite_difference import finite_difference as finite_difference
from gacf.rules.follow_the_ridge import follow_the_ridge as follow_the_ridge
from gacf.rules.implicit import implicit as implicit
from gacf.rules.linear_solve import CG as CG
from gacf.rules.linear_solve import GMRES as GMRES
from gacf.rules.linear_solve import Neumann as Neumann
from gacf.rules.linear_solve import Normal as Normal
from gacf.rules.linear_solve import Solver as Solver
from gacf.rules.lola import lola as lola
from gacf.rules.lookahead import lookahead as lookahead
from gacf.rules.minibatches import minibatches as minibatches
from gacf.rules.nested import nested as nested
from gacf.rules.schedules import alternating as alternating
from gacf.rules.schedules import simultaneous as simultaneous
from gacf.rules.single_loop import single_loop as single_loop
from gacf.rules.symplectic import symplectic as symplectic
from gacf.rules.unrolled import unrolled as unrolled

# The public names that are imported above, without the submodules.
_PUBLIC = {
    name: value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "").startswith(f"{__name__}.")
}


def _that_return(kind: type) -> dict[str, _Callable]:
    """The public functions whose signature says that they return this type."""
    return {
        name: value
        for name, value in _PUBLIC.items()
        if _inspect.isfunction(value)
        and _inspect.signature(value).return_annotation in (kind, kind.__name__)
    }


# These make a rule from other rules, or from one player's step. Every other function that returns a
# rule is a schedule: it decides when each player moves.
_COMBINATORS = ("every", "minibatches", "parallel", "player_step", "repeat", "sequence")

COMBINATORS: dict[str, _Callable[..., _Rule]] = {name: _PUBLIC[name] for name in _COMBINATORS}
DIRECTIONS: dict[str, _Callable[..., Direction]] = _that_return(Direction)
SCHEDULES: dict[str, _Callable[..., _Rule]] = {
    name: make for name, make in _that_return(_Rule).items() if name not in _COMBINATORS
}

__all__ = ["COMBINATORS", "DIRECTIONS", "SCHEDULES", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]
