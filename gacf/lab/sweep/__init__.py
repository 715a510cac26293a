"""Sweeps: variants of one experiment, as few programs as their shapes allow.

An experiment that can be swept defines, besides what `gacf.lab.config` lists,

    get_sweep(config) -> {variant: {dotted key: value}}

`config` is the experiment's with the overrides of the command line; a variant's own come on top and
are checked as those are. `grid`, `zipped`, `sample` and `cross` make such dicts.

What a sweep leaves:

    DIR/sweep.json          experiment, configs of all variants, units, versions, devices
    DIR/experiment.py       copy of the file, which `gacf resume` builds from
    DIR/<variant>/          exactly what `gacf run` makes
    DIR/sweep.parquet       one tidy table of all variants
    DIR/sweep-summary.json  compilations, seconds, notes
    DIR/units/              who trains what; checkpoints of what is trained as one

Variants that differ in floats alone are one unit, trained by one compiled program (`sweep.units`).
The directory alone tells what has been done, so the same command on the same directory does what is
missing, and several may do it at once (`sweep.claims`).
"""

from gacf.lab.sweep.directory import Sweep, check_idle, open_sweep, start, write_table
from gacf.lab.sweep.units import Unit, plan
from gacf.lab.sweep.variants import Variants, variants
from gacf.lab.sweep.vocabulary import (
    choice,
    cross,
    grid,
    integers,
    log_uniform,
    sample,
    uniform,
    zipped,
)

__all__ = [
    "Sweep",
    "Unit",
    "Variants",
    "check_idle",
    "choice",
    "cross",
    "grid",
    "integers",
    "log_uniform",
    "open_sweep",
    "plan",
    "sample",
    "start",
    "uniform",
    "variants",
    "write_table",
    "zipped",
]
