"""OpenFHE's objects as residues, residues as OpenFHE's objects, and slots of both."""

import functools

import numpy as np

from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.templates import Template


def serialised(value):
    """An object as OpenFHE serialises it."""
    openfhe = load().openfhe
    return bytes(openfhe.Serialize(value, openfhe.BINARY))


def residues(ring, value, count):
    """The polynomials (count, L, N) of an object of OpenFHE's."""
    data = serialised(value)
    return Template.of(data, ring, count).read(data)


def parsed(ring, like, polynomials):
    """OpenFHE's ciphertext with other polynomials (M, L, N), made from one like it."""
    openfhe = load().openfhe
    filled = Template.of(serialised(like), ring, len(polynomials)).filled(polynomials)
    return openfhe.DeserializeCiphertextString(filled, openfhe.BINARY)


def ckks_order(slots):
    """Our slot of each slot of OpenFHE's: zeta^(5^j) there is zeta^(4 i + 1) here."""
    return [pow(5, j, 4 * slots) // 4 for j in range(slots)]


@functools.lru_cache(maxsize=8)
def _exact_order(dimension, modulus):
    """Where OpenFHE's slots are among the values of a polynomial modulo t, as ours.

    Slot j is the value at root^(5^j), and in the second half at root^(-5^j). The values
    of X tell which of ours that is.
    """
    ring = Ring(dimension, (modulus,))
    unit = np.zeros((1, 1, dimension), np.uint64)
    unit[0, 0, 1] = 1
    points = polynomials.evaluate(unit, ring)[0, 0].tolist()
    root = min(points)  # primitive, as all of them are
    powers = [pow(5, j, 2 * dimension) for j in range(dimension // 2)]
    powers += [2 * dimension - power for power in powers]
    place = {point: index for index, point in enumerate(points)}
    return [place[pow(root, power, modulus)] for power in powers]


def slots_of(coefficients, parameters):
    """OpenFHE's slots (M, N) of polynomials mod t with the coefficients (M, N)."""
    t = parameters.plaintext_modulus
    ring = Ring(parameters.ring_dimension, (t,))
    values = polynomials.evaluate(coefficients.astype(np.uint64)[:, None], ring)[:, 0]
    return values[:, _exact_order(ring.dimension, t)].astype(np.int64)


def coefficients_of(slots, parameters):
    """The coefficients (M, N) mod t of polynomials with OpenFHE's slots (M, N)."""
    t = parameters.plaintext_modulus
    ring = Ring(parameters.ring_dimension, (t,))
    values = np.empty(slots.shape, np.uint64)
    values[:, _exact_order(ring.dimension, t)] = slots % t
    return polynomials.interpolate(values[:, None], ring)[:, 0].astype(np.int64)
