"""The entry of a source of data sets, and the settings that sources share."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.choices import Settings, between, setting
from fedjax_private.datasets.examples import (
    Dataset,
    DatasetError,
    Indices,
    stratified,
)

TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class Source:
    """A place where data sets come from.

    Attributes:
        name: by which it is chosen. Of a source of many data sets, the form of their
            names ("idx:DIR"); the entry of one data set bears its whole name.
        summary: one line for `--help` and for the documentation.
        load: (name of the data set, settings) -> the data set in memory. Raises
            `DatasetError`.
        settings: the class of its settings.
        matches: whether a name is of that form, where the source has many data sets.
        table: whether a record is a line of a table, and not an image, as far as it is
            known before data are loaded.
    """

    name: str
    summary: str
    load: Callable[[str, Any], Dataset]
    settings: type[Settings] = Settings
    matches: Callable[[str], bool] | None = None
    table: bool = False


@dataclasses.dataclass(frozen=True)
class TfdsSettings(Settings):
    """Settings of sources that read a TFDS data directory.

    Attributes:
        data_dir: the directory, str or path; None is TFDS' default (`TFDS_DATA_DIR`,
            else `~/tensorflow_datasets`).
    """

    data_dir: str | None = setting(None, "TFDS data directory (default: TFDS' own)")

    def __post_init__(self) -> None:
        if isinstance(self.data_dir, os.PathLike):
            object.__setattr__(self, "data_dir", os.fspath(self.data_dir))
        super().__post_init__()


class UnknownNameError(LookupError):
    """A source has no data set of a name that it matches.

    Attributes:
        known: the names that it has, for suggestions.
    """

    def __init__(self, known: Iterable[str]) -> None:
        super().__init__()
        self.known = tuple(known)


def is_prepared(builder: Any) -> bool:
    """Whether the files of a TFDS builder's set are there."""
    # Not TFDS' own method, which logs a warning where the answer is no.
    return pathlib.Path(builder.data_dir, "dataset_info.json").is_file()


@dataclasses.dataclass(frozen=True)
class SplitSettings(Settings):
    """Settings of sources whose records come without a test set.

    Attributes:
        test_fraction: share of the records, in (0, 1), that becomes the test set, drawn
            by class; None for `TEST_FRACTION`.
        split_seed: of the draw; None for 0.
    """

    test_fraction: float | None = setting(
        None,
        f"share of the records that is the test set (default {TEST_FRACTION})",
        lambda value: None if 0 < value < 1 else "must lie in (0, 1)",
    )
    split_seed: int | None = setting(
        None, "of the draw of the test set (default 0)", between(0, 2**32 - 1)
    )

    @property
    def asks_for_a_split(self) -> bool:
        """Whether either was given."""
        return self.test_fraction is not None or self.split_seed is not None

    def split(self, name: str, labels: npt.NDArray[Any]) -> tuple[Indices, Indices]:
        """The positions of the training and of the test records, by class.

        Args:
            name: of the data set, for errors.
            labels: (N,) of any type that sorts.

        Raises:
            DatasetError: either would be empty.
        """
        fraction = self.test_fraction or TEST_FRACTION
        size = round(fraction * len(labels))
        if not 0 < size < len(labels):
            raise DatasetError(
                f"{name}: test_fraction={fraction} of {len(labels)} records leaves no "
                f"{'test' if size == 0 else 'training'} set."
            )
        # The legacy generator's stream is frozen for good, that of default_rng is not.
        test = stratified(labels, size, np.random.RandomState(self.split_seed or 0))
        return np.setdiff1d(np.arange(len(labels)), test), test
