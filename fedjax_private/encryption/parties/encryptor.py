"""The client's side: encryption of vectors under the public key."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.packing import check_vector, pack
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.vouchers import check_makers, vouched
from fedjax_private.encryption.messages.wire import AUTHORITY, Kind, Messages, write
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parties.declarations import declare
from fedjax_private.encryption.workers import IN_THIS_THREAD, Workers


class Encryptor:
    """Encrypts vectors with the public key. Anyone may hold it; clients do.

    Formal guarantees: an upload reveals its round, its sender and its size, and nothing
    else about the vector to anyone who cannot decrypt, under the assumption and against
    the parties named at `KeyAuthority` or `KeyHolder`, as long as no client under the
    same key departs from the protocol (see `AggregationServer`). Its length depends on
    the vector's size only. Encryption is randomised afresh by OpenFHE's generator,
    which the operating system seeds: equal vectors give different uploads, and no seed
    of a simulation reaches it. A client makes one upload a round, whatever becomes of
    keys: see `Party.once`.

    The material may come from anyone. A client uploads only after `admit`, so only
    under a key for which its makers have vouched to that client (see
    `messages.vouchers.vouched`), in a round that these say the key serves, and under no
    key older than one that the client has admitted. So a client makes at most as many
    uploads under one key as this serves rounds (`SumSettings.key_rounds`), whoever
    carries or withholds messages: that many at most are open to a server that knows the
    key from a client that departs from the protocol.

    Not guaranteed: a client takes the number of the round from whoever calls. One that
    has admitted no newer key, such as one that joins late, can be told that it is in a
    round of an old key, in which it has not uploaded: then it uploads under that one,
    at most once for each round that the key serves, and where the makers set no number
    of rounds, without a limit. Only the decryptors would tell it, because they refuse a
    declaration under another key than theirs: a server that carries their answers can
    keep them back. A client that knows the round, from a clock or from the makers, is
    not fooled where there is such a number.

    Args:
        material: with the public key.
        makers: the parties that made the key: the authority, or all holders. Clients
            know them beforehand.
        workers: threads for encryption.

    Raises:
        WireError: if the material has no public key, an impossible or a degenerate one,
            or one that so many parties cannot have made.
        OpenFHEUnavailable: where OpenFHE cannot be imported.
    """

    def __init__(
        self,
        material: Material,
        makers: Sequence[int] = (AUTHORITY,),
        workers: Workers = IN_THIS_THREAD,
    ) -> None:
        if not material.public_key:
            raise WireError("key material without a public key cannot encrypt.")
        check_makers(material, makers)
        self.material = material
        self._makers, self._workers = tuple(makers), workers
        self._admitted: set[bytes] = set()
        self._scheme = HomomorphicScheme(material.parameters)
        polynomials = self._scheme.ring.unpack(material.public_key)
        if not polynomials.all():
            # Each value is zero with probability 1/q, so once in 2^33 keys one is.
            raise WireError(
                "a degenerate public key, with values of zero, under which uploads "
                "would lie open."
            )
        self._public_key = self._scheme.public_key(polynomials)

    def admit(self, party: Party, messages: Iterable[bytes]) -> None:
        """Has a client read that the makers of the key vouch for it.

        Args:
            party: the client.
            messages: a voucher for it from each of the makers.

        Raises:
            WireError: as `vouched` does, or if they vouch for another key.
            RefusedError: as `vouched` does.
        """
        facts = vouched(party, self._makers, messages)
        if facts.to_bytes() != self.material.without_key().to_bytes():
            raise WireError("the makers of the key vouch for another one.")
        self._admitted.add(party.identity.public)

    def admits(self, party: Party) -> bool:
        """Returns whether a client has read that the makers vouch for the key."""
        return party.identity.public in self._admitted

    def encrypt(
        self,
        party: Party,
        receiver: int,
        round_number: int,
        vector: npt.NDArray[Any],
    ) -> tuple[bytes, Messages]:
        """Returns the upload of one client in one round, and its declarations.

        Args:
            party: the client.
            receiver: the number of the server or relay that adds the upload.
            round_number: from 0.
            vector: (values,): floats for CKKS; signed whole numbers if exact.

        Raises:
            ValueError: if the vector has another shape, an entry that is not finite, or
                one beyond the value bound, which the codec would have cut off.
            WireError: if a number is too large for the message.
            RefusedError: if the client has uploaded in that round, under any key; if it
                has not been told by the makers of the key that it is theirs; if the key
                does not serve the round, or the client has admitted a newer one.
        """
        self._check_key(party, round_number)
        (ciphertexts,) = self.ciphertexts([party.number], [vector])
        declarations = self.declare(party, round_number, ciphertexts)
        upload = self.upload(party, receiver, round_number, ciphertexts)
        return upload, declarations

    def ciphertexts(
        self,
        clients: Sequence[int],
        vectors: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    ) -> list[memoryview]:
        """Returns the packed ciphertexts of the vectors of several clients.

        First the first polynomials of all ciphertexts of a client, then the second.

        For simulations: threads that share the ciphertexts of many clients wait less
        for one another than threads that share those of one client.

        Args:
            clients: the clients' numbers, for error messages.
            vectors: a vector of each client, as for `encrypt`.

        Raises:
            ValueError: as `encrypt` does.
        """
        parameters, ring = self.material.parameters, self._scheme.ring
        for client, vector in zip(clients, vectors, strict=True):
            check_vector(client, vector, parameters.request)
        packed = self._workers.map(
            lambda index: pack(vectors[index], parameters), len(vectors)
        )
        rows = np.concatenate(packed)
        spans, size = self._workers.spans(len(rows)), ring.polynomial_bytes
        result = np.empty((len(packed), 2, parameters.rows, size), np.uint8)
        owner, row = np.divmod(np.arange(len(rows)), parameters.rows)

        def encrypt_rows(index: int) -> None:
            span = spans[index]
            messages = self._scheme.encode(rows[span])
            encrypted = self._scheme.encrypt(self._public_key, messages)
            for half in (0, 1):
                data = np.frombuffer(ring.pack(encrypted[:, half]), np.uint8)
                result[owner[span], half, row[span]] = data.reshape(-1, size)

        self._workers.map(encrypt_rows, len(spans))
        return [each.data.cast("B") for each in result]

    def upload(
        self, party: Party, receiver: int, round_number: int, ciphertexts: memoryview
    ) -> bytes:
        """Returns the upload that carries the packed ciphertexts of a client.

        Raises:
            WireError: as `encrypt` does.
            RefusedError: as `encrypt` does: whoever got two ciphertexts of one round
                could put either into a sum.
        """
        self._check_key(party, round_number)
        message = write(
            party,
            receiver,
            Kind.UPLOAD,
            round_number,
            ciphertexts,
            key_id=self.material.key_id,
            numbers=(party.number,),
        )
        party.once("uploaded", round_number)
        return message

    def declare(
        self,
        party: Party,
        round_number: int,
        ciphertexts: memoryview,
    ) -> Messages:
        """Returns a client's declarations of its upload, for those who made the key.

        They decrypt, and check sums by them; see `declarations`.

        Raises:
            WireError: as `encrypt` does.
            RefusedError: if the client has declared an upload in that round, under any
                key, or may not upload under this one.
        """
        self._check_key(party, round_number)
        part = ciphertexts[len(ciphertexts) // 2 :]
        key_id = self.material.key_id
        messages = declare(party, self._makers, round_number, part, key_id)
        party.once("declared", round_number)
        return messages

    def _check_key(self, party: Party, round_number: int) -> None:
        if not self.admits(party):
            raise RefusedError(
                f"client {party.number} uploads nothing under a key for which those "
                "who made it have not vouched to it: call admit first."
            )
        lifetime = self.material.lifetime
        if round_number not in lifetime:
            raise RefusedError(
                f"client {party.number} does not upload in round {round_number} under "
                f"a key that serves {lifetime}: admit the key of that round."
            )
        party.take_key(lifetime.first)
