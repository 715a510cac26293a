"""`gacf draw`: draw the games of an experiment."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gacf.lab import experiment_file, overrides
from gacf.lab.cli.arguments import Dotted
from gacf.lab.errors import BadInput
from gacf.lab.inspect import draw
from gacf.lab.run_directory import refusing


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Draws the games of all cells; returns the exit code."""
    loaded = experiment_file.load(args.config)
    built = experiment_file.build(loaded, overrides.resolve(loaded, dotted.config))
    games = {cell: draw.game_of(algorithm) for cell, algorithm in built.items()}
    flows = {cell: draw.trace(game) for cell, game in games.items() if game is not None}
    if not flows:
        raise BadInput(
            "CONFIG: none of its algorithms was made by compose; allowed: algorithms that are"
        )
    directory = Path(args.workdir or "drawings")
    with refusing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    for cell, flow in flows.items():
        stem = cell if len(flows) == 1 else f"{loaded.name}-{cell}"
        place = directory / re.sub(r"[^\w.-]+", "_", stem)
        print(f"{cell}\n\n{draw.words(flow)}\n")
        place.with_name(place.name + ".md").write_text(f"```mermaid\n{draw.mermaid(flow)}\n```\n")
        figure = draw.figure(flow, cell)
        for kind in ("png", "svg"):
            figure.savefig(place.with_name(f"{place.name}.{kind}"), dpi=150)
    print(directory)
    return 0
