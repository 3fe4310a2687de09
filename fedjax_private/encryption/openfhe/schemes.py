"""Keys and encryption by OpenFHE, as arrays of residues; decryption and messages by us.

OpenFHE's objects stay with whoever made them. What parties exchange are the residues of
polynomials; a public key's are spliced into a serialised object of the receiver's own
making. OpenFHE never parses a byte of another party's that was not checked, and its
framing is neither sent nor trusted.

All that is drawn at random for keys and ciphertexts OpenFHE draws: its encryptions are
encryptions of zero, to which the message is added, as its own encryption does last.
What follows from a secret key without randomness, `c0 + c1 s`, is `arithmetic`'s, which
is exact, so that it is either right or visibly wrong.

CKKS: Cheon, Kim, Kim and Song (ASIACRYPT 2017), in RNS form. BGV: Brakerski, Gentry and
Vaikuntanathan (ITCS 2012). BFV: Brakerski (CRYPTO 2012), Fan and Vercauteren (2012).
Shares of keys: Asharov et al. (EUROCRYPT 2012).
"""

from typing import Any

import numpy as np

from fedjax_private.encryption.math import plaintexts
from fedjax_private.encryption.math import polynomials as arithmetic
from fedjax_private.encryption.math.entropy import wide_gaussian
from fedjax_private.encryption.math.packing import Rows
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import context_for, ring_of
from fedjax_private.encryption.openfhe.templates import Mould, UnexpectedLayoutError
from fedjax_private.encryption.parameters import Parameters, Scheme, fresh_variance

# OpenFHE's classes carry no type stubs; this name says which one is meant.
PublicKey = Any


class HomomorphicScheme:
    """The operations that sums need, at one parameter set. Holds no key of a run's.

    Safe to use from several threads once made: OpenFHE keeps one random generator per
    thread. Make it in the main thread: OpenFHE's first encoding elsewhere can hang.

    Formal guarantees: `encrypt` is OpenFHE's public-key encryption, IND-CPA secure
    against whoever lacks the secret key under ring learning with errors with ternary
    secrets at 128 bits, its Gaussian and ternary samplers trusted; that the message is
    added afterwards changes no ciphertext's distribution. `decrypt` hides nothing of
    the noise that a ciphertext has, which tells of the key in CKKS (Li and Micciancio,
    EUROCRYPT 2021): its results are for whoever has the key. `flooded` and `partial`
    hide the noise as `Parameters.flooding_std` says.

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
        self._zero = self._encode_zero()
        self._layouts: dict[int, Mould] = {}
        # A key of nobody's, forgotten at once: the mould of others'.
        pair = self._context.KeyGen()
        self._public_mould = Mould.of(self._serialise(pair.publicKey), self.ring, 2)
        self._check(pair)

    def _encode_zero(self) -> Any:
        if self.parameters.request.scheme.exact:
            return self._context.MakePackedPlaintext([0])
        return self._context.MakeCKKSPackedPlaintext([0.0])

    def _check(self, pair: Any) -> None:
        """Raises UnexpectedLayoutError unless encryptions carry the noise assumed.

        All flooding and every noise budget is sized by it. And if OpenFHE held
        polynomials by their values in another order, its noise would be no small
        polynomial to us.
        """
        zero = np.zeros((1, self.ring.limbs, self.ring.dimension), np.uint64)
        opened = self._opened(self._secret(pair), self.encrypt(pair.publicKey, zero))
        coefficients = arithmetic.interpolate(opened, self.ring)
        noise = plaintexts.centred(coefficients, self.ring)
        if self.parameters.request.scheme is Scheme.EXACT:
            noise /= self.parameters.plaintext_modulus
        ratio = np.square(noise).mean() / fresh_variance(self.ring.dimension)
        # Ten deviations of the mean on either side: see `parameters`.
        if not 0.6 < ratio < 1.4:
            raise UnexpectedLayoutError(
                "this version of OpenFHE encrypts otherwise than the tested ones do: "
                "install the version that pyproject.toml names."
            )

    def generate_keys(self) -> tuple[Residues, Factor]:
        """Returns a fresh key pair: (2, L, N) public residues, the secret polynomial.

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        pair = self._context.KeyGen()
        return self._residues(pair.publicKey, 2), self._secret(pair)

    def generate_share(self, common: Residues) -> tuple[Residues, Factor]:
        """Returns a holder's part of a joint key.

        Args:
            common: (L, N), the polynomial `a` that all holders use.

        Returns:
            Its contribution `e - a s` (L, N), which the joint public key is the sum of,
            and its secret `s`, which the joint secret key is the sum of.

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        lead = self.public_key(np.stack([common, common]))
        pair = self._context.MultipartyKeyGen(lead, False, True)
        return self._residues(pair.publicKey, 2)[0], self._secret(pair)

    def public_key(self, polynomials: Residues) -> PublicKey:
        """Returns OpenFHE's public key with the polynomials (2, L, N)."""
        data = self._public_mould.filled(polynomials)
        return self._openfhe.DeserializePublicKeyString(data, self._openfhe.BINARY)

    def secret_key(self, polynomial: Residues) -> Factor:
        """Returns the secret key with the polynomial (L, N)."""
        return Factor.of(polynomial, self.ring)

    def encode(self, rows: Rows) -> Residues:
        """Returns rows (M, slots) of slots as messages (M, L, N).

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        coefficients = plaintexts.encode(rows, self.parameters, self.ring)
        return arithmetic.evaluate(coefficients, self.ring)

    def encrypt(self, public_key: PublicKey, messages: Residues) -> Residues:
        """Returns fresh encryptions (M, 2, L, N) of messages (M, L, N).

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        made = np.empty((len(messages), 2, *messages.shape[1:]), np.uint64)
        for ciphertext in made:
            zero = self._context.Encrypt(public_key, self._zero)
            ciphertext[:] = self._residues(zero, 2)
        made[:, 0] = self.ring.add(made[:, 0], messages)
        return made

    def decrypt(self, secret_key: Factor, ciphertexts: Residues) -> Rows:
        """Returns the rows (M, slots) of ciphertexts (M, 2, L, N); adds no noise.

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        return self.decode(self._opened(secret_key, ciphertexts))

    def flooded(self, secret_key: Factor, ciphertexts: Residues) -> Rows:
        """Returns the same with `flooding_std` of noise, which may be shown to others.

        The noise is whole numbers on whole coefficients: what a float64 rounds after
        that is a function of the sum, and tells of nothing else (Mironov, "On
        Significance of the Least Significant Bits for Differential Privacy", CCS 2012).

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        opened = self._opened(secret_key, ciphertexts)
        coefficients = arithmetic.interpolate(opened, self.ring)
        total = self.ring.add(coefficients, self._coefficients(len(opened)))
        return plaintexts.decode(total, self.parameters, self.ring)

    def decode(self, polynomials: Residues) -> Rows:
        """Returns the rows (M, slots) of sums of all parts (M, L, N). Needs no key."""
        return plaintexts.read(polynomials, self.parameters, self.ring)

    def _opened(self, secret_key: Factor, ciphertexts: Residues) -> Residues:
        """Returns `c0 + c1 s` (M, L, N): the messages with their noise."""
        product = arithmetic.multiply(ciphertexts[:, 1], secret_key, self.ring)
        return self.ring.add(ciphertexts[:, 0], product)

    def partial(self, secret_key: Factor, seconds: Residues) -> Residues:
        """Returns one share of decryptions, `c1 s + noise` (M, L, N).

        Args:
            secret_key: a holder's.
            seconds: c1 (M, L, N), the ciphertexts' second polynomials.

        Raises:
            ForkedProcessError: in a forked child of the process that loaded OpenFHE.
        """
        self._backend.check_process()
        product = arithmetic.multiply(seconds, secret_key, self.ring)
        return self.ring.add(product, self.noise(len(seconds)))

    def noise(self, count: int) -> Residues:
        """Returns polynomials (count, L, N) with Gaussian coefficients.

        Integers, `flooding_std` wide, which leave no bit of what they are added to.
        """
        return arithmetic.evaluate(self._coefficients(count), self.ring)

    def _coefficients(self, count: int) -> Residues:
        shape = count, self.ring.dimension
        wide = wide_gaussian(shape, self.parameters.flooding_std)
        return arithmetic.residues(*wide, self.ring)

    def _secret(self, pair: Any) -> Factor:
        data = self._serialise(pair.secretKey)
        # No layout of it is kept, which would keep the key.
        return self.secret_key(Mould.of(data, self.ring, 1).read(data)[0])

    def _serialise(self, value: Any) -> bytes:
        return bytes(self._openfhe.Serialize(value, self._openfhe.BINARY))

    def _residues(self, value: Any, polynomials: int) -> Residues:
        """Returns the polynomials (M, L, N) of a key or a ciphertext."""
        data = self._serialise(value)
        # Objects of one length have one layout; a first one of its length shows it.
        if len(data) not in self._layouts:
            self._layouts[len(data)] = Mould.of(data, self.ring, polynomials)
        return self._layouts[len(data)].read(data)
