"""Schemes against OpenFHE's own encoding, encryption and decryption."""

import numpy as np
import pytest

from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import context_for
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.openfhe.templates import Template
from fedjax_private.encryption.parameters import Scheme
from tests.encryption.openfhe.cases import (
    CKKS_SETS,
    decrypted,
    encrypted,
    parameters_of,
    random_row,
)

pytestmark = pytest.mark.needs_openfhe


def openfhes(kind, **changes):
    """A scheme, OpenFHE's context and key pair, and the scheme's secret key."""
    scheme = HomomorphicScheme(parameters_of(kind, **changes))
    context = context_for(load().openfhe, scheme.parameters)
    pair = context.KeyGen()
    secret = Factor.of(residues(scheme, pair.secretKey, 1)[0], scheme.ring)
    return scheme, context, pair, secret


def residues(scheme, value, count):
    """The polynomials of an object of OpenFHE's."""
    openfhe = load().openfhe
    data = bytes(openfhe.Serialize(value, openfhe.BINARY))
    return Template.of(data, scheme.ring, count).read(data)


def parsed(scheme, context, pair, ciphertext):
    """OpenFHE's object with the polynomials (2, L, N)."""
    openfhe = load().openfhe
    if scheme.parameters.request.scheme.exact:
        plaintext = context.MakePackedPlaintext([0])
    else:
        plaintext = context.MakeCKKSPackedPlaintext([0.0])
    zero = context.Encrypt(pair.publicKey, plaintext)
    data = bytes(openfhe.Serialize(zero, openfhe.BINARY))
    filled = Template.of(data, scheme.ring, 2).filled(ciphertext)
    return openfhe.DeserializeCiphertextString(filled, openfhe.BINARY)


@pytest.mark.parametrize("changes", CKKS_SETS.values(), ids=str)
def test_slots_are_those_of_openfhe_in_another_order(changes):
    # Precise enough that what OpenFHE scales by, a power of two, is far above errors.
    scheme, context, pair, secret = openfhes(Scheme.CKKS, **changes)
    parameters, ring = scheme.parameters, scheme.ring
    rng = np.random.default_rng(0)
    row = random_row(parameters, rng, uploads=1)
    # OpenFHE's slot j is the value at zeta^(5^j), ours the one at zeta^(4 j + 1).
    powers = [pow(5, j, 2 * ring.dimension) // 4 for j in range(parameters.slots)]

    plaintext = context.MakeCKKSPackedPlaintext(row[powers])
    theirs = context.Encrypt(pair.publicKey, plaintext)
    found = decrypted(scheme, secret, residues(scheme, theirs, 2))
    ratio = theirs.GetScalingFactor() / parameters.scale
    tolerance = 1e-2 if ring.moduli[0] < 2**46 else 1e-5
    np.testing.assert_allclose(found / ratio, row, atol=tolerance)

    ours = parsed(scheme, context, pair, encrypted(scheme, pair.publicKey, row * ratio))
    plaintext = context.Decrypt(pair.secretKey, ours)
    plaintext.SetLength(parameters.slots)
    read = np.asarray(plaintext.GetCKKSPackedValueArray())
    np.testing.assert_allclose(read, row[powers], atol=tolerance)


@pytest.mark.parametrize("kind", [Scheme.EXACT, Scheme.THRESHOLD_EXACT])
def test_openfhe_decrypts_the_polynomial_that_was_encrypted(kind):
    scheme, context, pair, secret = openfhes(kind)
    t, size = scheme.parameters.plaintext_modulus, scheme.parameters.slots

    def by_openfhe(row):
        ours = parsed(scheme, context, pair, encrypted(scheme, pair.publicKey, row))
        plaintext = context.Decrypt(pair.secretKey, ours)
        plaintext.SetLength(size)
        return np.array(plaintext.GetPackedValueArray(), object) % t

    unit = np.eye(1, size, 1, dtype=np.int64)[0]
    points = by_openfhe(unit)  # the values of X, at which OpenFHE's slots are
    assert len(set(points.tolist())) == size
    assert all(pow(int(x), size, t) == t - 1 for x in points)
    row = np.random.default_rng(0).integers(0, t, size)
    values = by_openfhe(row)
    for place in (0, 1, 1234, size - 1):
        value = 0
        for coefficient in reversed(row.tolist()):
            value = (value * int(points[place]) + coefficient) % t
        assert value == values[place]

    packed = context.MakePackedPlaintext([t // 2 + 1 - t] * size)
    theirs = context.Encrypt(pair.publicKey, packed)
    found = decrypted(scheme, secret, residues(scheme, theirs, 2))
    assert found[0] == t // 2 + 1
    assert not found[1:].any()
