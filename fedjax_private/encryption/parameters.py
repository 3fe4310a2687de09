"""Parameters of encrypted sums, derived from what is to be summed.

A `SumRequest` states how many vectors of how many values are added, in which range, how
precisely, and how much one key may decrypt. `derive` returns ring, modulus, scale,
lanes and flooding noise with the smallest upload, or says why there are none. Roles
exchange requests, never contexts: each derives the same parameters, and so checks for
itself that uploads have 128 bits of security. What decrypted sums add to that is
statistical, and less by far: see `Parameters.flooding_std`.
"""

import dataclasses
import enum
import math
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from fedjax_private.encryption.noise import fresh_variance, worst_error
from fedjax_private.encryption.primes import prime_above
from fedjax_private.encryption.settings import DEFAULTS, CipherSettings

SECURITY_BITS = 128

# A larger scale would give digits that float64 does not hold.
_MAX_SCALE_BITS = 90

# Plaintext moduli stay below every prime of the modulus.
_MAX_PLAINTEXT_BITS = 50

# As wide as flooding noise can be drawn; see `entropy.wide_gaussian`.
_MAX_FLOODING = 2.0**92

# Decryption of exact sums fails past this many standard deviations: below 2^-130 for a
# coefficient, 2^-100 for every one of a long training.
_NOISE_MARGIN = 14

# The authority refuses an exact sum beyond this many: see `largest_coefficient`.
_NOISE_CHECK = 10

# Answers that a holder of key shares gives to one sum, on average over a key's sums:
# its own, and one in place of others.
ANSWERS_PER_SUM = 2

# The squared norm of an error of N = 2048 or more coefficients deviates by 4 % from its
# mean (simulated; they are not quite independent): this factor is ten deviations.
_NORM_MARGIN = 1.4


class Scheme(enum.Enum):
    """What is added, and who can decrypt."""

    CKKS = "ckks"  # approximate reals, one key
    THRESHOLD_CKKS = "threshold_ckks"  # approximate reals, a key in shares
    EXACT = "exact"  # integers in lanes (BGV), one key
    THRESHOLD_EXACT = "threshold_exact"  # integers in lanes (BFV), a key in shares

    @property
    def exact(self) -> bool:
        """Whether it adds integers without error."""
        return self in (Scheme.EXACT, Scheme.THRESHOLD_EXACT)

    @property
    def threshold(self) -> bool:
        """Whether the key exists in shares only."""
        return self in (Scheme.THRESHOLD_CKKS, Scheme.THRESHOLD_EXACT)


# (ring dimension, bits of each prime of the modulus), by size of the upload. All are
# within Bossuat et al., "Security Guidelines for Implementing Homomorphic Encryption"
# (2024), for 128 bits of classical security with ternary secrets, and within what
# OpenFHE accepts: 53 bits at 2048, 106 at 4096. For two primes of equal size in CKKS,
# OpenFHE takes both just above the power of two; with 53 each, q would exceed 2^106.
_CKKS_SETS = ((2048, (45,)), (2048, (53,)), (4096, (60,)), (4096, (53, 52)))
_SETS = {
    Scheme.CKKS: _CKKS_SETS,
    Scheme.THRESHOLD_CKKS: _CKKS_SETS,
    Scheme.EXACT: ((2048, (53,)), (4096, (60,))),
    Scheme.THRESHOLD_EXACT: ((4096, (53, 53)), (8192, (60, 60))),
}


@dataclasses.dataclass(frozen=True)
class SumRequest:
    """What is to be summed.

    Attributes:
        scheme: see `Scheme`.
        values: entries of each vector.
        uploads: the most vectors in one sum.
        holders: holders of key shares; 1 without a threshold.
        settings: how values become ciphertexts; of a subclass's settings, such as those
            of an aggregation, only the fields of `CipherSettings` are kept.
        residues: whether uploads carry shares of a sum's noise. Their entries then have
            no bound, as cutting them off would change the noise, and exact sums are
            taken mod 2^b. Otherwise entries are within the value bound, and exact sums
            are true.

    Raises:
        ValueError: on construction, in one sentence.
    """

    scheme: Scheme
    values: int
    uploads: int
    holders: int = 1
    settings: CipherSettings = DEFAULTS
    residues: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", self.settings.complete())
        limits = {"values": 2**32 - 1, "uploads": 2**20, "holders": 2**10}
        for name, most in limits.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must lie between 1 and {most}, got {value}.")
        if self.scheme.threshold is not (self.holders > 1):
            several = "needs at least two holders of key shares"
            needs = several if self.scheme.threshold else "has one key and no shares"
            raise ValueError(
                f"{self.scheme.value} {needs}, got holders={self.holders}."
            )
        if self.scheme is Scheme.THRESHOLD_CKKS and not self.complex_packing:
            raise ValueError(
                "threshold_ckks packs two values into a slot: noise in real slots "
                "would hide only half of what a partial decryption reveals; use "
                "complex packing."
            )
        if not self.settings.protect and self.scheme is not Scheme.CKKS:
            raise ValueError(
                f"{self.scheme.value} has no unprotected mode: only ckks has."
            )

    @property
    def value_bound(self) -> float:
        """The largest absolute entry of an upload, before shares of noise."""
        return cast(float, self.settings.value_bound)  # complete

    @property
    def sum_bound(self) -> float:
        """The largest absolute entry of a sum: as asked for, or of full uploads."""
        asked = self.settings.sum_bound
        if self.scheme.exact and self.residues:
            return asked or self.value_bound  # which is taken mod 2^b
        return asked or self.uploads * self.value_bound

    @property
    def grid_bound(self) -> float:
        """Exact: what the integers of b bits span: uploads, or sums mod 2^b."""
        return self.sum_bound if self.residues else self.value_bound

    @property
    def bits(self) -> int:
        """Exact: b, bits of an entry of an upload; with residues also of a sum."""
        return cast(int, self.settings.quantization_bits)  # complete

    @property
    def lane_bits(self) -> int:
        """Exact: bits of one lane, the carries of a full sum included."""
        carries = (self.uploads - 1).bit_length()
        if not self.residues:
            ratio = math.ceil(self.sum_bound / self.value_bound * (1 - 2.0**-50))
            carries = min(carries, (ratio - 1).bit_length())
        return self.bits + carries

    @property
    def worst_case(self) -> bool:
        """Whether noise and its budget are sized by `worst_error`.

        Not with an exact scheme and one key: nothing is flooded, and sums with larger
        errors than those of independent uploads are not decrypted at all.
        """
        floods = self.settings.protect and self.scheme is not Scheme.EXACT
        return floods and self.settings.flooding == "worst_case"

    @property
    def complex_packing(self) -> bool:
        """CKKS: two values a slot instead of one."""
        return self.settings.packing == "complex"

    @property
    def released(self) -> np.dtype[Any]:
        """How an authority writes an entry of a sum."""
        whole = "<i4" if self.lane_bits <= 32 else "<i8"
        return np.dtype(whole if self.scheme.exact else "<f8")


@dataclasses.dataclass(frozen=True)
class Parameters:
    """The parameters of one key, as plain numbers; `derive` makes them.

    Attributes:
        request: what the key is for.
        ring_dimension: N.
        limb_bits: bits of each prime of the modulus q.
        scale: CKKS: the factor between values and what is encrypted; 0 if exact.
        sum_bound: the largest absolute entry of a sum that is right for all uploads: as
            asked for, or derived; see `CipherSettings`.
        lanes: exact: integers in one slot; 0 in CKKS.
        flooding_std: standard deviation, per coefficient, of the noise that is added to
            a decryption (CKKS) or to a partial decryption (threshold); 0 where nothing
            is added. With |e| the norm of a sum's own error in one ciphertext, s the
            statistical bits and tau the query budget, sqrt(tau / 2) 2^(s/2) |e|. By
            `entropy.wide_gaussian`, the statistical distance of tau decryptions from
            ones that do not depend on the error is then at most
            sqrt(tau) |e| / (2 flooding_std) = 2^-(s+1)/2, up to a factor of 1 + 2^-25.
            For normal noise this is what follows from a Kullback-Leibler divergence of
            2^-s (Li, Micciancio, Schultz and Sorrell, "Securing Approximate Homomorphic
            Encryption Using Differential Privacy", CRYPTO 2022). |e|^2 is 1.4 times
            its mean over independent encryptions, or `worst_error`^2, as the setting
            `flooding` says. The first holds for clients that follow the protocol only:
            K uploads that all repeat one of them have K times that |e|^2.
    """

    request: SumRequest
    ring_dimension: int
    limb_bits: tuple[int, ...]
    scale: float = 0.0
    sum_bound: float = 0.0
    lanes: int = 0
    flooding_std: float = 0.0

    @property
    def modulus_bits(self) -> int:
        """Bits of q."""
        return sum(self.limb_bits)

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of one polynomial on the wire."""
        # OpenFHE's CKKS takes a second prime above the power of two: one bit more.
        above = 0 if self.request.scheme.exact else len(self.limb_bits) - 1
        return (self.modulus_bits + above) * self.ring_dimension // 8

    @property
    def lane_bits(self) -> int:
        """Exact: bits of one lane, the carries of a full sum included."""
        return self.request.lane_bits

    @property
    def slots(self) -> int:
        """Plaintext slots of one ciphertext: N integers, or N/2 numbers."""
        exact = self.request.scheme.exact
        return self.ring_dimension if exact else self.ring_dimension // 2

    @property
    def values_per_ciphertext(self) -> int:
        """Entries of a vector in one ciphertext."""
        if self.request.scheme.exact:
            return self.slots * self.lanes
        return self.slots * (2 if self.request.complex_packing else 1)

    @property
    def rows(self) -> int:
        """Ciphertexts of one vector."""
        return -(-self.request.values // self.values_per_ciphertext)

    @property
    def plaintext_modulus(self) -> int:
        """Exact: t, the least prime 1 mod 2N that holds all lanes; 0 in CKKS."""
        if not self.lanes:
            return 0
        return prime_above(self.lanes * self.lane_bits, 2 * self.ring_dimension)

    @property
    def bytes_per_value(self) -> float:
        """Bytes of a full ciphertext over the values in it."""
        return 2 * self.polynomial_bytes / self.values_per_ciphertext

    @property
    def sums_per_key(self) -> int | None:
        """Sums that one key may decrypt, at least 1; None where any number may be."""
        if not self.flooding_std:
            return None
        return max(1, self.request.settings.query_budget // self.rows)

    def largest_coefficient(self, uploads: int) -> float:
        """Exact with one key: the largest coefficient that c0 + c1 s may have.

        In a sum of honest uploads it is the message, within t, plus t times the noise,
        which is within ten standard deviations except with a probability below 2^-59
        for a coefficient: given the key, noise is a sum of subgaussian terms, whose
        variance deviates from the mean over keys by less than a fifth (ten standard
        deviations), so 2 exp(-100 / 2.4) bounds it (Chernoff). Larger noise, still
        short of a wrong decryption, is that of a departure from the protocol.

        Args:
            uploads: how many fresh ciphertexts the sum holds.
        """
        noise = math.sqrt(fresh_variance(self.ring_dimension) * uploads)
        return self.plaintext_modulus * (_NOISE_CHECK * noise + uploads)

    def error_std(self, uploads: int) -> float:
        """Standard deviation of an entry's error in a released sum, in values.

        A slot's real part is a sum of N coefficients times cosines, so its variance is
        N/2 times theirs; values are float64, accurate to some 2^-51 of the largest.
        With a recovery it is up to sqrt(2) times as large.

        Args:
            uploads: how many fresh ciphertexts the sum holds.
        """
        if self.request.scheme.exact:
            return 0.0
        variance = fresh_variance(self.ring_dimension, self.request.holders) * uploads
        # Of every holder, or of the one that decrypts.
        variance += self.request.holders * self.flooding_std**2
        error = math.sqrt(variance * self.ring_dimension / 2) / self.scale
        return math.hypot(error, 2.0**-51 * self.sum_bound)


def derive(request: SumRequest) -> Parameters:
    """Returns the parameters with the smallest upload that serve the request.

    Raises:
        ValueError: none do; the sentence says which way out there is.
    """
    # A smaller ring at equal bytes is faster; candidates come smallest first.
    best = min(
        candidates(request), key=lambda p: p.rows * p.polynomial_bytes, default=None
    )
    if best is not None:
        return best
    settings = request.settings
    if request.scheme.exact:
        raise ValueError(
            f"sums of {request.uploads} integers of {request.bits} bits do not fit a "
            f"ciphertext of {request.scheme.value} at {SECURITY_BITS} bits of security "
            f"with {settings.statistical_bits} statistical bits: use fewer "
            "quantization bits or fewer clients."
        )
    raise ValueError(
        f"no ciphertext of {request.scheme.value} at {SECURITY_BITS} bits of security "
        f"holds sums of {request.uploads} vectors with entries up to "
        f"{max(request.value_bound, settings.sum_bound or 0):g} within an error of "
        f"{settings.precision:g}: use a smaller value bound or sum bound, a coarser "
        "precision, a smaller query budget or fewer clients."
    )


def candidates(request: SumRequest) -> Iterator[Parameters]:
    """Returns all parameters that serve the request, the smallest ring first."""
    fitted = _with_lanes if request.scheme.exact else _with_scale
    for dimension, limbs in _SETS[request.scheme]:
        flooding = _flooding(request, dimension)
        if flooding > _MAX_FLOODING:
            continue
        noise = _NOISE_MARGIN * _noise(request, dimension, flooding)
        bare = Parameters(request, dimension, limbs, flooding_std=flooding)
        parameters = fitted(bare, noise)
        if parameters is not None:
            yield parameters


def _with_scale(bare: Parameters, noise: float) -> Parameters | None:
    """CKKS: returns the parameters with a scale; None if none is precise enough."""
    request, settings = bare.request, bare.request.settings
    # The largest coefficient of an encoded polynomial is at most the largest slot:
    # sqrt(2) times the largest part of a complex one. It must stay below q/2, with room
    # for all noise.
    room = 2.0 ** (bare.modulus_bits - 1) * (1 - 2.0**-8) - noise
    room = min(room, 2.0**_MAX_SCALE_BITS)
    if room <= 0:
        return None
    largest = math.sqrt(2) if request.complex_packing else 1.0
    unit = dataclasses.replace(bare, scale=room / largest, sum_bound=1.0)
    # The error grows with the bound.
    holds = settings.precision / unit.error_std(request.uploads)
    bound = settings.sum_bound or min(request.sum_bound, holds)
    # A sum may be as large as a single upload.
    if max(bound, request.value_bound) > holds:
        return None
    return dataclasses.replace(bare, scale=room / (largest * bound), sum_bound=bound)


def _with_lanes(bare: Parameters, noise: float) -> Parameters | None:
    """Exact: returns the parameters with as many lanes as fit; None if none does."""
    # q / (2 t) >= 14 sigma. The least t is below twice the lanes' product, unless there
    # are so few bits that the least prime 1 mod 2N has more.
    room = bare.modulus_bits - 1 - math.log2(noise)
    lanes = min(math.floor(room) - 1, _MAX_PLAINTEXT_BITS) // bare.lane_bits
    if lanes < 1:
        return None
    parameters = dataclasses.replace(
        bare, lanes=lanes, sum_bound=bare.request.sum_bound
    )
    return parameters if math.log2(parameters.plaintext_modulus) <= room else None


def _noise(request: SumRequest, dimension: int, flooding: float) -> float:
    """Standard deviation, per coefficient, of all noise in a decrypted sum.

    Of the worst error a part, so that `_NOISE_MARGIN` deviations include all of it.
    """
    # Recovery adds as many partial decryptions again, at most.
    terms = 2 * request.holders if request.scheme.threshold else 1
    added = flooding * math.sqrt(terms)
    if request.worst_case:
        worst = worst_error(dimension, request.holders, request.uploads)
        return worst / _NOISE_MARGIN + added
    fresh = math.sqrt(fresh_variance(dimension, request.holders) * request.uploads)
    return math.hypot(fresh, added)


def _flooding(request: SumRequest, dimension: int) -> float:
    """`Parameters.flooding_std`."""
    if request.scheme is Scheme.EXACT or not request.settings.protect:
        return 0.0
    holders, uploads = request.holders, request.uploads
    if request.worst_case:
        norm = worst_error(dimension, holders, uploads)
    else:
        variance = fresh_variance(dimension, holders) * uploads
        norm = math.sqrt(_NORM_MARGIN * dimension * variance)
    queries = max(request.settings.query_budget, -(-request.values // (dimension // 2)))
    if request.scheme.threshold:
        queries *= ANSWERS_PER_SUM
    return (
        norm * math.sqrt(queries / 2) * 2.0 ** (request.settings.statistical_bits / 2)
    )
