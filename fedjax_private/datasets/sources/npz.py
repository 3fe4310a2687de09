"""NumPy archives: training and test arrays in one file."""

import dataclasses
import pathlib
import zipfile
from typing import Any

import numpy as np

from fedjax_private.choices import Settings, setting
from fedjax_private.datasets.arrays import from_arrays
from fedjax_private.datasets.examples import Dataset, DatasetError, Normalization
from fedjax_private.datasets.sources.source import Source

_PREFIX = "npz:"
_NEEDED = ("x_train", "y_train", "x_test", "y_test")
_OPTIONAL = ("client_train", "client_test")
_MAX_BYTES = 1 << 33  # of all arrays together, unpacked


@dataclasses.dataclass(frozen=True)
class NpzSettings(Settings):
    """Settings of NumPy archives.

    Attributes:
        input_offset: subtracted from inputs first.
        input_scale: divides second. Both are public constants; see `Normalization`.
    """

    input_offset: float | None = setting(None, "subtracted from inputs (default 0)")
    input_scale: float | None = setting(
        None, "divides inputs (default 255 for bytes, 1 for floats)"
    )


def read_npz(path: str | pathlib.Path, settings: NpzSettings) -> Dataset:
    """Returns the data set in a file of `numpy.savez` or `numpy.savez_compressed`.

    The file holds x_train (N, ...), y_train (N,), x_test (M, ...) and y_test (M,), and
    may hold client_train (N,) and client_test (M,); see `from_arrays` for what they may
    be. Python objects in it are never unpickled.

    Raises:
        DatasetError: no such file, no NumPy archive, a damaged one, one of more than 8
            GiB, arrays that are missing or have other names, or what `from_arrays`
            refuses.
    """
    file = pathlib.Path(path).expanduser()
    name = f"{_PREFIX}{path}"
    if not file.is_file():
        raise DatasetError(f"{name} names no file.")
    try:
        arrays = _arrays(name, file)
    except DatasetError:
        raise
    except MemoryError as error:
        raise DatasetError(f"{name} states arrays that memory cannot hold.") from error
    except Exception as error:  # damaged archives surface as anything
        reason = " ".join(str(error).split()).rstrip(".")
        if "allow_pickle" in reason:
            reason = (
                "it holds Python objects, which are never unpickled: save arrays of "
                "text by .astype(str), of numbers by .astype(float) or .astype(int)"
            )
        raise DatasetError(f"{name} cannot be read: {reason}.") from error
    dataset = from_arrays(
        name,
        *(arrays[each] for each in _NEEDED),
        clients=arrays.get("client_train"),
        test_clients=arrays.get("client_test"),
    )
    default = dataset.normalization
    offset, scale = settings.input_offset, settings.input_scale
    if (offset, scale) != (None, None) and dataset.train.inputs.dtype == np.int32:
        raise DatasetError(
            f"{name} holds whole numbers, which are taken as token numbers and not "
            "scaled: leave out input_offset and input_scale, or save floats."
        )
    normalization = Normalization(
        default.offset if offset is None else offset,
        default.scale if scale is None else scale,
    )
    return dataclasses.replace(dataset, normalization=normalization)


def _arrays(name: str, file: pathlib.Path) -> dict[str, Any]:
    """All arrays of the archive, by name."""
    if not zipfile.is_zipfile(file):
        raise DatasetError(
            f"{name} is no NumPy archive: write it by numpy.savez("
            f"{', '.join(f'{each}=...' for each in _NEEDED)})."
        )
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
        held = [member.filename.removesuffix(".npy") for member in archive.infolist()]
    missing = [each for each in _NEEDED if each not in held]
    strange = [each for each in held if each not in _NEEDED + _OPTIONAL]
    if missing or strange or len(set(held)) < len(held):
        raise DatasetError(
            f"{name} holds {', '.join(held) or 'nothing'}; it must hold "
            f"{', '.join(_NEEDED)} once each, and may hold {' and '.join(_OPTIONAL)}."
        )
    if size > _MAX_BYTES:
        raise DatasetError(
            f"{name} holds {size / 2**30:.0f} GiB unpacked, more than "
            f"{_MAX_BYTES >> 30}: load a part of it by a function of your own, "
            "module:attribute."
        )
    with np.load(file, allow_pickle=False) as archive:
        arrays = {each: archive[each] for each in held}
    for each, value in arrays.items():
        if not isinstance(value, np.ndarray):  # bytes that are no array's
            raise DatasetError(f"{name}: {each} is no NumPy array.")
    return arrays


NPZ = Source(
    "npz:FILE",
    "arrays x_train, y_train, x_test, y_test of one NumPy archive",
    lambda name, settings: read_npz(name.removeprefix(_PREFIX), settings),
    NpzSettings,
    matches=lambda name: name.startswith(_PREFIX),
)
