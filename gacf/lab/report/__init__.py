"""Tables, pages and figures of finished runs; they read results alone, and need no JAX."""

from gacf.lab.report import effects
from gacf.lab.report.pictures import image_grids, image_rows, sample_tiles
from gacf.lab.report.table import Table, finished_runs, interval_text, markdown, read_summary
from gacf.lab.statistics import iqm, power_of_pairs

__all__ = [
    "Table",
    "effects",
    "finished_runs",
    "image_grids",
    "image_rows",
    "interval_text",
    "iqm",
    "markdown",
    "power_of_pairs",
    "read_summary",
    "sample_tiles",
]
