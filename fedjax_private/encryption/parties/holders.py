"""The holders of a joint key, who decrypt sums together and stand in for one another.

A sum of uploads is decrypted by all holders together. Each contributes `c1 s_i` with
noise (Asharov et al., EUROCRYPT 2012; Mouchet et al., PETS 2021). Shamir shares are
linear, so T holders that stand in for a missing one answer with partial decryptions and
never put its key together.

    server -- sum --> every holder -- partial decryption --> server
    server -- missing holders --> T holders -- partial decryption --> server
"""

import functools
import threading
from collections.abc import Sequence

import numpy as np

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math.polynomials import Factor, evaluate
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.math.shamir import lagrange_at_zero, scale
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import EVERY_ROUND, Lifetime
from fedjax_private.encryption.messages.wire import (
    MISSING_COUNT,
    SERVER,
    Kind,
    read,
    write,
)
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.parameters import ANSWERS_PER_SUM, SumRequest
from fedjax_private.encryption.parties.declarations import Parts
from fedjax_private.encryption.parties.decryption_log import (
    DecryptionLog,
    check_uploads,
)
from fedjax_private.encryption.parties.joint_key import KeyGeneration
from fedjax_private.encryption.parties.recovery import Recovery, masks
from fedjax_private.trust import Decryptor, Trust


class KeyHolder(KeyGeneration):
    """One holder of a share of the joint key.

    Formal guarantees: as long as one holder keeps its key and fewer than T collude,
    uploads are IND-CPA secure against the server and all other holders together, under
    ring learning with errors at 128 bits as in `KeyAuthority`: the joint key is a sum
    with a term that they do not know, and of whose shares they hold fewer than T, which
    are uniform (Shamir 1979) as far as ChaCha20's key stream is. A holder helps to
    decrypt one sum a round, of at least `trust.uploads` uploads, and stands in for the
    missing in the same sum only; nobody's key is ever put together. Its answers carry
    Gaussian noise that hides the error that they contain (Asharov et al. 2012). A
    holder gives two answers a sum on average, partial decryptions and recoveries
    counted alike, and then the key is used up. The answers that concern one honest
    holder's key are its own, and those of finished recoveries in which it is missing
    (see `recovery`), each of which costs another honest holder an answer. While these
    are at most 2 `sums_per_key`, as where every sum is recovered once, they are within
    a statistical distance of 2^-(s+1)/2 of what depends on the released sums alone (see
    `Parameters.flooding_std`). Whatever the server and T - 1 holders do after the key
    is made, they are within sqrt(n - T + 1) times that. All of this holds as long as
    all uploads of a sum are encryptions. A holder that contributes a larger key or
    error than the protocol says, which `Dealing` lets pass up to `most_norm`, makes a
    larger error of sums, which it knows up to the sums of the uploads' random
    polynomials. Answers are then within these distances of what depends on those and
    the released sums, and on no other key.

    If sums are verified, it holds against a server and relays that depart from the
    protocol, with clients and holders that follow it: each holder answers for the sum
    of the c1 that at least `trust.uploads` clients have declared to it for this key and
    round (SHA-256 is collision-resistant), and for one such sum a round. The sum of c0
    stays with the server, which can add to it what it likes and learns nothing by that.
    If sums are not verified, holders take the server's word: one that departs from the
    protocol reads every share of the key from one answer each, by a c1 of its choice.

    Not guaranteed: that holders follow the protocol. A server that asks different
    holders for different sums of a round gets nothing meaningful, as long as fewer than
    2T - n holders collude with it. With as many, each group of honest holders can stand
    in for the other, and it gets two sums (as in Bonawitz et al., CCS 2017, whose T is
    above 2n/3 for that reason). A holder can spoil a sum, and so can such a server. One
    client that departs from the protocol can learn the joint key from a released sum,
    and with the server it then reads every upload under this key (see
    `AggregationServer`). `KeyGeneration` and `Dealing` say what holds while the key is
    made: among other things, that shares of a key are its own.

    Args:
        party: the holder, and the parties that it knows.
        request: what is to be summed, by `request.holders` holders.
        trust: states who decrypts, and the fewest uploads that a decrypted sum holds.
        holders: the numbers of all holders, in an order that all agree on.
        quorum: T, the number of holders that can stand in for missing ones: more than
            half.
        verified: whether sums are checked against the declarations of their clients;
            see `declarations`. If not, the server is believed.
        lifetime: the rounds that the key serves, on which all holders agree, and which
            clients hold it to.

    Raises:
        ValueError: if no parameters serve the request, or the arguments disagree.
        OpenFHEUnavailable: where OpenFHE cannot be imported.
    """

    def __init__(
        self,
        party: Party,
        request: SumRequest,
        trust: Trust,
        holders: Sequence[int],
        quorum: int,
        verified: bool = True,
        lifetime: Lifetime = EVERY_ROUND,
    ) -> None:
        if trust.decryptor is not Decryptor.HOLDERS or not request.scheme.threshold:
            raise ValueError(
                f"holders decrypt {request.scheme.value} for a trust model that names "
                f"{trust.decryptor.value!r}: one of the two is wrong."
            )
        check_uploads(trust, request)
        super().__init__(party, request, holders, quorum, lifetime)
        self._trust, self._verified = trust, verified
        # The round and the second polynomials of the sum last decrypted, and the
        # recoveries that this holder has taken part in for that sum.
        self._last: tuple[int, Residues] | None = None
        self._stood_in: set[tuple[frozenset[int], frozenset[int]]] = set()
        self._given, self._answering = 0, threading.Lock()

    @functools.cached_property
    def _log(self) -> DecryptionLog:
        return DecryptionLog(self._party, self.material, self._trust, self._verified)

    @property
    def used_up(self) -> bool:
        """Whether the key has decrypted, or given answers, as many times as it may."""
        if self._material is None:
            return False
        return self._log.used_up or self._given >= self._most_answers

    @property
    def _most_answers(self) -> int:
        """Partial decryptions that this holder may give under this key, of any kind."""
        sums = self.material.parameters.sums_per_key
        assert sums is not None  # as all schemes of holders are flooded
        return ANSWERS_PER_SUM * sums

    def declare(self, data: bytes) -> None:
        """Accepts a client's declaration of its upload, where sums are verified.

        Raises:
            WireError: if the message is no declaration under the joint key.
            RefusedError: see `Declarations.accept`.
        """
        self._log.declare(data)

    def partially_decrypt(self, data: bytes, parts: Parts | None = None) -> bytes:
        """Returns this holder's partial decryption of a sum, for the server.

        Args:
            data: the server's message: the second polynomials of the ciphertexts, of
                every upload if sums are verified, else of their sum.
            parts: those of every upload, where a simulation has them apart from the
                message; see `Parts`.

        Raises:
            WireError: if the message is not a sum from the server under the joint key.
            RefusedError: see `DecryptionLog.read`; or if this holder has given as many
                answers as the noise protects.
        """
        (answer,) = decrypt_together([self], [data], parts)
        return answer

    def stand_in(self, data: bytes) -> bytes:
        """Returns a partial decryption, masked, in place of missing holders.

        A holder may be asked again, with others beside it, when one of those that it
        was to stand in with has vanished.

        Args:
            data: the server's request, which names the missing holders and the T
                holders that stand in.

        Raises:
            WireError: if the message is not a request from the server under the joint
                key.
            RefusedError: if the request is about another sum than the last, if too few
                holders stand in, if this holder has taken part in the same recovery
                before, or if it has given as many answers as the noise protects.
        """
        ring = self._scheme.ring
        message = read(
            self._party,
            data,
            Kind.RECOVERY_REQUEST,
            payload=MISSING_COUNT.size,
            most_numbers=2 * len(self._holders),
            key_id=self.material.key_id,
            sender=SERVER,
        )
        recovery = Recovery.of_request(message)
        missing, present = recovery.missing, recovery.present
        if (
            not missing
            or len(present) != self._quorum
            or self._party.number not in present
            or not {*missing, *present} <= self._shares.keys()
        ):
            raise RefusedError(
                f"{self._quorum} holders, with this one, must stand in for others; got "
                f"{list(present)} for {list(missing)}."
            )
        with self._answering:
            if self._last is None or message.round_number != self._last[0]:
                raise RefusedError(
                    f"round {message.round_number} is not the one decrypted last."
                )
            if recovery.sets in self._stood_in:
                raise RefusedError("this holder has stood in beside these in this sum.")
            self._check_budget()
            self._given += 1
            self._stood_in.add(recovery.sets)
            round_number, seconds = self._last
        points = [self._holders.index(holder) + 1 for holder in present]
        index = present.index(self._party.number)
        factors = [lagrange_at_zero(points, q)[index] for q in ring.moduli]
        total = np.zeros_like(self._shares[missing[0]])
        for holder in missing:
            total = ring.add(total, self._shares[holder])
        key = Factor.of(scale(total, factors, ring), ring)
        decrypted = self._scheme.partially_decrypt(key, seconds)
        key_id, rows = self.material.key_id, len(seconds)
        mask = masks(self._party, recovery, ring, rows, key_id, round_number)
        masked = ring.add(decrypted, mask)
        return self._answer(Kind.RECOVERY, round_number, masked, recovery.numbers)

    def _accept(self, data: bytes, parts: Parts | None) -> Residues:
        """Accepts a sum to be decrypted; returns noise for it, in coefficients."""
        with self._answering:
            self._check_budget()
            total = self._log.read(data, parts, firsts=False)
            self._given += 1
            self._last, self._stood_in = (total.round_number, total.seconds), set()
        return self._scheme.flooding_noise(len(total.seconds))

    def _part(self, noise: Residues) -> bytes:
        """Returns the partial decryption of that sum, with the values of that noise."""
        assert self._secret_key is not None  # made together with the material
        assert self._last is not None
        round_number, seconds = self._last
        decrypted = self._scheme.partially_decrypt(self._secret_key, seconds, noise)
        return self._answer(Kind.PARTIAL, round_number, decrypted)

    def _check_budget(self) -> None:
        if self._given >= self._most_answers:
            raise RefusedError(
                "this holder has answered as often as the noise of this key protects: "
                "the next round needs a fresh one."
            )

    def _answer(
        self,
        kind: Kind,
        round_number: int,
        parts: Residues,
        numbers: tuple[int, ...] = (),
    ) -> bytes:
        return write(
            self._party,
            SERVER,
            kind,
            round_number,
            self._scheme.ring.pack(parts),
            key_id=self.material.key_id,
            numbers=numbers,
        )


def decrypt_together(
    holders: Sequence[KeyHolder], data: Sequence[bytes], parts: Parts | None = None
) -> list[bytes]:
    """Returns the partial decryptions of holders that share a process.

    Each checks its message, draws its noise and uses its key as it does alone. Only the
    transform of the noise, a public linear map, is computed for all of them at once,
    which takes half as long.

    Args:
        holders: of one key.
        data: the server's message to each.
        parts: as for `KeyHolder.partially_decrypt`, which says what is raised, too.
    """
    noise = [h._accept(d, parts) for h, d in zip(holders, data, strict=True)]
    values = evaluate(np.concatenate(noise), ring_of(holders[0].material.parameters))
    each = values.reshape(len(holders), -1, *values.shape[1:])
    return [h._part(v) for h, v in zip(holders, each, strict=True)]
