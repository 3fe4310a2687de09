"""OpenFHE's contexts for our parameters, and the rings that it chooses for them."""

import functools
import math
import struct
from collections.abc import Iterable
from typing import Any

from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.templates import UnexpectedLayoutError
from fedjax_private.encryption.parameters import Parameters, Scheme, is_prime

# OpenFHE's classes carry no type stubs; this name says which one is meant.
Context = Any


@functools.lru_cache(maxsize=32)
def ring_of(parameters: Parameters) -> Ring:
    """Returns the ring of those parameters, whose primes OpenFHE chooses.

    Raises:
        OpenFHEUnavailable: where OpenFHE cannot be imported.
        UnexpectedLayoutError: under an OpenFHE of another layout.
    """
    openfhe = load().openfhe
    return _ring(openfhe, context_for(openfhe, parameters), parameters)


def chosen_primes(
    openfhe: Any, context: Context, bits: Iterable[int]
) -> tuple[int, ...]:
    """The primes that OpenFHE chose for a context; they stand in it, serialised.

    Args:
        openfhe: the module.
        context: any of its contexts.
        bits: that were asked for; a prime may lie just above that power of two.
    """
    data = bytes(openfhe.Serialize(context, openfhe.BINARY))
    order = 2 * context.GetRingDimension()
    lengths = {b + above for b in bits for above in (0, 1)}
    found: list[int] = []
    for start in range(len(data) - 7):
        (word,) = struct.unpack_from("<Q", data, start)
        near = word % order == 1 and word.bit_length() in lengths
        if near and word not in found and is_prime(word):
            found.append(word)
    return tuple(found)


def _ring(openfhe: Any, context: Context, parameters: Parameters) -> Ring:
    """Returns the ring that OpenFHE chose for a context of those parameters."""
    bits = parameters.limb_bits
    found = chosen_primes(openfhe, context, bits[:1])
    ring = Ring(parameters.ring_dimension, found)
    modulus = context.GetModulus()
    if (
        context.GetRingDimension() != parameters.ring_dimension
        or len(found) != len(bits)
        or ring.polynomial_bytes != parameters.polynomial_bytes
        or not math.isclose(math.prod(map(float, found)), modulus, rel_tol=1e-9)
    ):
        raise UnexpectedLayoutError(
            f"OpenFHE chose a ring of dimension {context.GetRingDimension()} and a "
            f"modulus of {math.log2(modulus):.0f} bits where "
            f"{parameters.ring_dimension} and {parameters.modulus_bits} were asked "
            "for: install the version that pyproject.toml names."
        )
    return ring


def context_for(openfhe: Any, parameters: Parameters) -> Context:
    """Returns OpenFHE's context of those parameters."""
    scheme = parameters.request.scheme
    if scheme is Scheme.THRESHOLD_EXACT:
        return _bfv_context(openfhe, parameters)
    if scheme is Scheme.EXACT:
        wanted = openfhe.CCParamsBGVRNS()
        wanted.SetPlaintextModulus(parameters.plaintext_modulus)
    else:
        wanted = openfhe.CCParamsCKKSRNS()
        wanted.SetBatchSize(parameters.slots)
        # The size of the second prime; a single one must be larger. Nothing is encoded
        # with it: see `plaintexts`.
        first, *second = parameters.limb_bits
        wanted.SetScalingModSize(second[0] if second else first - 10)
        packed = parameters.request.complex_packing
        wanted.SetCKKSDataType(openfhe.COMPLEX if packed else openfhe.REAL)
    # A sum needs no multiplication: a second prime only widens the modulus.
    wanted.SetMultiplicativeDepth(len(parameters.limb_bits) - 1)
    wanted.SetFirstModSize(parameters.limb_bits[0])
    wanted.SetScalingTechnique(openfhe.FIXEDMANUAL)
    return _enabled(openfhe, wanted, parameters)


def _bfv_context(openfhe: Any, parameters: Parameters) -> Context:
    wanted = openfhe.CCParamsBFVRNS()
    wanted.SetMultiplicativeDepth(0)
    wanted.SetPlaintextModulus(parameters.plaintext_modulus)
    wanted.SetScalingModSize(parameters.limb_bits[0])
    # OpenFHE takes as many primes as it finds necessary. That so many sums follow makes
    # it take two; our parameters keep the noise within them.
    wanted.SetEvalAddCount(2**31 - 1)
    return _enabled(openfhe, wanted, parameters)


def _enabled(openfhe: Any, wanted: Any, parameters: Parameters) -> Context:
    # Hybrid key switching would add moduli that a sum has no use for, and with them a
    # larger ring.
    wanted.SetKeySwitchTechnique(openfhe.BV)
    wanted.SetSecurityLevel(openfhe.HEStd_128_classic)
    wanted.SetRingDim(parameters.ring_dimension)
    # Equal parameters give OpenFHE's one registered context; it accumulates nothing.
    context = openfhe.GenCryptoContext(wanted)
    features = [openfhe.PKE, openfhe.KEYSWITCH, openfhe.LEVELEDSHE]
    if parameters.request.scheme.threshold:
        features.append(openfhe.MULTIPARTY)
    for feature in features:
        context.Enable(feature)
    return context
