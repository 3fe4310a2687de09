"""Tables of records in CSV files, which may name each record's client.

Nothing is learned from the records themselves: bounds of numbers and the values that
text may take are given by whoever runs the experiment. Taken from the data, they would
be statistics of private records that every client releases outside of any clipping,
noise and accounting.
"""

import array
import csv
import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedjax_private.datasets.arrays import from_arrays
from fedjax_private.datasets.examples import Dataset, DatasetError
from fedjax_private.datasets.sources.csv_settings import RAW, REST, CsvSettings
from fedjax_private.datasets.sources.source import Source

_PREFIX = "csv:"

_LISTED = 40  # names in a sentence, and characters of each

Row = list[str]


def read_csv(path: str | os.PathLike[str], settings: CsvSettings) -> Dataset:
    """Returns the records of a table as a data set.

    The first line names the columns; fields may be quoted as in RFC 4180; the text is
    UTF-8, with or without a byte order mark. Spaces around fields are dropped, those
    before a quote too. Columns of numbers and of categories become float32 inputs (N,
    F) in the order of the file; a category column becomes as many as it has categories.
    Classes and clients are numbered in the order of their names, and which there are is
    taken to be public; see `from_arrays`.

    Args:
        path: of the file.
        settings: which columns are what; without `test_file`, a test set is drawn.

    Raises:
        DatasetError: no such file, text that is not UTF-8, no header, columns of one
            name, rows of another length, columns without a range or categories, values
            that are missing, no number or no category, or no training or test records.
            The sentence names line and column.
    """
    name = f"{_PREFIX}{os.fspath(path)}"
    if settings.label is None:
        columns = _listed(_header(pathlib.Path(path), settings))
        raise DatasetError(
            f"{name} needs the column of the classes: give label=COLUMN, one of "
            f"{columns}."
        )
    records = _Records.read(pathlib.Path(path), settings)
    _check_classes(name, settings.label, records.texts[settings.label])
    if settings.test_file is None:
        classes = np.asarray(records.texts[settings.label])
        train, test = settings.split(name, classes)
        of_train, of_test = records.take(train), records.take(test)
    else:
        _check_other_file(pathlib.Path(path), pathlib.Path(settings.test_file))
        of_train = records
        of_test = _Records.read(pathlib.Path(settings.test_file), settings)
        if strange := set(of_train.features) ^ set(of_test.features):
            raise DatasetError(
                f"{path} and test_file={settings.test_file} differ in the columns "
                f"{_listed(sorted(strange))}: add them, or name them in ignore."
            )
        of_test = dataclasses.replace(of_test, features=of_train.features)
    occurring = {
        column: tuple(sorted({*of_train.texts[column], *of_test.texts[column]}))
        for column, values in settings.values().items()
        if values is None
    }
    client = settings.client_column
    dataset = from_arrays(
        name,
        of_train.inputs(settings, occurring),
        np.asarray(of_train.texts[settings.label]),
        of_test.inputs(settings, occurring),
        np.asarray(of_test.texts[settings.label]),
        clients=None if client is None else np.asarray(of_train.texts[client]),
        test_clients=None if client is None else np.asarray(of_test.texts[client]),
    )
    looked_up = tuple(
        f"categories={column}=* takes the categories of the column from the records, "
        "and no epsilon covers which there are: name them, or count them as public."
        for column in occurring
    )
    return dataclasses.replace(dataset, looked_up=looked_up)


def _check_other_file(path: pathlib.Path, test_file: pathlib.Path) -> None:
    """Raises DatasetError where the test records are the training records."""
    if test_file.expanduser().resolve() == path.expanduser().resolve():
        raise DatasetError(
            f"test_file={test_file} is the file of the training records itself: name "
            "another one, or leave out test_file, and a test set is drawn."
        )


def _check_classes(name: str, label: str, texts: Sequence[str]) -> None:
    """Raises DatasetError where the labels are measurements."""
    if all(map(_is_number, texts)):
        broken = (text for text in texts if not float(text).is_integer())
        if (first := next(broken, None)) is not None:
            raise DatasetError(
                f"{name}: the label {label} holds numbers such as {first[:_LISTED]}, "
                "and only classes are learned: give a column of whole numbers or "
                "text, such as one that says in which interval the number lies."
            )


@dataclasses.dataclass(frozen=True)
class _Records:
    """The columns of a file that are used.

    Attributes:
        features: names of the inputs' columns, in the order of the (training) file.
        numbers: column -> float64 (N,), scaled.
        texts: column -> N texts: of categories, classes and clients.
    """

    features: list[str]
    numbers: Mapping[str, npt.NDArray[np.float64]]
    texts: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, path: pathlib.Path, settings: CsvSettings) -> "_Records":
        header = _header(path, settings)
        features = _features(path, header, settings)
        bounds, categories = settings.bounds(), settings.values()
        numeric = [column for column in features if column not in categories]
        numbers = {column: array.array("d") for column in numeric}
        texts: dict[str, list[str]] = {
            column: []
            for column in (settings.label, settings.client_column, *categories)
            if column is not None
        }
        place = {column: i for i, column in enumerate(header)}
        allowed = {column: set(values or ()) for column, values in categories.items()}
        for line, row in _rows(path, settings, len(header)):
            for column, values in numbers.items():
                values.append(_number(path, line, column, row[place[column]]))
            for column, words in texts.items():
                text = row[place[column]]
                known = allowed.get(column)
                if not text and not (known and text in known):
                    raise _missing(path, line, column)
                if known and text not in known:
                    raise DatasetError(
                        f"{path}, line {line}: column {column} holds {text!r}, which "
                        f"categories={column}={'|'.join(categories[column] or ())} "
                        "does not list."
                    )
                words.append(text)
        scaled = {}
        for column, values in numbers.items():
            scaled[column] = np.asarray(values)
            limits = bounds[column if column in bounds else REST]
            if limits is not None:
                low, high = limits
                inside = np.clip(scaled[column], low, high)
                scaled[column] = 2 * (inside - low) / (high - low) - 1
        return cls(features, scaled, texts)

    def take(self, indices: npt.NDArray[np.integer]) -> "_Records":
        """Some of the records."""
        numbers = {column: values[indices] for column, values in self.numbers.items()}
        texts = {
            column: [values[i] for i in indices]
            for column, values in self.texts.items()
        }
        return _Records(self.features, numbers, texts)

    def inputs(
        self, settings: CsvSettings, occurring: Mapping[str, tuple[str, ...]]
    ) -> npt.NDArray[np.float32]:
        """float32 (N, F)."""
        listed = settings.values()
        columns = []
        for column in self.features:
            if column in self.numbers:
                columns.append(self.numbers[column][:, None])
            else:
                values = np.asarray(listed[column] or occurring[column])
                texts = np.asarray(self.texts[column])
                columns.append(texts[:, None] == values)
        with np.errstate(over="ignore"):  # `Examples` refuses what is beyond float32
            return np.concatenate(columns, axis=1).astype(np.float32)


def _rows(
    path: pathlib.Path, settings: CsvSettings, width: int | None = None
) -> Iterator[tuple[int, Row]]:
    """The lines' numbers and fields; without `width` the header, with it the rest."""
    delimiter = "\t" if settings.delimiter == "tab" else settings.delimiter
    try:
        with path.expanduser().open(encoding="utf-8-sig", newline="") as file:
            # A quote after a space is a quote, too.
            skip = delimiter != " "
            reader = csv.reader(
                file, delimiter=delimiter, strict=True, skipinitialspace=skip
            )
            for number, row in enumerate(filter(None, reader)):
                if "\0" in "".join(row):
                    raise csv.Error("it holds a zero byte")
                if width is not None and len(row) != width:
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: {len(row)} fields, and the "
                        f"header has {width}."
                    )
                if width is None or number:
                    yield reader.line_num, [field.strip() for field in row]
                if width is None:
                    return
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text: save it as UTF-8.") from error
    except csv.Error as error:
        raise DatasetError(
            f"{path}, line {reader.line_num}: {error}: no CSV with delimiter "
            f"{settings.delimiter!r}."
        ) from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error


def _header(path: pathlib.Path, settings: CsvSettings) -> Row:
    """The names of the columns."""
    _, header = next(_rows(path, settings), (0, []))
    if not header:
        raise DatasetError(f"{path} is empty: the first line must name the columns.")
    if all(map(_is_number, header)):
        raise DatasetError(
            f"{path} begins with numbers: the first line must name the columns."
        )
    if len(header) == 1:
        for delimiter, spelled in ((";", "';'"), ("\t", "tab"), (",", "','")):
            if delimiter in header[0]:
                raise DatasetError(
                    f"{path}: its first line is a single column with delimiter "
                    f"{settings.delimiter!r}: give delimiter={spelled}."
                )
    place: dict[str, int] = {}
    for i, column in enumerate(header):
        place.setdefault(column, i)
        if not column or place[column] < i:
            wrong = "has no name" if not column else f"is a second {column!r}"
            raise DatasetError(
                f"{path}: column {i + 1} {wrong}; every column needs a name of its own."
            )
    return header


def _features(path: pathlib.Path, header: Row, settings: CsvSettings) -> list[str]:
    """The columns of the inputs, if each column of the file has one use."""
    bounds, categories = settings.bounds(), settings.values()
    uses = {
        "label": [settings.label],
        "client_column": [settings.client_column],
        "ignore": settings.ignore,
        "ranges": [column for column in bounds if column != REST],
        "categories": list(categories),
    }
    used: dict[str, str] = {}
    for use, columns in uses.items():
        for column in columns:
            if column is None:
                continue
            if column not in header:
                way = (
                    ": separate columns by commas" if re.search("=.*;", column) else ""
                )
                raise DatasetError(
                    f"{use} names {column!r}, and the columns of {path} are "
                    f"{_listed(header)}{way}."
                )
            if column in used:
                raise DatasetError(
                    f"column {column} is named by {used[column]} and by {use}: leave "
                    "out one."
                )
            used[column] = use
    rest = [column for column in header if column not in used]
    if rest and REST not in bounds:
        raise DatasetError(
            f"{path}: nothing says what {_listed(rest)} may hold: give "
            f"ranges='{rest[0]}=LOW:HIGH' with public bounds for numbers ('*={RAW}' "
            f"takes all as they are), categories='{rest[0]}=A|B' for text, or "
            f"ignore={_quoted(_listed(rest, ','))}."
        )
    features = [
        column
        for column in header
        if used.get(column) not in ("label", "client_column", "ignore")
    ]
    if not features:
        raise DatasetError(f"{path} has no column left for inputs.")
    return features


def _quoted(text: str) -> str:
    """Text that a shell reads as one word."""
    return f"'{text}'" if " " in text else text


def _listed(names: Sequence[str], between: str = ", ") -> str:
    """The names, or the first of very many."""
    more = len(names) - _LISTED
    words = between.join(name[:_LISTED] for name in names[:_LISTED])
    return f"{words} and {more} more" if more > 0 else words


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(path: pathlib.Path, line: int, column: str, text: str) -> float:
    if not text:
        raise _missing(path, line, column)
    value = float(text) if _is_number(text) and "_" not in text else math.nan
    if not math.isfinite(value):
        raise DatasetError(
            f"{path}, line {line}: column {column} holds {text[:40]!r}, no finite "
            f"number: correct it, give categories='{column}=A|B' if it is text, or "
            f"ignore={_quoted(column)}."
        )
    return value


def _missing(path: pathlib.Path, line: int, column: str) -> DatasetError:
    return DatasetError(
        f"{path}, line {line}: column {column} is empty: fill in what is missing, or "
        "leave out the line."
    )


CSV = Source(
    "csv:FILE",
    "a table of records, with a header",
    lambda name, settings: read_csv(name.removeprefix(_PREFIX), settings),
    CsvSettings,
    matches=lambda name: name.startswith(_PREFIX),
    table=True,
)
