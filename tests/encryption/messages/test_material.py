import contextlib
import dataclasses
import math
import struct

import pytest
from hypothesis import assume, given, settings, strategies as st

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.messages.material import EVERY_ROUND, Lifetime, Material
from fedjax_private.encryption.parameters import Scheme, derive
from fedjax_private.encryption.settings import FLOODINGS, PACKINGS
from tests.encryption.fixtures import sum_request

LAYOUT = struct.Struct("<4sBBIIIBdddBBBBIBQQ16s")
FIELDS = ("magic", "version", "scheme", "values", "uploads", "holders", "residues")
FIELDS += ("value_bound", "sum_bound", "precision", "quantization_bits", "protect")
FIELDS += ("packing", "statistical_bits", "query_budget", "flooding")
FIELDS += ("first", "rounds", "key_id")


def material(scheme=Scheme.CKKS, fill=b"k", lifetime=EVERY_ROUND, **changes):
    wanted = {"values": 5000, "uploads": 4, "holders": 3 if scheme.threshold else 1}
    parameters = derive(sum_request(scheme, **{**wanted, **changes}))
    public_key = fill * (2 * parameters.polynomial_bytes)
    return Material.of_key(parameters, public_key, lifetime)


def with_field(data, name, value):
    fields = list(LAYOUT.unpack_from(data))
    fields[FIELDS.index(name)] = value
    return LAYOUT.pack(*fields) + data[LAYOUT.size :]


MATERIAL = material()


@pytest.mark.parametrize("scheme", Scheme)
def test_round_trip_with_and_without_the_public_key(scheme):
    made = material(scheme)
    assert Material.from_bytes(made.to_bytes()) == made
    assert len(made.to_bytes()) == LAYOUT.size + 2 * made.parameters.polynomial_bytes
    without = made.without_key()
    assert Material.from_bytes(without.to_bytes()) == without
    assert without.public_key == b""
    assert without.key_id == made.key_id
    assert len(without.to_bytes()) == LAYOUT.size


@given(
    values=st.integers(1, 2**32 - 1),
    uploads=st.integers(1, 2**10),
    bound=st.floats(1e-6, 1e6),
    precision=st.floats(1e-7, 1e7),
    bits=st.integers(2, 24),
    protect=st.booleans(),
    packing=st.sampled_from(PACKINGS),
    statistical=st.integers(1, 128),
    budget=st.integers(1, 2**32 - 1),
    flooding=st.sampled_from(FLOODINGS),
)
@settings(deadline=None)
def test_every_request_survives(
    values,
    uploads,
    bound,
    precision,
    bits,
    protect,
    packing,
    statistical,
    budget,
    flooding,
):
    request = sum_request(
        Scheme.CKKS,
        values,
        uploads,
        value_bound=bound,
        precision=precision,
        quantization_bits=bits,
        protect=protect,
        packing=packing,
        statistical_bits=statistical,
        query_budget=budget,
        flooding=flooding,
    )
    try:
        made = Material(derive(request), bytes(range(16)))
    except ValueError:
        assume(False)
    got = Material.from_bytes(made.to_bytes())
    assert got == made
    assert got.parameters.request == request


def test_layout():
    data = MATERIAL.to_bytes()
    fields = dict(zip(FIELDS, LAYOUT.unpack_from(data), strict=True))
    assert fields["magic"] == b"FJPK"
    assert fields["version"] == 5
    assert fields["key_id"] == MATERIAL.key_id
    request = MATERIAL.parameters.request
    for name in ("values", "uploads", "holders"):
        assert fields[name] == getattr(request, name)
    settings = dataclasses.asdict(request.settings)
    assert set(settings) == set(FIELDS[7:-3])
    assert settings.pop("packing") == "complex" and fields["packing"] == 1
    assert settings.pop("flooding") == "average" and fields["flooding"] == 0
    assert settings.pop("sum_bound") is None and fields["sum_bound"] == 0
    for name, value in settings.items():
        assert fields[name] == value
    assert (fields["first"], fields["rounds"]) == (0, 0)
    data = material(lifetime=Lifetime(7, 3)).to_bytes()
    assert LAYOUT.unpack_from(data)[-3:-1] == (7, 3)


def test_names_differ_with_the_key_and_with_what_it_is_for():
    made = [
        material(),
        material(fill=b"K"),
        material(values=5001),
        material(uploads=5),
        material(query_budget=1601),
        material(precision=1.1e-4),
        material(sum_bound=7.0),
        material(protect=False),
        material(quantization_bits=17),
        material(lifetime=Lifetime(1)),
        material(lifetime=Lifetime(0, 1)),
    ]
    assert len({m.key_id for m in made}) == len(made)
    assert material().key_id == MATERIAL.key_id
    assert all(len(m.key_id) == 16 for m in made)


def test_truncated_and_extended_material_is_refused():
    data = MATERIAL.to_bytes()
    for size in range(LAYOUT.size):
        with pytest.raises(WireError, match="truncated"):
            Material.from_bytes(data[:size])
    for altered in (data + b"\0", data[:-1], data[: LAYOUT.size + 1], data + data):
        with pytest.raises(WireError, match="a public key of"):
            Material.from_bytes(altered)
    for other in (None, "text", bytearray(data), memoryview(data)):
        with pytest.raises(WireError, match="not bytes"):
            Material.from_bytes(other)


def test_every_altered_byte_is_refused():
    data = MATERIAL.to_bytes()
    positions = [*range(LAYOUT.size), LAYOUT.size, LAYOUT.size + 4321, len(data) - 1]
    for position in positions:
        for bit in range(8):
            altered = bytearray(data)
            altered[position] ^= 1 << bit
            with pytest.raises(WireError):
                Material.from_bytes(bytes(altered))


def test_another_public_key_is_refused():
    other = material(fill=b"K")
    data = MATERIAL.to_bytes()[: LAYOUT.size] + other.public_key
    with pytest.raises(WireError, match="not the one that its material names"):
        Material.from_bytes(data)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("magic", b"FJPE", "format version 5"),
        ("version", 4, "format version 5"),
        ("version", 6, "format version 5"),
        ("scheme", 4, "unknown scheme"),
        ("scheme", 255, "unknown scheme"),
        ("values", 0, "unusable key material: values must"),
        ("uploads", 0, "unusable key material: uploads must"),
        ("uploads", 2**20 + 1, "unusable key material: uploads must"),
        ("holders", 0, "unusable key material: holders must"),
        ("holders", 2, "no shares"),
        ("value_bound", math.nan, "value_bound must be positive"),
        ("value_bound", math.inf, "value_bound must be positive"),
        ("value_bound", -4.0, "value_bound must be positive"),
        ("value_bound", 1e30, "no ciphertext of ckks"),
        ("precision", math.nan, "precision must be positive"),
        ("precision", 0.0, "precision must be positive"),
        ("quantization_bits", 1, "quantization_bits must lie"),
        ("quantization_bits", 255, "quantization_bits must lie"),
        ("protect", 2, "unknown choice of"),
        ("protect", 129, "unknown choice of"),
        ("protect", 255, "unknown choice of"),
        ("packing", 2, "unknown choice of"),
        ("packing", 129, "unknown choice of"),
        ("statistical_bits", 0, "statistical_bits must lie"),
        ("statistical_bits", 129, "statistical_bits must lie"),
        ("statistical_bits", 255, "statistical_bits must lie"),
        ("query_budget", 0, "query_budget must lie"),
        ("flooding", 2, "unknown choice of"),
        ("flooding", 255, "unknown choice of"),
    ],
)
@pytest.mark.parametrize("made", [MATERIAL, MATERIAL.without_key()])
def test_unusable_material_is_refused(made, name, value, message):
    with pytest.raises(WireError, match=message):
        Material.from_bytes(with_field(made.to_bytes(), name, value))


@pytest.mark.parametrize("scheme", [Scheme.EXACT, Scheme.THRESHOLD_CKKS])
def test_only_ckks_may_be_unprotected(scheme):
    data = with_field(material(scheme).without_key().to_bytes(), "protect", 0)
    with pytest.raises(WireError, match="no unprotected mode"):
        Material.from_bytes(data)


def test_protection_cannot_be_taken_off_a_key():
    # The key's name is a hash of the request, too.
    made, unprotected = material(), material(protect=False)
    data = with_field(made.to_bytes(), "protect", 0)
    with pytest.raises(WireError, match=r"not the one|a public key of"):
        Material.from_bytes(data)
    assert made.key_id != unprotected.key_id
    # Even where the ring stays the same.
    made = material(value_bound=0.1, precision=1.0)
    data = with_field(made.to_bytes(), "statistical_bits", 29)
    with pytest.raises(WireError, match="not the one"):
        Material.from_bytes(data)


@given(
    start=st.sampled_from([b"", b"FJPK\x02", b"FJPK\x02\0"]),
    data=st.binary(max_size=200),
)
@settings(deadline=None, max_examples=500)
def test_random_bytes_never_crash(start, data):
    with contextlib.suppress(WireError):
        Material.from_bytes(start + data)


@given(
    name=st.sampled_from(FIELDS[2:-1]),
    content=st.binary(min_size=8, max_size=8),
    scheme=st.sampled_from(Scheme),
)
@settings(deadline=None, max_examples=500)
def test_random_fields_never_crash(name, content, scheme):
    data = bytearray(material(scheme).without_key().to_bytes())
    widths = (4, 1, 1, 4, 4, 4, 1, 8, 8, 8, 1, 1, 1, 1, 4, 1, 8, 8, 16)
    index = FIELDS.index(name)
    start, width = sum(widths[:index]), widths[index]
    data[start : start + width] = content[:width]
    try:
        got = Material.from_bytes(bytes(data))
    except WireError:
        return
    assert got.to_bytes() == bytes(data)
    p = got.parameters
    assert p.modulus_bits <= {2048: 53, 4096: 106, 8192: 214}[p.ring_dimension]
    assert p.request.scheme.exact or 0 < p.scale < math.inf


def test_lifetimes():
    assert all(number in EVERY_ROUND for number in (0, 1, 2**64 - 1))
    assert -1 not in EVERY_ROUND
    assert [n for n in range(12) if n in Lifetime(7, 3)] == [7, 8, 9]
    assert [n for n in range(12) if n in Lifetime(10)] == [10, 11]
    assert str(Lifetime(7, 3)) == "rounds 7 to 9"
    assert str(Lifetime(7)) == "rounds 7 on"
    for lifetime in Lifetime(7, 3), Lifetime(7), Lifetime(2**64 - 1, 2**64 - 1):
        made = material(lifetime=lifetime)
        assert Material.from_bytes(made.to_bytes()) == made
        facts = Material.from_bytes(made.without_key().to_bytes())
        assert facts.lifetime == lifetime
    for first, rounds in ((-1, None), (2**64, None), (0, 0), (0, 2**64)):
        with pytest.raises(ValueError, match="at least one round"):
            Lifetime(first, rounds)


def test_the_rounds_of_a_key_cannot_be_altered():
    data = material(lifetime=Lifetime(7, 3)).to_bytes()
    for name, value in (("first", 8), ("rounds", 4), ("rounds", 0)):
        with pytest.raises(WireError, match="not the one that its material names"):
            Material.from_bytes(with_field(data, name, value))


def test_material_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MATERIAL.key_id = bytes(16)
