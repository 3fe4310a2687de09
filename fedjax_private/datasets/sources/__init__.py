"""Where data sets come from: one file a source.

`source` holds the entries' class; `idx`, `tfds` and then `mnist_5k` (which reads by
`tfds`; its TFDS builder is `mnist_5k_builder`) each define one entry; this file finds
the source of a name and loads.
"""

import dataclasses
import difflib
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from fedjax_private.choices import Choice, Registry
from fedjax_private.datasets.examples import Dataset, DatasetError
from fedjax_private.datasets.sources.source import Source, UnknownNameError


def _adapted(name: str, value: Any) -> Source:
    """The entry of a user's `Dataset`, or of a function that returns one."""
    if not isinstance(value, Dataset) and not callable(value):
        raise ValueError(
            f"dataset {name} must be a Dataset, a Source or a function that returns a "
            f"Dataset, got {type(value).__name__}: make one of arrays by "
            "datasets.from_arrays(name, x_train, y_train, x_test, y_test)."
        )
    if callable(value):
        return Source(name, name, lambda name, settings: value())
    inputs = value.train.inputs
    table = inputs.ndim == 2 and inputs.dtype.kind == "f"  # not token numbers
    return Source(name, name, lambda name, settings: value, table=table)


def _matched(name: str) -> Source | None:
    """The source of many data sets that has one of that name, under that name."""
    for source in SOURCES.entries():
        if source.matches is not None and source.matches(name):
            return dataclasses.replace(source, name=name)
    if ":" not in name and (meant := _file_form(name)):
        raise ValueError(f"dataset {name!r} is unknown: did you mean {meant}?")
    return None


def _file_form(name: str) -> str | None:
    """The name of the data set in a file or directory that stands without a form."""
    path = pathlib.PurePath(name)
    forms = {".npz": "npz:", ".csv": "csv:", ".tsv": "csv:"}
    if path.suffix in forms:
        return f"{forms[path.suffix]}{name}"
    return f"folder:{name}" if name and os.path.isdir(name) else None


_HERE = "fedjax_private.datasets.sources"
SOURCES: Registry[Source] = Registry(
    "dataset",
    Source,
    {
        "mnist_5k": f"{_HERE}.mnist_5k:MNIST_5K",
        "breast_cancer": f"{_HERE}.breast_cancer:BREAST_CANCER",
        "csv:FILE": f"{_HERE}.csv_table:CSV",
        "folder:DIR": f"{_HERE}.folder:FOLDER",
        "npz:FILE": f"{_HERE}.npz:NPZ",
        "idx:DIR": f"{_HERE}.idx:IDX",
        "a TFDS name": f"{_HERE}.tfds:TFDS",
    },
    _adapted,
    _matched,
)


def load(which: str | Source | Choice[Source] | Dataset, **settings: Any) -> Dataset:
    """Loads a data set, preparing it first where that is possible.

        load("mnist_5k")
        load("mnist", data_dir="/data/tfds")

    Args:
        which: a source, a source with settings, or a name, which is one of

            - `mnist_5k`, prepared on first use from a package that is installed anyway;
            - `idx:DIR`, four MNIST IDX files (see `read_idx`);
            - an image classification set of TFDS: `mnist`, `fashion_mnist`,
              `emnist/balanced`, `cifar10`, `mnist:3.0.1`, ... It must lie prepared in
              `data_dir` in a format with random access (array_record), or is prepared
              there if TensorFlow is installed;
            - `module:attribute` of your own: a `Dataset`, a function of no arguments
              that returns one, or a `Source`.
        settings: of the source, such as `data_dir`, the TFDS data directory of
            `mnist_5k` and of TFDS' sets. None leaves a setting at its default.

    Returns:
        The training and the test set in memory. The built-in sources read the splits
        `train` and `test` and set the default normalisation.

    Raises:
        ValueError: there is no source of that name, or it does not have a setting.
        DatasetError: the set cannot be loaded (known within 20 seconds). The message
            is one sentence with the ways out.
    """
    values = {key: value for key, value in settings.items() if value is not None}
    choice = SOURCES.choose(which, values)
    name = choice.name
    try:
        dataset: Any = choice.entry.load(name, choice.settings)
    except UnknownNameError as error:
        raise _unknown(name, error.known) from error.__cause__
    if not isinstance(dataset, Dataset):
        raise DatasetError(
            f"dataset {name} must be a Dataset, got {type(dataset).__name__}."
        )
    return dataset


def _unknown(name: str, known: Iterable[str]) -> DatasetError:
    close = difflib.get_close_matches(name.lower(), [*SOURCES, *known], cutoff=0.6)
    if form := _file_form(name):
        close = [form]
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    return DatasetError(
        f"unknown data set {name!r}{hint}; choose {', '.join(SOURCES)}, or your own "
        "as module:attribute."
    )
