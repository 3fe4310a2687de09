"""The entry of a source of data sets, and the settings that sources share."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from fedjax_private.choices import Settings, setting
from fedjax_private.datasets.examples import Dataset


@dataclasses.dataclass(frozen=True)
class Source:
    """A place where data sets come from.

    Attributes:
        name: by which it is chosen.
        summary: one line for `--help` and for the documentation.
        load: (name of the data set, settings) -> the data set in memory. Raises
            `DatasetError`.
        settings: the class of its settings.
        usage: how its data sets are named, for help and errors: "idx:DIR". By default
            the source's own name.
        matches: whether the source loads a data set of that name. By default it loads
            the one that has its own name.
    """

    name: str
    summary: str
    load: Callable[[str, Any], Dataset]
    settings: type[Settings] = Settings
    usage: str = ""
    matches: Callable[[str], bool] | None = None


@dataclasses.dataclass(frozen=True)
class TfdsSettings(Settings):
    """Settings of sources that read a TFDS data directory.

    Attributes:
        data_dir: the directory, str or path; None is TFDS' default (`TFDS_DATA_DIR`,
            else `~/tensorflow_datasets`).
    """

    data_dir: str | None = setting(None, "TFDS data directory (default: TFDS' own)")


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
