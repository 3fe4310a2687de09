"""The rings that CKKS can use at 128 bits of security, and their primes.

Bossuat et al., "Security Guidelines for Implementing Homomorphic Encryption" (2024).
"""

import dataclasses
import functools
import math
from typing import Any

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import chosen_primes

# OpenFHE's classes carry no type stubs; this name says which one is meant.
Context = Any

# Ring dimension -> bits of the modulus: within the published limit for ternary secrets
# and 128 bits of classical security, and within what OpenFHE accepts.
MODULUS_BITS = {8192: 214, 16384: 430}

# Products of residues must fit 64 bits.
MOST_LIMB_BITS = 31

# Sizes of primes that a plan tries. Smaller primes waste less between scales, but there
# are more of them to compute with.
LIMB_BITS = (30, 26)


@dataclasses.dataclass(frozen=True)
class RingChoice:
    """The size of a ring and of its primes.

    Attributes:
        dimension: N, a key of `MODULUS_BITS`.
        first_bits: size of the first prime, which is never dropped.
        limb_bits: size of each other prime.
        limbs: number of primes, at least 2.

    Raises:
        ValueError: on construction, for a ring that is not known to be secure.
    """

    dimension: int
    first_bits: int
    limb_bits: int
    limbs: int

    def __post_init__(self) -> None:
        bits = (self.first_bits, self.limb_bits)
        if (
            self.dimension not in MODULUS_BITS
            or self.limbs < 2
            or not all(20 <= b < MOST_LIMB_BITS + 1 for b in bits)
            or self.bits_of(self.limbs) > MODULUS_BITS[self.dimension]
        ):
            raise ValueError(f"no secure ring: {self}.")

    @property
    def slots(self) -> int:
        """Values in one ciphertext."""
        return self.dimension // 2

    def bits_of(self, limbs: int) -> int:
        """Bits of the modulus that consists of the first `limbs` primes."""
        return self.first_bits + self.limb_bits * (limbs - 1)


def ring_choices(dimension: int) -> list[RingChoice]:
    """All choices of primes at one dimension, fewest primes first."""
    choices = []
    for bits in LIMB_BITS:
        for limbs in range(2, MODULUS_BITS[dimension] // bits + 1):
            first = min(MODULUS_BITS[dimension] - bits * (limbs - 1), MOST_LIMB_BITS)
            if first >= bits:
                choices.append(RingChoice(dimension, min(first, bits + 5), bits, limbs))
    return sorted(choices, key=lambda choice: choice.limbs)


@functools.lru_cache(maxsize=4)
def context_of(choice: RingChoice) -> Context:
    """OpenFHE's context for a ring, the same object for all callers in a process.

    Raises:
        OpenFHEUnavailable: if OpenFHE cannot be imported.
    """
    openfhe = load().openfhe
    wanted = openfhe.CCParamsCKKSRNS()
    wanted.SetBatchSize(choice.slots)
    wanted.SetScalingModSize(choice.limb_bits)
    wanted.SetFirstModSize(choice.first_bits)
    wanted.SetMultiplicativeDepth(choice.limbs - 1)
    # Complex slots: noise in them reaches every coefficient.
    wanted.SetCKKSDataType(openfhe.COMPLEX)
    wanted.SetScalingTechnique(openfhe.FIXEDMANUAL)
    # Hybrid key switching spends part of the modulus on itself: a larger ring.
    wanted.SetKeySwitchTechnique(openfhe.BV)
    wanted.SetSecurityLevel(openfhe.HEStd_128_classic)
    wanted.SetRingDim(choice.dimension)
    context = openfhe.GenCryptoContext(wanted)
    for feature in (openfhe.PKE, openfhe.KEYSWITCH, openfhe.LEVELEDSHE):
        context.Enable(feature)
    return context


@functools.lru_cache(maxsize=32)
def ring_of(choice: RingChoice) -> Ring:
    """The ring with the primes that OpenFHE chooses for it.

    Raises:
        OpenFHEUnavailable: if OpenFHE cannot be imported.
        UnexpectedLayoutError: if OpenFHE serialises contexts in another layout.
    """
    context, openfhe = context_of(choice), load().openfhe
    primes = chosen_primes(openfhe, context, (choice.first_bits, choice.limb_bits))
    product = math.prod(map(float, primes))
    if len(primes) != choice.limbs or not math.isclose(
        product, context.GetModulus(), rel_tol=1e-9
    ):
        raise UnexpectedLayoutError(
            f"OpenFHE chose other primes than {choice} asks for: install the version "
            "that pyproject.toml names."
        )
    return Ring(choice.dimension, primes)
