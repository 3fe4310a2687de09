"""Encrypted sums: parameters, arithmetic, messages, and who holds which key.

Each line imports only from the lines above it:

    errors, settings, workers, noise, primes <- parameters    the ground
    math        exact arithmetic on polynomials, and what is encoded in them
    openfhe     keys and encryptions of zero; the one room that knows OpenFHE
    messages    bytes between parties, and their authentication
    masking     sums under pairwise masks: their clients and their server
    parties     clients, server, key authority, holders of key shares

Importing any file but `math.kernels` imports neither OpenFHE nor JAX: they are imported
when a key is made or used. A server that adds ciphertexts needs no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
