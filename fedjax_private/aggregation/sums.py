"""Base class of encrypted sums, and the plain sum that they are compared with."""

import functools
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.inputs import check_round
from fedjax_private.aggregation.plain import BYTES_PER_VALUE, IDENTITY, PlainSum
from fedjax_private.aggregation.types import Codec, IntArray, SessionReport
from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math.packing import check_vector
from fedjax_private.encryption.messages.material import Lifetime
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.encryption.parties.attendance import NOBODY, DropOut
from fedjax_private.quantization import Grid, dequantize, quantize
from fedjax_private.trust import Decryptor, Trust
from fedjax_private.typing import Array, PRNGKey


def grid_of(request: SumRequest) -> Grid:
    """Returns which integers stand for which values, under an exact scheme."""
    return Grid(request.bits, request.grid_bound)


# Fewer bits than these make the last grid step more than 1 % of the range.
FEW_BITS = 8

# Deviations of an error that nobody ever sees.
_BEYOND_CHANCE = 20.0


class RangeWarning(UserWarning):
    """A released sum that is not the sum of the clients' vectors, as a range was left.

    `SessionReport` has the numbers.
    """


@functools.lru_cache(maxsize=16)
def integer_codec(grid: Grid) -> Codec:
    """Returns the codec of whole numbers; equal grids share compiled code."""
    return Codec(
        encode=lambda key, vector: quantize(key, vector, grid),
        decode=lambda total: dequantize(total, grid),
    )


@functools.lru_cache(maxsize=16)
def _real_codec(bound: float) -> Codec:
    largest = _largest(bound)

    def encode(key: PRNGKey, vector: Array) -> Array:
        cut = jnp.clip(vector.astype(jnp.float32), -largest, largest)
        return jnp.where(jnp.isfinite(vector), cut, jnp.nan)

    return Codec(encode, IDENTITY.decode)


def _largest(bound: float) -> np.float32:
    """Returns the largest float32 that is not above the bound."""
    nearest = np.float32(bound)
    return nearest if float(nearest) <= bound else np.nextafter(nearest, np.float32(0))


def count_saturated(slots: npt.NDArray[Any], request: SumRequest) -> int:
    """Returns how many entries of uploads (C, S) are at the end of their range.

    Codecs have put all those there that were beyond. Noisy uploads have no range.
    """
    if request.residues:
        return 0
    exact = request.scheme.exact
    end = grid_of(request).most if exact else _largest(request.value_bound)
    return int(np.count_nonzero(np.abs(slots) >= end))


def few_integers(request: SumRequest) -> bool:
    """Returns whether rounding alone brings many entries to the end of a range.

    The last step of the grid is then more than 1 % of the range. Whether an entry there
    was cut, its integer does not tell.
    """
    return request.scheme.exact and request.bits < FEW_BITS


def rounding_error(integers: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns estimates of the squared errors of rounding, in squared grid steps.

    Rounding v steps at random is off by f (1 - f) in the mean square, f the fraction of
    |v|. Where v is far below 1, the integer 1 comes with probability |v|, as large as
    that error; where v is spread over many steps, the mean error is 1/6.

    Args:
        integers: any shape, as a client's codec has rounded its vector.
    """
    size = np.abs(integers)
    return np.where(size == 1, 1.0, np.where(size > 1, 1 / 6, 0.0))


class EncryptedSums:
    """The public facts about the encrypted sums of one training run; no key.

    Args:
        request: what is to be summed.
        trust: who decrypts, and the fewest uploads that a released sum holds.
        quorum: holders that can stand in for others; unused with an authority.
        topology: how uploads travel.
        key_rounds: rounds until a new key is made; None until its budget is used up.
        verified: whether decryptors check which uploads a sum holds.
        drop_out: draws the holders of key shares that vanish in each round.

    Raises:
        ValueError: if no parameters serve the request.
    """

    def __init__(
        self,
        request: SumRequest,
        trust: Trust,
        quorum: int,
        topology: str,
        key_rounds: int | None = None,
        verified: bool = True,
        drop_out: DropOut = NOBODY,
    ) -> None:
        self.request, self.trust, self.quorum = request, trust, quorum
        self.verified, self.drop_out = verified, drop_out
        self.topology, self.parameters = topology, derive(request)
        self.key_rounds = key_rounds
        self._lifetime = Lifetime(0, key_rounds)  # of the present key
        self._seconds_keys = 0.0
        self._opened: set[int] = set()

    @property
    def codec(self) -> Codec:
        """CKKS: float32. Exact: randomised rounding to signed integers.

        Both cut off what is beyond the value bound, and mark what is not finite for the
        client to refuse. Reals with a share of noise are left as they are.
        """
        if self.request.scheme.exact:
            return integer_codec(grid_of(self.request))
        if self.request.residues:
            return IDENTITY
        return _real_codec(self.request.value_bound)

    @property
    def description(self) -> str:
        """Sentences for reports: parameters, what is released, who decrypts."""
        parameters, least = self.parameters, self.trust.uploads
        request, scheme = self.request, self.request.scheme
        ring = (
            f"ring dimension {parameters.ring_dimension}, a modulus of "
            f"{parameters.modulus_bits} bits, ring-LWE at 128 bits, "
            f"{parameters.bytes_per_value:.2f} bytes a value"
        )
        if scheme.exact:
            range_of = (
                f"mod 2^{request.bits}, on a grid that spans sums"
                if request.residues
                else f"of integers of {request.bits} bits, on a grid that spans uploads"
            )
            what = (
                f"{'BFV' if scheme.threshold else 'BGV'} (OpenFHE): {ring}; exact sums "
                f"{range_of} within {request.grid_bound:g}, of up to {request.uploads} "
                f"uploads, {parameters.lanes} lanes of {parameters.lane_bits} bits."
            )
        else:
            packing = "complex" if request.complex_packing else "real"
            deviation = parameters.error_std(request.uploads)
            what = (
                f"CKKS (OpenFHE, {packing} packing): {ring}; sums of up to "
                f"{request.uploads} uploads with entries within "
                f"{request.value_bound:g}, within {parameters.sum_bound:g} in a sum, "
                f"and errors of {deviation:.1g} (one sigma)."
            )
        if parameters.sums_per_key is not None:
            bits = (request.settings.statistical_bits + 1) / 2
            what += (
                " Gaussian noise floods the error of decryption, which depends on the "
                f"key, to a statistical distance of 2^-{bits:g} over the "
                f"{parameters.sums_per_key} sums that one key may decrypt."
            )
        elif scheme.exact:
            what += (
                " What is released depends on the plaintexts alone, as long as every "
                "upload is an encryption."
            )
        else:
            what += (
                " UNPROTECTED: released sums depend on the key; they may be shown only "
                "to those who hold it."
            )
        if request.worst_case:
            what += (
                " Noise and its budget are sized by the worst error of uploads that "
                "are sent again or made of chosen random numbers."
            )
        if scheme.threshold:
            helped = f"{self.quorum} of them can stand in for others"
            if self.quorum == request.holders:
                helped = "none can stand in for another"
            who = (
                f"All {request.holders} holders of key shares together decrypt one sum "
                f"of at least {least} uploads a round; {helped}."
            )
            if self.drop_out.probability:
                who += (
                    " In this simulation a holder vanishes from a round with "
                    f"probability {self.drop_out.probability:g}."
                )
        elif self.trust.decryptor is Decryptor.EVERY_CLIENT:
            who = (
                "BASELINE: every client holds the one secret key, so that one of them "
                "and the server together read every upload; a sum holds at least "
                f"{least}."
            )
        else:
            who = (
                "A key authority, assumed not to collude, decrypts one sum of at least "
                f"{least} uploads a round."
            )
        if self.verified:
            check = (
                "Clients declare their uploads to whoever decrypts, who checks which "
                "ones a sum holds, so that the server may depart from the protocol."
            )
        else:
            relays = "" if self.topology == "star" else " and relays"
            check = (
                f"SEMI-HONEST: the server{relays} must follow the protocol, because "
                "whoever decrypts takes their word for which uploads a sum holds."
            )
        rotation = f" {self._rotation}" if self._rotation else ""
        travel = f"Uploads travel as a {self.topology}."
        return f"{what}{rotation} {who} {check} {travel}"

    @property
    def _rotation(self) -> str:
        """When a new key is made, as a sentence."""
        sums, rounds = self.parameters.sums_per_key, self.key_rounds
        if rounds is None or (sums is not None and sums <= rounds):
            return "" if sums is None else f"A new key is made after {sums} sums."
        every = "every round" if rounds == 1 else f"every {rounds} rounds"
        return f"A new key is made {every}."

    def _takes_new_key(self, round_number: int, used_up: bool) -> bool:
        """Returns whether a round needs a new key, which then serves from it on.

        Args:
            round_number: the round, after all rounds so far.
            used_up: whether the key has decrypted as much as its noise protects.
        """
        new = used_up or round_number not in self._lifetime
        if new:
            self._lifetime = Lifetime(round_number, self.key_rounds)
        return new

    def _open_once(self, round_number: int) -> None:
        """Notes that a round is opened; raises RefusedError if it may not be.

        That is the second time, or if it is before all that the present key serves.
        Raises ValueError if it has no number.
        """
        round_number = check_round(round_number)
        if round_number in self._opened:
            raise RefusedError(
                f"round {round_number} has been opened before: an aggregation serves "
                "one run, so make another for the next."
            )
        if round_number < self._lifetime.first:
            raise RefusedError(
                f"round {round_number} is before round {self._lifetime.first}, from "
                "which on the present key serves: open rounds in increasing order."
            )
        self._opened.add(round_number)

    def _taken_seconds_keys(self) -> float:
        """Returns the seconds of making keys since the last call."""
        seconds, self._seconds_keys = self._seconds_keys, 0.0
        return seconds


class ReferenceSum(PlainSum):
    """The plain sum of one round's vectors, which only a simulation can take.

    `check` every chunk before any of it is encrypted; `add` what the server has taken.
    """

    def __init__(self, request: SumRequest, round_number: int) -> None:
        super().__init__(request.values, round_number, request.scheme.exact)
        self._request, self._saturated = request, 0
        self._rounding = np.zeros(request.values)  # of the sum so far, in squared steps

    def check(self, clients: IntArray, slots: npt.NDArray[Any]) -> None:
        """Refuses a chunk that a client, or the server, would refuse in part.

        Raises:
            RuntimeError: as `PlainSum.check` does.
            ValueError: as there, and if an entry must not be encrypted; see
                `check_vector`.
            RefusedError: also if a sum does not hold so many uploads.
        """
        super().check(clients, slots)
        most = self._request.uploads
        if len(self.clients) + len(clients) > most:
            raise RefusedError(
                f"the sum is full: the parameters hold at most {most} uploads."
            )
        for client, vector in zip(clients, slots, strict=True):
            check_vector(int(client), vector, self._request)

    def add(self, clients: IntArray, slots: npt.NDArray[Any]) -> None:
        """Adds uploads that the server has taken."""
        super().add(clients, slots)
        self._saturated += count_saturated(slots, self._request)
        if self._request.scheme.exact and not self._request.residues:
            self._rounding += rounding_error(slots).sum(axis=0)

    def report(self, total: npt.NDArray[Any], **measured: Any) -> SessionReport:
        """Returns the report of a released sum, with the other fields as measured.

        Warns, once a program, where a range was left; see `RangeWarning`.
        """
        request = self._request
        differences = np.abs(total - self.total)  # whole below 2^53, if exact
        unit = grid_of(request).step if request.scheme.exact else 1.0
        error = 0.0  # exact sums have none, and masks need no parameters of a ring
        if not request.scheme.exact:
            error = derive(request).error_std(len(self.clients))
        report = SessionReport(
            uploads=len(self.clients),
            download_bytes_per_client=BYTES_PER_VALUE * request.values,
            max_error=float(differences.max()) * unit,
            saturated=self._saturated,
            wrapped=int(np.count_nonzero(differences > _BEYOND_CHANCE * error)),
            rounding=self._share_of_rounding(error),
            **measured,
        )
        for sentence in range_warnings(report, few_integers(request)):
            warnings.warn(sentence, RangeWarning, stacklevel=3)
        return report

    def _share_of_rounding(self, error: float) -> float:
        """See `SessionReport.rounding`.

        Args:
            error: the standard deviation of decryption.
        """
        if self._request.residues or self._request.values == 1:
            return 0.0
        squares = self.total**2 + error**2
        largest = int(squares.argmax())
        whole = squares.sum() - squares[largest]
        wrong = self._rounding + error**2
        part = wrong.sum() - wrong[largest]
        return float(min(1.0, part / whole)) if whole else 1.0


def range_warnings(report: SessionReport, few: bool = False) -> list[str]:
    """Returns sentences without numbers on the ranges that a report's round left.

    Args:
        report: of the round.
        few: whether there are few integers; see `few_integers`.
    """
    sentences = []
    if report.saturated and few:
        sentences.append(
            "entries of uploads reached the last of few integers, by rounding or "
            "because they were cut off there: give more quantization_bits; `saturated` "
            "in the report counts them."
        )
    elif report.saturated:
        sentences.append(
            "entries of uploads reached value_bound, where they are cut off, so that "
            "the sum may not be that of the vectors: give a larger value_bound or a "
            "lower learning_rate; `saturated` in the report counts them."
        )
    if report.wrapped:
        sentences.append(
            "entries of a released sum are wrong, because the true sum is beyond the "
            "range of sums: give a larger sum_bound, or leave it out; `wrapped` in the "
            "report counts them."
        )
    return sentences
