"""Parameters and rows for the tests of schemes, contexts and templates."""

import itertools

import numpy as np

from fedjax_private.encryption.parameters import Scheme, derive
from tests.encryption.fixtures import sum_request

VALUES = 5000
CKKS_SETS = {
    (45,): {"protect": False},
    (53,): {"protect": False, "precision": 1e-10},
    (60,): {"protect": False, "precision": 1e-12},
    (53, 52): {"precision": 1e-9},
}

GRID = [
    (
        scheme,
        {"uploads": uploads, "quantization_bits": bits, "protect": protect, **packing},
    )
    for scheme in Scheme
    for uploads, protect in itertools.product((2, 4, 32, 256), (True, False))
    for bits in ((7, 9, 16, 20, 24) if scheme.exact else (16,))
    for packing in ({}, {"packing": "real"})
    if (protect or scheme is Scheme.CKKS) and (scheme is Scheme.CKKS or not packing)
] + [
    # Much noise, for which the largest ring is.
    (
        Scheme.THRESHOLD_EXACT,
        {"uploads": 32, "quantization_bits": 20, "holders": 8, "statistical_bits": 50},
    ),
    (Scheme.THRESHOLD_CKKS, {"precision": 1e-9}),
]


def parameters_of(scheme, values=VALUES, **changes):
    fields = {"uploads": 4, "holders": 3 if scheme.threshold else 1}
    return derive(sum_request(scheme, values, **{**fields, **changes}))


def random_row(parameters, rng, uploads=None):
    """Slots of an upload over the whole range; so that a sum of `uploads` fits."""
    request, slots = parameters.request, parameters.slots
    uploads = uploads or request.uploads
    if request.scheme.exact:
        most = 2 ** (request.bits - 1) - 1
        lanes = rng.integers(0, most + 1, (parameters.lanes, slots))
        lanes[:, 0] = most
        return (
            lanes << parameters.lane_bits * np.arange(parameters.lanes)[:, None]
        ).sum(axis=0)
    bound = request.sum_bound / uploads
    parts = rng.uniform(-bound, bound, (2, slots))
    parts[:, 0] = bound
    return parts[0] + 1j * parts[1] if request.complex_packing else parts[0]


def keys_of(scheme):
    public, secret = scheme.generate_keys()
    return scheme.public_key(public), secret


def encrypted(scheme, public, row):
    return scheme.encrypt(public, scheme.encode(row[None]))[0]


def decrypted(scheme, secret, ciphertext):
    return scheme.decrypt(secret, ciphertext[None])[0]
