"""OpenFHE contexts of parameters, and the rings that OpenFHE chooses for them."""

import functools
import math
import struct
from collections.abc import Iterable
from typing import Any

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.parameters import Parameters, Scheme
from fedjax_private.encryption.primes import is_prime

# OpenFHE's classes have no type stubs; this name says which class is meant.
Context = Any


@functools.lru_cache(maxsize=32)
def ring_of(parameters: Parameters) -> Ring:
    """Returns the ring of those parameters, whose primes OpenFHE chooses.

    Raises:
        OpenFHEUnavailable: where OpenFHE cannot be imported.
        UnexpectedLayoutError: if OpenFHE chooses another ring than expected.
    """
    openfhe = load().openfhe
    context = context_for(openfhe, parameters)
    bits = parameters.limb_bits
    primes = chosen_primes(openfhe, context, bits[:1])
    ring = Ring(parameters.ring_dimension, primes)
    modulus = context.GetModulus()
    if (
        context.GetRingDimension() != parameters.ring_dimension
        or len(primes) != len(bits)
        or ring.polynomial_bytes != parameters.polynomial_bytes
        or not math.isclose(math.prod(map(float, primes)), modulus, rel_tol=1e-9)
    ):
        raise UnexpectedLayoutError(
            f"OpenFHE chose a ring of dimension {context.GetRingDimension()} and a "
            f"modulus of {math.log2(modulus):.0f} bits instead of "
            f"{parameters.ring_dimension} and {parameters.modulus_bits}: install the "
            "version that pyproject.toml names."
        )
    return ring


def chosen_primes(
    openfhe: Any, context: Context, bits: Iterable[int]
) -> tuple[int, ...]:
    """Returns the primes that OpenFHE chose, read from the serialised context.

    Args:
        openfhe: the module.
        context: any context of OpenFHE.
        bits: the sizes that were asked for; a prime may lie just above such a power of
            two.
    """
    data = bytes(openfhe.Serialize(context, openfhe.BINARY))
    order = 2 * context.GetRingDimension()
    lengths = {b + above for b in bits for above in (0, 1)}
    primes: list[int] = []
    for start in range(len(data) - 7):
        (word,) = struct.unpack_from("<Q", data, start)
        candidate = word % order == 1 and word.bit_length() in lengths
        if candidate and word not in primes and is_prime(word):
            primes.append(word)
    return tuple(primes)


def context_for(openfhe: Any, parameters: Parameters) -> Context:
    """Returns the OpenFHE context of those parameters."""
    scheme, bits = parameters.request.scheme, parameters.limb_bits
    if scheme is Scheme.THRESHOLD_EXACT:
        settings = openfhe.CCParamsBFVRNS()
        settings.SetMultiplicativeDepth(0)
        settings.SetScalingModSize(bits[0])
        # OpenFHE takes as many primes as it finds necessary. This many additions make
        # it take two; our parameters keep the noise within them.
        settings.SetEvalAddCount(2**31 - 1)
    elif scheme is Scheme.EXACT:
        settings = openfhe.CCParamsBGVRNS()
    else:
        settings = openfhe.CCParamsCKKSRNS()
        settings.SetBatchSize(parameters.slots)
        # The size of the second prime; a single prime must be larger. It is not used as
        # a scale: see `math.plaintexts`.
        first, *second = bits
        settings.SetScalingModSize(second[0] if second else first - 10)
        packed = parameters.request.complex_packing
        settings.SetCKKSDataType(openfhe.COMPLEX if packed else openfhe.REAL)
    if scheme is not Scheme.THRESHOLD_EXACT:
        # A sum needs no multiplication; a second prime only widens the modulus.
        settings.SetMultiplicativeDepth(len(bits) - 1)
        settings.SetFirstModSize(bits[0])
        settings.SetScalingTechnique(openfhe.FIXEDMANUAL)
    if scheme.exact:
        settings.SetPlaintextModulus(parameters.plaintext_modulus)
    # Hybrid key switching would add moduli that a sum does not need, and so enlarge the
    # ring.
    settings.SetKeySwitchTechnique(openfhe.BV)
    settings.SetSecurityLevel(openfhe.HEStd_128_classic)
    settings.SetRingDim(parameters.ring_dimension)
    # OpenFHE registers one context for equal parameters, so none accumulate.
    context = openfhe.GenCryptoContext(settings)
    features = [openfhe.PKE, openfhe.KEYSWITCH, openfhe.LEVELEDSHE]
    if scheme.threshold:
        features.append(openfhe.MULTIPARTY)
    for feature in features:
        context.Enable(feature)
    return context
