"""Pictures of samples, as most experiments' `pictures` draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

HEIGHT = 0.45  # height of a row in inches
TILE = 1.6  # side of a tile in inches
MARGIN = 1.7  # half the side of a tile, in units of the farthest mark or sample


def _strip(images: Any) -> np.ndarray:
    """Images [n, H, W, C] in [-1, 1] side by side, as matplotlib takes them."""
    strip = np.concatenate(list(np.asarray(images, float)), axis=1)
    return (strip + 1) / 2 if strip.shape[-1] == 3 else strip[..., 0]


def image_rows(rows: Mapping[str, Any]) -> Figure:
    """A row of images for each name, the name to the left of it.

    Args:
        rows: name -> images [n, H, W, C] in [-1, 1], with one channel or three.

    Example:
        >>> figure = image_rows({"real": np.zeros((4, 8, 8, 1)), "seed 0": np.ones((4, 8, 8, 1))})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['real', 'seed 0']
    """
    figure = Figure(figsize=(6.4, HEIGHT * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for ax, (name, images) in zip(axes, rows.items(), strict=True):
        ax.imshow(np.clip(_strip(images), -1, 1), cmap="gray_r", vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def image_grids(grids: Mapping[str, Sequence[Any]]) -> Figure:
    """A grid of images for each name, side by side, the name above it.

    Args:
        grids: name -> rows of images, each [n, H, W, C] in [-1, 1].

    Example:
        >>> figure = image_grids({"cell": np.zeros((2, 5, 8, 8, 1))})
        >>> [axes.get_title() for axes in figure.axes]
        ['cell']
    """
    figure = Figure(figsize=(8, 2), layout="constrained")
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    for ax, (name, rows) in zip(axes, grids.items(), strict=True):
        grid = np.concatenate([_strip(row) for row in rows], axis=0)
        ax.imshow(np.clip(grid, -1, 1), cmap="gray_r", vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[], title=name)
    return figure


def sample_tiles(samples: Any, marks: Any = None) -> Figure:
    """The samples of each seed in the plane, a tile per seed, at most eight in a row.

    Samples that lie beyond their tile, as those of a diverged seed may, are left out.

    Args:
        samples: [S, n, 2].
        marks: points [K, 2] that are circled in every tile, such as the means of a mixture; the
            tiles are then as large as these need, and otherwise as large as most seeds need.

    Example:
        >>> figure = sample_tiles(np.zeros((3, 10, 2)), marks=np.ones((1, 2)))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['seed 0', 'seed 1', 'seed 2']
    """
    samples = np.asarray(samples, float)
    size = len(samples)
    columns = min(8, size)
    rows = -(-size // columns)
    farthest = np.abs(samples).max(axis=(1, 2)) if marks is None else np.abs(marks).max()
    farthest = farthest[np.isfinite(farthest)]
    side = 2 * MARGIN * (float(np.median(farthest)) if farthest.size else 1.0)
    # One panel with a tile for each seed: many panels take longer to draw than to train.
    each = np.arange(size)
    centres = side * np.stack([each % columns, -(each // columns)], axis=-1)

    def in_tiles(points: np.ndarray) -> np.ndarray:
        """X and y of points [S, n, 2] or [n, 2], moved to the tile of their seed."""
        return (points + centres[:, None]).reshape(-1, 2).T

    inside = np.all(np.abs(samples) <= side / 2, axis=-1, keepdims=True)
    figure = Figure(figsize=(TILE * columns, TILE * rows), layout="constrained")
    ax = figure.subplots()
    ax.scatter(
        *in_tiles(np.where(inside, samples, np.nan)),
        s=2, alpha=0.4, color="tab:blue", linewidths=0,
    )  # fmt: skip
    if marks is not None:
        ax.scatter(
            *in_tiles(np.asarray(marks)),
            s=60, facecolors="none", edgecolors="tab:red", linewidths=0.8,
        )  # fmt: skip
    for seed, (x, y) in enumerate(centres):
        ax.text(x, y + 0.4 * side, f"seed {seed}", fontsize=8, ha="center")
    ax.set_aspect("equal")
    ax.axis("off")
    return figure
