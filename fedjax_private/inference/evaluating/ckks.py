"""CKKS over OpenFHE, with a scale of its own for every number.

OpenFHE ties the scale to its primes, and a level to a product. Here every number
carries its exact scale and is rescaled when that pays. Key switching by residues (BV)
adds noise about as large as a prime, which is negligible only for numbers with a far
larger scale, as products have before they are rescaled.

Cheon, Han, Kim, Kim, Song, "A Full RNS Variant of Approximate Homomorphic Encryption"
(SAC 2018).
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.math.rings import Residues, Ring
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.templates import Template
from fedjax_private.inference.planning.polynomials import Number, Values
from fedjax_private.inference.planning.rings import RingChoice, context_of, ring_of

# OpenFHE's classes carry no type stubs; these names say which one is meant.
Ciphertext = Any
Plaintext = Any


class Ckks:
    """Arithmetic in one ring. Holds no key, only templates made with a throwaway one.

    Make it in the main thread; then several threads may use it.

    Raises:
        OpenFHEUnavailable: on construction, if OpenFHE cannot be imported.
        UnexpectedLayoutError: on construction, if OpenFHE serialises objects in another
            layout than the tested versions.
    """

    def __init__(self, choice: RingChoice) -> None:
        self.backend = load()
        self.openfhe = self.backend.openfhe
        self.context = context_of(choice)
        self.dimension, self.limbs = choice.dimension, choice.limbs
        self.slots = choice.slots
        self._unit = 2.0**choice.limb_bits  # OpenFHE's own scale
        self.ring = ring_of(choice)
        # A throwaway key: what it makes are templates for others' objects.
        self.backend.check_process()
        pair = self.context.KeyGen()
        self.tag: str = pair.secretKey.GetKeyTag()
        self._templates: dict[int, Template] = {}
        self._zeros: dict[int, Ciphertext] = {}
        self._layouts: dict[tuple[int, int], Template] = {}
        for left in range(1, choice.limbs + 1):
            plaintext = self.encode(np.zeros(self.slots), 1.0, left)
            ciphertext = self.context.Encrypt(pair.publicKey, plaintext)
            data = self.serialised(ciphertext)
            self._templates[left] = Template.of(data, self._ring(left), 2)
            self._zeros[left] = self.context.EvalSub(ciphertext, ciphertext)
        public = self.serialised(pair.publicKey)
        self.public_template = Template.of(public, self.ring, 2)
        secret = self.serialised(pair.secretKey)
        self.secret_template = Template.of(secret, self.ring, 1)
        self._check_moduli()

    def _ring(self, limbs: int) -> Ring:
        """The ring with the first `limbs` primes."""
        return Ring(self.dimension, self.ring.moduli[:limbs])

    def serialised(self, value: Any) -> bytes:
        """OpenFHE's bytes of an object."""
        return bytes(self.openfhe.Serialize(value, self.openfhe.BINARY))

    def _check_moduli(self) -> None:
        # The constant polynomial -1 has the residues q - 1, in the order of the primes.
        template = self._templates[self.limbs]
        before = template.read(template.data)
        less = self.add(self.number(before, 1.0), np.full(self.slots, -1.0))
        after = self.residues(less)
        moduli = np.array(self.ring.moduli, np.uint64)[:, None]
        difference = (before + moduli - after) % moduli
        if (difference[0] != 1).any() or difference[1].any():
            raise UnexpectedLayoutError(
                "OpenFHE encodes numbers differently from the tested versions: install "
                "the version that pyproject.toml names."
            )

    # Residues in and out

    def secret_residues(self, key: Any) -> Residues:
        """The polynomial (L, N) of a secret key."""
        return self.secret_template.read(self.serialised(key))[0]

    def secret_key(self, polynomial: Residues) -> Any:
        """OpenFHE's secret key with the polynomial (L, N)."""
        data = self.secret_template.filled(polynomial[None])
        return self.openfhe.DeserializePrivateKeyString(data, self.openfhe.BINARY)

    def number(self, residues: Residues, scale: float) -> Number:
        """The ciphertext of polynomials (2, l, N), each residue below its prime."""
        limbs = residues.shape[1]
        data = self._templates[limbs].filled(residues)
        parsed = self.openfhe.DeserializeCiphertextString(data, self.openfhe.BINARY)
        # A parsed object has its own tables, and everything computed from it is several
        # times slower. A sum has the tables of its first term.
        ciphertext = self.context.EvalAdd(self._zeros[limbs], parsed)
        return self._number(ciphertext, scale, limbs)

    def residues(self, number: Number) -> Residues:
        """The polynomials (2, l, N) of a ciphertext."""
        data = self.serialised(number.ciphertext)
        # The layout depends on how an object was made; its length identifies it.
        key = number.limbs, len(data)
        if key not in self._layouts:
            self._layouts[key] = Template.of(data, self._ring(number.limbs), 2)
        return self._layouts[key].read(data)

    def decrypted(self, number: Number, key: Any) -> npt.NDArray[np.complex128]:
        """The slots (slots,) of a number; imaginary parts of real values are noise."""
        number = self._number(number.ciphertext, number.scale, number.limbs)
        number.ciphertext.SetKeyTag(key.GetKeyTag())
        plaintext = self.context.Decrypt(key, number.ciphertext)
        plaintext.SetLength(self.slots)
        slots = np.asarray(plaintext.GetCKKSPackedValueArray(), np.complex128)
        return slots * (self._unit / number.scale)

    # Arithmetic

    def encode(self, values: npt.NDArray[Any], scale: float, limbs: int) -> Plaintext:
        """The plaintext of (slots,) values, times `scale`, modulo `limbs` primes."""
        row = values * (scale / self._unit)
        return self.context.MakeCKKSPackedPlaintext(row, 1, self.limbs - limbs)

    def _scaled(self, values: Values, scale: float, limbs: int) -> float | Plaintext:
        """Values times `scale`, as an operand of OpenFHE's."""
        if isinstance(values, float):
            return values * scale / self._unit
        return self.encode(values, scale, limbs)

    def _number(self, ciphertext: Ciphertext, scale: float, limbs: int) -> Number:
        # OpenFHE's own scale is not used. It is always the same, so that OpenFHE adds
        # any two numbers.
        ciphertext.SetNoiseScaleDeg(1)
        ciphertext.SetScalingFactor(self._unit)
        return Number(ciphertext, scale, limbs)

    def add(self, number: Number, values: Values | Number) -> Number:
        """The sum with a number of the same scale and primes, or with values."""
        if isinstance(values, Number):
            other = values.ciphertext
        else:
            other = self._scaled(values, number.scale, number.limbs)
        ciphertext = self.context.EvalAdd(number.ciphertext, other)
        return self._number(ciphertext, number.scale, number.limbs)

    def sum_of(self, numbers: Iterable[Number]) -> Number:
        """The sum of numbers with the same scale and primes; each is freed at once.

        The first number is overwritten, so the caller must not use it again.
        """
        rest = iter(numbers)
        total = next(rest)
        for number in rest:
            self.context.EvalAddInPlace(total.ciphertext, number.ciphertext)
        return total

    def times_plaintext(
        self, number: Number, plaintext: Plaintext, scale: float
    ) -> Number:
        """The product with a plaintext of scale `scale` and as many primes."""
        ciphertext = self.context.EvalMult(number.ciphertext, plaintext)
        return self._number(ciphertext, number.scale * scale, number.limbs)

    def lifted(self, number: Number, values: Values, scale: float) -> Number:
        """The product with values, at scale `scale`, which must exceed the number's."""
        other = self._scaled(values, scale / number.scale, number.limbs)
        ciphertext = self.context.EvalMult(number.ciphertext, other)
        return self._number(ciphertext, scale, number.limbs)

    def times(self, left: Number, right: Number) -> Number:
        """The product of two numbers with equally many primes."""
        if left is right:
            ciphertext = self.context.EvalSquare(left.ciphertext)
        else:
            ciphertext = self.context.EvalMult(left.ciphertext, right.ciphertext)
        return self._number(ciphertext, left.scale * right.scale, left.limbs)

    def rescaled(self, number: Number, limbs: int) -> Number:
        """The number divided by its last primes until `limbs` are left."""
        scale, ciphertext = number.scale, number.ciphertext
        for left in range(number.limbs, limbs, -1):
            if left == number.limbs:
                ciphertext = ciphertext.Clone()
            ciphertext.SetNoiseScaleDeg(2)
            self.context.RescaleInPlace(ciphertext)
            scale /= self.ring.moduli[left - 1]
        return self._number(ciphertext, scale, limbs)

    def dropped(self, number: Number, limbs: int) -> Number:
        """The number modulo its first `limbs` primes; its scale stays."""
        if limbs == number.limbs:
            return number
        ciphertext = number.ciphertext.Clone()
        self.context.LevelReduceInPlace(ciphertext, None, number.limbs - limbs)
        return self._number(ciphertext, number.scale, limbs)

    def rotated(self, number: Number, steps: int) -> Number:
        """The number with the value of slot t + steps in slot t."""
        if not steps % self.slots:
            return number
        ciphertext = self.context.EvalRotate(number.ciphertext, steps)
        return self._number(ciphertext, number.scale, number.limbs)

    def hoisted(self, number: Number) -> Callable[[int], Number]:
        """A function of steps, like `rotated`, that computes the digits only once.

        Halevi and Shoup, "Faster Homomorphic Linear Transformations in HElib" (CRYPTO
        2018).
        """
        digits = self.context.EvalFastRotationPrecompute(number.ciphertext)

        def rotated(steps: int) -> Number:
            if not steps:
                return number
            ciphertext = self.context.EvalFastRotation(
                number.ciphertext, steps, 2 * self.dimension, digits
            )
            return self._number(ciphertext, number.scale, number.limbs)

        return rotated


@functools.lru_cache(maxsize=4)
def ckks_of(choice: RingChoice) -> Ckks:
    """The `Ckks` of a ring, the same object for all callers in a process."""
    return Ckks(choice)
