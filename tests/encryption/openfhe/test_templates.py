"""Templates: polynomials in serialised objects, and layouts that are not expected."""

import struct

import numpy as np
import pytest

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.openfhe.templates import Template
from fedjax_private.encryption.parameters import Scheme
from tests.encryption.openfhe.cases import parameters_of

RING = Ring(8, (97, 113))


def polynomials(seed, count=3):
    rng = np.random.default_rng(seed)
    made = np.stack([rng.integers(0, q, (count, 8)) for q in RING.moduli], axis=1)
    made[..., 0] = np.array(RING.moduli) - 1
    return made.astype(np.uint64)


def serialised(rows):
    """Residues with other bytes before, between and after the polynomials."""
    pieces = [b"head"]
    for index, polynomial in enumerate(rows):
        for row in polynomial:
            pieces += [
                bytes([index]),
                struct.pack("<Q", 8),
                row.astype("<u8").tobytes(),
            ]
    return b"".join([*pieces, b"tail"])


def test_polynomials_are_read_and_replaced():
    first, second = polynomials(0), polynomials(1)
    template = Template.of(serialised(first), RING, 3)
    np.testing.assert_array_equal(template.read(serialised(first)), first)
    np.testing.assert_array_equal(template.read(serialised(second)), second)
    assert template.filled(second) == serialised(second)


def test_another_number_of_polynomials_is_noticed():
    data = serialised(polynomials(0))
    for count in (2, 4):
        with pytest.raises(UnexpectedLayoutError, match="pyproject"):
            Template.of(data, RING, count)


def test_an_object_of_another_length_is_noticed():
    data = serialised(polynomials(0))
    template = Template.of(data, RING, 3)
    with pytest.raises(UnexpectedLayoutError, match="instead of the usual"):
        template.read(data + b"!")


# Of OpenFHE's own objects


def shortened(data, parameters):
    return data[: len(data) // 2]


def doubled(data, parameters):
    return data + data


def counted_in_32_bits(data, parameters):
    count = parameters.ring_dimension
    return data.replace(struct.pack("<Q", count), struct.pack("<I", count))


@pytest.fixture
def change_layout(monkeypatch):
    openfhe = load().openfhe
    serialise = openfhe.Serialize

    def change(changed, parameters):
        ring_of(parameters)  # remembered: contexts keep their layout

        def serialise_otherwise(value, form):
            return changed(bytes(serialise(value, form)), parameters)

        monkeypatch.setattr(openfhe, "Serialize", serialise_otherwise)

    return change


@pytest.mark.needs_openfhe
@pytest.mark.parametrize("changed", [shortened, doubled, counted_in_32_bits])
def test_another_layout_is_noticed_when_a_scheme_is_made(changed, change_layout):
    parameters = parameters_of(Scheme.THRESHOLD_CKKS)
    change_layout(changed, parameters)
    with pytest.raises(UnexpectedLayoutError):
        HomomorphicScheme(parameters)


@pytest.mark.needs_openfhe
@pytest.mark.parametrize("changed", [shortened, counted_in_32_bits])
def test_another_layout_gives_no_key(changed, change_layout):
    parameters = parameters_of(Scheme.CKKS)
    scheme = HomomorphicScheme(parameters)
    change_layout(changed, parameters)
    with pytest.raises(UnexpectedLayoutError, match="polynomials differently"):
        scheme.generate_keys()
