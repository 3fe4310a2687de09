"""CKKS with scales of our own, over OpenFHE.

OpenFHE ties the scale to its primes, a level to a product. Here every number carries
its own scale, exactly, and is rescaled when that pays: key switching by residues (BV)
adds noise about as large as a prime, which is nothing only to numbers whose scale is
far larger, as products have before they are rescaled.

Cheon, Han, Kim, Kim, Song, "A Full RNS Variant of Approximate Homomorphic Encryption"
(SAC 2018).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.math.rings import Residues, Ring
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import chosen_primes
from fedjax_private.encryption.openfhe.templates import Mould, UnexpectedLayoutError

# OpenFHE's classes carry no type stubs; these names say which one is meant.
Ciphertext = Any
Plaintext = Any

# One number for all slots, or one for each: (slots,) float64.
Values: TypeAlias = float | npt.NDArray[np.float64]

# Ring dimension -> bits of the modulus: within those that Bossuat et al., "Security
# Guidelines for Implementing Homomorphic Encryption" (2024), give to ternary secrets at
# 128 bits of classical security, and within what OpenFHE accepts.
MODULUS_BITS = {8192: 214, 16384: 430}

# Products of residues must fit 64 bits.
MOST_LIMB_BITS = 31


@dataclasses.dataclass(frozen=True)
class RingChoice:
    """A ring by its size.

    Attributes:
        dimension: N, of `MODULUS_BITS`.
        first_bits: of the first prime, the last to be left.
        limb_bits: of the others.
        limbs: how many primes there are, at least 2.

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
        """Values of a ciphertext."""
        return self.dimension // 2

    def bits_of(self, limbs: int) -> int:
        """Bits of the modulus while so many primes are left."""
        return self.first_bits + self.limb_bits * (limbs - 1)


@dataclasses.dataclass(frozen=True)
class Number:
    """A ciphertext, and what it stands for: its slots over `scale`.

    Attributes:
        ciphertext: OpenFHE's.
        scale: what values were multiplied by.
        limbs: primes that its modulus has left.
    """

    ciphertext: Ciphertext
    scale: float
    limbs: int


class Ckks:
    """Arithmetic at one ring. Holds no key but for moulds' residues of a lost one.

    Safe to use from several threads once made; make it in the main thread.

    Raises:
        OpenFHEUnavailable: on construction, where OpenFHE cannot be imported.
        UnexpectedLayoutError: on construction, under an OpenFHE of another layout.
    """

    def __init__(self, choice: RingChoice) -> None:
        self.backend = load()
        self.openfhe = self.backend.openfhe
        self.context = _context(self.openfhe, choice)
        self.choice, self.dimension, self.limbs = (
            choice,
            choice.dimension,
            choice.limbs,
        )
        self.slots = choice.slots
        self._unit = 2.0**choice.limb_bits  # OpenFHE's own scale
        self.ring = _ring(self.openfhe, self.context, choice)
        # A key of nobody's, forgotten at once: what it made are moulds for others'.
        self.backend.check_process()
        pair = self.context.KeyGen()
        self.tag: str = pair.secretKey.GetKeyTag()
        self._moulds: dict[int, Mould] = {}
        self._zeros: dict[int, Ciphertext] = {}
        self._layouts: dict[tuple[int, int], Mould] = {}
        for left in range(1, choice.limbs + 1):
            plaintext = self.encode(np.zeros(self.slots), 1.0, left)
            made = self.context.Encrypt(pair.publicKey, plaintext)
            self._moulds[left] = Mould.of(self.serialised(made), self.ring_of(left), 2)
            self._zeros[left] = self.context.EvalSub(made, made)
        self.public_mould = Mould.of(self.serialised(pair.publicKey), self.ring, 2)
        self.secret_mould = Mould.of(self.serialised(pair.secretKey), self.ring, 1)
        self._check_moduli()

    def ring_of(self, limbs: int) -> Ring:
        """The ring that is left with that many primes."""
        return Ring(self.dimension, self.ring.moduli[:limbs])

    def serialised(self, value: Any) -> bytes:
        """OpenFHE's bytes of an object."""
        return bytes(self.openfhe.Serialize(value, self.openfhe.BINARY))

    def _check_moduli(self) -> None:
        # The constant polynomial -1 has the residues q - 1, in the order of the primes.
        mould = self._moulds[self.limbs]
        before = mould.read(mould.data)
        less = self.add(self.number(before, 1.0), np.full(self.slots, -1.0))
        after = self.residues(less)
        moduli = np.array(self.ring.moduli, np.uint64)[:, None]
        difference = (before + moduli - after) % moduli
        if (difference[0] != 1).any() or difference[1].any():
            raise UnexpectedLayoutError(
                "OpenFHE encodes numbers otherwise than the tested versions do: "
                "install the version that pyproject.toml names."
            )

    # Residues in and out

    def secret_residues(self, key: Any) -> Residues:
        """The polynomial (L, N) of a secret key."""
        return self.secret_mould.read(self.serialised(key))[0]

    def secret_key(self, polynomial: Residues) -> Any:
        """OpenFHE's secret key with the polynomial (L, N)."""
        data = self.secret_mould.filled(polynomial[None])
        return self.openfhe.DeserializePrivateKeyString(data, self.openfhe.BINARY)

    def number(self, residues: Residues, scale: float) -> Number:
        """The ciphertext of polynomials (2, l, N), each residue below its prime."""
        limbs = residues.shape[1]
        data = self._moulds[limbs].filled(residues)
        parsed = self.openfhe.DeserializeCiphertextString(data, self.openfhe.BINARY)
        # What was parsed has tables of its own, and all that is made of it is several
        # times slower to compute with; a sum has those of its first term.
        made = self.context.EvalAdd(self._zeros[limbs], parsed)
        return self._made(made, scale, limbs)

    def residues(self, number: Number) -> Residues:
        """The polynomials (2, l, N) of a ciphertext."""
        data = self.serialised(number.ciphertext)
        # Objects of one length have one layout; which, depends on their making.
        key = number.limbs, len(data)
        if key not in self._layouts:
            self._layouts[key] = Mould.of(data, self.ring_of(number.limbs), 2)
        return self._layouts[key].read(data)

    def parts(self, ciphertext: Ciphertext) -> Residues:
        """The polynomials (2, L, N) of a fresh ciphertext."""
        return self.residues(Number(ciphertext, 1.0, self.limbs))

    def decrypted(self, number: Number, key: Any) -> npt.NDArray[np.complex128]:
        """The slots of a number, (slots,); those of reals have imaginary noise."""
        made = self._made(number.ciphertext, number.scale, number.limbs).ciphertext
        made.SetKeyTag(key.GetKeyTag())
        plaintext = self.context.Decrypt(key, made)
        plaintext.SetLength(self.slots)
        slots = np.asarray(plaintext.GetCKKSPackedValueArray(), np.complex128)
        return slots * (self._unit / number.scale)

    # Arithmetic

    def encode(self, values: npt.NDArray[Any], scale: float, limbs: int) -> Plaintext:
        """The plaintext of (slots,) values, times `scale`, of that many primes."""
        row = values * (scale / self._unit)
        return self.context.MakeCKKSPackedPlaintext(row, 1, self.limbs - limbs)

    def _made(self, ciphertext: Ciphertext, scale: float, limbs: int) -> Number:
        # OpenFHE's notion of the scale plays no part; always the same, it lets all be
        # added to all.
        ciphertext.SetNoiseScaleDeg(1)
        ciphertext.SetScalingFactor(self._unit)
        return Number(ciphertext, scale, limbs)

    def add(self, number: Number, values: Values | Number) -> Number:
        """The sum with another number of the same scale and primes, or with values."""
        if isinstance(values, Number):
            other = values.ciphertext
        elif isinstance(values, float):
            other = values * number.scale / self._unit
        else:
            other = self.encode(values, number.scale, number.limbs)
        made = self.context.EvalAdd(number.ciphertext, other)
        return self._made(made, number.scale, number.limbs)

    def sum_of(self, numbers: Iterable[Number]) -> Number:
        """The sum of numbers of one scale and as many primes, each let go at once.

        The first is overwritten: nobody else may hold it.
        """
        rest = iter(numbers)
        total = next(rest)
        for number in rest:
            self.context.EvalAddInPlace(total.ciphertext, number.ciphertext)
        return total

    def times_plaintext(
        self, number: Number, plaintext: Plaintext, scale: float
    ) -> Number:
        """The product with an encoding of that scale and as many primes."""
        made = self.context.EvalMult(number.ciphertext, plaintext)
        return self._made(made, number.scale * scale, number.limbs)

    def lifted(self, number: Number, values: Values, scale: float) -> Number:
        """The product with values, brought to that scale, which must be larger."""
        factor = scale / number.scale
        if isinstance(values, float):
            scalar = values * factor / self._unit
            made = self.context.EvalMult(number.ciphertext, scalar)
        else:
            plaintext = self.encode(values, factor, number.limbs)
            made = self.context.EvalMult(number.ciphertext, plaintext)
        return self._made(made, scale, number.limbs)

    def times(self, left: Number, right: Number) -> Number:
        """The product of two numbers of as many primes."""
        if left is right:
            made = self.context.EvalSquare(left.ciphertext)
        else:
            made = self.context.EvalMult(left.ciphertext, right.ciphertext)
        return self._made(made, left.scale * right.scale, left.limbs)

    def rescaled(self, number: Number, limbs: int) -> Number:
        """The number divided by primes until so many are left."""
        scale, made = number.scale, number.ciphertext
        for left in range(number.limbs, limbs, -1):
            if left == number.limbs:
                made = made.Clone()
            made.SetNoiseScaleDeg(2)
            self.context.RescaleInPlace(made)
            scale /= self.ring.moduli[left - 1]
        return self._made(made, scale, limbs)

    def dropped(self, number: Number, limbs: int) -> Number:
        """The number modulo fewer primes; its scale stays."""
        if limbs == number.limbs:
            return number
        made = number.ciphertext.Clone()
        self.context.LevelReduceInPlace(made, None, number.limbs - limbs)
        return self._made(made, number.scale, limbs)

    def rotated(self, number: Number, steps: int) -> Number:
        """Slot t holds what slot t + steps did."""
        if not steps % self.slots:
            return number
        made = self.context.EvalRotate(number.ciphertext, steps)
        return self._made(made, number.scale, number.limbs)

    def hoisted(self, number: Number) -> Callable[[int], Number]:
        """`rotated` for several rotations of one number, its digits computed once.

        Halevi and Shoup, "Faster Homomorphic Linear Transformations in HElib" (CRYPTO
        2018).
        """
        digits = self.context.EvalFastRotationPrecompute(number.ciphertext)

        def turned(steps: int) -> Number:
            if not steps:
                return number
            made = self.context.EvalFastRotation(
                number.ciphertext, steps, 2 * self.dimension, digits
            )
            return self._made(made, number.scale, number.limbs)

        return turned


@functools.lru_cache(maxsize=4)
def ckks_of(choice: RingChoice) -> Ckks:
    """The one `Ckks` of a ring in this process."""
    return Ckks(choice)


def _context(openfhe: Any, choice: RingChoice) -> Any:
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


def _ring(openfhe: Any, context: Any, choice: RingChoice) -> Ring:
    """The ring that OpenFHE chose for a context."""
    found = chosen_primes(openfhe, context, (choice.first_bits, choice.limb_bits))
    product = math.prod(map(float, found))
    if len(found) != choice.limbs or not math.isclose(
        product, context.GetModulus(), rel_tol=1e-9
    ):
        raise UnexpectedLayoutError(
            f"OpenFHE chose other primes than asked for by {choice}: install the "
            "version that pyproject.toml names."
        )
    return Ring(choice.dimension, found)
