"""Aggregation schemes by name, described and set up."""

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.entry import SchemeEntry, SumTask
from fedjax_private.aggregation.types import Aggregation
from fedjax_private.choices import Choice, Registry, check_kind
from fedjax_private.trust import Trust

_PACKAGE = "fedjax_private.aggregation.schemes"

SCHEMES = Registry(
    kind="encryption",
    entry=SchemeEntry,
    built_in={
        "none": f"{_PACKAGE}.none:ENTRY",
        "ckks": f"{_PACKAGE}.ckks:ENTRY",
        "threshold_ckks": f"{_PACKAGE}.threshold_ckks:ENTRY",
        "exact": f"{_PACKAGE}.exact:ENTRY",
        "threshold_exact": f"{_PACKAGE}.threshold_exact:ENTRY",
        "masks": f"{_PACKAGE}.masks:ENTRY",
    },
)

# A name, an entry, or an entry with its settings.
SchemeChoice = str | SchemeEntry | Choice[SchemeEntry]


def trust_of(scheme: SchemeChoice, *, uploads: int, honest: int | None = None) -> Trust:
    """Returns the trust model under which a scheme adds.

    Args:
        scheme: whose decryptor and quorum it names.
        uploads: the fewest uploads that a released sum holds.
        honest: how many of its clients are assumed honest; all but one by default.

    Raises:
        ValueError: a number outside its range.
    """
    choice = SCHEMES.choose(scheme)
    entry, settings = choice.entry, choice.settings
    quorum = entry.quorum(settings, uploads)
    return Trust(uploads, entry.decryptor(settings), honest, quorum)


def make(
    scheme: SchemeChoice,
    *,
    vector_size: int,
    trust: Trust,
    most_uploads: int | None = None,
    encrypted: npt.NDArray[np.bool_] | None = None,
    residues: bool = False,
    seed: int = 0,
) -> Aggregation:
    """Sets an aggregation scheme up for one training run.

    Args:
        scheme: how vectors are added.
        vector_size: P, how many values each client's vector has.
        trust: the fewest uploads that a released sum holds, and who decrypts it: see
            `trust_of`. With shares of a key, clients 0 to `trust.uploads - 1` hold
            them.
        most_uploads: the most uploads of a sum; by default as many as the fewest.
        encrypted: (P,) which entries are encrypted; the server reads the others. See
            `SelectiveAggregation`. By default all are.
        residues: whether uploads carry shares of a sum's noise; see `SumTask`.
        seed: of what a simulation draws about the parties; see `SumTask`.

    Raises:
        ValueError: an unknown scheme, a trust model that does not fit it, an empty
            vector, or bounds that no parameters hold.
        OpenFHEUnavailable: if the scheme encrypts and OpenFHE cannot be imported.
    """
    if encrypted is not None and encrypted.all():
        encrypted = None
    choice = _checked(scheme, trust)
    most = max(trust.uploads, most_uploads or 0)
    task = SumTask(vector_size, trust, most, residues, encrypted, seed)
    return choice.entry.make(choice.settings, task)


def describe(
    scheme: SchemeChoice,
    *,
    vector_size: int,
    trust: Trust,
    most_uploads: int | None = None,
    private: bool = False,
    residues: bool = False,
) -> str | None:
    """Returns sentences for reports; None where nothing is encrypted.

    Makes no key, and so says before any work whether `make` will succeed.

    Args:
        scheme: as in `make`; so are the other arguments.
        vector_size: as in `make`.
        trust: as in `make`.
        most_uploads: as in `make`.
        private: whether training is differentially private.
        residues: as in `make`.

    Raises:
        ValueError: as `make` does; or if entries would be chosen by what gradients
            reveal in training that is differentially private.
    """
    choice = _checked(scheme, trust)
    most = max(trust.uploads, most_uploads or 0)
    task = SumTask(vector_size, trust, most, residues)
    text = choice.entry.describe(choice.settings, task)
    fraction = choice.entry.encrypted_fraction(choice.settings)
    if private and fraction < 1:
        raise ValueError(
            "encrypted_fraction below 1 chooses entries by what gradients reveal about "
            "the records, which epsilon does not cover: with differential privacy it "
            f"must be 1, got {fraction}."
        )
    return text


def _checked(scheme: SchemeChoice, trust: Trust) -> Choice[SchemeEntry]:
    """Returns the choice of a scheme that the trust model fits."""
    choice = SCHEMES.choose(scheme)
    form = "a Trust, as trust_of(scheme, uploads=...) returns"
    check_kind("trust", trust, Trust, form)
    needed = choice.entry.decryptor(choice.settings)
    if trust.decryptor is not needed:
        raise ValueError(
            f"encryption {choice.name!r} needs the decryptor {needed.value!r}, but the "
            f"trust model names {trust.decryptor.value!r}."
        )
    quorum = choice.entry.quorum(choice.settings, trust.uploads)
    if trust.quorum not in (None, quorum):
        raise ValueError(
            f"the trust model has a quorum of {trust.quorum} holders and encryption "
            f"{choice.name!r} one of {quorum}: make them agree."
        )
    return choice
