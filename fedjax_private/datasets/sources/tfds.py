"""`load`: one name, one data set in memory."""

import contextlib
import difflib
import io
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from fedjax_private.datasets.examples import Dataset, DatasetError, Examples
from fedjax_private.datasets.prepare import WAYS_OUT, prepare

# Set, optional configuration, optional version. TFDS' namespaces (`huggingface:...`)
# are left out: looking one up may go to the network.
_TFDS_NAME = re.compile(r"([A-Za-z]\w*)(?:/([\w.-]+))?(?::\d+\.\d+\.\d+)?")
_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
_CHUNK = 1024  # records per read


def load(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads a data set by name, preparing it first if it can be.

    Args:
        name: `mnist_5k`, prepared on first use from a package that is installed anyway;
            `idx:DIR`, four MNIST IDX files (see `read_idx`); or an image classification
            set of TFDS: `mnist`, `fashion_mnist`, `emnist/balanced`, `cifar10`, ... A
            TFDS set must lie prepared in `data_dir` in a format with random access
            (array_record), or is prepared there if TensorFlow is installed.
        data_dir: TFDS data directory; None is TFDS' default (`TFDS_DATA_DIR`, else
            `~/tensorflow_datasets`).

    Returns:
        The splits `train` and `test`, decoded to memory, with the default
        normalisation.

    Raises:
        DatasetError: the name is unknown; the set cannot be had (within 20 seconds); or
            it is no image classification set with one image size, class labels and the
            splits train and test. The message is one sentence with the ways out.
    """
    if name.startswith("idx:"):
        from fedjax_private.datasets.sources.idx import read_idx

        return read_idx(name.removeprefix("idx:"), name=name)
    directory = None if data_dir is None else os.path.expanduser(data_dir)
    if name == "mnist_5k":
        from fedjax_private.datasets.sources import mnist_5k

        return _read(name, mnist_5k.prepared(directory))
    builder = _find(name, directory)
    if not _is_prepared(builder):
        _check_features(name, builder)  # before a long download, not after it
        prepare(name, builder.data_dir_root)
        builder = _find(name, directory)
        if not _is_prepared(builder):
            raise DatasetError(
                f"{builder.data_dir} is an incomplete copy of {name}; delete it and "
                "run again."
            )
    return _read(name, builder)


def _find(name: str, data_dir: str | None) -> Any:
    """The TFDS builder of a set, prepared or not. Makes no network connection."""
    import tensorflow_datasets as tfds

    parsed = _TFDS_NAME.fullmatch(name)
    if parsed is None:
        raise _unknown(name, tfds.list_builders(with_community_datasets=False))
    # Files first: they tell all that is needed, in whichever version another release of
    # TFDS wrote them, while the code of some sets imports TensorFlow.
    with contextlib.suppress(Exception):  # not there, or damaged in any way
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    try:
        # TFDS prints a banner where TensorFlow is missing; the error says it better.
        with contextlib.redirect_stdout(io.StringIO()):
            return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        raise _unknown(name, known) from None
    except Exception as error:  # a set's own code may raise anything
        reason = " ".join(str(error).rpartition('}": ')[2].split()).rstrip(".")
        if isinstance(error, ImportError):
            reason = f"{reason}, and the set is not prepared yet: {WAYS_OUT}"
        elif parsed[2] and parsed[2] not in (
            configs := tfds.builder_cls(parsed[1]).builder_configs
        ):
            known = ", ".join(configs) or "(none)"
            reason = f"the configurations of {parsed[1]} are {known}"
        raise DatasetError(f"TFDS cannot open {name!r}: {reason}.") from error


def _is_prepared(builder: Any) -> bool:
    # Not TFDS' `is_prepared`, which logs a warning where the answer is no.
    return pathlib.Path(builder.data_dir, "dataset_info.json").is_file()


def _unknown(name: str, known: Iterable[str]) -> DatasetError:
    names = ["mnist_5k", *known]
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    return DatasetError(
        f"unknown data set {name!r}"
        + (f" (did you mean {' or '.join(close)}?)" if close else "")
        + "; choose mnist_5k, idx:DIR, or an image classification set of TFDS such as "
        "mnist, fashion_mnist, emnist/balanced or cifar10."
    )


def _check_features(name: str, builder: Any) -> None:
    features: dict[str, Any] = dict(builder.info.features or {})
    image, label = features.get("image"), features.get("label")
    if (
        image is None
        or not hasattr(image, "encoding_format")
        or len(image.shape) != 3
        or image.np_dtype != np.uint8
        or not getattr(label, "num_classes", None)
    ):
        raise DatasetError(
            f"{name} is no image classification set: it needs a feature `image` of "
            "bytes and a class `label`, and has "
            f"{', '.join(sorted(features)) or 'no features'}; try mnist_5k."
        )


def _read(name: str, builder: Any) -> Dataset:
    """Decodes a prepared set."""
    _check_features(name, builder)
    splits = set(builder.info.splits)
    if not {"train", "test"} <= splits:
        raise DatasetError(
            f"{name} has the splits {', '.join(sorted(splits)) or '(none)'}; train and "
            "test are needed."
        )
    try:
        return Dataset(
            name,
            _read_split(name, builder, "train"),
            _read_split(name, builder, "test"),
            int(builder.info.features["label"].num_classes),
        )
    except NotImplementedError as error:
        file_format = getattr(builder.info.file_format, "value", "an unknown format")
        raise DatasetError(
            f"{name} is prepared in {builder.data_dir} as {file_format}, which "
            "TensorFlow alone reads: delete that directory, or set TFDS_DATA_DIR to "
            "another, and prepare it as array_record (python -m "
            f"fedjax_private.datasets.prepare {name})."
        ) from error
    except DatasetError:
        raise
    except Exception as error:  # broken files surface as anything
        raise DatasetError(
            f"{name} cannot be read from {builder.data_dir} ({error}); delete that "
            "directory and prepare it anew."
        ) from error


def _read_split(name: str, builder: Any, split: str) -> Examples:
    import tensorflow_datasets as tfds
    from PIL import Image

    # Images are decoded here: TFDS' own decoder does the same, but warns that OpenCV is
    # missing.
    source = builder.as_data_source(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    channels = builder.info.features["image"].shape[-1]
    mode = _PIL_MODES.get(channels)
    if mode is None:
        raise DatasetError(f"{name}: images of {channels} channels are not supported.")
    labels = np.empty(len(source), np.int32)
    inputs = np.empty((0, 0, 0, channels), np.uint8)
    for start in range(0, len(source), _CHUNK):
        stop = min(start + _CHUNK, len(source))
        records = source.__getitems__(range(start, stop))
        for index, record in enumerate(records, start):
            image = Image.open(io.BytesIO(record["image"]))
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
            if index == 0:
                inputs = np.empty((len(source), *pixels.shape[:2], channels), np.uint8)
            if pixels.shape[:2] != inputs.shape[1:3]:
                raise DatasetError(
                    f"{name}: images differ in size ({inputs.shape[1:3]} and "
                    f"{pixels.shape[:2]}); a set of one image size is needed."
                )
            inputs[index] = pixels.reshape(inputs.shape[1:])
            labels[index] = record["label"]
    return Examples(inputs, labels)
