"""Aggregation schemes by name."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.aggregation.plain import PlainAggregation
from fedjax_private.aggregation.selective import SelectiveAggregation
from fedjax_private.aggregation.types import Aggregation
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.parties.threshold import check_quorum
from fedjax_private.trust import Decryptor, Trust

# Name -> who decrypts, unless `Decryptor.EVERY_CLIENT` takes the authority's place.
SCHEMES: Mapping[str, Decryptor] = MappingProxyType(
    {
        "none": Decryptor.NOBODY_NEEDED,
        "ckks": Decryptor.KEY_AUTHORITY,
        "threshold_ckks": Decryptor.HOLDERS,
        "exact": Decryptor.KEY_AUTHORITY,
        "threshold_exact": Decryptor.HOLDERS,
    }
)


def decryptors(name: str) -> frozenset[Decryptor]:
    """Who may decrypt under a scheme; a single key can be anybody's."""
    usual = SCHEMES[name]
    if usual is Decryptor.KEY_AUTHORITY:
        return frozenset({usual, Decryptor.EVERY_CLIENT})
    return frozenset({usual})


@dataclasses.dataclass(frozen=True)
class Options:
    """How sums are encrypted. Plain sums ignore all of it.

    Attributes:
        value_bound: the largest absolute value of an entry of an upload and of a sum,
            in the units of the upload (weights and noise included).
        precision: CKKS: the largest acceptable standard deviation of a sum's error.
        quantization_bits: exact: b; sums are taken mod 2^b.
        protect: CKKS with one key: whether released sums may be shown to others.
        complex_packing: CKKS: two values a slot instead of one.
        statistical_bits: s, and
        query_budget: ciphertexts a key may decrypt: see `Parameters.flooding_std`.
        residues: exact: uploads carry noise mod 2^b; see `SumRequest`.
        recovery_threshold: T holders can stand in for others (default: just more than
            half).
        topology: `star`, `tree` or `ring`.
        fan_out: clients of one edge server, in a tree.
    """

    value_bound: float = 2.0
    precision: float = 1e-4
    quantization_bits: int = 16
    protect: bool = True
    complex_packing: bool = True
    statistical_bits: int = 30
    query_budget: int = 1600
    residues: bool = False
    recovery_threshold: int | None = None
    topology: str = "star"
    fan_out: int = 8

    def quorum(self, holders: int) -> int:
        """T, for that many holders."""
        return self.recovery_threshold or holders // 2 + 1


def make(
    name: str,
    *,
    vector_size: int,
    trust: Trust,
    options: Options | None = None,
    most_uploads: int | None = None,
    encrypted: npt.NDArray[np.bool_] | None = None,
) -> Aggregation:
    """Sets an aggregation scheme up for one training run.

    Args:
        name: `none` (the server adds plain vectors), `ckks`, `threshold_ckks`, `exact`
            or `threshold_exact`.
        vector_size: how many values each client's vector has.
        trust: the fewest uploads that a released sum holds, and who decrypts it; with
            shares of a key, clients 0 to `trust.uploads - 1` hold them.
        options: how sums are encrypted.
        most_uploads: the most uploads of a sum; by default as many as the fewest.
        encrypted: (vector_size,) which entries are encrypted; the server reads the
            others. See `SelectiveAggregation`. By default all are.

    Raises:
        ValueError: on an unknown name, a trust model that names another decryptor, an
            empty vector, or bounds that no parameters hold.
        OpenFHEUnavailable: if the scheme encrypts and OpenFHE cannot be imported.
    """
    if name not in SCHEMES:
        raise ValueError(
            f"unknown encryption {name!r}: choose one of {', '.join(SCHEMES)}."
        )
    if trust.decryptor not in decryptors(name):
        raise ValueError(
            f"encryption {name!r} needs the decryptor {SCHEMES[name].value!r}, but the "
            f"trust model names {trust.decryptor.value!r}."
        )
    if vector_size < 1:
        raise ValueError(f"vectors need at least one value, got {vector_size}.")
    if name == "none":
        return PlainAggregation(vector_size, trust)
    if encrypted is not None and not encrypted.all():
        inner = make(
            name,
            vector_size=int(np.count_nonzero(encrypted)),
            trust=trust,
            options=options,
            most_uploads=most_uploads,
        )
        assert isinstance(inner, EncryptedAggregation)
        return SelectiveAggregation(inner, encrypted)
    options = options or Options()
    request = request_for(
        name, vector_size, trust.uploads, options, most_uploads=most_uploads
    )
    quorum = options.quorum(request.holders)
    if trust.quorum not in (None, quorum):
        raise ValueError(
            f"the trust model has a quorum of {trust.quorum} holders and the options "
            f"one of {quorum}: make them agree."
        )
    return EncryptedAggregation(
        request,
        trust,
        quorum=quorum,
        topology=options.topology,
        fan_out=options.fan_out,
    )


def request_for(
    name: str,
    vector_size: int,
    uploads: int,
    options: Options,
    *,
    most_uploads: int | None = None,
) -> SumRequest:
    """Returns what an encrypted scheme is asked to add; `derive` says whether it can.

    Args:
        name: an encrypted scheme's.
        vector_size: how many values each client's vector has.
        uploads: the fewest uploads of a sum, and how many clients hold key shares.
        options: how sums are encrypted.
        most_uploads: the most uploads of a sum; by default as many as the fewest.

    Raises:
        ValueError: if the options do not fit the scheme or each other.
    """
    scheme = Scheme(name)
    holders = uploads if scheme.threshold else 1
    if holders > 1:
        check_quorum(options.quorum(holders), holders)
    return SumRequest(
        scheme,
        values=vector_size,
        uploads=max(uploads, most_uploads or 0),
        holders=holders,
        sum_bound=options.value_bound,
        precision=options.precision,
        bits=options.quantization_bits,
        protect=options.protect or scheme is not Scheme.CKKS,
        complex_packing=options.complex_packing,
        statistical_bits=options.statistical_bits,
        query_budget=options.query_budget,
        residues=options.residues,
    )
