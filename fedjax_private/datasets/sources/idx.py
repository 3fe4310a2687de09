"""MNIST's own file format, IDX, read without TensorFlow.

The format (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"): a
big-endian header of four bytes (0, 0, type, number of dimensions), one uint32 per
dimension, then the values in row-major order. Only type 8, unsigned byte, occurs in
MNIST and the sets that imitate it (Fashion-MNIST, EMNIST, KMNIST).
"""

import gzip
import math
import os
import pathlib
import zlib
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from fedjax_private.datasets.examples import Dataset, DatasetError, Examples
from fedjax_private.datasets.sources.source import Source

_PREFIX = "idx:"
_UNSIGNED_BYTE = 8
_MAX_BYTES = 1 << 32  # no set of this kind comes near; a forged header may
_MAX_CLASSES = 62  # EMNIST by class: digits, upper and lower case


def read_idx(directory: str | os.PathLike[str]) -> Dataset:
    """Reads train and test images and labels from four IDX files.

    Args:
        directory: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the
            same with `t10k`; also found with a dot for the second-last hyphen
            (`train-images.idx3-ubyte`) and with `.gz` at the end. Whether a file is
            compressed is read from its content.

    Returns:
        Images as uint8 (N, H, W, 1). `num_classes` is 10 if all labels are digits, else
        the largest label plus one. The name is `idx:` and the directory.

    Raises:
        DatasetError: a directory or file that is missing or unreadable, one that is
            truncated, too long or no IDX file of unsigned bytes, images and labels that
            differ in number, images of no size, or a label above 61.
    """
    root = pathlib.Path(directory).expanduser()
    if not os.fspath(directory) or not root.is_dir():
        raise DatasetError(
            f"idx:{directory} names no directory; it must be one that holds the four "
            "MNIST IDX files."
        )
    train = _examples(root, "train")
    test = _examples(root, "t10k")
    largest = max(int(train.labels.max()), int(test.labels.max()))
    if largest >= _MAX_CLASSES:
        raise DatasetError(
            f"{root}: a label of {largest} is out of range; labels lie in "
            f"0..{_MAX_CLASSES - 1}."
        )
    return Dataset(f"{_PREFIX}{directory}", train, test, max(largest + 1, 10))


def _examples(root: pathlib.Path, split: str) -> Examples:
    images = _read(_find(root, f"{split}-images", 3), dimensions=3)
    labels = _read(_find(root, f"{split}-labels", 1), dimensions=1)
    if len(images) != len(labels):
        raise DatasetError(
            f"{root}: the {split} files hold {len(images)} images but {len(labels)} "
            "labels."
        )
    return Examples(images[..., np.newaxis], labels.astype(np.int32))


def _find(root: pathlib.Path, stem: str, dimensions: int) -> pathlib.Path:
    names = [
        f"{stem}{separator}idx{dimensions}-ubyte{suffix}"
        for separator in "-."
        for suffix in ("", ".gz")
    ]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise DatasetError(f"{root} holds none of {', '.join(names)}.")


def _read(path: pathlib.Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in one IDX file, uint8 with `dimensions` axes, none of them empty."""
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not compressed:
                return _parse(path, raw, dimensions)
            with gzip.open(raw) as unpacked:
                return _parse(path, unpacked, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read: {error}.") from error


def _parse(
    path: pathlib.Path, file: BinaryIO | gzip.GzipFile, dimensions: int
) -> npt.NDArray[np.uint8]:
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    header = file.read(4 + 4 * dimensions)
    if header[:4] != magic:
        raise DatasetError(
            f"{path} is no IDX file of unsigned bytes in {dimensions} dimension(s): it "
            f"begins with 0x{header[:4].hex()}, not 0x{magic.hex()}."
        )
    if len(header) < 4 + 4 * dimensions:
        raise DatasetError(f"{path} ends within its header.")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    size = math.prod(shape)
    if not 0 < size <= _MAX_BYTES:
        raise DatasetError(
            f"{path} states the dimensions {' x '.join(map(str, shape))}: "
            f"{'nothing' if size == 0 else 'too much'} to read."
        )
    # In pieces, so that a forged header costs no more memory than the file's content;
    # one byte more than stated, so that a longer file is noticed.
    content = bytearray()
    while piece := file.read(min(size + 1 - len(content), 1 << 20)):
        content += piece
    if len(content) != size:
        raise DatasetError(
            f"{path} states {' x '.join(map(str, shape))} = {size} bytes of data but "
            f"holds {'more' if len(content) > size else len(content)}."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


IDX = Source(
    "idx:DIR",
    "four MNIST IDX files in a directory",
    lambda name, settings: read_idx(name.removeprefix(_PREFIX)),
    matches=lambda name: name.startswith(_PREFIX),
)
