"""Noise on an answer, so that it tells its scores and nothing else of the model.

What a client decrypts are scores plus the noise of the evaluation, and that depends on
the weights. The server makes a ciphertext of it that could be one of the scores alone:
it adds a fresh encryption of zero, and Gaussian noise to every coefficient,
2^flooding_bits times as wide as what the evaluation is expected to leave.

Formal guarantees. Against a client that made its keys and ciphertexts as the protocol
says, and under the ring learning with errors assumption: the second polynomial of an
answer is pseudorandom, since the fresh encryption masks it. Given it, the client learns
the scores with noise. Let e be the evaluation's noise, N coefficients of deviation
sigma; adding rounded Gaussians of deviation 2^f sigma hides e to a Kullback-Leibler
divergence of E|e|^2 / (2 (2^f sigma)^2) = N / (2 4^f) nats a ciphertext, that is
rho-zCDP with this rho where |e|^2 is N sigma^2 (Li, Micciancio, Schultz, Sorrell,
"Securing Approximate Homomorphic Encryption Using Differential Privacy", CRYPTO 2022).
It adds up over queries, and Pinsker bounds the statistical distance by the root of half
of it. sigma is what `schedule` predicts for inputs like the sample, not a bound for the
worst ones. The scores themselves, and what many of them reveal, are not hidden.
"""

import math

import numpy as np

from fedjax_private.encryption.math.entropy import gaussian
from fedjax_private.inference.evaluating.ckks import Ckks, Number


def leakage(dimension: int, flooding_bits: int, ciphertexts: int) -> float:
    """The divergence in nats that so many answers' noise allows, at most; see above."""
    return ciphertexts * dimension / 2 * 4.0**-flooding_bits


def least_flooding_bits(dimension: int, ciphertexts: int, nats: float) -> int:
    """The least flooding under which so many answers leak at most that."""
    return max(math.ceil(math.log(leakage(dimension, 0, ciphertexts) / nats, 4)), 0)


def flooded(ckks: Ckks, public_key: object, number: Number, std: float) -> Number:
    """The number, masked and with noise on every coefficient.

    Args:
        ckks: the arithmetic.
        public_key: the client's.
        number: to be sent to it.
        std: of the real part of the noise in a slot, in the slots' units.
    """
    # Complex Gaussian slots are Gaussian coefficients, independent and all alike: the
    # embedding is orthogonal, times sqrt(N / 2). Encoding rounds them.
    noise = gaussian(2 * ckks.slots, std).view(np.complex128)
    zero = ckks.context.Encrypt(
        public_key, ckks.encode(noise, number.scale, number.limbs)
    )
    zero.SetKeyTag(number.ciphertext.GetKeyTag())
    return ckks.add(number, Number(zero, number.scale, number.limbs))


def coefficient_std(dimension: int, scale: float, std: float) -> float:
    """The deviation of a coefficient, in its own units, that is `std` in a slot."""
    return std * scale / math.sqrt(dimension / 2)
