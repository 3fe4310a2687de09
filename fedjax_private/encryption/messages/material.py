"""The public material of one key: its settings, its rounds, and the public key."""

import dataclasses
import hashlib
import math
import struct
from typing import Any

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.messages.wire import KEY_ID_BYTES, NO_KEY
from fedjax_private.encryption.parameters import Parameters, Scheme, SumRequest, derive
from fedjax_private.encryption.settings import FLOODINGS, PACKINGS, CipherSettings

MAGIC = b"FJPK"
VERSION = 5

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
# Magic, version; scheme, values, uploads, holders, residues; settings; first round and
# number of rounds (0 for all); key id.
_HEADER = struct.Struct(
    f"<4sBBIIIB{''.join(code for _, code, _ in _SETTINGS)}QQ{KEY_ID_BYTES}s"
)
_LIFETIME = struct.Struct("<QQ")
_REQUEST_BYTES = _HEADER.size - _LIFETIME.size - KEY_ID_BYTES
_SCHEMES = tuple(Scheme)

# Bytes of material without a public key.
FACTS_BYTES = _HEADER.size


@dataclasses.dataclass(frozen=True)
class Lifetime:
    """The rounds that a key serves; `in` tells whether a round is one of them.

    Attributes:
        first: the first of them.
        rounds: how many they are; None for all from the first one on.

    Raises:
        ValueError: if a message cannot state these numbers, or there are no rounds.
    """

    first: int = 0
    rounds: int | None = None

    def __post_init__(self) -> None:
        rounds = 1 if self.rounds is None else self.rounds
        if not (0 <= self.first < 2**64 and 1 <= rounds < 2**64):
            raise ValueError(
                "a key serves at least one round, from round 0 on, with numbers below "
                f"2^64; got {self.rounds} from round {self.first} on."
            )

    def __contains__(self, round_number: int) -> bool:
        rounds = math.inf if self.rounds is None else self.rounds
        return 0 <= round_number - self.first < rounds

    def __str__(self) -> str:
        end = "on" if self.rounds is None else f"to {self.first + self.rounds - 1}"
        return f"rounds {self.first} {end}"


EVERY_ROUND = Lifetime()


@dataclasses.dataclass(frozen=True)
class Material:
    """One key's public facts.

    Receivers derive the parameters from the request, and so check for themselves that
    these give 128 bits.

    Attributes:
        parameters: derived from the request.
        key_id: (16,) bytes that name the key: a hash of all other facts.
        public_key: its two polynomials, packed; empty in the server's material.
        lifetime: the rounds that it serves.
    """

    parameters: Parameters
    key_id: bytes
    public_key: bytes = b""
    lifetime: Lifetime = EVERY_ROUND

    @classmethod
    def of_key(
        cls,
        parameters: Parameters,
        public_key: bytes,
        lifetime: Lifetime = EVERY_ROUND,
    ) -> "Material":
        """Returns the material of a fresh public key, given as packed polynomials."""
        key_id = _name(parameters.request, lifetime, public_key)
        return cls(parameters, key_id, public_key, lifetime)

    def without_key(self) -> "Material":
        """Returns the material for parties that do not encrypt, such as the server."""
        return dataclasses.replace(self, public_key=b"")

    def to_bytes(self) -> bytes:
        """Returns the bytes that `from_bytes` reads."""
        facts = _packed_facts(self.parameters.request, self.lifetime)
        return facts + self.key_id + self.public_key

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
        *fields, first, rounds = fields
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
            lifetime = Lifetime(first, rounds or None)
        except ValueError as error:
            raise WireError(f"unusable key material: {error}") from error
        if packed_request(request) != data[:_REQUEST_BYTES]:
            raise WireError("key material is not written as `to_bytes` writes it.")
        public_key = data[_HEADER.size :]
        if public_key and len(public_key) != 2 * parameters.polynomial_bytes:
            raise WireError(f"a public key of {len(public_key)} bytes.")
        if public_key and key_id != _name(request, lifetime, public_key):
            raise WireError("the public key is not the one that its material names.")
        return cls(parameters, key_id, public_key, lifetime)


def packed_request(request: SumRequest) -> bytes:
    """Returns the bytes of a request: the first part of the header of material."""
    fields = []
    for name, _, choices in _SETTINGS:
        value = getattr(request.settings, name)
        fields.append(choices.index(value) if choices else value or 0)
    scheme = _SCHEMES.index(request.scheme)
    sizes = request.values, request.uploads, request.holders, request.residues
    header = _HEADER.pack(MAGIC, VERSION, scheme, *sizes, *fields, 0, 0, NO_KEY)
    return header[:_REQUEST_BYTES]


def _packed_facts(request: SumRequest, lifetime: Lifetime) -> bytes:
    packed = _LIFETIME.pack(lifetime.first, lifetime.rounds or 0)
    return packed_request(request) + packed


def _name(request: SumRequest, lifetime: Lifetime, public_key: bytes) -> bytes:
    facts = _packed_facts(request, lifetime)
    return hashlib.sha256(facts + public_key).digest()[:KEY_ID_BYTES]
