"""The client's side of a session: it encrypts images and decrypts the answers."""

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.evaluating.ckks import ckks_of
from fedjax_private.inference.evaluating.expansion import fresh_seed, reseeded, uniform
from fedjax_private.inference.evaluating.keys import write_keys
from fedjax_private.inference.planning.layouts import BatchLayout
from fedjax_private.inference.planning.polynomials import Number
from fedjax_private.inference.planning.public import ANSWER, KEYS, REQUEST, PublicPlan


class Querier:
    """A client with its own key pair, made on construction.

    Formal guarantees. An adversary that sees its messages, the server included, learns
    the number of images in each and nothing else of them, under the ring learning with
    errors assumption at 128 bits (the ring is checked against the published tables), as
    long as it does not learn what the client decrypts. CKKS gives no more than this:
    scores that the client shows to a server that deviates from the protocol can reveal
    the secret key (Li and Micciancio, EUROCRYPT 2021); answers of an honest server
    carry its flooding noise, which hides the noise that does.

    Args:
        public: the service's plan.

    Attributes:
        ckks: the arithmetic.
        key_pair: OpenFHE's; the secret key must not leave this object.

    Raises:
        WireError: if the plan's primes are not those of its ring.
        OpenFHEUnavailable: if OpenFHE cannot be imported.
    """

    def __init__(self, public: PublicPlan) -> None:
        self.public, self._workers = public, Workers.start()
        self.ckks = ckks = ckks_of(public.choice)
        if ckks.ring != public.ring:
            raise WireError(
                "the plan has other primes than OpenFHE chooses here: client and "
                "server need the same version of it."
            )
        ckks.backend.check_process()
        self.key_pair = ckks.context.KeyGen()

    def evaluation_keys(self) -> bytes:
        """The keys that the server evaluates, but cannot decrypt, with; sent once."""
        rotations = self.public.rotations
        keys = write_keys(self.ckks, self.key_pair, rotations, self._workers)
        return self.public.header(KEYS) + keys

    def encrypt(self, images: npt.ArrayLike) -> bytes:
        """Returns a request.

        Args:
            images: (n, *input_shape) float, normalised like the model's training
                images; n from 1 to `public.images_per_request`.

        Raises:
            ValueError: if the shape is another, or a number is not finite or exceeds
                the plan's `input_scale`.
        """
        values, public, ckks = np.asarray(images, np.float64), self.public, self.ckks
        if (
            values.shape[1:] != public.input_shape
            or not 1 <= len(values) <= public.images_per_request
        ):
            raise ValueError(
                f"images must be (1 to {public.images_per_request}, "
                f"{', '.join(map(str, public.input_shape))}), got {values.shape}."
            )
        # Comparisons with NaN are false.
        if not (np.abs(values) <= public.input_scale).all():
            raise ValueError(
                f"images must be finite and at most {public.input_scale:g} in size: "
                "normalise them like the model's training images."
            )
        ckks.backend.check_process()
        slots = self._slots(values.reshape(len(values), -1) / public.input_scale)
        seed, scale = fresh_seed(), 2.0**public.encoding_bits
        secret = ckks.secret_residues(self.key_pair.secretKey)

        def encrypted(index: int) -> bytes:
            plaintext = ckks.encode(slots[index], scale, ckks.limbs)
            ciphertext = ckks.context.Encrypt(self.key_pair.secretKey, plaintext)
            pair = ckks.residues(Number(ciphertext, scale, ckks.limbs))
            expanded = uniform(seed, index, ckks.ring)
            return ckks.ring.pack(reseeded(ckks.ring, secret, pair, expanded)[None])

        parts = self._workers.map(encrypted, len(slots))
        return b"".join((public.header(REQUEST, len(values)), seed, *parts))

    def _slots(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Slots (ciphertexts, slots) of images (n, inputs)."""
        public, count = self.public, self.ckks.slots
        if isinstance(public.layout, BatchLayout):
            slots = np.zeros((len(public.layout.used), count))
            slots[:, : len(values)] = values[:, list(public.layout.used)].T
            return slots
        sources = public.layout.sources(public.input_shape, count)
        return np.where(sources >= 0, values[0][sources], 0.0)

    def decrypt(self, answer: bytes, count: int) -> npt.NDArray[np.float64]:
        """Returns the scores in an answer.

        Args:
            answer: from the server.
            count: how many images the request held.

        Returns:
            (count, outputs) float64.

        Raises:
            WireError: if it is not an answer to a request of that many images.
        """
        public = self.public
        body, answered = public.body(
            answer, ANSWER, public.answer_bytes, public.images_per_request
        )
        if answered != count:
            raise WireError(f"an answer about {answered} images, not {count}.")
        slots = self.slots(body)
        if public.packing == "batch":
            return np.ascontiguousarray(slots[:, :count].real.T)
        return slots[:1, : public.outputs].real.copy()

    def slots(self, body: bytes | memoryview) -> npt.NDArray[np.complex128]:
        """All slots of an answer's ciphertexts: (ciphertexts, slots) complex128.

        Args:
            body: the answer after its header.

        Raises:
            WireError: if these are not ciphertexts.
        """
        ckks, ring = self.ckks, self.public.answer_ring
        polynomials = ring.unpack(body).reshape(-1, 2, ring.limbs, ring.dimension)
        ckks.backend.check_process()

        def decrypted(index: int) -> npt.NDArray[np.complex128]:
            number = ckks.number(polynomials[index], self.public.answer_scale)
            return ckks.decrypted(number, self.key_pair.secretKey)

        return np.stack(self._workers.map(decrypted, len(polynomials)))
