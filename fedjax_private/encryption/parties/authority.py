"""The key authority, which decrypts sums under one key: `ckks` and `exact`."""

from collections.abc import Iterable

import numpy as np

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math.packing import Rows, unpack
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import EVERY_ROUND, Lifetime, Material
from fedjax_private.encryption.messages.vouchers import vouch
from fedjax_private.encryption.messages.wire import (
    SERVER,
    Kind,
    Messages,
    write,
)
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.encryption.parties.decryption_log import DecryptionLog
from fedjax_private.encryption.workers import IN_THIS_THREAD, Workers
from fedjax_private.trust import Decryptor, Trust


class KeyAuthority:
    """Makes one key and decrypts one sum a round with it. `ckks` and `exact`.

    Held by the named party that all participants trust not to collude with the server.
    That is never the server, and no client either, except where every client holds the
    key (`SumSettings.key_holder`, a baseline). The secret key never leaves the object.

    Formal guarantees: against anyone without the secret key, uploads are IND-CPA secure
    under the hardness of ring learning with errors with ternary secrets at 128 bits
    (Lyubashevsky, Peikert and Regev, EUROCRYPT 2010). As long as all uploads of a sum
    are encryptions, the sum may be shown to everybody (IND-CPA-D; Li and Micciancio,
    EUROCRYPT 2021): `exact` sums, because they are a function of the plaintexts alone
    while decryption cannot fail, which the noise budget of `derive` bounds by 2^-100;
    `ckks` sums, because Gaussian noise floods their error. All that one key decrypts is
    then within a statistical distance of 2^-(s+1)/2 of what does not depend on the
    error (see `Parameters.flooding_std`): 2^-15.5 by default, and not 2^-128. After
    that many sums the key refuses. Without `protect` nothing is added: then the sums
    may be shown only to those who hold the key anyway.

    If sums are verified, this holds against a server and relays that depart from the
    protocol, with clients that follow it: the c1 of what is decrypted is the sum of
    those that at least `trust.uploads` clients have declared for this key and round
    (SHA-256 is collision-resistant), and one sum a round is decrypted. The authority
    takes the sum of c0 on the server's word, because it could decrypt a single c0.
    A server that shifts the sum of c0 shifts a `ckks` sum by what it chose. The noise
    that floods the error does not depend on c0, so it learns nothing else. Under
    `exact`, where nothing floods, a shift could make decryptions fail or not, depending
    on the error. So the authority refuses a sum whose noise exceeds ten standard
    deviations (see `Parameters.largest_coefficient`), far below a failure, and ends the
    key. All that a key tells is then which of its sums was refused first: at most
    log2(1 + n) bits for n sums.

    Not guaranteed: the authority can decrypt every single upload that it gets hold of;
    that it does not, and does not collude with the server, is an assumption. If sums
    are not verified, it takes the server's word for which uploads a sum holds: a server
    that departs from the protocol can pass off one upload as a sum. One client that
    departs from the protocol can learn the key from a released sum, and with the server
    it then reads every upload under this key (see `AggregationServer`); it can also
    void a round, and end an `exact` key. That a sum is right is not guaranteed against
    a server that departs from the protocol. None of this noise counts as differential
    privacy.

    Args:
        party: the authority, and the parties that it knows.
        request: what is to be summed.
        trust: states who decrypts, and the fewest uploads that a decrypted sum holds.
        workers: threads for decryption.
        verified: whether sums are checked against the declarations of their clients;
            see `declarations`. If not, the server is believed.
        lifetime: the rounds that the key serves, which clients hold it to.

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
        verified: bool = True,
        lifetime: Lifetime = EVERY_ROUND,
    ) -> None:
        one_key = trust.decryptor in (Decryptor.KEY_AUTHORITY, Decryptor.EVERY_CLIENT)
        if not one_key or request.scheme.threshold:
            raise ValueError(
                f"a key authority decrypts {request.scheme.value} for a trust model "
                f"that names {trust.decryptor.value!r}: one of the two is wrong."
            )
        self._scheme = HomomorphicScheme(derive(request))
        public, self._secret_key = self._scheme.generate_keys()
        self.material = Material.of_key(
            self._scheme.parameters, self._scheme.ring.pack(public), lifetime
        )
        self._log = DecryptionLog(party, self.material, trust, verified)
        self._party, self._workers = party, workers

    @property
    def used_up(self) -> bool:
        """Whether the key has decrypted as many sums as it may."""
        return self._log.used_up

    def vouch(self, receivers: Iterable[int]) -> Messages:
        """Returns vouchers for the key, one for each receiver."""
        return vouch(self._party, self.material, receivers)

    def declare(self, data: bytes) -> None:
        """Accepts a client's declaration of its upload, where sums are verified.

        Raises:
            WireError: if the message is no declaration under this key.
            RefusedError: see `Declarations.accept`.
        """
        self._log.declare(data)

    def decrypt(self, data: bytes) -> bytes:
        """Returns the message that releases a sum to the server.

        Args:
            data: the server's message with an encrypted sum.

        Raises:
            WireError: if the message is not a sum from the server under this key.
            RefusedError: see `DecryptionLog.read`; or if an exact sum has more noise
                than honest uploads have, which ends the key.
        """
        parameters = self._scheme.parameters
        # Everything is unpacked and checked before the sum counts as decrypted.
        total = self._log.read(data, firsts=True)
        ciphertexts = np.stack([total.firsts, total.seconds], axis=1)
        spans = self._workers.spans(parameters.rows)

        def decrypt_rows(index: int) -> Rows:
            return self._scheme.decrypt(
                self._secret_key,
                ciphertexts[spans[index]],
                flooded=parameters.flooding_std > 0,
                uploads=len(total.clients),
            )

        try:
            rows = np.concatenate(self._workers.map(decrypt_rows, len(spans)))
        except RefusedError:
            self._log.end()
            raise
        return write(
            self._party,
            SERVER,
            Kind.RELEASED,
            total.round_number,
            unpack(rows, parameters).astype(parameters.request.released).tobytes(),
            key_id=self.material.key_id,
            numbers=total.clients,
        )
