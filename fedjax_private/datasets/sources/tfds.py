"""Image classification sets of TFDS, read without TensorFlow once they are prepared.

A set needs one image size, class labels, and the splits train and test.
"""

import contextlib
import io
import os
import re
from typing import Any

import numpy as np

from fedjax_private.datasets.examples import Dataset, DatasetError, Examples
from fedjax_private.datasets.prepare import WAYS_OUT, prepare
from fedjax_private.datasets.sources.source import (
    Source,
    TfdsSettings,
    UnknownNameError,
    is_prepared,
)

# Set, optional configuration, optional version. TFDS' namespaces (`huggingface:...`)
# are left out: looking one up may go to the network.
_TFDS_NAME = re.compile(r"([A-Za-z]\w*)(?:/([\w.-]+))?(?::\d+\.\d+\.\d+)?")
_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
_CHUNK = 1024  # records per read


def _load(name: str, settings: TfdsSettings) -> Dataset:
    directory = expanded(settings.data_dir)
    builder = _find(name, directory)
    if not is_prepared(builder):
        _check_features(name, builder)  # before a long download, not after it
        prepare(name, builder.data_dir_root)
        builder = _find(name, directory)
        if not is_prepared(builder):
            raise DatasetError(
                f"{builder.data_dir} is an incomplete copy of {name}; delete it and "
                "run again."
            )
    return read_prepared(name, builder)


def expanded(data_dir: str | os.PathLike[str] | None) -> str | None:
    """The directory as TFDS takes it, which does not know `~`."""
    return None if data_dir is None else os.path.expanduser(os.fspath(data_dir))


def _find(name: str, data_dir: str | None) -> Any:
    """The TFDS builder of a set, prepared or not. Makes no network connection."""
    import tensorflow_datasets as tfds

    # Files first: they hold all that is needed, in whichever version another release of
    # TFDS wrote them, while the code of some sets imports TensorFlow.
    with contextlib.suppress(Exception):  # not there, or damaged in any way
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    try:
        # TFDS prints a banner where TensorFlow is missing; the error says it better.
        with contextlib.redirect_stdout(io.StringIO()):
            return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        raise UnknownNameError(known) from None
    except Exception as error:  # a set's own code may raise anything
        base, _, config = name.partition(":")[0].partition("/")
        reason = " ".join(str(error).rpartition('}": ')[2].split()).rstrip(".")
        if isinstance(error, ImportError):
            reason = f"{reason}, and the set is not prepared yet: {WAYS_OUT}"
        elif config and config not in (
            configs := tfds.builder_cls(base).builder_configs
        ):
            known = ", ".join(configs) or "(none)"
            reason = f"the configurations of {base} are {known}"
        raise DatasetError(f"TFDS cannot open {name!r}: {reason}.") from error


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


def read_prepared(name: str, builder: Any) -> Dataset:
    """Decodes the splits train and test of a prepared set into memory.

    Raises:
        DatasetError: it is no image classification set with one image size, class
            labels and both splits, or its files are damaged or of another format.
    """
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


TFDS = Source(
    "a TFDS name",
    "an image classification set of TFDS, such as mnist, emnist/balanced or cifar10",
    _load,
    TfdsSettings,
    matches=lambda name: _TFDS_NAME.fullmatch(name) is not None,
)
