"""The entry of a source of data sets, and the settings that sources share."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from fedjax_private.choices import Settings, setting
from fedjax_private.datasets.examples import Dataset


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
    """

    name: str
    summary: str
    load: Callable[[str, Any], Dataset]
    settings: type[Settings] = Settings
    matches: Callable[[str], bool] | None = None


@dataclasses.dataclass(frozen=True)
class TfdsSettings(Settings):
    """Settings of sources that read a TFDS data directory.

    Attributes:
        data_dir: the directory, str or path; None is TFDS' default (`TFDS_DATA_DIR`,
            else `~/tensorflow_datasets`).
    """

    data_dir: str | None = setting(None, "TFDS data directory (default: TFDS' own)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", os.fspath(self.data_dir))


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
