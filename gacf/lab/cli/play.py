"""`gacf play`: play episodes with the actors of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from gacf.lab import episodes
from gacf.lab.cli.arguments import Dotted
from gacf.lab.cli.common import load_trained
from gacf.lab.errors import BadInput
from gacf.lab.run_directory import refusing


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Plays the episodes, prints and writes their returns; returns the exit code."""
    del dotted
    if args.episodes < 1:
        raise BadInput(f"--episodes: {args.episodes} was given; allowed: a whole number >= 1")
    if args.video:
        episodes.check_writer(args.video)
    algorithm, state, key = load_trained(args)
    env = episodes.environment_of(algorithm)
    played = episodes.play(algorithm, state, key, args.episodes)
    place = Path(args.workdir) if args.workdir else Path(args.directory) / "play"
    table = pd.DataFrame({"return": played.returns, "length": played.lengths})
    with refusing(place):
        place.mkdir(parents=True, exist_ok=True)
        table.to_csv(place / "episodes.csv", index_label="episode")
        if args.video:
            episodes.film(played, env, place / f"episode.{args.video}")
    print(table.to_string(float_format=lambda x: f"{x:.4g}"))
    print(
        f"{env.name}, seed {args.seed}: return {np.mean(played.returns):.4g} on average over "
        f"{args.episodes} episodes, from {np.min(played.returns):.4g} to "
        f"{np.max(played.returns):.4g}; {place}"
    )
    return 0
