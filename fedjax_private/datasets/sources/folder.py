"""Folders of images, one folder a class."""

import dataclasses
import pathlib
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.choices import one_of, setting
from fedjax_private.datasets.arrays import from_arrays
from fedjax_private.datasets.examples import Dataset, DatasetError
from fedjax_private.datasets.sources.source import Source, SplitSettings

_PREFIX = "folder:"
_SIZE = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")
_GREY = ("1", "L", "LA")
_WIDE = ("I", "F")  # more than eight bits a channel


@dataclasses.dataclass(frozen=True)
class FolderSettings(SplitSettings):
    """Settings of folders of images.

    Attributes:
        image_size: HEIGHTxWIDTH that images are resized to, bilinear, whatever their
            proportions; None leaves them as they are.
        image_mode: `L` (grey) or `RGB` that images are converted to; None takes grey
            where all images are, else RGB.
        client_folders: there is a folder a client, which holds those of its classes.
    """

    image_size: str | None = setting(
        None,
        "HEIGHTxWIDTH that images are resized to",
        lambda text: (
            None if _SIZE.fullmatch(text) else "must be HEIGHTxWIDTH, such as 28x28"
        ),
    )
    image_mode: str | None = setting(
        None, "L (grey) or RGB (default: grey where all are)", one_of("L", "RGB")
    )
    client_folders: bool = setting(
        False, "a folder a client holds the folders of its classes"
    )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height, width."""
        match = _SIZE.fullmatch(self.image_size or "")
        return None if match is None else (int(match[1]), int(match[2]))


@dataclasses.dataclass(frozen=True)
class _File:
    path: pathlib.Path
    label: str
    client: str | None


def read_folder(directory: str | pathlib.Path, settings: FolderSettings) -> Dataset:
    """Returns the images below a directory as a data set.

    Images lie at `train/CLASS/` and `test/CLASS/`, or at `CLASS/`, where a test set is
    drawn; with `client_folders` at `train/CLIENT/CLASS/` and so on. Hidden files, and
    files whose suffix is no image format's, are left out. Of animations, the first
    frame is taken.

    Args:
        directory: that of `train` and `test`, or of the classes.
        settings: of sizes, colours and the split.

    Returns:
        uint8 images (N, H, W, 1 or 3); classes and clients in the order of their names.

    Raises:
        DatasetError: no such directory, one of train and test alone, a split that was
            asked for beside both, files elsewhere or that are no images of 8 bits,
            images of several sizes without `image_size`, or no images.
    """
    root = pathlib.Path(directory).expanduser()
    name = f"{_PREFIX}{directory}"
    if not str(directory) or not root.is_dir():
        raise DatasetError(f"{name} names no directory.")
    parts = [part for part in ("train", "test") if (root / part).is_dir()]
    if len(parts) == 1:
        other = "test" if parts == ["train"] else "train"
        raise DatasetError(
            f"{root} has {parts[0]} and no {other}: make both, or lay the classes' "
            "folders into it without either and have a test set drawn."
        )
    if parts:
        if settings.asks_for_a_split:
            raise DatasetError(
                f"{root} has train and test: leave out test_fraction and split_seed."
            )
        train, test = (_files(root / part, settings) for part in parts)
    else:
        files = _files(root, settings)
        split = settings.split(name, np.asarray([file.label for file in files]))
        train, test = ([files[i] for i in indices] for indices in split)
    mode = settings.image_mode or _common_mode([*train, *test])
    first = _read(train[0].path, mode, settings.size)

    def images(files: Sequence[_File]) -> npt.NDArray[np.uint8]:
        pixels = np.empty((len(files), *first.shape), np.uint8)
        for i, file in enumerate(files):
            image = _read(file.path, mode, settings.size)
            if image.shape != first.shape:
                raise DatasetError(
                    f"{file.path} has {image.shape[0]} x {image.shape[1]} pixels and "
                    f"{train[0].path} {first.shape[0]} x {first.shape[1]}: give "
                    "image_size=HEIGHTxWIDTH."
                )
            pixels[i] = image
        return pixels

    return from_arrays(
        name,
        images(train),
        np.asarray([file.label for file in train]),
        images(test),
        np.asarray([file.label for file in test]),
        clients=_clients(train),
        test_clients=_clients(test),
    )


def _clients(files: Sequence[_File]) -> npt.NDArray[Any] | None:
    names = [file.client for file in files if file.client is not None]
    return np.asarray(names) if names else None


def _files(directory: pathlib.Path, settings: FolderSettings) -> list[_File]:
    """The images of a directory, with class and client."""
    layout = ["CLIENT", "CLASS"] if settings.client_folders else ["CLASS"]
    suffixes, files = _suffixes(), []
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        if path.is_dir() or any(part.startswith(".") for part in parts):
            continue
        if path.suffix and path.suffix.lower() not in suffixes:
            continue
        if len(parts) != len(layout) + 1:
            raise DatasetError(
                f"{path} is out of place: images lie at "
                f"{directory}/{'/'.join(layout)}/."
            )
        client = parts[0] if settings.client_folders else None
        files.append(_File(path, parts[-2], client))
    if not files:
        raise DatasetError(f"{directory} holds no images in folders of classes.")
    return files


def _suffixes() -> set[str]:
    """The suffixes of image formats that can be read: ".png" and so on."""
    from PIL import Image

    known = Image.registered_extensions()
    return {suffix for suffix, kind in known.items() if kind in Image.OPEN}


def _common_mode(files: Sequence[_File]) -> str:
    """L if all images are grey, else RGB."""
    for file in files:
        with _opened(file.path) as image:
            if image.mode not in _GREY:
                return "RGB"
    return "L"


def _opened(path: pathlib.Path) -> Any:
    """The image in a file, of which only the header has been read."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of images that unpack to much more than their files hold.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path)
    except Exception as error:  # damaged files surface as anything
        raise _unreadable(path, error) from error
    if image.mode.startswith(_WIDE):
        image.close()
        raise DatasetError(
            f"{path} has more than 8 bits a channel (mode {image.mode}): convert it."
        )
    return image


def _read(
    path: pathlib.Path, mode: str, size: tuple[int, int] | None
) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, C)."""
    from PIL import Image

    with _opened(path) as image:
        try:
            converted = image if image.mode == mode else image.convert(mode)
            if size is not None and converted.size != size[::-1]:
                converted = converted.resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(converted, np.uint8)
        except Exception as error:  # damaged files surface as anything
            raise _unreadable(path, error) from error
    return pixels.reshape(*pixels.shape[:2], -1)


def _unreadable(path: pathlib.Path, error: Exception) -> DatasetError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return DatasetError(
        f"{path} is no image that can be read ({reason}): remove or replace it."
    )


FOLDER = Source(
    "folder:DIR",
    "images in a folder a class, below train and test or with a test set drawn",
    lambda name, settings: read_folder(name.removeprefix(_PREFIX), settings),
    FolderSettings,
    matches=lambda name: name.startswith(_PREFIX),
)
