"""The cost of data that do not fit into memory: a `Feed` against an array in memory.

    python -m benchmarks.feed [--quick] [--rounds N] [--json FILE]

Prints table u: updates of DCGAN on images of 28 × 28, batch 64, 1 and 4 seeds, fed by the array, by
a `Feed` of a memory-mapped file, and by a `Feed` of PNG files that are decoded in passing, with and
without reading ahead. Decoding and training share the cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import subjects
from benchmarks.common import Table, interleave, machine, milliseconds, ratio
from benchmarks.subjects import Runner
from gacf.data import Feed, ImageFiles

BATCH, STEPS = 64, 4
ARRAY = "an array in memory"


def sources(place: Path, images: np.ndarray) -> dict[str, Any]:
    """The same images in the forms that `gacf.gan` takes."""
    np.save(place / "images.npy", images)
    mapped = np.load(place / "images.npy", mmap_mode="r")
    folder = place / "images"
    folder.mkdir()
    for i, pixels in enumerate(images):
        Image.fromarray(pixels[..., 0]).save(folder / f"{i:04}.png")
    files = ImageFiles(folder, channels=1)

    def scaled(x: Any) -> Any:
        return x / np.float32(127.5) - 1

    def feed(source: Any, **settings: Any) -> Feed:
        return Feed(source, BATCH, scale=scaled, **settings)

    def image(pair: Any) -> Any:
        return pair[0]

    return {
        ARRAY: scaled(images),
        "a Feed of a memory-mapped file": feed(mapped),
        "a Feed of PNG files": feed(files, transform=image),
        "the same, nothing read ahead": feed(files, transform=image, ahead=0),
    }


def measured(seeds: int, args: argparse.Namespace) -> list[list[str]]:
    images = np.random.RandomState(0).randint(0, 256, (2_048, 28, 28, 1)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as place:
        sides = {
            name: Runner(subjects.dcgan(data), seeds, "auto", [STEPS])
            for name, data in sources(Path(place), images).items()
        }
        taken, _ = interleave(sides, 2 if args.quick else args.rounds)
    return [
        [name, str(seeds), milliseconds(each, STEPS * seeds), ratio(each, taken[ARRAY])]
        for name, each in taken.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, default=9, help="how often the sides take turns")
    parser.add_argument("--json", type=Path, help="write the table there, for benchmarks.render")
    args = parser.parse_args()
    where = machine()
    rows = [row for seeds in ((1,) if args.quick else (1, 4)) for row in measured(seeds, args)]
    table = Table(
        "u",
        "data that do not fit: DCGAN fed from the disk",
        "python -m benchmarks.feed",
        ["data", "seeds", "ms a seed-update", "over the array"],
        rows,
        ["PNG files of noise, which take longer to decode than pictures do; the cores that decode "
         "are those that train. On an accelerator the host's cores have nothing else to do."],
    )  # fmt: skip
    print(table.markdown())
    if args.json:
        args.json.write_text(json.dumps({"machine": where, "tables": [table._asdict()]}, indent=1))


if __name__ == "__main__":
    main()
