"""`gacf sample`: draw samples from the generators of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from gacf import propose
from gacf.lab import sampling
from gacf.lab.cli.arguments import Dotted
from gacf.lab.cli.common import load_trained
from gacf.lab.errors import BadInput
from gacf.lab.report import pictures
from gacf.lab.run_directory import refusing

COLUMNS = 8  # pictures in a row of the grid


def command(args: argparse.Namespace, dotted: Dotted) -> int:
    """Draws the samples and writes them; returns the exit code."""
    del dotted
    if args.n < 1:
        raise BadInput(f"-n: {args.n} was given; allowed: a whole number >= 1")
    if args.truncation is not None and not args.truncation > 0:
        raise BadInput(f"--truncation: {args.truncation} was given; allowed: a number > 0")
    if args.interpolate is not None and args.interpolate < 2:
        raise BadInput(f"--interpolate: {args.interpolate} was given; allowed: a number >= 2")
    algorithm, state, key = load_trained(args)
    key, again = jax.random.split(key)
    count = args.n if args.interpolate is None else 2 * -(-args.n // args.interpolate)
    inputs = sampling.draw(algorithm, state, key, count)
    if args.truncation is not None:
        inputs = sampling.truncated(algorithm, state, again, inputs, args.truncation)
    columns = COLUMNS
    if args.interpolate is not None:
        if not np.issubdtype(inputs[0].dtype, np.floating):
            raise BadInput("--interpolate: the noise of this run consists of whole numbers")
        inputs, columns = sampling.interpolated(inputs, args.interpolate), args.interpolate
    noise, *labels = (part[: args.n] for part in inputs)
    seen = (noise, *labels) if labels else noise
    samples = np.asarray(propose(algorithm, state, seen, key))
    place = Path(args.workdir) if args.workdir else Path(args.directory) / "sample"
    with refusing(place):
        place.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"samples": samples, "noise": np.asarray(noise)}
        if labels:
            arrays["labels"] = np.asarray(labels[0])
        np.savez(place / "samples.npz", **arrays)
        figure = _figure(samples, columns)
        if figure is not None:
            figure.savefig(place / "samples.png", dpi=150)
        if args.files:
            _write_each(place, samples)
    print(f"{place}: {samples.shape[0]} samples {list(samples.shape[1:])} of seed {args.seed}")
    return 0


def _is_image(samples: np.ndarray) -> bool:
    return samples.ndim == 4 and samples.shape[-1] in (1, 3)


def _unit(samples: np.ndarray) -> np.ndarray:
    """Images in [0, 1]: those of a tanh lie in [-1, 1], and have numbers below 0."""
    return np.clip((samples + 1) / 2 if samples.min() < 0 else samples, 0, 1)


def _figure(samples: np.ndarray, columns: int) -> Figure | None:
    """A grid of images, or points in the plane; None for samples of another kind."""
    if samples.ndim == 2 and samples.shape[1] == 2:
        return pictures.sample_tiles(samples[None])
    if not _is_image(samples):
        return None
    images = 2 * _unit(samples) - 1
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    blank = np.full((columns - len(rows[-1]), *images.shape[1:]), -1.0)
    rows[-1] = np.concatenate([rows[-1], blank])
    size = 0.6 * columns, 0.6 * len(rows)
    figure = pictures.image_grids({"": rows})
    figure.set_size_inches(size)
    return figure


def _write_each(place: Path, samples: np.ndarray) -> None:
    digits = len(str(len(samples) - 1))
    if not _is_image(samples):
        for i, sample in enumerate(samples):
            np.save(place / f"{i:0{digits}}.npy", sample)
        return
    from PIL import Image

    images: Any = np.round(255 * _unit(samples)).astype(np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
            place / f"{i:0{digits}}.png"
        )
