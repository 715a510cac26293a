"""Pictures of images, as most experiments' `pictures` draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

HEIGHT = 0.45  # height of a row in inches


def _shown(images: Any) -> np.ndarray:
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
        ax.imshow(np.clip(_shown(images), -1, 1), cmap="gray_r", vmin=-1, vmax=1)
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
        shown = np.concatenate([_shown(row) for row in rows], axis=0)
        ax.imshow(np.clip(shown, -1, 1), cmap="gray_r", vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[], title=name)
    return figure
