"""Who holds which key. Only bytes pass between the roles.

                public material
    KeyAuthority ------------> Encryptor of each client
         ^  |                        | upload
     sum |  | released               v
         |  '----------------> AggregationServer
         '---------------------------'

With a key in shares the clients' `threshold.KeyHolder`s take the authority's place.

Assumed throughout: parties know each other's public keys (`channels.Directory`), so
that a message is from whom it names; and clients get the public material from the
authority, or from the holders, and not from a server that could hand them a key of its
own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.math.packing import Rows, pack, unpack
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import (
    SERVER,
    Kind,
    RefusedError,
    WireError,
    read,
    write,
)
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.encryption.workers import Workers
from fedjax_private.trust import Decryptor, Trust

IN_THIS_THREAD = Workers()


class DecryptionLog:
    """Which sums have been decrypted under one key, and how many may still be.

    Args:
        material: of the key.
        trust: the fewest uploads that a decrypted sum holds.

    Raises:
        ValueError: if the trust model asks for more uploads than a sum can hold.
    """

    def __init__(self, material: Material, trust: Trust) -> None:
        request = material.parameters.request
        if trust.uploads > request.uploads:
            raise ValueError(
                f"a sum must hold at least {trust.uploads} uploads, but the parameters "
                f"hold at most {request.uploads}."
            )
        self._least, self._most = trust.uploads, request.uploads
        self._left = material.parameters.sums_per_key
        self._rounds: set[int] = set()

    @property
    def used_up(self) -> bool:
        """Whether the key has decrypted all that it may: time for another."""
        return self._left == 0

    def enter(self, round_number: int, clients: tuple[int, ...]) -> None:
        """Notes that the sum of those clients in that round is decrypted now.

        Before, not after: what decryption fails on is not retried.

        Raises:
            RefusedError: too few or too many uploads, a second sum of the round, or a
                key that is used up.
        """
        if len(clients) < self._least:
            raise RefusedError(
                f"a sum of {len(clients)} uploads is not decrypted: it must hold at "
                f"least {self._least}."
            )
        if len(clients) > self._most:
            raise RefusedError(
                f"a sum of {len(clients)} uploads may wrap around: the parameters "
                f"hold at most {self._most}."
            )
        if round_number in self._rounds:
            raise RefusedError(f"round {round_number} has been decrypted already.")
        if self.used_up:
            raise RefusedError(
                "this key has decrypted as many sums as its noise protects: the next "
                "round needs a fresh one."
            )
        self._rounds.add(round_number)
        if self._left is not None:
            self._left -= 1


class KeyAuthority:
    """Makes one key and decrypts one sum a round with it. `ckks` and `exact`.

    Held by the named party that all participants trust not to collude with the server:
    never by the server, and by no client. The secret key never leaves the object.

    Formal guarantees: against anyone without the secret key, uploads are IND-CPA secure
    under the hardness of ring learning with errors with ternary secrets at 128 bits
    (Lyubashevsky, Peikert and Regev, EUROCRYPT 2010). What it releases may be shown to
    everybody (IND-CPA-D; Li and Micciancio, EUROCRYPT 2021): `exact` sums, because they
    are a function of the plaintexts alone while decryption cannot fail, which the noise
    budget of `derive` bounds by 2^-100; `ckks` sums, because Gaussian noise floods
    their error, up to 2^-s in Kullback-Leibler divergence over the query budget (see
    `Parameters.flooding_std`), after which the key refuses. Without `protect` nothing
    is added: then the sums may be shown only to those who hold the key anyway.

    Not guaranteed: the authority can decrypt every single upload that it gets hold of;
    that it does not, and does not collude with the server, is an assumption. It takes
    the server's word for which uploads a sum holds: a server outside the
    honest-but-curious model could pass off one upload as a sum. None of this noise
    counts as differential privacy.

    Args:
        party: who it is, and whom it knows.
        request: what is to be summed.
        trust: who decrypts, and the fewest uploads that a decrypted sum holds.
        workers: threads to decrypt on.

    Raises:
        ValueError: if no parameters serve the request, or the trust model names another
            decryptor or more uploads than a sum holds.
        OpenFHEUnavailable: where OpenFHE cannot be imported.
    """

    def __init__(
        self,
        party: Party,
        request: SumRequest,
        trust: Trust,
        workers: Workers = IN_THIS_THREAD,
    ) -> None:
        single = trust.decryptor in (Decryptor.KEY_AUTHORITY, Decryptor.EVERY_CLIENT)
        if not single or request.scheme.threshold:
            raise ValueError(
                f"a key authority decrypts {request.scheme.value} for a trust model "
                f"that names {trust.decryptor.value!r}: one of the two is wrong."
            )
        self._scheme = HomomorphicScheme(derive(request))
        public, self._secret_key = self._scheme.generate_keys()
        self.material = Material.of_key(
            self._scheme.parameters, self._scheme.ring.pack(public)
        )
        self._log = DecryptionLog(self.material, trust)
        self._party, self._workers = party, workers

    @property
    def used_up(self) -> bool:
        """Whether the key has decrypted all that it may: time for another."""
        return self._log.used_up

    def decrypt(self, data: bytes) -> bytes:
        """Returns the released sum, for the server, of an encrypted sum of its.

        Raises:
            WireError: if the message is not a sum of the server's under this key.
            RefusedError: see `DecryptionLog.enter`.
        """
        parameters, ring = self._scheme.parameters, self._scheme.ring
        message = read(
            self._party,
            data,
            Kind.SUM,
            payload=2 * parameters.rows * ring.polynomial_bytes,
            most_numbers=parameters.request.uploads,
            key_id=self.material.key_id,
        )
        if message.sender != SERVER:
            raise WireError(f"a sum from {message.sender}, who is not the server.")
        size = 2 * ring.polynomial_bytes
        spans = self._workers.spans(parameters.rows)

        def unpack_rows(index: int) -> Residues:
            span = spans[index]
            data = message.payload[span.start * size : span.stop * size]
            return ring.unpack(data).reshape(-1, 2, ring.limbs, ring.dimension)

        # All of it, before any of it counts as decrypted.
        ciphertexts = self._workers.map(unpack_rows, len(spans))
        self._log.enter(message.round_number, message.numbers)

        def decrypt_rows(index: int) -> Rows:
            if parameters.flooding_std:
                return self._scheme.flooded(self._secret_key, ciphertexts[index])
            return self._scheme.decrypt(self._secret_key, ciphertexts[index])

        rows = np.concatenate(self._workers.map(decrypt_rows, len(spans)))
        return write(
            self._party,
            SERVER,
            Kind.RELEASED,
            message.round_number,
            unpack(rows, parameters).astype(parameters.request.released).tobytes(),
            key_id=self.material.key_id,
            numbers=message.numbers,
        )


class Encryptor:
    """Encrypts vectors with the public key. Anyone may hold it; clients do.

    Formal guarantees: an upload reveals its round, its sender and its size, and nothing
    else about the vector to anyone who cannot decrypt, under the assumption and against
    the parties named at `KeyAuthority` or `threshold.KeyHolder`. Its length depends on
    the vector's size only. Encryption is randomised afresh by the operating system's
    entropy: equal vectors give different uploads, and no seed of a simulation reaches
    it.

    Args:
        material: with the public key.
        workers: threads to encrypt on.

    Raises:
        WireError: if the material has no public key, or an impossible one.
        OpenFHEUnavailable: where OpenFHE cannot be imported.
    """

    def __init__(self, material: Material, workers: Workers = IN_THIS_THREAD) -> None:
        if not material.public_key:
            raise WireError("key material without a public key cannot encrypt.")
        self.material = material
        self._workers = workers
        self._scheme = HomomorphicScheme(material.parameters)
        polynomials = self._scheme.ring.unpack(material.public_key)
        self._public_key = self._scheme.public_key(polynomials)

    def encrypt(
        self,
        party: Party,
        receiver: int,
        round_number: int,
        vector: npt.NDArray[Any],
    ) -> bytes:
        """Returns the upload of one client in one round.

        Args:
            party: the client.
            receiver: the server, or whoever adds next.
            round_number: from 0.
            vector: (values,): floats for CKKS; whole numbers in [0, 2^b) if exact.

        Raises:
            ValueError: if the vector has another shape, an entry that is not finite, or
                one beyond the declared bound, which could wrap the sum around.
            WireError: if a number is negative or too large for the message.
        """
        (ciphertexts,) = self.ciphertexts([party.number], [vector])
        return self.upload(party, receiver, round_number, ciphertexts)

    def ciphertexts(
        self,
        clients: Sequence[int],
        vectors: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    ) -> list[memoryview]:
        """Returns the packed ciphertexts of several clients' vectors.

        In a simulation: threads that share many clients' ciphertexts wait less for one
        another than threads that share the few of one.

        Args:
            clients: whose they are, for error messages.
            vectors: as for `encrypt`.

        Raises:
            ValueError: as `encrypt` does.
        """
        parameters, ring = self.material.parameters, self._scheme.ring
        if not parameters.request.scheme.exact:
            for client, vector in zip(clients, vectors, strict=True):
                self._check(client, vector)
        packed = self._workers.map(
            lambda index: pack(vectors[index], parameters), len(vectors)
        )
        rows = np.concatenate(packed)
        spans = self._workers.spans(len(rows))

        def encrypt_rows(index: int) -> bytes:
            messages = self._scheme.encode(rows[spans[index]])
            made = self._scheme.encrypt(self._public_key, messages)
            return ring.pack(made.reshape(-1, ring.limbs, ring.dimension))

        data = memoryview(b"".join(self._workers.map(encrypt_rows, len(spans))))
        size = len(data) // len(packed)
        return [data[first : first + size] for first in range(0, len(data), size)]

    def upload(
        self, party: Party, receiver: int, round_number: int, ciphertexts: memoryview
    ) -> bytes:
        """Returns the upload that carries a client's packed ciphertexts.

        Raises:
            WireError: if a number is negative or too large for the message.
        """
        return write(
            party,
            receiver,
            Kind.UPLOAD,
            round_number,
            ciphertexts,
            key_id=self.material.key_id,
            numbers=(party.number,),
        )

    def _check(self, client: int, vector: npt.NDArray[np.floating]) -> None:
        # The maximum propagates NaN, so that one pass serves both checks.
        largest = float(np.abs(vector).max(initial=0.0))
        bound = self.material.parameters.request.sum_bound
        if not np.isfinite(largest):
            raise ValueError(
                f"client {client}: the vector has an entry that is not finite, which "
                "cannot be encrypted; the training has probably diverged."
            )
        if largest > bound:
            raise ValueError(
                f"client {client}: the vector has an entry of absolute value "
                f"{largest:g}, beyond the declared bound of {bound:g}; declare a "
                "larger value bound, which costs precision, or clip."
            )
