"""Sweeps: variants of one experiment, trained by as few programs as their shapes allow.

An experiment that can be swept defines, besides what `gacf.lab.experiment_file` lists,

    get_sweep(config) -> {variant: {dotted key: value}}

`config` is the experiment's config with the overrides of the command line. The values of a variant
are applied after these and checked in the same way. `grid`, `zipped`, `sample` and `cross` make
such dicts.

What a sweep leaves:

    DIR/sweep.json          experiment, configs of all variants, units, versions, devices
    DIR/experiment.py       copy of the file, which `gacf resume` builds from
    DIR/<variant>/          exactly what `gacf run` writes
    DIR/sweep.parquet       one tidy table of all variants
    DIR/sweep-summary.json  compilations, seconds, notes
    DIR/units/              which worker trains what; checkpoints of variants trained together

Variants that differ only in floats form one unit, trained by one compiled program (`sweep.units`).
The directory alone records what has been done. So the same command on the same directory trains
what is missing, and several processes may do so at once (`sweep.claims`).
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
