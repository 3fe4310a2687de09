"""Encoding of rows of slots as polynomials, and its inverse.

CKKS: slot i is the value at zeta^(4 i + 1), with zeta = e^(pi i / N), of a polynomial
with real coefficients, scaled and rounded (Cheon, Kim, Kim and Song, ASIACRYPT 2017;
other libraries have the same slots in another order). Exact schemes: slot i is the
coefficient of X^i mod t. BGV adds multiples of t as noise; BFV multiplies by q / t, so
that the message stands above the noise. Sums need no other structure.

Everything here is deterministic and uses no key.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import fft

from fedjax_private.encryption.math.packing import Rows
from fedjax_private.encryption.math.polynomials import interpolate, remainder, residues
from fedjax_private.encryption.math.rings import Residues, Ring
from fedjax_private.encryption.parameters import Parameters, Scheme

# Bits of the lower of the two words that hold a coefficient.
_LOW_BITS = 32


def encode(rows: Rows, parameters: Parameters, ring: Ring) -> Residues:
    """Returns the coefficients (M, L, N) of rows (M, slots) of slots.

    Args:
        rows: int64 in [0, t) in exact schemes, complex128 or float64 in CKKS.
        parameters: the parameters of the sums.
        ring: the ring of those parameters.
    """
    scheme, t = parameters.request.scheme, parameters.plaintext_modulus
    if not scheme.exact:
        coefficients = _to_coefficients(rows, parameters.scale)
        high = np.floor(coefficients * 2.0**-_LOW_BITS)
        low = coefficients - high * 2.0**_LOW_BITS
        return residues(high.astype(np.int64), low.astype(np.uint64), _LOW_BITS, ring)
    message = rows.view(np.uint64)
    if scheme is Scheme.EXACT:
        upper = message > t // 2  # centred around zero
        limbs = [message + upper * np.uint64(q - t) for q in ring.moduli]
        return np.stack(limbs, axis=1)
    # round(q m / t) = (q m + h - r) / t for h = t // 2 and r = (q m + h) mod t, and q
    # is zero modulo each of its primes.
    half = np.uint64(t // 2)
    rest = remainder(message, t, math.prod(ring.moduli)) + half
    rest = np.minimum(rest, rest - np.uint64(t))
    limbs = [
        remainder(np.uint64(q) + half - rest, q, pow(t, -1, q)) for q in ring.moduli
    ]
    return np.stack(limbs, axis=1)


def decode_values(polynomials: Residues, parameters: Parameters, ring: Ring) -> Rows:
    """Returns the rows (M, slots) of polynomials (M, L, N) given by their values."""
    return decode(interpolate(polynomials, ring), parameters, ring)


def decode(coefficients: Residues, parameters: Parameters, ring: Ring) -> Rows:
    """Returns the rows (M, slots) of decrypted coefficients (M, L, N) with noise.

    Exact schemes remove the noise as long as it is within the budget of `derive`. In
    CKKS the noise is part of the result.
    """
    scheme, t = parameters.request.scheme, parameters.plaintext_modulus
    if not scheme.exact:
        slots = _to_slots(centred(coefficients, ring), parameters.scale)
        return slots if parameters.request.complex_packing else slots.real.copy()
    if scheme is Scheme.EXACT:
        (q,) = ring.moduli
        single = coefficients[:, 0]
        lifted = single + (single > q // 2) * np.uint64(-q % t)
        return remainder(lifted, t).view(np.int64)
    # With x = sum of y_i q / q_i modulo q, t x / q is the sum of t y_i / q_i modulo t.
    # The whole part of each term is exact, because a division without remainder is a
    # product modulo 2^64.
    q = math.prod(ring.moduli)
    whole = np.zeros_like(coefficients[:, 0])
    fraction = np.zeros(whole.shape)
    for limb, prime in enumerate(ring.moduli):
        y = remainder(coefficients[:, limb], prime, pow(q // prime, -1, prime))
        rest = remainder(y, prime, t)
        whole += (y * np.uint64(t) - rest) * np.uint64(pow(prime, -1, 1 << 64))
        fraction += rest / prime
    return remainder(whole + np.rint(fraction).astype(np.uint64), t).view(np.int64)


def _to_coefficients(
    slots: npt.NDArray[np.complex128] | npt.NDArray[np.float64], scale: float
) -> npt.NDArray[np.float64]:
    """Returns the rounded coefficients (M, N) of `scale` times the slots (M, N/2)."""
    half = slots.shape[-1]
    folded = fft.fft(slots, norm="forward")
    folded *= scale * np.exp(-1j * np.pi / (2 * half) * np.arange(half))
    return np.rint(np.concatenate([folded.real, folded.imag], axis=-1))


def _to_slots(
    coefficients: npt.NDArray[np.float64], scale: float
) -> npt.NDArray[np.complex128]:
    """Returns the slots (M, N/2) of a polynomial with the coefficients (M, N)."""
    # zeta^(N/2) = i at all these points, so two coefficients make one complex number.
    half = coefficients.shape[-1] // 2
    folded = np.empty((len(coefficients), half), np.complex128)
    folded.real, folded.imag = coefficients[:, :half], coefficients[:, half:]
    folded *= np.exp(1j * np.pi / (2 * half) * np.arange(half)) / scale
    return np.asarray(fft.ifft(folded, norm="forward", overwrite_x=True))


def centred(coefficients: Residues, ring: Ring) -> npt.NDArray[np.float64]:
    """Returns coefficients (M, N) between -q/2 and q/2, rounded to float64."""
    low, *upper = (coefficients[:, limb] for limb in range(ring.limbs))
    if not upper:
        (q,) = ring.moduli
        return (low - (low > q // 2) * np.uint64(q)).view(np.int64).astype(np.float64)
    # x = low + first v with v = (high - low) / first modulo second (Garner).
    (high,), (first, second) = upper, ring.moduli
    # Not negative, because twice the second prime is more than the first.
    difference = high + np.uint64(2 * second) - low
    v = remainder(difference, second, pow(first, -1, second))
    signed = (v - (v > second // 2) * np.uint64(second)).view(np.int64)
    return low + float(first) * signed
