"""Encrypted sums by OpenFHE's Python bindings alone: the setting `arithmetic=openfhe`.

To read first, and to test `EncryptedAggregation` against: the same schemes at the same
parameters, without messages between parties and without arithmetic of our own.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.sums import EncryptedSums, ReferenceSum
from fedjax_private.aggregation.types import (
    FloatArray,
    IntArray,
    Session,
    SessionReport,
)
from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.openfhe import reference
from fedjax_private.encryption.openfhe.reference import Ciphertext, Keys
from fedjax_private.encryption.parameters import SumRequest
from fedjax_private.trust import Trust


class OpenFHEAggregation(EncryptedSums):
    """Encrypted aggregation for one training run, by OpenFHE's bindings alone.

    A session makes its sum as OpenFHE's own examples would: keys, encryption, addition,
    decryption. This object holds all keys, and nothing is authenticated.

    Formal guarantees: released sums are those of `EncryptedAggregation`, with noise of
    the same deviation (see `encryption.openfhe.reference`). Uploads are IND-CPA secure
    against a server that follows the protocol and colludes with nobody who can decrypt,
    as there. This object itself sees that a sum has at least `trust.uploads` uploads,
    that it is the only one of a round, and that a key decrypts no more sums than its
    noise protects. With shares of a key, all holders decrypt, and none stands in for
    another.

    Args:
        request: what is to be summed.
        trust: who decrypts, and the fewest uploads that a released sum holds.
        key_rounds: rounds until a new key is made; None until its budget is used up.

    Raises:
        ValueError: if no parameters serve the request, or decryptions under them need
            less noise than OpenFHE adds.
    """

    def __init__(
        self, request: SumRequest, trust: Trust, key_rounds: int | None = None
    ) -> None:
        super().__init__(request, trust, request.holders, "star", key_rounds, False)
        reference.check(self.parameters)
        self._keys: Keys | None = None
        self._left: int | None = 0  # sums that the key may still decrypt

    @property
    def description(self) -> str:
        """Sentences for reports: parameters, what is released, who decrypts."""
        return (
            f"{super().description} REFERENCE: OpenFHE's bindings alone compute, in "
            "one process without authentication; its serialised ciphertexts are larger."
        )

    def open(self, round_number: int) -> Session:
        """Opens the session of one round, with a new key where the last is used up.

        Raises:
            RefusedError: the round has been opened before, or is before all that the
                present key serves.
            OpenFHEUnavailable: where OpenFHE cannot be imported.
        """
        self._open_once(round_number)
        keys, seconds = self._keys, 0.0
        if self._takes_new_key(round_number, self._left == 0) or keys is None:
            start = time.perf_counter()
            keys = self._keys = reference.generate(self.parameters)
            self._left = self.parameters.sums_per_key
            seconds = time.perf_counter() - start
        return _Session(self, keys, round_number, seconds)

    def decrypt(self, keys: Keys, total: Sequence[Ciphertext]) -> npt.NDArray[Any]:
        """Returns the sum of a session, under the present key."""
        if keys is not self._keys or self._left == 0:
            raise RefusedError(
                "the key of this round has decrypted as many sums as its noise "
                "protects: release a round before you open the next."
            )
        if self._left is not None:
            self._left -= 1
        return reference.decrypt(keys, total)


class _Session:
    def __init__(
        self,
        aggregation: OpenFHEAggregation,
        keys: Keys,
        round_number: int,
        seconds_keys: float,
    ) -> None:
        self._aggregation, self._keys = aggregation, keys
        self._reference = ReferenceSum(aggregation.request, round_number)
        self._total: list[Ciphertext] = []
        self._upload_bytes = 0
        self._seconds = {"encrypt": 0.0, "add": 0.0, "keys": seconds_keys}

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        slots = np.asarray(slots)
        self._reference.check(clients, slots)
        start = time.perf_counter()
        uploads = [reference.encrypt(self._keys, vector) for vector in slots]
        size = sum(map(reference.size_of, uploads))
        self._seconds["encrypt"] += time.perf_counter() - start
        self._reference.add(clients, slots)
        start = time.perf_counter()
        added = [self._total] if self._total else []
        self._total = reference.add(self._keys, [*added, *uploads])
        self._upload_bytes += size
        self._seconds["add"] += time.perf_counter() - start

    def release(self) -> tuple[FloatArray, SessionReport]:
        self._reference.close()
        trust, uploads = self._aggregation.trust, len(self._reference.clients)
        most = self._aggregation.request.uploads
        if not trust.uploads <= uploads <= most:
            raise RefusedError(
                f"a sum of {uploads} uploads is not decrypted: it must hold at least "
                f"{trust.uploads}, and at most {most}, which the parameters fit."
            )
        start = time.perf_counter()
        total = self._aggregation.decrypt(self._keys, self._total)
        report = self._reference.report(
            total,
            upload_bytes_per_client=round(self._upload_bytes / uploads),
            seconds_encrypt=self._seconds["encrypt"],
            seconds_add=self._seconds["add"],
            seconds_decrypt=time.perf_counter() - start,
            seconds_keys=self._seconds["keys"],
        )
        return total.astype(np.float64), report
