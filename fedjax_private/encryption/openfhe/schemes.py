"""Keys and encryptions by OpenFHE as arrays of residues; encoding and decryption.

OpenFHE's objects stay with the party that made them. Parties exchange residues of
polynomials, and the receiver puts those of a public key into a serialised object of its
own (see `templates`). So OpenFHE never parses unchecked bytes from another party, and
its framing is neither sent nor trusted.

OpenFHE draws everything that is random in keys and ciphertexts. It encrypts zero, and
the message is added afterwards, which is also the last step of OpenFHE's own
encryption. `math.polynomials` computes what follows from a secret key without
randomness, `c0 + c1 s`. It is exact, so the result is either right or visibly wrong.

CKKS: Cheon, Kim, Kim and Song (ASIACRYPT 2017), in RNS form. BGV: Brakerski, Gentry and
Vaikuntanathan (ITCS 2012). BFV: Brakerski (CRYPTO 2012), Fan and Vercauteren (2012).
Shares of keys: Asharov et al. (EUROCRYPT 2012).
"""

from typing import Any

import numpy as np

from fedjax_private.encryption.errors import RefusedError, UnexpectedLayoutError
from fedjax_private.encryption.math import plaintexts, polynomials
from fedjax_private.encryption.math.entropy import wide_gaussian
from fedjax_private.encryption.math.packing import Rows
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.noise import fresh_variance
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import context_for, ring_of
from fedjax_private.encryption.openfhe.templates import Template
from fedjax_private.encryption.parameters import Parameters, Scheme

# OpenFHE's classes have no type stubs; this name says which class is meant.
PublicKey = Any


class HomomorphicScheme:
    """The operations that sums need, at one parameter set. Holds no key of a run.

    Once made, it is safe to use from several threads: OpenFHE keeps one random
    generator per thread. Make it in the main thread: OpenFHE's first encoding can hang
    in another.

    Formal guarantees: `encrypt` is OpenFHE's public-key encryption, IND-CPA secure
    against whoever lacks the secret key under ring learning with errors with ternary
    secrets at 128 bits, its Gaussian and ternary samplers trusted; that the message is
    added afterwards changes no ciphertext's distribution. `decrypt` hides nothing of
    the noise that a ciphertext has, which tells of the key in CKKS (Li and Micciancio,
    EUROCRYPT 2021): its results are for whoever has the key. With `flooded`, it hides
    the noise as `Parameters.flooding_std` says; so does `partially_decrypt`.

    Raises:
        OpenFHEUnavailable: on construction, where OpenFHE cannot be imported.
        UnexpectedLayoutError: on construction, under an OpenFHE of another layout.
        ForkedProcessError: by all methods but `public_key`, in a forked child of the
            process that loaded OpenFHE.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._backend = load()
        self._openfhe = self._backend.openfhe
        self._context = context_for(self._openfhe, parameters)
        self.ring = ring_of(parameters)
        if parameters.request.scheme.exact:
            self._zero = self._context.MakePackedPlaintext([0])
        else:
            self._zero = self._context.MakeCKKSPackedPlaintext([0.0])
        self._templates: dict[int, Template] = {}
        # A throwaway key: its object is the template for the keys of others.
        pair = self._context.KeyGen()
        public = self._serialise(pair.publicKey)
        self._public_template = Template.of(public, self.ring, 2)
        self._check(pair)

    def _check(self, pair: Any) -> None:
        """Raises UnexpectedLayoutError unless encryptions have the expected noise.

        All flooding and every noise budget is sized by that noise. The check also
        detects an OpenFHE that holds the values of polynomials in another order, since
        its noise would then not be a small polynomial here.
        """
        zero = np.zeros((1, self.ring.limbs, self.ring.dimension), np.uint64)
        encrypted = self.encrypt(pair.publicKey, zero)
        decrypted = self._decrypted(self._secret_key(pair), encrypted)
        noise = plaintexts.centred(decrypted, self.ring)
        if self.parameters.request.scheme is Scheme.EXACT:
            noise /= self.parameters.plaintext_modulus
        ratio = np.square(noise).mean() / fresh_variance(self.ring.dimension)
        # Ten standard deviations of the mean on either side: see `parameters`.
        if not 0.6 < ratio < 1.4:
            raise UnexpectedLayoutError(
                "this version of OpenFHE encrypts differently from the tested ones: "
                "install the version that pyproject.toml names."
            )

    def generate_keys(self) -> tuple[Residues, Factor]:
        """Returns fresh public residues (2, L, N) and the secret polynomial."""
        self._backend.check_process()
        pair = self._context.KeyGen()
        return self._residues(pair.publicKey, 2), self._secret_key(pair)

    def generate_share(self, common: Residues) -> tuple[Residues, Factor]:
        """Returns one holder's part of a joint key.

        Args:
            common: (L, N), the polynomial `a` that all holders use.

        Returns:
            The contribution `e - a s` (L, N) and the secret `s`. The joint public key
            is the sum of the contributions, the joint secret key that of the secrets.
        """
        self._backend.check_process()
        lead = self.public_key(np.stack([common, common]))
        pair = self._context.MultipartyKeyGen(lead, False, True)
        return self._residues(pair.publicKey, 2)[0], self._secret_key(pair)

    def public_key(self, residues: Residues) -> PublicKey:
        """Returns OpenFHE's public key with the residues (2, L, N)."""
        data = self._public_template.filled(residues)
        return self._openfhe.DeserializePublicKeyString(data, self._openfhe.BINARY)

    def encode(self, rows: Rows) -> Residues:
        """Returns rows (M, slots) of slots as messages (M, L, N)."""
        self._backend.check_process()
        coefficients = plaintexts.encode(rows, self.parameters, self.ring)
        return polynomials.evaluate(coefficients, self.ring)

    def encrypt(self, public_key: PublicKey, messages: Residues) -> Residues:
        """Returns fresh encryptions (M, 2, L, N) of messages (M, L, N)."""
        self._backend.check_process()
        ciphertexts = np.empty((len(messages), 2, *messages.shape[1:]), np.uint64)
        for ciphertext in ciphertexts:
            zero = self._context.Encrypt(public_key, self._zero)
            ciphertext[:] = self._residues(zero, 2)
        ciphertexts[:, 0] = self.ring.add(ciphertexts[:, 0], messages)
        return ciphertexts

    def decrypt(
        self,
        secret_key: Factor,
        ciphertexts: Residues,
        *,
        flooded: bool = False,
        uploads: int | None = None,
    ) -> Rows:
        """Returns the rows (M, slots) of ciphertexts (M, 2, L, N).

        Args:
            secret_key: the secret key.
            ciphertexts: residues, such as of sums.
            flooded: whether noise makes the rows safe to publish. It is whole numbers
                of deviation `flooding_std` on whole coefficients. Later rounding to
                float64 is a function of the noisy sum and reveals nothing else
                (Mironov, "On Significance of the Least Significant Bits for
                Differential Privacy", CCS 2012).
            uploads: how many uploads the ciphertexts are a sum of. An exact scheme then
                refuses one with more noise than that many honest uploads have.

        Raises:
            RefusedError: if there is more noise; see `Parameters.largest_coefficient`.
        """
        self._backend.check_process()
        coefficients = self._decrypted(secret_key, ciphertexts)
        if uploads is not None and self.parameters.request.scheme is Scheme.EXACT:
            largest = np.abs(plaintexts.centred(coefficients, self.ring)).max()
            if largest > self.parameters.largest_coefficient(uploads):
                raise RefusedError(
                    "this sum is not decrypted: it has more noise than honest uploads "
                    "have, so a client or the server departs from the protocol; the "
                    "key ends here."
                )
        if flooded:
            noise = self.flooding_noise(len(coefficients))
            coefficients = self.ring.add(coefficients, noise)
        return plaintexts.decode(coefficients, self.parameters, self.ring)

    def partially_decrypt(
        self, secret_key: Factor, seconds: Residues, noise: Residues | None = None
    ) -> Residues:
        """Returns one holder's part of decryptions, `c1 s + noise` (M, L, N).

        Args:
            secret_key: the secret key of the holder.
            seconds: c1 (M, L, N), the second polynomials of the ciphertexts.
            noise: the values (M, L, N) of the holder's `flooding_noise`; None to draw
                it here.
        """
        self._backend.check_process()
        if noise is None:
            noise = polynomials.evaluate(self.flooding_noise(len(seconds)), self.ring)
        product = polynomials.multiply(seconds, secret_key, self.ring)
        return self.ring.add(product, noise)

    def _decrypted(self, secret_key: Factor, ciphertexts: Residues) -> Residues:
        """Returns the coefficients (M, L, N) of `c0 + c1 s`: messages with noise."""
        product = polynomials.multiply(ciphertexts[:, 1], secret_key, self.ring)
        values = self.ring.add(ciphertexts[:, 0], product)
        return polynomials.interpolate(values, self.ring)

    def flooding_noise(self, count: int) -> Residues:
        """Returns the coefficients (M, L, N) of fresh noise for `count` polynomials.

        They are Gaussian integers, which cover every bit of what they mask.
        """
        shape = count, self.ring.dimension
        high, low, shift = wide_gaussian(shape, self.parameters.flooding_std)
        return polynomials.residues(high, low, shift, self.ring)

    def _secret_key(self, pair: Any) -> Factor:
        data = self._serialise(pair.secretKey)
        # The template is not kept, because it holds the key.
        (polynomial,) = Template.of(data, self.ring, 1).read(data)
        return Factor.of(polynomial, self.ring)

    def _serialise(self, value: Any) -> bytes:
        return bytes(self._openfhe.Serialize(value, self._openfhe.BINARY))

    def _residues(self, value: Any, count: int) -> Residues:
        """Returns the `count` polynomials (M, L, N) of a public key or a ciphertext."""
        data = self._serialise(value)
        # Objects of one length have one layout, which the first of them shows.
        if len(data) not in self._templates:
            self._templates[len(data)] = Template.of(data, self.ring, count)
        return self._templates[len(data)].read(data)
