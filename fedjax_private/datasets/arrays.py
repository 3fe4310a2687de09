"""Data sets from arrays, whose classes and clients may have names."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.datasets.examples import (
    Dataset,
    DatasetError,
    Examples,
    Normalization,
)

_FEW_CLASSES = 20  # of so many, each may well have a single record


def from_arrays(
    name: str,
    x_train: npt.ArrayLike,
    y_train: npt.ArrayLike,
    x_test: npt.ArrayLike,
    y_test: npt.ArrayLike,
    *,
    clients: npt.ArrayLike | None = None,
    test_clients: npt.ArrayLike | None = None,
    num_classes: int | None = None,
    normalization: Normalization | None = None,
) -> Dataset:
    """Returns a data set of arrays, its classes and clients numbered.

        dataset = from_arrays("wards", x, ["well", "ill", ...], x_test, y_test,
                              clients=["Bern", "Basel", ...])

    The classes are the distinct labels of training and test examples together: text in
    alphabetical order, numbers by size (labels 1, 2, 5 become 0, 1, 2), False before
    True. Which classes there are is so taken to be public, as it is in every data set
    here. Clients are numbered alike, those with training examples first.

    Args:
        name: for rows and messages.
        x_train: (N, ...) numbers; see `Examples` for their dtypes.
        y_train: (N,) labels: text, whole numbers or booleans.
        x_test: (M, ...).
        y_test: (M,).
        clients: (N,) the client that each training example belongs to: text or whole
            numbers; see the partition `natural`.
        test_clients: (M,) the same of the test examples.
        num_classes: says that labels are class numbers already, 0 .. num_classes - 1;
            some may not occur.
        normalization: public constants; by default bytes are divided by 255, and
            floats taken as they are.

    Raises:
        DatasetError: labels or clients of other kinds or lengths, a single class, as
            many as half of the labels (of more than 20), or what `Examples` and
            `Dataset` refuse.
    """
    y_train, y_test = _named("y_train", y_train), _named("y_test", y_test)
    class_names = None
    if num_classes is None:
        classes = _sorted("labels", y_train, y_test)
        if len(classes) < 2:
            only = f"is {classes[0]!r}" if len(classes) else "is missing"
            raise DatasetError(
                f"{name}: every label {only}; a classifier needs at least two classes."
            )
        records = len(y_train) + len(y_test)
        if len(classes) > max(_FEW_CLASSES, records / 2):
            raise DatasetError(
                f"{name}: {records} labels have {len(classes)} distinct values, which "
                "are measurements or names and no classes: give labels of few values."
            )
        y_train, y_test = (_numbered(y, classes) for y in (y_train, y_test))
        num_classes, class_names = len(classes), tuple(map(str, classes))
    client_names = None
    if clients is not None:
        clients = _named("clients", clients)
        known = _sorted("clients", clients)
        if test_clients is not None:
            test_clients = _named("test_clients", test_clients)
            both = _sorted("clients", clients, test_clients)
            known += [each for each in both if each not in set(known)]
            test_clients = _numbered(test_clients, known)
        clients, client_names = _numbered(clients, known), tuple(map(str, known))
    elif test_clients is not None:
        raise DatasetError(f"{name}: test_clients without clients: give both.")
    train = _examples(name, "training", x_train, y_train, clients)
    test = _examples(name, "test", x_test, y_test, test_clients)
    if normalization is None:
        is_bytes = train.inputs.dtype == np.uint8
        normalization = Normalization() if is_bytes else Normalization(0.0, 1.0)
    return Dataset(
        name, train, test, num_classes, normalization, class_names, client_names
    )


def _examples(
    name: str, split: str, inputs: Any, labels: Any, clients: Any
) -> Examples:
    try:
        inputs = np.asarray(inputs)
    except ValueError as error:
        raise DatasetError(
            f"{name}: {split} inputs are ragged: all must have one shape."
        ) from error
    try:
        return Examples(inputs, labels, clients)
    except ValueError as error:
        raise DatasetError(f"{name}: {split} {error}") from error


def _named(what: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """A vector of text, whole numbers or booleans."""
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(type(each) is str for each in array.flat):
        array = array.astype(np.str_)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.ndim != 1 or array.dtype.kind not in "buiUT":
        ways = {
            "column": f"give {what}.ravel()",
            "table": f"give {what}.argmax(axis=1) if it is one-hot",
            "f": f"give {what}.astype(int) if it holds whole numbers",
            "O": f"give {what}.astype(str)",
        }
        column = "column" if array.shape[1:] == (1,) else "table"
        kind = column if array.ndim == 2 else array.dtype.kind
        way = ways.get(kind, "give one label or client an example")
        raise DatasetError(
            f"{what} must be a vector of text, whole numbers or booleans, got "
            f"{array.dtype} {array.shape}: {way}."
        )
    return array


def _sorted(what: str, *arrays: npt.NDArray[Any]) -> list[Any]:
    """The distinct values of all arrays together, in order.

    Text that is whole numbers throughout, as tables hold it, is sorted by size.
    """
    values = {each for array in arrays for each in array.tolist()}
    kinds = {type(each) for each in values}
    if len(kinds) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise DatasetError(f"{what} are of several kinds, {names}: give one kind.")
    if kinds == {str} and all(map(_is_whole, values)):
        return sorted(values, key=lambda text: (int(text), text))
    return sorted(values)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20


def _numbered(values: npt.NDArray[Any], known: list[Any]) -> npt.NDArray[np.int32]:
    """The position of each value in `known`."""
    number = {each: i for i, each in enumerate(known)}
    return np.fromiter(
        (number[each] for each in values.tolist()), np.int32, len(values)
    )
