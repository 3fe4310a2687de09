"""Entries of aggregation schemes: all that the rest of the library knows of them."""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private import choices
from fedjax_private.aggregation.types import Aggregation
from fedjax_private.trust import Decryptor, Trust


@dataclasses.dataclass(frozen=True, eq=False)
class SumTask:
    """What a scheme is to add in one training run.

    Attributes:
        vector_size: P, how many values each client's vector has.
        trust: the fewest uploads that a released sum holds, and who decrypts it; with
            shares of a key, clients 0 to `trust.uploads - 1` hold them.
        most_uploads: the most uploads of a sum.
        residues: whether uploads carry shares of a sum's noise, so that no entry is cut
            off, and whole numbers are added mod 2^b.
        encrypted: (P,) which entries are encrypted; None for all.
        seed: of what a simulation draws about the parties, such as who vanishes.

    Raises:
        ValueError: an empty vector, or a mask of another shape.
    """

    vector_size: int
    trust: Trust
    most_uploads: int
    residues: bool = False
    encrypted: npt.NDArray[np.bool_] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        form = "a whole number, such as models.parameter_count(params) + 1"
        choices.check_kind("vector_size", self.vector_size, numbers.Integral, form)
        if self.vector_size < 1:
            raise ValueError(
                f"vectors need at least one value, got {self.vector_size}."
            )
        if self.encrypted is not None and self.encrypted.shape != (self.vector_size,):
            raise ValueError(
                f"encrypted must have the shape ({self.vector_size},) of a vector, got "
                f"{self.encrypted.shape}."
            )


def fill_range(
    settings: Any, value_bound: float, sum_bound: float | None, bits: int | None
) -> Any:
    """Returns the settings with a derived range, where none was given.

    Args:
        settings: of a scheme.
        value_bound: the largest entry of an upload, for the field of that name, if the
            settings have one that is None.
        sum_bound: the largest entry of a sum, likewise. A derived bound yields to one
            that was given.
        bits: for the field `quantization_bits`, likewise; None leaves it as it is.
    """
    of_upload, of_sum = (
        getattr(settings, name, None) for name in ("value_bound", "sum_bound")
    )
    derived = {
        "value_bound": min(value_bound, of_sum or value_bound),
        "sum_bound": sum_bound and max(sum_bound, of_upload or 0.0),
        "quantization_bits": bits,
    }
    missing = {
        field.name: derived[field.name]
        for field in dataclasses.fields(settings)
        if field.name in derived and getattr(settings, field.name) is None
    }
    return dataclasses.replace(settings, **missing)


@dataclasses.dataclass(frozen=True)
class SchemeEntry:
    """A way to add clients' vectors, as users choose it and as the library sees it.

    All functions take the entry's settings. `describe` and `make` raise ValueError, in
    one sentence, where no parameters fit the task; `describe` does no other work.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        settings: the class of its settings.
        decryptor: (settings) -> who can decrypt a released sum.
        describe: (settings, task) -> sentences for reports: parameters, what is
            released, who decrypts; None where nothing is encrypted.
        make: (settings, task) -> the scheme, set up for one training run.
        ignores: fields of the settings class that the scheme does not use.
        exact: whether it adds whole numbers, so that noise must lie on their grid. The
            settings then have the fields `value_bound` and `quantization_bits`, which
            say which grid that is. Where clients share noise, sums are taken mod 2^b,
            and the grid spans sums: within `sum_bound` if the settings have that field,
            otherwise within `value_bound`.
        quorum: (settings, uploads) -> how many holders of key shares, one for each of
            the fewest uploads, or clients where they open sums themselves, get more
            than one sum a round together with the server; None otherwise.
        protects: (settings) -> whether released sums may be shown to everybody, as
            long as every upload is an encryption.
        ranged: (settings, value bound, sum bound, bits) -> the settings with these in
            the place of a range that was not given; see `fill_range`. Noise that
            clients share derives all three.
        encrypted_fraction: (settings) -> the share of a vector's entries that is
            encrypted. Below 1, `make` needs the mask `encrypted`.
        unavailable: () -> why the scheme cannot run on this machine; None if it can.

    Raises:
        ValueError: an exact scheme whose settings lack one of those fields.
    """

    name: str
    summary: str
    settings: type[choices.Settings]
    decryptor: Callable[[Any], Decryptor]
    describe: Callable[[Any, SumTask], str | None]
    make: Callable[[Any, SumTask], Aggregation]
    ignores: tuple[str, ...] = ()
    exact: bool = False
    quorum: Callable[[Any, int], int | None] = lambda settings, holders: None
    protects: Callable[[Any], bool] = lambda settings: True
    ranged: Callable[[Any, float, float | None, int | None], Any] = fill_range
    encrypted_fraction: Callable[[Any], float] = lambda settings: 1.0
    unavailable: Callable[[], str | None] = lambda: None

    def __post_init__(self) -> None:
        fields = {field.name for field in dataclasses.fields(self.settings)}
        missing = {"value_bound", "quantization_bits"} - fields
        if self.exact and missing:
            raise ValueError(
                f"scheme {self.name} is exact, but its settings have no field "
                f"{min(missing)}."
            )
