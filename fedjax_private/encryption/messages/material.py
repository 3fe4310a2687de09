"""What everybody may know about one key: what it is for, and the public key itself."""

import dataclasses
import hashlib
import struct

from fedjax_private.encryption.messages.wire import KEY_ID_BYTES, WireError
from fedjax_private.encryption.parameters import (
    Parameters,
    Scheme,
    SumRequest,
    derive,
)

MAGIC = b"FJPK"
VERSION = 3

# Magic, version; the request: scheme, values, uploads, holders, bound, precision, bits,
# protect, complex, statistical bits, budget; key id.
_HEADER = struct.Struct(f"<4sBBIIIddBBBBI{KEY_ID_BYTES}s")
_SCHEMES = tuple(Scheme)


@dataclasses.dataclass(frozen=True)
class Material:
    """One key's public facts.

    Receivers derive the parameters from the request, so that they check for themselves
    that these give 128 bits.

    Attributes:
        parameters: derived from the request.
        key_id: (16,) bytes that name the key: a hash of the request and the public key.
        public_key: its two polynomials, packed; empty in what a server gets.
    """

    parameters: Parameters
    key_id: bytes
    public_key: bytes = b""

    @classmethod
    def of_key(cls, parameters: Parameters, public_key: bytes) -> "Material":
        """The material of a fresh public key, given as packed polynomials."""
        key_id = _name(parameters.request, public_key)
        return cls(parameters, key_id, public_key)

    def without_key(self) -> "Material":
        """What those need who do not encrypt."""
        return dataclasses.replace(self, public_key=b"")

    def to_bytes(self) -> bytes:
        """Returns the bytes that `from_bytes` reads."""
        request = _packed(self.parameters.request)
        return request + self.key_id + self.public_key

    @classmethod
    def from_bytes(cls, data: bytes) -> "Material":
        """Reads material.

        Raises:
            WireError: if it is truncated, followed by anything, of another format, for
                sums that no parameters of 128 bits hold, or if its public key is not
                the one that it names.
        """
        if not isinstance(data, bytes) or len(data) < _HEADER.size:
            raise WireError("key material is truncated, or not bytes.")
        magic, version, scheme, *fields, key_id = _HEADER.unpack_from(data)
        if (magic, version) != (MAGIC, VERSION):
            raise WireError(f"not key material of format version {VERSION}.")
        if scheme >= len(_SCHEMES):
            raise WireError("key material of an unknown scheme.")
        values, uploads, holders, bound, precision, bits, protect, packed, *rest = (
            fields
        )
        if protect > 1 or packed > 1:
            raise WireError("key material with a choice that is neither yes nor no.")
        try:
            request = SumRequest(
                _SCHEMES[scheme],
                values,
                uploads,
                holders,
                bound,
                precision,
                bits,
                bool(protect),
                bool(packed),
                *rest,
            )
            parameters = derive(request)
        except ValueError as error:
            raise WireError(f"unusable key material: {error}") from error
        public_key = data[_HEADER.size :]
        if public_key and len(public_key) != 2 * parameters.polynomial_bytes:
            raise WireError(f"a public key of {len(public_key)} bytes.")
        if public_key and key_id != _name(request, public_key):
            raise WireError("the public key is not the one that its material names.")
        return cls(parameters, key_id, public_key)


def _packed(request: SumRequest) -> bytes:
    """The request's bytes: the header without the key's name."""
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        _SCHEMES.index(request.scheme),
        request.values,
        request.uploads,
        request.holders,
        request.sum_bound,
        request.precision,
        request.bits,
        request.protect,
        request.complex_packing,
        request.statistical_bits,
        request.query_budget,
        bytes(KEY_ID_BYTES),
    )
    return header[:-KEY_ID_BYTES]


def _name(request: SumRequest, public_key: bytes) -> bytes:
    return hashlib.sha256(_packed(request) + public_key).digest()[:KEY_ID_BYTES]
