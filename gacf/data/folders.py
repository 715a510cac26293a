"""Readers for folders of images, and for data sets that Hugging Face `datasets` saved."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gacf.core.checks import lookup, require, whole

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}

Size = tuple[int, int]


def _upright(image: Any) -> Any:
    """The image in its upright orientation: EXIF may say that it is stored turned or mirrored."""
    from PIL import Image

    image.load()  # TIFF's reader turns the image itself while loading
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # a truncated EXIF block does not make the image unreadable
        return image
    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
        6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90,
    }  # fmt: skip
    return image.transpose(turns[orientation]) if orientation in turns else image


def _grey(image: Any, tags: Mapping[int, Any]) -> Any:
    """Reduces grey of more than 8 bits to its upper 8, as Pillow does for colours of 16 bits."""
    from PIL import Image

    # Tags of a TIFF: its bits per sample, and whether 0 is white.
    bits, white_is_zero = tags.get(258, (16,))[0], tags.get(262) == 0
    levels = (np.asarray(image).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(255 - levels if white_is_zero else levels)


def _converted(image: Any, kind: str | None, tags: Mapping[int, Any], mode: str) -> Any:
    """The image in 8 bits: `mode` is L, RGB or RGBA.

    Transparent pixels keep the colour stored beneath, as in Pillow's conversion of RGBA to RGB.
    """
    stored = image.mode
    # PNG and PGM hold no numbers above 65,535, so their pixels of mode I have 16 bits
    if stored.startswith("I;16") or (stored == "I" and kind in ("PNG", "PPM")):
        image = _grey(image, tags)
    elif stored in ("I", "F"):
        raise _Refused(
            f"pixels of mode {stored} (whole numbers with a sign, or of 32 bits, or floats) do not "
            "say which number is white; allowed: images of 8 or 16 bits"
        )
    elif stored in ("PA", "La", "RGBa") or (stored == "P" and "transparency" in image.info):
        image = image.convert("LA" if stored == "La" else "RGBA")
    elif stored not in ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX"):
        try:
            image = image.convert("RGB")  # CMYK, YCbCr, HSV
        except ValueError as error:
            raise _Refused(f"pixels of mode {stored}: {error}") from error
    return image.convert(mode)


class _Refused(Exception):
    """The image can be read, but not as 8 bits."""


def _reason(error: Exception) -> str:
    """Why an image could not be read."""
    from PIL import Image, UnidentifiedImageError

    first = str(error).partition("\n")[0]
    if isinstance(error, _Refused):
        return first
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        # Pillow's own limit, which a program may change: a small file may unpack to any size
        return f"too many pixels ({first}); the limit is twice PIL.Image.MAX_IMAGE_PIXELS"
    if isinstance(error, MemoryError):
        return "the image does not fit into memory"
    if isinstance(error, OSError) and error.errno and not isinstance(error, UnidentifiedImageError):
        return f"cannot be read ({error.strerror})"
    if isinstance(error, Warning):
        return f"Pillow's warning, which this program turns into an error: {first}"
    return f"not an image, truncated or corrupt ({first})"


def _decoded(where: str, source: Any, channels: int, size: Size | None) -> np.ndarray:
    """One image [H, W, C], uint8; the first one if a file holds several.

    A `Feed` calls this in threads, so nothing here may change state of the whole process, such as
    the filters of warnings.
    """
    from PIL import Image  # its import takes a while

    try:
        with Image.open(source) as image:
            tags = getattr(image, "tag_v2", {})
            pixels = _converted(_upright(image), image.format, tags, MODES[channels])
            if size is not None and pixels.size != (size[1], size[0]):
                pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything
        raise ValueError(f"{where}: {_reason(error)}") from error
    return np.asarray(pixels).reshape(pixels.height, pixels.width, channels)


def _stacked(images: Iterable[tuple[str, np.ndarray]]) -> np.ndarray:
    """Images of one shape, [n, H, W, C]."""
    rows: list[np.ndarray] = []
    for where, image in images:
        if rows and image.shape != rows[0].shape:
            raise ValueError(
                f"{where}: shape {image.shape}, but that of the first image is "
                f"{rows[0].shape}; give `size` to scale them"
            )
        rows.append(image)
    return np.stack(rows)


def _check(channels: int, size: Size | None) -> None:
    require("channels", channels, lambda c: c in MODES, "1, 3 or 4")
    fits = size is None or (len(size) == 2 and all(whole(n) for n in size))
    require("size", size, lambda s: fits, "None, or (height, width)")


class ImageFiles:
    """The images in a folder, or in its subfolders, each decoded only when it is requested.

    `files[i]` is the pair of an image [H, W, C], uint8, and its label; `files.paths` gives the path
    of each file, and `files.classes` the meaning of the labels. Use it with a `Feed` if there are
    too many images for `read_images`.

    Images are converted to what a viewer shows: turned according to their EXIF block, 16 bits
    reduced to the upper byte, palettes to colours, CMYK to RGB, and of animations and files with
    several pages the first. Without a channel for it, opacity is dropped as Pillow does from RGBA
    to RGB, so that transparent pixels show the colour stored beneath. Images of 32 bits per channel
    are refused, because they do not say which number is white. Images with more pixels than Pillow
    accepts are refused too; its limit is twice `PIL.Image.MAX_IMAGE_PIXELS`, which a program may
    change.

    Args:
        folder: the folder. If none of its subfolders holds images, the images directly in it are of
            class 0. Otherwise the classes are these subfolders in alphabetical order ("10" comes
            before "2"), and there may be no images directly in the folder. Files without the suffix
            of an image, and names that begin with a dot, are left out.
        size: (height, width) to scale them to; None if all have one size already.
        channels: 1 for grey, 3 for colours, 4 with opacity.

    Raises:
        ValueError: there are no images, or some lie outside the classes; `files[i]` raises it for
            an image that cannot be read. The message names the file.
        FileNotFoundError: there is no such folder.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (6, 4)).save(folder / "0.png")
        >>> files = ImageFiles(folder)
        >>> image, label = files[0]
        >>> len(files), image.shape, int(label)
        (1, (4, 6, 3), 0)
    """

    def __init__(self, folder: str | Path, size: Size | None = None, channels: int = 3):
        _check(channels, size)
        self.size, self.channels = size, channels
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"read_images: {root}: no such folder")

        def inside(place: Path, pattern: str) -> list[Path]:
            files = (path for path in sorted(place.glob(pattern)) if path.is_file())
            images = (path for path in files if path.suffix.lower() in SUFFIXES)
            return [p for p in images if not any(n[0] == "." for n in p.relative_to(place).parts)]

        folders = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name[0] != "."]
        classes = {p.name: paths for p in folders if (paths := inside(p, "**/*"))}
        direct = inside(root, "*")
        if classes and direct:
            raise ValueError(
                f"read_images: {direct[0]}: an image outside the class folders "
                f"{', '.join(list(classes)[:3])}, …; allowed: all images in class folders, or none"
            )
        groups = list(classes.values()) or [direct]
        self.classes = list(classes) or [root.name]
        self.paths = [path for group in groups for path in group]
        if not self.paths:
            raise ValueError(
                f"read_images: {root}: no images; allowed: files that end in {', '.join(SUFFIXES)}"
            )
        labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        self.labels = labels.astype(np.int32)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """The image and its label."""
        path = self.paths[index]
        image = _decoded(f"read_images: {path}", path, self.channels, self.size)
        return image, self.labels[index]


def read_images(
    folder: str | Path, size: Size | None = None, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """The images in a folder, or in its subfolders, each of which is a class.

    Args:
        folder: the folder, as in `ImageFiles`.
        size: (height, width) to scale them to; None if all have one size already.
        channels: 1 for grey, 3 for colours, 4 with opacity.

    Returns:
        Images [n, H, W, C], uint8, and labels [n], int32, in alphabetical order.

    Raises:
        ValueError: an image cannot be read, two differ in size, or there are none; the message
            names the file and the reason.
        FileNotFoundError: no such folder.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     Image.new("RGB", (6, 4)).save(folder / name / "0.png")
        >>> images, labels = read_images(folder)
        >>> images.shape, labels.tolist()
        ((2, 4, 6, 3), [0, 1])
    """
    files = ImageFiles(folder, size, channels)
    images = _stacked((f"read_images: {path}", files[i][0]) for i, path in enumerate(files.paths))
    return images, files.labels


def _json(where: str, path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeError) as error:
        raise ValueError(f"{where}: {path.name} is truncated or corrupt ({error})") from error


def read_datasets(
    folder: str | Path,
    split: str | None = None,
    image: str = "image",
    label: str | None = "label",
    size: Size | None = None,
    channels: int = 3,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a data set that Hugging Face `datasets` saved with `save_to_disk`.

    The Arrow files are read directly: the package `datasets` is not needed, and code that came
    with the data set is not run.

    Args:
        folder: the folder of the data set, or of a dictionary of several splits.
        split: the split to read; None for a single data set.
        image: the column of the images, which are encoded files or nested lists of numbers.
        label: the column of the labels; None if there are none.
        size: (height, width) to scale encoded images to; None if all have one size already.
        channels: the channels of encoded images: 1 for grey, 3 for colours, 4 with opacity.

    Returns:
        Images [n, H, W, C], uint8, from encoded files, or numbers [n, …] from lists; and labels
        [n], int32, or None.

    Raises:
        ValueError: a file is truncated or corrupt, a name is unknown, or an image is unreadable;
            the message names the file and the record.
        FileNotFoundError: no such data set.
    """
    _check(channels, size)
    root = Path(folder)
    where = f"read_datasets: {root}"
    several = root / "dataset_dict.json"
    if several.is_file():
        splits = _json(where, several).get("splits", [])
        if split is None:
            raise ValueError(f"split: None was given; allowed: {', '.join(splits)}")
        lookup("split", split, dict.fromkeys(splits))
        root = root / split
    elif split is not None:
        raise ValueError(f"split: {split!r} was given; allowed for a single data set: None")
    state = root / "state.json"
    if not state.is_file():
        raise FileNotFoundError(f"{where}: no data set: {state} is missing")
    description = _json(where, state)
    if description.get("_indices_data_files"):
        raise ValueError(
            f"{where}: an index file chooses its rows; call flatten_indices() and save it again"
        )
    files = [root / Path(entry["filename"]).name for entry in description.get("_data_files", [])]
    columns = [name for name in (image, label) if name is not None]
    tables = [(path, _columns(path, columns)) for path in files]
    if not sum(len(table[image]) for _, table in tables):
        raise ValueError(f"{where}: no rows")
    images = [_images(path, table[image], channels, size) for path, table in tables]
    numbers = _stacked(pair for part in images for pair in part)
    if label is None:
        return numbers, None
    return numbers, np.concatenate([_labels(path, table[label]) for path, table in tables])


def _columns(path: Path, names: list[str]) -> dict[str, Any]:
    """Columns of one Arrow file, by name."""
    import pyarrow as pa  # its import takes a while

    where = f"read_datasets: {path}"
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"{where}: truncated or corrupt ({first})") from error
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return {name: lookup(f"{where}: column", name, columns) for name in names}


def _images(
    path: Path, column: Any, channels: int, size: Size | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Each record's name for messages, and its image."""
    for record, value in enumerate(column.to_pylist()):
        where = f"read_datasets: {path}: record {record}"
        encoded = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(encoded, bytes):
            yield where, _decoded(where, io.BytesIO(encoded), channels, size)
            continue
        try:
            numbers = np.asarray(encoded)
        except ValueError:  # lists of different lengths
            numbers = np.empty((), object)
        if not np.issubdtype(numbers.dtype, np.number):
            raise ValueError(
                f"{where}: not an image; allowed: an encoded image, or lists of numbers"
            )
        yield where, numbers


def _labels(path: Path, column: Any) -> np.ndarray:
    values = column.to_pylist()
    for record, value in enumerate(values):
        if type(value) is not int or not 0 <= value < 2**31:
            raise ValueError(
                f"read_datasets: {path}: record {record}: label {value!r}; "
                "allowed: a whole number >= 0, or label=None to read none"
            )
    return np.array(values, np.int32)
