"""The client: it asks with encrypted images, and only it can read the answers."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.messages.wire import WireError
from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.evaluating.ckks import Ckks, ckks_of
from fedjax_private.inference.evaluating.expansion import fresh_seed, reseeded, uniform
from fedjax_private.inference.evaluating.keys import write_keys
from fedjax_private.inference.planning.layouts import BatchLayout
from fedjax_private.inference.planning.public import ANSWER, KEYS, REQUEST, PublicPlan


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Querier:
    """A client with a key pair of its own. Build with `create`.

    Formal guarantees. Who sees its messages, the server included, learns the number of
    images in each and nothing else of them, under the ring learning with errors
    assumption at 128 bits (the ring is checked against the published tables), as long
    as it does not learn what the client decrypts. CKKS gives no more than this: scores
    that the client shows to a server that deviates from the protocol can tell of the
    secret key (Li and Micciancio, EUROCRYPT 2021); answers of an honest server carry
    its flooding noise, which hides the noise that does.

    Attributes:
        public: the service's terms.
    """

    public: PublicPlan
    _ckks: Ckks
    _pair: Any
    _workers: Workers

    @classmethod
    def create(cls, public: PublicPlan, workers: Workers | None = None) -> "Querier":
        """Makes a key pair.

        Args:
            public: the service's terms.
            workers: threads; one for each core by default.

        Raises:
            WireError: if the plan's primes are not those of its ring.
            OpenFHEUnavailable: where OpenFHE cannot be imported.
        """
        ckks = ckks_of(public.choice)
        if ckks.ring != public.ring:
            raise WireError(
                "the plan has other primes than OpenFHE chooses here: client and "
                "server need the same version of it."
            )
        ckks.backend.check_process()
        return cls(public, ckks, ckks.context.KeyGen(), workers or Workers.start())

    def evaluation_keys(self) -> bytes:
        """What the server evaluates with, and can decrypt nothing with; sent once."""
        keys = write_keys(self._ckks, self._pair, self.public.rotations, self._workers)
        return self.public.header(KEYS) + keys

    def encrypt(self, images: npt.ArrayLike) -> bytes:
        """Returns a request.

        Args:
            images: (n, *input_shape) float, normalised as the model's are; n from 1 to
                `public.images_per_request`.

        Raises:
            ValueError: for another shape, numbers that are not finite, or larger than
                the plan's `input_scale`.
        """
        values, public, ckks = np.asarray(images, np.float64), self.public, self._ckks
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
                "normalise them as the model's are."
            )
        ckks.backend.check_process()
        rows = self._rows(values.reshape(len(values), -1) / public.input_scale)
        seed, scale = fresh_seed(), 2.0**public.encoding_bits
        secret = ckks.secret_residues(self._pair.secretKey)

        def encrypted(index: int) -> bytes:
            plaintext = ckks.encode(rows[index], scale, ckks.limbs)
            made = ckks.context.Encrypt(self._pair.secretKey, plaintext)
            pair = ckks.parts(made)
            other = uniform(seed, index, ckks.ring)
            return ckks.ring.pack(reseeded(ckks.ring, secret, pair, other)[None])

        parts = self._workers.map(encrypted, len(rows))
        return b"".join((public.header(REQUEST, len(values)), seed, *parts))

    def _rows(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Slots (ciphertexts, slots) of images (n, inputs)."""
        public, slots = self.public, self._ckks.slots
        if isinstance(public.layout, BatchLayout):
            rows = np.zeros((len(public.layout.used), slots))
            rows[:, : len(values)] = values[:, list(public.layout.used)].T
            return rows
        sources = public.layout.sources(public.input_shape, slots)
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
        body, found = public.body(
            answer, ANSWER, public.answer_bytes, public.images_per_request
        )
        if found != count:
            raise WireError(f"an answer about {found} images, not {count}.")
        slots = self.slots(body)
        if public.packing == "batch":
            return np.ascontiguousarray(slots[:, :count].real.T)
        return slots[:1, : public.outputs].real.copy()

    def slots(self, body: bytes | memoryview) -> npt.NDArray[np.complex128]:
        """All that an answer's ciphertexts hold: (ciphertexts, slots) complex128.

        Raises:
            WireError: if they are not ciphertexts.
        """
        ckks, ring = self._ckks, self.public.answer_ring
        polynomials = ring.unpack(body).reshape(-1, 2, ring.limbs, ring.dimension)
        ckks.backend.check_process()

        def decrypted(index: int) -> npt.NDArray[np.complex128]:
            number = ckks.number(polynomials[index], self.public.answer_scale)
            return ckks.decrypted(number, self._pair.secretKey)

        return np.stack(self._workers.map(decrypted, len(polynomials)))
