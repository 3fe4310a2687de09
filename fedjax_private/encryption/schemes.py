"""OpenFHE behind arrays of residues: keys, ciphertexts and decryptions in and out.

OpenFHE's objects stay with whoever made them. What parties exchange are the residues of
polynomials, spliced into serialised objects of the receiver's own making: OpenFHE never
parses a byte of another party's, and its framing is neither sent nor trusted.

CKKS: Cheon, Kim, Kim and Song (ASIACRYPT 2017), in RNS form. BGV: Brakerski, Gentry and
Vaikuntanathan (ITCS 2012). BFV: Brakerski (CRYPTO 2012), Fan and Vercauteren (2012).
Shares of keys: Asharov et al. (EUROCRYPT 2012).
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.backend import load
from fedjax_private.encryption.contexts import (
    PIECE_BITS,
    SmallContext,
    context_for,
    ring_of,
    small_context,
)
from fedjax_private.encryption.entropy import gaussian
from fedjax_private.encryption.moulds import Mould, UnexpectedLayoutError
from fedjax_private.encryption.parameters import Parameters
from fedjax_private.encryption.rings import Residues

# OpenFHE's classes carry no type stubs; these names say which one is meant.
PublicKey = Any
SecretKey = Any

# (slots,): int64 in exact schemes, complex128 or float64 in CKKS.
Row = npt.NDArray[Any]


class HomomorphicScheme:
    """The operations that sums need, at one parameter set. Holds no key of a run's.

    Safe to use from several threads once made: OpenFHE keeps one random generator per
    thread. Make it in the main thread: OpenFHE's first encoding elsewhere can hang.

    Raises:
        OpenFHEUnavailable: on construction, where OpenFHE cannot be imported.
        UnexpectedLayoutError: on construction, under an OpenFHE of another layout.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._backend = load()
        self._openfhe = self._backend.openfhe
        self._context = context_for(self._openfhe, parameters)
        self.ring = ring_of(parameters)
        self._layouts: dict[int, Mould] = {}
        # A key of nobody's, forgotten at once: what it made are moulds for others'.
        pair = self._context.KeyGen()
        slots: Row = np.zeros(parameters.slots, self._dtype)
        ciphertext = self._context.Encrypt(pair.publicKey, self._encode(slots))
        self._ciphertext_mould = self._mould(ciphertext, 2)
        self._public_mould = self._mould(pair.publicKey, 2)
        self._secret_mould = self._mould(pair.secretKey, 1)
        if parameters.request.scheme.threshold:
            (part,) = self._context.MultipartyDecryptLead([ciphertext], pair.secretKey)
            self._partial_mould = self._mould(part, 1)

    @property
    def _dtype(self) -> type:
        request = self.parameters.request
        if request.scheme.exact:
            return np.int64
        return np.complex128 if request.complex_packing else np.float64

    def generate_keys(self) -> tuple[Residues, SecretKey]:
        """Returns a fresh key pair: (2, L, N) public residues, OpenFHE's secret key.

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        pair = self._context.KeyGen()
        return self._residues(pair.publicKey, 2), pair.secretKey

    def generate_share(self, common: Residues) -> tuple[Residues, SecretKey]:
        """Returns a holder's part of a joint key.

        Args:
            common: (L, N), the polynomial `a` that all holders use.

        Returns:
            Its contribution `e - a s` (L, N), which the joint public key is the sum of,
            and its secret `s`, which the joint secret key is the sum of.
        """
        self._backend.check_process()
        lead = self.public_key(np.stack([common, common]))
        pair = self._context.MultipartyKeyGen(lead, False, True)
        return self._residues(pair.publicKey, 2)[0], pair.secretKey

    def public_key(self, polynomials: Residues) -> PublicKey:
        """Returns OpenFHE's public key with the polynomials (2, L, N)."""
        data = self._public_mould.filled(polynomials)
        return self._openfhe.DeserializePublicKeyString(data, self._openfhe.BINARY)

    def secret_key(self, polynomial: Residues) -> SecretKey:
        """Returns OpenFHE's secret key with the polynomial (L, N)."""
        data = self._secret_mould.filled(polynomial[None])
        return self._openfhe.DeserializePrivateKeyString(data, self._openfhe.BINARY)

    def secret_residues(self, key: SecretKey) -> Residues:
        """Returns the polynomial (L, N) of a secret key."""
        return self._residues(key, 1)[0]

    def encrypt(self, public_key: PublicKey, row: Row) -> Residues:
        """Returns a fresh encryption (2, L, N) of `row` (slots,).

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        made = self._context.Encrypt(public_key, self._encode(row))
        return self._residues(made, 2)

    def decrypt(self, secret_key: SecretKey, ciphertext: Residues) -> Row:
        """Returns the slots (slots,) of a ciphertext (2, L, N); adds no noise.

        Real CKKS decryptions excepted, where OpenFHE adds noise of the error's size.

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        data = self._ciphertext_mould.filled(ciphertext)
        parsed = self._openfhe.DeserializeCiphertextString(data, self._openfhe.BINARY)
        # The mould's name is that of its own key; ours is for this ciphertext.
        parsed.SetKeyTag(secret_key.GetKeyTag())
        return self._decode(self._context.Decrypt(secret_key, parsed))

    def decode(self, polynomial: Residues) -> Row:
        """Returns the slots (slots,) of the sum of all parts (L, N). Needs no key."""
        data = self._partial_mould.filled(polynomial[None])
        parsed = self._openfhe.DeserializeCiphertextString(data, self._openfhe.BINARY)
        return self._decode(self._context.MultipartyDecryptFusion([parsed]))

    def partial(self, secret_key: SecretKey, second: Residues) -> Residues:
        """Returns one share of a decryption, `c1 s + noise` (L, N).

        The noise is OpenFHE's own, of deviation 2^20, and `flooding_std` of ours.

        Args:
            secret_key: a holder's.
            second: c1 (L, N), the ciphertext's second polynomial.

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        data = self._ciphertext_mould.filled(np.stack([np.zeros_like(second), second]))
        parsed = self._openfhe.DeserializeCiphertextString(data, self._openfhe.BINARY)
        (share,) = self._context.MultipartyDecryptMain([parsed], secret_key)
        return self.ring.reduce(self._residues(share, 1)[0] + self.noise())

    def noise(self) -> Residues:
        """Returns a polynomial (L, N) of Gaussian coefficients, `flooding_std` wide."""
        std = self.parameters.flooding_std
        if self.parameters.request.scheme.exact:
            coefficients = np.rint(gaussian(self.ring.dimension, std))
            return self._transform(coefficients.astype(np.int64))
        # Gaussian coefficients are Gaussian slots: the embedding is orthogonal, times
        # sqrt(N / 2).
        slots = self.slot_noise(1)[0] * self.parameters.prescale
        plaintext = self._context.MakeCKKSPackedPlaintext(slots)
        mould, kind = self._ciphertext_mould, self._openfhe.BINARY
        parsed = self._openfhe.DeserializeCiphertextString(mould.data, kind)
        before = self._residues(parsed, 2)[0]
        after = self._residues(self._context.EvalAdd(parsed, plaintext), 2)[0]
        column = np.array(self.ring.moduli, np.uint64)[:, None]
        return self.ring.reduce(after + (column - before))

    def slot_noise(self, rows: int) -> Row:
        """Returns that noise as slots (rows, slots) of CKKS, in the values' units."""
        p = self.parameters
        std = p.flooding_std * math.sqrt(p.ring_dimension / 2) / p.scale
        parts = 2 if p.request.complex_packing else 1
        noise = gaussian(rows * p.slots * parts, std)
        return noise.view(self._dtype).reshape(rows, p.slots)

    def _transform(self, coefficients: npt.NDArray[np.int64]) -> Residues:
        """Returns the residues (L, N) of an integer polynomial, below 2^55 in size.

        OpenFHE encodes coefficients below its plaintext modulus, 2^29 here, and takes
        them as positive. So the polynomial is made positive, put together from pieces
        and made itself again: its sum with a multiple of 1 + X + X^2 + ...
        """
        helper = small_context(self._openfhe, self.parameters)
        if helper.ring != self.ring:
            raise UnexpectedLayoutError("OpenFHE gave two moduli to one ring.")
        pieces = 1
        while np.abs(coefficients).max() >= 1 << PIECE_BITS * pieces - 1:
            pieces += 1
        offset = 1 << PIECE_BITS * pieces - 1
        positive, mask = coefficients + offset, (1 << PIECE_BITS) - 1
        total = self._multiple(helper, np.ones_like(positive), -offset)
        for piece in range(pieces):
            shift = PIECE_BITS * piece
            total += self._multiple(helper, positive >> shift & mask, 1 << shift)
        return self.ring.reduce(total)

    def _multiple(
        self, helper: SmallContext, coefficients: npt.NDArray[np.int64], factor: int
    ) -> Residues:
        """Residues of `factor` times a polynomial with coefficients in [0, 2^28).

        The factor is a polynomial too, a constant, and all residues of a constant are
        itself: a ciphertext of such residues, times a plaintext, is the product.
        """
        constant = np.empty((self.ring.limbs, self.ring.dimension), np.uint64)
        constant[:] = [[factor % q] for q in self.ring.moduli]
        # What is made of constants is not uniform, so that no layout shows in it.
        self._layouts.setdefault(len(helper.mould.data), helper.mould)
        data = helper.mould.filled(np.stack([constant, constant]))
        parsed = self._openfhe.DeserializeCiphertextString(data, self._openfhe.BINARY)
        parsed.SetEncodingType(self._openfhe.COEF_PACKED_ENCODING)
        plaintext = helper.context.MakeCoefPackedPlaintext(coefficients)
        return self._residues(helper.context.EvalMult(parsed, plaintext), 2)[0]

    def _encode(self, row: Row) -> Any:
        if self.parameters.request.scheme.exact:
            return self._context.MakePackedPlaintext(row)
        return self._context.MakeCKKSPackedPlaintext(row * self.parameters.prescale)

    def _decode(self, plaintext: Any) -> Row:
        plaintext.SetLength(self.parameters.slots)
        if self.parameters.request.scheme.exact:
            # OpenFHE centres residues mod t around zero.
            values = np.array(plaintext.GetPackedValueArray(), np.int64)
            values += (values >> 63) & self.parameters.plaintext_modulus
            return values
        if self.parameters.request.complex_packing:
            slots = np.asarray(plaintext.GetCKKSPackedValueArray())
        else:
            slots = np.asarray(plaintext.GetRealPackedValueArray())
        return slots / self.parameters.prescale

    def _serialise(self, value: Any) -> bytes:
        return bytes(self._openfhe.Serialize(value, self._openfhe.BINARY))

    def _mould(self, value: Any, polynomials: int) -> Mould:
        made = Mould.of(self._serialise(value), self.ring, polynomials)
        self._layouts.setdefault(len(made.data), made)
        return made

    def _residues(self, value: Any, polynomials: int) -> Residues:
        """Returns the polynomials (M, L, N) of a key or a ciphertext."""
        data = self._serialise(value)
        # Objects of one length have one layout; a first one of its length shows it.
        if len(data) not in self._layouts:
            self._layouts[len(data)] = Mould.of(data, self.ring, polynomials)
        return self._layouts[len(data)].read(data)
