"""Settings of tables in CSV files: what each column is."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedjax_private.choices import setting
from fedjax_private.datasets.sources.source import SplitSettings

REST = "*"  # as a column: all that are not named; as a category: all that occur
RAW = "raw"  # as a range: numbers as they are


@dataclasses.dataclass(frozen=True)
class CsvSettings(SplitSettings):
    """Settings of CSV files.

    From Python, `ranges` and `categories` may be mappings: `{"age": (0, 100)}`,
    `{"sex": ("f", "m")}`.

    Attributes:
        label: the column of the classes.
        client_column: the column that names each record's client; None if none does.
        ranges: `COLUMN=LOW:HIGH` of columns of numbers: LOW becomes -1 and HIGH 1, and
            values beyond them are clipped to -1 or 1. They must be public, such as the
            range of a sensor, and not be looked up in the data. `COLUMN=raw` takes
            numbers as they are. `*` as COLUMN stands for all columns that are not
            named.
        categories: `COLUMN=A|B|C` of columns of text, one-hot in this order. They must
            be public. `COLUMN=*` takes those that occur, which no epsilon covers.
        ignore: columns that are left out.
        test_file: a file of the same columns whose records are the test set.
        delimiter: one character, or `tab`.
    """

    label: str | None = setting(None, "column of the classes")
    client_column: str | None = setting(None, "column that names the client")
    ranges: tuple[str, ...] = setting(
        (),
        "COLUMN=LOW:HIGH of numbers, public bounds that become -1 and 1 and to which "
        "values are clipped; COLUMN=raw for no bounds; *=... for all other columns",
    )
    categories: tuple[str, ...] = setting(
        (),
        "COLUMN=A|B|C of text, the public values it takes; COLUMN=* takes all that "
        "occur, which no epsilon covers",
    )
    ignore: tuple[str, ...] = setting((), "columns that are left out")
    test_file: str | None = setting(None, "file of the test set, of the same columns")
    delimiter: str = setting(
        ",",
        "between fields: a character, or tab",
        lambda text: (
            None
            if text == "tab" or (len(text) == 1 and text not in '"\r\n')
            else "must be one character other than a quote, or tab"
        ),
    )

    def __post_init__(self) -> None:
        for name, written in (("ranges", _range), ("categories", "|".join)):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                value = tuple(f"{key}={written(each)}" for key, each in value.items())
            object.__setattr__(self, name, _texts(value))
        object.__setattr__(self, "ignore", _texts(self.ignore))
        if self.test_file is not None:
            object.__setattr__(self, "test_file", os.fspath(self.test_file))
        super().__post_init__()
        self.bounds(), self.values()
        if self.test_file is not None and self.asks_for_a_split:
            raise ValueError(
                "test_fraction and split_seed draw a test set, and test_file names "
                "one: leave out one or the other."
            )

    def bounds(self) -> dict[str, tuple[float, float] | None]:
        """Column -> low, high; None for numbers as they are."""

        def parsed(column: str, text: str) -> tuple[float, float] | None:
            if text.strip() == RAW:
                return None
            low, _, high = text.partition(":")
            try:
                bounds = float(low), float(high)
            except ValueError:
                bounds = math.nan, math.nan
            if not -math.inf < bounds[0] < bounds[1] < math.inf:
                raise ValueError(
                    f"ranges must be COLUMN=LOW:HIGH, finite with LOW below HIGH, or "
                    f"COLUMN={RAW}, got {column}={text}."
                )
            return bounds

        return _by_column("ranges", "COLUMN=LOW:HIGH", self.ranges, parsed)

    def values(self) -> dict[str, tuple[str, ...] | None]:
        """Column -> its categories; None for those that occur."""

        def parsed(column: str, text: str) -> tuple[str, ...] | None:
            values = tuple(value.strip() for value in text.split("|"))
            if len(set(values)) < len(values):
                raise ValueError(f"categories={column}={text} names a value twice.")
            return None if values == (REST,) else values

        return _by_column("categories", "COLUMN=A|B|C", self.categories, parsed)


def _range(bounds: Sequence[float] | str) -> str:
    if isinstance(bounds, str):
        return bounds
    low, high = bounds
    return f"{low}:{high}"


def _texts(value: str | Sequence[str]) -> tuple[str, ...]:
    """Texts separated by commas, or a sequence of texts, without spaces around."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _by_column(
    name: str, form: str, texts: Sequence[str], parsed: Callable[[str, str], Any]
) -> dict[str, Any]:
    result = {}
    for text in texts:
        column, _, value = text.rpartition("=")
        column = column.strip()
        if not column:
            raise ValueError(f"{name} must be {form}, separated by commas, got {text}.")
        if column in result:
            raise ValueError(f"{name} names column {column} twice.")
        result[column] = parsed(column, value)
    return result
