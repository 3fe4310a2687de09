"""How wide the noise on answers must be, so that they reveal scores and nothing else.

A client decrypts scores plus the noise of the evaluation, and that noise depends on the
weights. To each answer the server therefore adds a fresh encryption of zero, and
Gaussian noise on every coefficient, 2^flooding_bits times as wide as the noise that the
evaluation is expected to leave (`evaluator.flooded`).

Formal guarantees. Against a client that made its keys and ciphertexts as the protocol
says, and under the ring learning with errors assumption: the second polynomial of an
answer is pseudorandom, since the fresh encryption masks it. Given it, the client learns
the scores with noise. Let e be the evaluation's noise, N coefficients of deviation
sigma; adding rounded Gaussians of deviation 2^f sigma hides e to a Kullback-Leibler
divergence of E|e|^2 / (2 (2^f sigma)^2) = N / (2 4^f) nats a ciphertext, that is
rho-zCDP with this rho where |e|^2 is N sigma^2 (Li, Micciancio, Schultz, Sorrell,
"Securing Approximate Homomorphic Encryption Using Differential Privacy", CRYPTO 2022).
It adds up over queries, and Pinsker bounds the statistical distance by the root of half
of it. sigma is what `errors` predicts for inputs like the sample, not a bound for the
worst ones. The scores themselves, and what many of them reveal, are not hidden.
"""

import math


def leakage(dimension: int, flooding_bits: int, ciphertexts: int) -> float:
    """The divergence in nats that the noise of this many ciphertexts allows at most."""
    return ciphertexts * dimension / 2 * 4.0**-flooding_bits


def least_flooding_bits(dimension: int, ciphertexts: int, nats: float) -> int:
    """The fewest flooding bits with which this many ciphertexts leak at most `nats`."""
    return max(math.ceil(math.log(leakage(dimension, 0, ciphertexts) / nats, 4)), 0)
