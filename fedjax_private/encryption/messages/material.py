"""The public material of one key: its settings, and the public key itself."""

import dataclasses
import hashlib
import struct
from typing import Any

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.messages.wire import KEY_ID_BYTES, NO_KEY
from fedjax_private.encryption.parameters import Parameters, Scheme, SumRequest, derive
from fedjax_private.encryption.settings import FLOODINGS, PACKINGS, CipherSettings

MAGIC = b"FJPK"
VERSION = 4

# The settings in a header, in order: the field, its format, and, for a choice, the
# values that its byte stands for.
_SETTINGS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("value_bound", "d", ()),
    ("sum_bound", "d", ()),  # 0 where it is derived
    ("precision", "d", ()),
    ("quantization_bits", "B", ()),
    ("protect", "B", (False, True)),
    ("packing", "B", PACKINGS),
    ("statistical_bits", "B", ()),
    ("query_budget", "I", ()),
    ("flooding", "B", FLOODINGS),
)
# Magic, version; scheme, values, uploads, holders, residues; settings; key id.
_HEADER = struct.Struct(
    f"<4sBBIIIB{''.join(code for _, code, _ in _SETTINGS)}{KEY_ID_BYTES}s"
)
_SCHEMES = tuple(Scheme)

# Bytes of material without a public key.
FACTS_BYTES = _HEADER.size


@dataclasses.dataclass(frozen=True)
class Material:
    """One key's public facts.

    Receivers derive the parameters from the request, and so check for themselves that
    these give 128 bits.

    Attributes:
        parameters: derived from the request.
        key_id: (16,) bytes that name the key: a hash of the request and the public key.
        public_key: its two polynomials, packed; empty in the server's material.
    """

    parameters: Parameters
    key_id: bytes
    public_key: bytes = b""

    @classmethod
    def of_key(cls, parameters: Parameters, public_key: bytes) -> "Material":
        """Returns the material of a fresh public key, given as packed polynomials."""
        key_id = _name(parameters.request, public_key)
        return cls(parameters, key_id, public_key)

    def without_key(self) -> "Material":
        """Returns the material for parties that do not encrypt, such as the server."""
        return dataclasses.replace(self, public_key=b"")

    def to_bytes(self) -> bytes:
        """Returns the bytes that `from_bytes` reads."""
        request = packed_request(self.parameters.request)
        return request + self.key_id + self.public_key

    @classmethod
    def from_bytes(cls, data: bytes) -> "Material":
        """Reads material.

        Raises:
            WireError: if it is truncated, followed by anything, of another format, for
                sums that no parameters of 128 bits hold, or if its public key is not
                the one that its key id names.
        """
        if not isinstance(data, bytes) or len(data) < _HEADER.size:
            raise WireError("key material is truncated, or not bytes.")
        magic, version, scheme, values, uploads, holders, residues, *fields, key_id = (
            _HEADER.unpack_from(data)
        )
        if (magic, version) != (MAGIC, VERSION):
            raise WireError(f"not key material of format version {VERSION}.")
        if scheme >= len(_SCHEMES):
            raise WireError("key material of an unknown scheme.")
        if residues > 1:
            raise WireError("key material with an unknown choice of residues.")
        settings = {}
        for (name, _, choices), value in zip(_SETTINGS, fields, strict=True):
            if choices and value >= len(choices):
                raise WireError(f"key material with an unknown choice of {name}.")
            settings[name] = choices[value] if choices else value
        settings["sum_bound"] = settings["sum_bound"] or None
        try:
            request = SumRequest(
                _SCHEMES[scheme],
                values,
                uploads,
                holders,
                CipherSettings(**settings),
                residues=bool(residues),
            )
            parameters = derive(request)
        except ValueError as error:
            raise WireError(f"unusable key material: {error}") from error
        if packed_request(request) != data[: _HEADER.size - KEY_ID_BYTES]:
            raise WireError("key material is not written as `to_bytes` writes it.")
        public_key = data[_HEADER.size :]
        if public_key and len(public_key) != 2 * parameters.polynomial_bytes:
            raise WireError(f"a public key of {len(public_key)} bytes.")
        if public_key and key_id != _name(request, public_key):
            raise WireError("the public key is not the one that its material names.")
        return cls(parameters, key_id, public_key)


def packed_request(request: SumRequest) -> bytes:
    """Returns the bytes of a request: the header of material without the key id."""
    fields = []
    for name, _, choices in _SETTINGS:
        value = getattr(request.settings, name)
        fields.append(choices.index(value) if choices else value or 0)
    scheme = _SCHEMES.index(request.scheme)
    sizes = request.values, request.uploads, request.holders, request.residues
    header = _HEADER.pack(MAGIC, VERSION, scheme, *sizes, *fields, NO_KEY)
    return header[:-KEY_ID_BYTES]


def _name(request: SumRequest, public_key: bytes) -> bytes:
    return hashlib.sha256(packed_request(request) + public_key).digest()[:KEY_ID_BYTES]
